"""A SQL-backed durable task queue: rows, row locks, fenced workers."""

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
    TaskStatus,
)
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
    "TaskQueue",
    "TaskStatus",
    "current_task",
]
