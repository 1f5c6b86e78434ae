"""A SQL-backed durable task queue: rows, row locks, fenced workers."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rowlock._executors.context import RunningTask, current_task
from rowlock.errors import (
    DatabaseError,
    DatabaseUnavailableError,
    DuplicateKeyError,
    EventLoopError,
    HandlerError,
    InvalidArgumentError,
    InvalidCursorError,
    InvalidPayloadError,
    LeaseLostError,
    OutsideTaskError,
    QueueClosedError,
    QueueStateError,
    RowlockError,
    RowUnreadableError,
    SchemaError,
    WorkerProcessError,
)
from rowlock.models import (
    Callback,
    Duration,
    HandlerOptions,
    NewTask,
    SizeLimits,
    SortDirection,
    SortProperty,
    Task,
    TaskAttempt,
    TaskError,
    TaskPage,
    TaskProgress,
    TaskStatus,
)
from rowlock.schedule_models import ScheduledTaskInfo, ScheduledTaskState, ScheduledTaskTime

if TYPE_CHECKING:
    from rowlock.queue import TaskQueue
    from rowlock.scheduler import TaskScheduler

__all__ = [
    "Callback",
    "DatabaseError",
    "DatabaseUnavailableError",
    "DuplicateKeyError",
    "Duration",
    "EventLoopError",
    "HandlerError",
    "HandlerOptions",
    "InvalidArgumentError",
    "InvalidCursorError",
    "InvalidPayloadError",
    "LeaseLostError",
    "NewTask",
    "OutsideTaskError",
    "QueueClosedError",
    "QueueStateError",
    "RowUnreadableError",
    "RowlockError",
    "RunningTask",
    "ScheduledTaskInfo",
    "ScheduledTaskState",
    "ScheduledTaskTime",
    "SchemaError",
    "SizeLimits",
    "SortDirection",
    "SortProperty",
    "Task",
    "TaskAttempt",
    "TaskError",
    "TaskPage",
    "TaskProgress",
    "TaskQueue",
    "TaskScheduler",
    "TaskStatus",
    "WorkerProcessError",
    "current_task",
]


_LAZY = {"TaskQueue": "rowlock.queue", "TaskScheduler": "rowlock.scheduler"}


def __getattr__(name: str) -> Any:
    # A worker process imports what its handler needs of rowlock, and that is never SQLAlchemy,
    # which is most of the time and the memory of the import.
    if name == "__version__":
        from importlib.metadata import version

        return version("rowlock")
    if name in _LAZY:
        found = globals()[name] = getattr(import_module(_LAZY[name]), name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
