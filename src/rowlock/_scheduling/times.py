"""The instants of scheduled tasks, in milliseconds since the epoch. Pure.

Intervals are exact arithmetic from the first instant, so what follows an instant does not depend
on when it triggered.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import groupby, islice
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from rowlock._cron import Cron
from rowlock._instants import from_milliseconds, to_milliseconds
from rowlock.models import TAKEN
from rowlock.schedule_models import LAST_INSTANT, ScheduledTaskTime

cron_of = lru_cache(1024)(Cron)


class StoredTime(BaseModel):
    """One time of a scheduled task, as its row has it.

    Attributes:
        given: as it was given.
        next: when it triggers next, None if no more.
    """

    # What a newer version has added is not to be lost when this one writes the row.
    model_config = ConfigDict(frozen=True, extra="forbid")

    given: ScheduledTaskTime
    next: Annotated[int, Field(strict=True, ge=0, le=LAST_INSTANT)] | None

    def shown(self) -> ScheduledTaskTime:
        """Return the time with its next instant in place of the first."""
        return self.given.model_copy(update={"next_trigger_time": self.next})


STORED_TIMES = TypeAdapter(list[StoredTime])


class NotUnderstoodError(Exception):
    """This process does not understand a row; another one may."""


class DamagedError(Exception):
    """A row is nothing that any version of rowlock writes."""


def read_times(text: str) -> list[StoredTime]:
    """Return the times of a row.

    Raises:
        NotUnderstoodError: if they are of a newer version, or of a zone that is not known here.
        DamagedError: if they are no times.
    """
    try:
        times = STORED_TIMES.validate_json(text, context=TAKEN)
    except ValidationError as error:
        reason = _reason(error)
        raise (NotUnderstoodError if _is_list_of_times(text) else DamagedError)(reason) from None
    if not times or not all(is_complete(time.given) for time in times):
        raise DamagedError("times: there is none, or one without instant, interval and cron line")
    return times


def shown_times(text: str) -> list[ScheduledTaskTime]:
    """Return the times of a row with their next instants, none if they are damaged.

    Of those that are not understood here what is: a cron line in an unknown zone is shown.
    """
    try:
        return [time.shown() for time in read_times(text)]
    except DamagedError:
        return []
    except NotUnderstoodError:
        return [_known(item) for item in json.loads(text)]


def _reason(error: ValidationError) -> str:
    first_error = error.errors(include_url=False)[0]
    place = ".".join(map(str, ("times", *first_error["loc"])))
    return f"{place}: {first_error['msg'].removeprefix('Value error, ')}"


def _is_list_of_times(text: str) -> bool:
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(items, list) and bool(items) and all(map(_is_time, items))


def _is_time(item: Any) -> bool:
    if not isinstance(item, dict) or not isinstance(item.get("given"), dict) or not item["given"]:
        return False
    due = item.get("next")
    return due is None or (type(due) is int and 0 <= due <= LAST_INSTANT)


def _known(item: Mapping[str, Any]) -> ScheduledTaskTime:
    known: dict[str, Any] = {}
    for name, field in ScheduledTaskTime.model_fields.items():
        value = item["given"].get(field.alias)
        if type(value) is (str if name in ("cron", "timezone") else int):
            known[name] = value
    return ScheduledTaskTime.model_construct(**{**known, "next_trigger_time": item.get("next")})


def is_complete(time: ScheduledTaskTime) -> bool:
    """Tell whether a time says when it triggers at all."""
    return bool(time.next_trigger_time is not None or time.interval or time.cron)


def first(time: ScheduledTaskTime, now: int) -> int | None:
    """Return the first instant of a time that is given now."""
    if time.cron is not None:
        start = now if time.next_trigger_time is None else time.next_trigger_time - 1
        return _cron(time, start)
    if time.next_trigger_time is not None:
        return time.next_trigger_time
    return _possible(now + time.interval)


def following(time: ScheduledTaskTime, due: int, after: int) -> int | None:
    """Return the instant that follows `due` and comes after `after`; None if there is none."""
    after = max(due, after)
    if time.cron is not None:
        return _cron(time, after)
    if not time.interval:
        return None
    return _possible(due + ((after - due) // time.interval + 1) * time.interval)


def instants(times: Sequence[ScheduledTaskTime], now: datetime, count: int) -> list[datetime]:
    """Return the next instants of times that are given now, each once, in order.

    What is past triggers at once and is left out.
    """
    merged = heapq.merge(*(_walk(time, to_milliseconds(now)) for time in times))
    return [from_milliseconds(value) for value, _ in islice(groupby(merged), count)]


def _walk(time: ScheduledTaskTime, now: int) -> Iterator[int]:
    due = first(time, now)
    if due is not None and due < now:
        due = following(time, due, now)
    while due is not None:
        yield due
        due = following(time, due, due)


def _cron(time: ScheduledTaskTime, after: int) -> int | None:
    assert time.cron is not None  # noqa: S101
    found = cron_of(time.cron, time.timezone or "UTC").after(from_milliseconds(after))
    return None if found is None else to_milliseconds(found)


def _possible(instant: int) -> int | None:
    return instant if instant <= LAST_INSTANT else None
