"""How a walk over tasks is cut into stretches that one index range each can serve."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from rowlock._ids import FIRST_ID, LAST_ID
from rowlock._store.cursor import Position
from rowlock.models import SortDirection, SortProperty, Task, TaskStatus

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_STATUSES = tuple(sorted(TaskStatus))
_COMPLETED = (TaskStatus.FAILED, TaskStatus.SUCCESS)
_NOT_COMPLETED = (TaskStatus.CANCELLED, TaskStatus.PENDING, TaskStatus.PROCESSING)


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a walk.

    Attributes:
        order: the column that it is sorted by before the id, None for the id alone.
        statuses: the statuses that take part; none where the status is not bounded.
    """

    order: str | None
    statuses: tuple[TaskStatus, ...]

    def start(self, number: int, direction: SortDirection) -> Position:
        """Return the position before the first row."""
        last = direction is SortDirection.DESCENDING
        value = 0
        if self.order == "date_modified":
            value = _microseconds((datetime.max if last else datetime.min).replace(tzinfo=UTC))
        return Position(number, value, LAST_ID if last else FIRST_ID)

    def value(self, position: Position) -> datetime | None:
        """Return the sort value that a position stands for."""
        if self.order == "date_modified":
            return _EPOCH + position.value * _MICROSECOND
        return None

    def position(self, number: int, task: Task) -> Position:
        """Return the position of a task."""
        value = 0
        if self.order == "date_modified":
            value = _microseconds(task.date_modified)
        return Position(number, value, task.id)


def segments(
    sort: SortProperty, status: TaskStatus | None, direction: SortDirection, *, typed: bool
) -> tuple[Segment, ...]:
    """Return the stretches of a walk, in their order.

    Args:
        sort: what is sorted by.
        status: the filter on the status.
        direction: which way.
        typed: whether there is a filter on the type: the index on it leads with the status.
    """
    every = _STATUSES if status is None else (status,)
    if sort is SortProperty.DATE_MODIFIED:
        return (Segment("date_modified", every),)
    if sort is SortProperty.DATE_COMPLETED:
        # Rows without the value come last in either direction, by id.
        parts = (
            Segment("date_modified", tuple(s for s in _COMPLETED if s in every)),
            Segment(None, tuple(s for s in _NOT_COMPLETED if s in every)),
        )
        return tuple(part for part in parts if part.statuses)
    if status is not None:
        return (Segment(None, every),)
    if sort is SortProperty.STATUS:
        ordered = every[::-1] if direction is SortDirection.DESCENDING else every
        return tuple(Segment(None, (s,)) for s in ordered)
    return (Segment(None, every if typed else ()),)


def _microseconds(value: datetime) -> int:
    return (value - _EPOCH) // _MICROSECOND
