"""What a handler can ask, and say, about the task it runs."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Protocol

from rowlock import _arguments as check
from rowlock._json import dumps, loads
from rowlock.errors import OutsideTaskError
from rowlock.models import SizeLimits


class Link(Protocol):
    """What a running task knows of its worker, in whichever thread or process it runs.

    Attributes:
        scheduled_for: the instant of a schedule that the task was created for.
    """

    scheduled_for: datetime | None

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants the handler to go on."""

    def report(self, progress: str) -> None:
        """Take the JSON text of a progress, and have it stored soon.

        Raises:
            LeaseLostError: if the attempt no longer holds its task.
        """


class RunningTask:
    """The task that the calling handler runs.

    Attributes:
        id: the task's id, 32 lower-case hex digits.
        type: the task type.
        attempt: which attempt this is; the first is 1.
        payload: the payload as it was created.
        schedule_id: the id of the scheduled task that created it, None if none did.
        scheduled_for: the instant that it was created for, an aware datetime in UTC, or None.
    """

    __slots__ = (
        "_limits",
        "_link",
        "_progress",
        "attempt",
        "id",
        "payload",
        "runs_in",
        "schedule_id",
        "scheduled_for",
        "type",
    )

    def __init__(
        self,
        id: str,
        type: str,
        attempt: int,
        payload: Any,
        progress: str | None,
        schedule_id: str | None,
        link: Link,
        limits: SizeLimits,
    ) -> None:
        self.id = id
        self.type = type
        self.attempt = attempt
        self.payload = payload
        self.schedule_id = schedule_id
        self.scheduled_for = link.scheduled_for
        self._progress = progress
        self._link = link
        self._limits = limits
        # Of an async handler.
        self.runs_in: asyncio.Task[Any] | None = None

    @property
    def cancelled(self) -> bool:
        """Whether the handler should end: its task is being cancelled, or is no longer its own.

        A handler in the event loop gets a CancelledError instead. One in a thread or a process
        has to look, now and then, and is stopped or given up after `cancel_timeout` if it does
        not.
        """
        return self._link.cancelled

    @property
    def checkpoint(self) -> Any:
        """The last checkpoint that this or an earlier attempt gave to `progress`, or None."""
        said = loads(self._progress)
        return said.get("checkpoint") if isinstance(said, dict) else None

    def progress(self, value: Any, message: str | None = None, checkpoint: Any = None) -> None:
        """Tell how far the handler is, for all to read as the task's `progress`.

        It is stored soon, with what else is said meanwhile left out, and at the latest before
        the outcome of the attempt. It returns at once and may be called from any thread that
        the handler's context was copied to.

        Args:
            value: any JSON value, as 0.5 or {"done": 3, "of": 6}.
            message: the same for people.
            checkpoint: any JSON value that the next attempt can go on from; it is kept until
                another one is given.

        Raises:
            InvalidPayloadError: not JSON, or over `SizeLimits.progress_bytes`.
            InvalidArgumentError: `message` is no text.
            LeaseLostError: the attempt no longer holds its task, so the handler may as well end.
        """
        if message is not None and not isinstance(message, str):
            check.refuse("message", message, "text")
        if checkpoint is None:
            checkpoint = self.checkpoint
        said = {"value": value, "message": message, "checkpoint": checkpoint}
        text = dumps(
            {name: part for name, part in said.items() if part is not None},
            name="progress",
            max_bytes=self._limits.progress_bytes,
            max_depth=self._limits.depth + 1,
        )
        self._link.report(text)
        self._progress = text


running_task: ContextVar[RunningTask] = ContextVar("rowlock_running_task")

importing: ContextVar[bool] = ContextVar("rowlock_importing", default=False)
"""Whether a worker process imports the module of its handler."""


def current_task() -> RunningTask:
    """Return the task that the calling handler runs.

    Raises:
        OutsideTaskError: outside a handler.
    """
    try:
        return running_task.get()
    except LookupError:
        raise OutsideTaskError("current_task() is only known inside a handler") from None
