"""What a handler can ask about the task it runs."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from rowlock.errors import RowlockError


@dataclass(frozen=True, slots=True)
class RunningTask:
    """The task that the calling handler runs.

    Attributes:
        id: the task's id, 32 lower-case hex digits.
        type: the task type.
        attempt: which attempt this is; the first is 1.
        payload: the payload as it was created.
    """

    id: str
    type: str
    attempt: int
    payload: Any


running_task: ContextVar[RunningTask] = ContextVar("rowlock_running_task")


def current_task() -> RunningTask:
    """Return the task that the calling handler runs.

    Raises:
        RowlockError: outside a handler.
    """
    try:
        return running_task.get()
    except LookupError:
        raise RowlockError("current_task() is only known inside a handler") from None
