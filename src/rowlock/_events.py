"""The one internal hook: what happens inside is emitted, and logs, callbacks and metrics listen."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Final

# One for each concern, so that each can be set up by itself; "rowlock" is the parent of them all.
TASK: Final = logging.getLogger("rowlock.task")
WORKER: Final = logging.getLogger("rowlock.worker")
SCHEDULE: Final = logging.getLogger("rowlock.schedule")
STORE: Final = logging.getLogger("rowlock.store")

# What a record says of the event besides its text, None where the event has no such field.
_FIELDS: Final = ("task_id", "task_type", "attempt")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened."""

    @property
    def message(self) -> str:
        """The line that is logged, the same for all of a kind, with its fields as `%(name)s`."""
        return ""

    @property
    def logger(self) -> logging.Logger | None:
        """Where it is logged; None: nowhere."""
        return None

    @property
    def level(self) -> int:
        """How urgent it is."""
        return logging.ERROR

    @property
    def exc_info(self) -> BaseException | None:
        """The exception whose traceback is logged with it."""
        return None


@dataclass(frozen=True, slots=True)
class LoopFailed(Event):
    """A pass of a loop raised; it is repeated after `delay` seconds."""

    loop: str
    reason: str
    delay: float
    message = "%(loop)s failed, again in %(delay).1f s: %(reason)s"
    level = logging.WARNING

    @property
    def logger(self) -> logging.Logger:
        return _logger_of(self.loop)


@dataclass(frozen=True, slots=True)
class LoopRecovered(Event):
    """A pass of a loop succeeded after `failures` that did not."""

    loop: str
    failures: int
    message = "%(loop)s works again after %(failures)d failures"
    level = logging.INFO

    @property
    def logger(self) -> logging.Logger:
        return _logger_of(self.loop)


@dataclass(frozen=True, slots=True)
class LoopCancelled(Event):
    """Somebody cancelled the task of a loop, perhaps with all tasks there were."""

    loop: str
    message = "the task of %(loop)s was cancelled from outside of rowlock, and goes on"
    level = logging.WARNING

    @property
    def logger(self) -> logging.Logger:
        return _logger_of(self.loop)


@dataclass(frozen=True, slots=True)
class WorkerStarted(Event):
    """A worker begins."""

    worker: str
    version: str
    database: str
    revision: str
    types: str
    logger = WORKER
    level = logging.INFO
    message = (
        "worker %(worker)s started: rowlock %(version)s, database %(database)s, "
        "schema %(revision)s, types: %(types)s"
    )


@dataclass(frozen=True, slots=True)
class WorkerStopped(Event):
    """A worker has ended; what became of the attempts that it held."""

    worker: str
    seconds: float
    succeeded: int
    failed: int
    retried: int
    cancelled: int
    lost: int
    released: int
    logger = WORKER
    level = logging.INFO
    message = (
        "worker %(worker)s stopped after %(seconds).1f s: %(succeeded)d succeeded, "
        "%(failed)d failed, %(retried)d to be tried again, %(cancelled)d cancelled, "
        "%(lost)d lost, %(released)d put back"
    )


@dataclass(frozen=True, slots=True)
class AttemptFailed(Event):
    """An attempt has failed, and its task is tried again."""

    task_id: str
    task_type: str
    attempt: int
    name: str
    reason: str
    seconds: float
    logger = TASK
    level = logging.WARNING
    message = (
        "task %(task_id)s (%(task_type)s): attempt %(attempt)s failed, again in %(seconds).1f s: "
        "%(name)s: %(reason)s"
    )


@dataclass(frozen=True, slots=True)
class TaskFailed(Event):
    """A task has failed for good."""

    task_id: str
    task_type: str
    attempt: int
    name: str
    reason: str
    trace: str
    logger = TASK
    message = (
        "task %(task_id)s (%(task_type)s) failed with attempt %(attempt)s: "
        "%(name)s: %(reason)s\n%(trace)s"
    )


@dataclass(frozen=True, slots=True)
class AttemptLost(Event):
    """The attempt no longer holds its task; what it wrote was refused."""

    task_id: str
    attempt: int
    logger = TASK
    level = logging.WARNING
    message = "task %(task_id)s: attempt %(attempt)s no longer holds it"


@dataclass(frozen=True, slots=True)
class OutcomeRefused(Event):
    """The database did not take an outcome; the attempt is stored as failed instead."""

    task_id: str
    attempt: int
    error: Exception
    logger = TASK
    message = "task %(task_id)s: outcome of attempt %(attempt)s refused: %(error)s"


@dataclass(frozen=True, slots=True)
class CallbackFailed(Event):
    """A state change callback raised."""

    task_id: str
    exc_info: BaseException
    logger = TASK
    message = "task %(task_id)s: state change callback failed"


