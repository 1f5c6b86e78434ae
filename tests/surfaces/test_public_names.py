"""What `import rowlock` offers, by name, and that each says what it is."""

from __future__ import annotations

import inspect
from importlib.metadata import version

import pytest

import rowlock
from rowlock import errors

NAMES = [
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

ALIASES = ("Callback", "Duration")


def test_the_names_are_these() -> None:
    assert sorted(rowlock.__all__) == sorted(NAMES)


def test_the_version() -> None:
    assert rowlock.__version__ == version("rowlock")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        rowlock.nothing  # noqa: B018


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ALIASES])
def test_each_has_a_docstring(name: str) -> None:
    found = getattr(rowlock, name)
    text = inspect.getdoc(found)
    assert text
    base = found.__base__ if inspect.isclass(found) else None
    assert base is None or text != inspect.getdoc(base), "inherited"


def test_every_error_is_offered_and_in_the_tree() -> None:
    raised = [each for each in vars(errors).values() if inspect.isclass(each)]
    for error in (each for each in raised if issubclass(each, errors.RowlockError)):
        assert error.__name__ in NAMES
        assert f" {error.__name__}" in (errors.__doc__ or "") or error is errors.RowlockError
