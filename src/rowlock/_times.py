"""The instants of scheduled tasks, in milliseconds since the epoch. Pure.

Intervals are exact arithmetic from the first instant, so what follows an instant does not depend
on when it triggered.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import groupby, islice

from pydantic import BaseModel, ConfigDict, TypeAdapter

from rowlock._cron import Cron
from rowlock.models import EPOCH, LAST_INSTANT, ScheduledTaskTime

_MILLISECOND = timedelta(milliseconds=1)

cron_of = lru_cache(1024)(Cron)


class StoredTime(BaseModel):
    """One time of a scheduled task, as its row has it.

    Attributes:
        given: as it was given.
        next: when it triggers next, None if no more.
    """

    model_config = ConfigDict(frozen=True)

    given: ScheduledTaskTime
    next: int | None

    def shown(self) -> ScheduledTaskTime:
        """Return the time with its next instant in place of the first."""
        return self.given.model_copy(update={"next_trigger_time": self.next})


STORED_TIMES = TypeAdapter(list[StoredTime])


def to_milliseconds(instant: datetime) -> int:
    """Return an instant in whole milliseconds since the epoch."""
    return (instant - EPOCH) // _MILLISECOND


def to_datetime(milliseconds: int) -> datetime:
    """Return an instant in UTC."""
    return EPOCH + milliseconds * _MILLISECOND


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
    return [to_datetime(value) for value, _ in islice(groupby(merged), count)]


def _walk(time: ScheduledTaskTime, now: int) -> Iterator[int]:
    due = first(time, now)
    if due is not None and due < now:
        due = following(time, due, now)
    while due is not None:
        yield due
        due = following(time, due, due)


def _cron(time: ScheduledTaskTime, after: int) -> int | None:
    assert time.cron is not None  # noqa: S101
    found = cron_of(time.cron, time.timezone or "UTC").after(to_datetime(after))
    return None if found is None else to_milliseconds(found)


def _possible(instant: int) -> int | None:
    return instant if instant <= LAST_INSTANT else None
