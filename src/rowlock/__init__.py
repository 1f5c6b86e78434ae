"""A SQL-backed durable task queue: rows, row locks, fenced workers."""

from typing import TYPE_CHECKING, Any

from rowlock._context import RunningTask, current_task
from rowlock.errors import (
    DatabaseUnavailableError,
    HandlerError,
    InvalidArgumentError,
    InvalidCursorError,
    InvalidPayloadError,
    LeaseLostError,
    QueueClosedError,
    RowlockError,
    SchemaError,
    WorkerProcessError,
)
from rowlock.models import (
    HandlerOptions,
    Limits,
    NewTask,
    SortDirection,
    SortProperty,
    Task,
    TaskError,
    TaskPage,
    TaskProgress,
    TaskStatus,
)

if TYPE_CHECKING:
    from rowlock.queue import TaskQueue

__all__ = [
    "DatabaseUnavailableError",
    "HandlerError",
    "HandlerOptions",
    "InvalidArgumentError",
    "InvalidCursorError",
    "InvalidPayloadError",
    "LeaseLostError",
    "Limits",
    "NewTask",
    "QueueClosedError",
    "RowlockError",
    "RunningTask",
    "SchemaError",
    "SortDirection",
    "SortProperty",
    "Task",
    "TaskError",
    "TaskPage",
    "TaskProgress",
    "TaskQueue",
    "TaskStatus",
    "WorkerProcessError",
    "current_task",
]


def __getattr__(name: str) -> Any:
    # A worker process imports what its handler needs of rowlock, and that is never SQLAlchemy,
    # which is most of the time and the memory of the import.
    if name == "TaskQueue":
        from rowlock.queue import TaskQueue

        globals()[name] = TaskQueue
        return TaskQueue
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
