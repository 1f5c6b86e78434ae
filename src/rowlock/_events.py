"""The one internal hook: what happens inside is emitted, and logs, callbacks and metrics listen."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger("rowlock")


@dataclass(frozen=True, slots=True)
class LoopFailed:
    """A pass of a loop raised; it is repeated after `delay` seconds."""

    loop: str
    error: Exception
    delay: float


@dataclass(frozen=True, slots=True)
class LoopRecovered:
    """A pass of a loop succeeded after `failures` that did not."""

    loop: str
    failures: int


@dataclass(frozen=True, slots=True)
class AttemptLost:
    """The attempt no longer holds its task; what it wrote was refused."""

    task_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class OutcomeRefused:
    """The database did not take an outcome; the attempt is stored as failed instead."""

    task_id: str
    attempt: int
    error: Exception


@dataclass(frozen=True, slots=True)
class CallbackFailed:
    """A state change callback raised."""

    task_id: str
    error: BaseException


@dataclass(frozen=True, slots=True)
class HookFailed:
    """An `initialise_method` or `shutdown_method` raised."""

    task_type: str
    error: BaseException


@dataclass(frozen=True, slots=True)
class RowUnreadable:
    """A row holds what rowlock never writes."""

    task_id: str
    error: Exception


@dataclass(frozen=True, slots=True)
class SchedulesChanged:
    """Another process may have changed scheduled tasks."""


@dataclass(frozen=True, slots=True)
class ScheduleFailed:
    """The function of a scheduled task raised, or its row cannot be read."""

    schedule_id: str
    error: BaseException


@dataclass(frozen=True, slots=True)
class TaskChanged:
    """A change of a task's status is durable. `task` is the task after the change."""

    task: Any


Event = (
    LoopFailed
    | LoopRecovered
    | AttemptLost
    | OutcomeRefused
    | CallbackFailed
    | HookFailed
    | RowUnreadable
    | SchedulesChanged
    | ScheduleFailed
    | TaskChanged
)


class Events:
    """Emits events to subscribers, in the order of subscription."""

    def __init__(self) -> None:
        self._subscribers: list[Callable[[Event], None]] = []

    def subscribe(self, subscriber: Callable[[Event], None]) -> None:
        """Call `subscriber` with every event from now on."""
        self._subscribers.append(subscriber)

    def emit(self, event: Event) -> None:
        """Hand an event to every subscriber; one that raises is logged."""
        for subscriber in self._subscribers:
            try:
                subscriber(event)
            except Exception:
                logger.exception("a subscriber failed on %r", event)


def log(event: Event) -> None:
    """Write an event to the logger "rowlock"."""
    match event:
        case LoopFailed(loop, error, delay):
            # That of a timeout has no text.
            text = str(error) or type(error).__name__
            logger.warning("%s failed, again in %.1f s: %s", loop, delay, text)
        case LoopRecovered(loop, failures):
            logger.info("%s works again after %d failures", loop, failures)
        case AttemptLost(task_id, attempt):
            logger.warning("task %s: attempt %d no longer holds it", task_id, attempt)
        case OutcomeRefused(task_id, attempt, error):
            logger.error("task %s: outcome of attempt %d refused: %s", task_id, attempt, error)
        case CallbackFailed(task_id, error):
            logger.error("task %s: state change callback failed", task_id, exc_info=error)
        case HookFailed(task_type, error):
            logger.error("a worker of type %r failed in its hook", task_type, exc_info=error)
        case RowUnreadable(task_id, error):
            logger.error("task %s: its row cannot be read: %s", task_id, error)
        case ScheduleFailed(schedule_id, error):
            logger.error("scheduled task %r failed", schedule_id, exc_info=error)
        case TaskChanged() | SchedulesChanged():
            pass
