"""New tasks as they travel to the database, all of it made from the fields of `NewRow`.

A field is the value of the column with its name, and has that column's type. What is not so is
said here once: the delay, which is added to the database's clock, and the date of creation, which
the id carries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import BigInteger
from sqlalchemy.types import TypeEngine

from rowlock._ids import id_instant
from rowlock._rows import NewRow
from rowlock._store.tables import TimeType, task, type_in_batch
from rowlock.models import TaskStatus

INITIAL: Final[Mapping[str, Any]] = {
    "status": TaskStatus.PENDING.value,
    "attempt": 0,
    "thread_id": "0",
    "lost_workers": 0,
}
"""The columns that have the same value in every new task."""

_UNCHANGED: Final = NewRow._fields.index("run_at")
_GIVEN: Final = NewRow._fields[: NewRow._fields.index("schedule_id")]
_SCHEDULED: Final = ("schedule_id", "scheduled_for")


def _types(*names: str) -> dict[str, TypeEngine[Any]]:
    return {
        name: BigInteger() if name == "delay" else type_in_batch(task.c[name]) for name in names
    }


TYPES: Final = {**_types(*_GIVEN), "date_created": TimeType()}
"""Of the parameters of one new task."""

BATCH_TYPES: Final = {**TYPES, **_types(*_SCHEDULED)}
"""Of the parameters of new tasks in a batch, which a scheduled task may have created."""

COPY_COLUMNS: Final = (
    *(*NewRow._fields[:_UNCHANGED], "run_at", "date_created", "date_modified"),
    *INITIAL,
)
"""What COPY writes; the values are those of a `copy_record`."""

_INITIAL: Final = tuple(INITIAL.values())


def parameters(row: NewRow, to_time: Callable[[datetime], Any]) -> dict[str, Any]:
    """Return the parameters of one new task, which the caller may add to.

    Args:
        row: the task.
        to_time: returns an instant as the driver takes it.
    """
    # It ends with the names. To say `strict=False` would take 0.3 us more, of 1.3.
    values = dict(zip(_GIVEN, row))  # noqa: B905
    if row.run_at is not None:
        values["run_at"] = to_time(row.run_at)
    values["date_created"] = to_time(id_instant(row.id))
    return values


def batch_parameters(row: NewRow, to_time: Callable[[datetime], Any]) -> dict[str, Any]:
    """Return the parameters of a new task in a batch; as `parameters`."""
    values = parameters(row, to_time)
    values["schedule_id"] = row.schedule_id
    values["scheduled_for"] = None if row.scheduled_for is None else to_time(row.scheduled_for)
    return values


def copy_record(row: NewRow, now: datetime) -> tuple[Any, ...]:
    """Return the values of the `COPY_COLUMNS` of a task without a key."""
    run_at = row.run_at
    if run_at is None:
        run_at = now + timedelta(milliseconds=row.delay) if row.delay else now
    return (*row[:_UNCHANGED], run_at, id_instant(row.id), now, *_INITIAL)
