"""The rows of scheduled tasks: what of them this process understands, and what it leaves alone.

Nothing here asks a database.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final

from rowlock._store.schedule_statements import ScheduleRow
from rowlock._times import DamagedError, NotUnderstoodError, StoredTime, read_times

MISFIRE_GRACE = 60_000
"""How late an instant may be with `misfire="skip"` where nothing else is said, in milliseconds."""

MISFIRES: Final = ("coalesce", "catch_up", "skip")
OVERLAPS: Final = ("allow", "skip")

DAMAGED: Final = "damaged"
"""The outcome of a row that was put aside."""

# So many rows that cannot be read are left out of a look.
_MOST_LEFT = 10_000
NO_TOKEN = "0" * 32

Definition = Mapping[str, Any]
"""What a scheduled task is by what it was added with, to be compared."""


KEPT = (
    "token",
    "paused_since",
    "last_trigger",
    "last_outcome",
    "last_error",
    "last_task_id",
    "last_skip",
    "last_skip_reason",
)
_STATE = (*KEPT, "id", "next_trigger")


class Left:
    """The rows that this process leaves to others, by their tokens: each write changes them."""

    def __init__(self) -> None:
        self._tokens: dict[str, None] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._tokens))

    @property
    def is_full(self) -> bool:
        """Whether the next one takes the place of another."""
        return len(self._tokens) >= _MOST_LEFT

    def add(self, token: str) -> None:
        """Leave a row out of the next looks."""
        if self.is_full:
            del self._tokens[next(iter(self._tokens))]
        self._tokens[token] = None

    def clear(self) -> None:
        """Look at all of them again."""
        self._tokens.clear()


def definition_of(row: ScheduleRow) -> Definition:
    """Return what a scheduled task was added with; its payload as a digest."""
    values = {name: value for name, value in row._asdict().items() if name not in _STATE}
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        # All but the next instants, which change with each trigger.
        values["times"] = [{**time, "next": None} for time in json.loads(row.times)]
    if row.payload is not None:
        values["payload"] = sha256(row.payload.encode()).digest()
    return values


def readable(row: ScheduleRow) -> list[StoredTime]:
    """Return the times of a row all of which is understood.

    Raises:
        NotUnderstoodError: if it is not, here.
        DamagedError: if it cannot be, anywhere.
    """
    times = read_times(row.times)
    check_known(row, "misfire", MISFIRES)
    check_known(row, "overlap", OVERLAPS)
    return times


def check_known(row: ScheduleRow, name: str, known: Sequence[str]) -> None:
    value = getattr(row, name)
    if value not in known:
        raise NotUnderstoodError(
            f"{name}: this version of rowlock knows {', '.join(known)}, and not {value!r}"
        )


def why_unreadable(row: ScheduleRow) -> str | None:
    try:
        readable(row)
    except NotUnderstoodError as error:
        return str(error)
    except DamagedError:
        pass
    return None


def mended(row: ScheduleRow) -> ScheduleRow:
    """Return a row that is put aside no longer."""
    if row.last_outcome != DAMAGED:
        return row
    return row._replace(paused_since=None, last_outcome=None, last_error=None)
