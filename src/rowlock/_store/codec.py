"""What a driver takes and gives, and rows as the public models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

from rowlock._json import loads
from rowlock._rows import TaskRow
from rowlock._store.tables import JsonType, TimeType, task
from rowlock.errors import RowUnreadableError
from rowlock.models import Task, TaskAttempt, TaskError, TaskProgress, TaskStatus

_COMPLETED = (TaskStatus.FAILED, TaskStatus.SUCCESS)

# The fields of a task that are the very values of the columns with their names.
_AS_STORED: Final = tuple(
    name
    for name in Task.model_fields
    if name in TaskRow._fields
    and name != "status"
    and not isinstance(task.c[name].type, TimeType | JsonType)
)
_as_stored: Final = attrgetter(*_AS_STORED)


class Codec(ABC):
    """What the driver of one database takes and gives."""

    @abstractmethod
    def instant(self, now: datetime | None) -> Any:
        """Return the parameter `now`."""

    @abstractmethod
    def to_time(self, value: datetime) -> Any:
        """Return an instant as the driver takes it."""

    @abstractmethod
    def from_time(self, value: Any) -> datetime:
        """Return an instant that came from the driver."""

    @abstractmethod
    def from_json_time(self, value: Any) -> datetime:
        """Return an instant that the database has put into a JSON text."""

    @abstractmethod
    def to_id(self, value: Any) -> str:
        """Return an id that came from the driver."""

    @abstractmethod
    def batch(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the parameters of a batch."""

    @abstractmethod
    def core_parameters(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the parameters of a statement as SQLAlchemy takes them."""

    @abstractmethod
    def row(self, columns: Iterable[Any]) -> TaskRow:
        """Return a driver row of all columns."""

    def rows(self, rows: Iterable[Any]) -> list[TaskRow]:
        """Return driver rows of all columns."""
        return [self.row(row) for row in rows]

    def task(self, row: TaskRow) -> Task:
        """Return a row as the public model.

        Raises:
            RowUnreadableError: if it holds what rowlock never writes.
        """
        try:
            return self._task(row)
        except Exception as error:
            raise unreadable(row, error) from error

    def task_if_readable(self, row: TaskRow) -> Task | None:
        """Return a row as the public model, None if it cannot be.

        One row that rowlock has not written must not undo what was written of the others.
        """
        try:
            return self.task(row)
        except RowUnreadableError:
            return None

    def only(self, rows: Sequence[Any]) -> Task | None:
        """Return the one row that there is, if there is one, as the public model."""
        return self.task(self.row(rows[0])) if rows else None

    def _task(self, row: TaskRow) -> Task:
        status = TaskStatus(row.status)
        modified = self.from_time(row.date_modified)
        # With `strict=True`, or as keyword arguments, it would take a fifth longer than by name.
        values = dict(zip(_AS_STORED, _as_stored(row)))  # noqa: B905
        values |= {
            "date_created": self.from_time(row.date_created),
            "date_modified": modified,
            "date_completed": modified if status in _COMPLETED else None,
            "date_cancelled": modified if status is TaskStatus.CANCELLED else None,
            "date_retain_until": self._time_or_none(row.date_retain_until),
            "status": status,
            "payload": loads(row.payload),
            "result": loads(row.result),
            "error": None if row.error is None else TaskError.model_validate_json(row.error),
            "run_at": self.from_time(row.run_at),
            "progress": None if row.progress is None else TaskProgress(**loads(row.progress)),
            "scheduled_for": self._time_or_none(row.scheduled_for),
            "date_started": self._time_or_none(row.date_started),
            "attempts": [self._attempt(entry) for entry in loads(row.attempts) or []],
        }
        return Task.model_validate(values)

    def _time_or_none(self, value: Any) -> datetime | None:
        return None if value is None else self.from_time(value)

    def _attempt(self, entry: dict[str, Any]) -> TaskAttempt:
        started = entry["started"]
        return TaskAttempt(
            **{
                **entry,
                "started": None if started is None else self.from_json_time(started),
                "ended": self.from_json_time(entry["ended"]),
            }
        )


def unreadable(row: TaskRow, error: Exception) -> RowUnreadableError:
    """Return the error of a row that rowlock has not written."""
    return RowUnreadableError(f"task {str(row.id)[:64]!r} cannot be read: {type(error).__name__}")