@dataclass(frozen=True, slots=True)
class CallbacksBehind(Event):
    """More changes wait for state change callbacks than are kept."""

    waiting: int
    logger = TASK
    level = logging.WARNING
    message = (
        "state change callbacks do not keep up: %(waiting)d changes wait, and the oldest are "
        "dropped from now on"
    )


@dataclass(frozen=True, slots=True)
class CallbacksDropped(Event):
    """Changes for which no callback was called: too many waited, or the queue was closed."""

    count: int
    logger = TASK
    message = "%(count)d changes were dropped before their state change callbacks were called"


@dataclass(frozen=True, slots=True)
class HookFailed(Event):
    """An `initialise_method` or `shutdown_method` raised."""

    task_type: str
    exc_info: BaseException
    logger = WORKER
    message = "a worker of type %(task_type)r failed in its hook"


@dataclass(frozen=True, slots=True)
class RowUnreadable(Event):
    """A row holds what rowlock never writes."""

    task_id: str
    error: Exception
    logger = STORE
    message = "task %(task_id)s: its row cannot be read: %(error)s"


@dataclass(frozen=True, slots=True)
class ScheduleFailed(Event):
    """The function of a scheduled task raised."""

    schedule_id: str
    exc_info: BaseException
    logger = SCHEDULE
    message = "scheduled task %(schedule_id)r failed"


@dataclass(frozen=True, slots=True)
class ScheduleUnread(Event):
    """This process does not understand a scheduled task, and leaves it to others."""

    schedule_id: str
    reason: str
    logger = SCHEDULE
    level = logging.WARNING
    message = "scheduled task %(schedule_id)r is left to other processes: %(reason)s"


@dataclass(frozen=True, slots=True)
class ScheduleDamaged(Event):
    """The row of a scheduled task is nothing that rowlock writes; it was paused."""

    schedule_id: str
    reason: str
    logger = SCHEDULE
    message = "scheduled task %(schedule_id)r is damaged and was paused: %(reason)s"


@dataclass(frozen=True, slots=True)
class ScheduleSkipped(Event):
    """Instants of a scheduled task were left out because they came too late."""

    schedule_id: str
    reason: str
    logger = SCHEDULE
    level = logging.WARNING
    message = "scheduled task %(schedule_id)r: an instant was left out: %(reason)s"


@dataclass(frozen=True, slots=True)
class ScheduleReplaced(Event):
    """This process has replaced the definition of another one, or has seen its own replaced.

    `differs` names what differs, by its columns.
    """

    schedule_id: str
    whose: str
    differs: str
    logger = SCHEDULE
    level = logging.WARNING
    message = (
        "scheduled task %(schedule_id)r: %(whose)s (%(differs)s); do processes of different "
        "versions add it?"
    )


@dataclass(frozen=True, slots=True)
class SchedulesRemoved(Event):
    """Scheduled tasks were removed because they are no longer declared."""

    prefix: str
    ids: str
    logger = SCHEDULE
    level = logging.INFO
    message = "removed scheduled tasks %(prefix)r* that are no longer declared: %(ids)s"


@dataclass(frozen=True, slots=True)
class ThreadRefused(Event):
    """The system gives no thread for the function of a scheduled task, which waits."""

    reason: str
    logger = SCHEDULE
    message = "scheduled functions wait, as no thread can be started: %(reason)s"


@dataclass(frozen=True, slots=True)
class TaskChanged(Event):
    """A change of a task's status is durable. `task` is the task after the change."""

    task: Any


def _logger_of(loop: str) -> logging.Logger:
    return SCHEDULE if loop == "scheduler" else WORKER


def _log(logger: logging.Logger, event: Event, worker: str | None) -> None:
    if logger.isEnabledFor(event.level):
        values = {field.name: getattr(event, field.name) for field in fields(event)}
        extra = {name: values.get(name) for name in _FIELDS}
        logger.log(
            event.level,
            event.message,
            values,
            exc_info=event.exc_info,
            extra={**extra, "worker": worker},
        )


class Events:
    """Logs events, and hands them to subscribers in the order of subscription.

    Attributes:
        worker: the name of the worker that runs in the queue, which every record has; None while
            the queue is not started.
    """

    def __init__(self) -> None:
        self.worker: str | None = None
        self._subscribers: list[Callable[[Event], None]] = []

    def subscribe(self, subscriber: Callable[[Event], None]) -> None:
        """Call `subscriber` with every event from now on."""
        self._subscribers.append(subscriber)

    def emit(self, event: Event) -> None:
        """Log an event and hand it to every subscriber; one that raises is logged."""
        if (logger := event.logger) is not None:
            _log(logger, event, self.worker)
        for subscriber in self._subscribers:
            try:
                subscriber(event)
            except Exception:
                WORKER.exception("a subscriber failed on %r", event)
