"""TaskScheduler: what triggers by the clock."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal

from rowlock import _arguments as check
from rowlock._calls import Calls, ScheduledCallback
from rowlock._endings import describe
from rowlock._events import Event, ScheduleFailed, SchedulesChanged
from rowlock._loop import Loop
from rowlock._schedules import Advance, End, NewSchedule, Schedules, Trigger
from rowlock._times import instants, is_complete
from rowlock.errors import DatabaseUnavailableError, InvalidArgumentError, QueueClosedError
from rowlock.models import (
    Duration,
    NewTask,
    ScheduledTaskInfo,
    ScheduledTaskState,
    ScheduledTaskTime,
)
from rowlock.queue import TaskQueue

Times = Iterable[ScheduledTaskTime | Mapping[str, Any]]

MAX_TIMES = 100
_BATCH = 100
# Without a hint the table is looked at once in so many seconds.
_SLOW_POLL = 30.0
# On SQLite every change of the file is a hint.
_HINT_GAP = 0.05
_MIN_BACKOFF = 0.005
_MAX_BACKOFF = 0.1
_LAST_PASS = 5.0


class TaskScheduler:
    """Triggers scheduled tasks, each instant once over all processes.

    Scheduled tasks are rows and outlive the process. They trigger while the queue is started. One
    that creates a task is triggered by any process that has a scheduler; one that calls a
    function, by those that have added it.

    Args:
        queue: whose database it is, and whose `start` and `stop` apply to the scheduler too.

    Raises:
        InvalidArgumentError: if it is no queue.
    """

    def __init__(self, queue: TaskQueue) -> None:
        if not isinstance(queue, TaskQueue):
            check.refuse("queue", queue, "a TaskQueue")
        self._queue = queue
        self._events = queue._events
        self._callbacks: dict[str, ScheduledCallback] = {}
        self._calls = Calls(self._ended)
        self._ends: list[End] = []
        self._backoff = 0.0
        # From the look at what runs to the start of what was taken.
        self._triggering = asyncio.Lock()
        self._loop = Loop("scheduler", self._trigger_due, self._events.emit)
        self._started = False
        self._hurry = asyncio.Event()
        self._hinted: asyncio.TimerHandle | None = None
        self._events.subscribe(self._on_event)
        queue._attach(self)

    # What applications call.

    async def add_task(
        self,
        task_id: str,
        times: Times,
        task_callback: ScheduledCallback | None = None,
        *,
        task_type: str | None = None,
        payload: Any = None,
        retry_count: int | None = None,
        retry_interval: Duration | None = None,
        retain_for: Duration = 0,
        priority: int = 0,
        delay: Duration | None = None,
        misfire: Literal["coalesce", "catch_up"] = "coalesce",
        overlap: Literal["allow", "skip"] = "allow",
    ) -> None:
        """Add a scheduled task, or change the one with this id.

        With the times that it has already, it keeps its next instants, so a daily task stays
        daily in a process that restarts every hour. Other times replace them. It stays paused if
        it is.

        Args:
            task_id: its id, 1 to 255 characters.
            times: when it triggers, 1 to 100 times, each by itself; also as mappings of their
                fields. An instant that has passed already triggers at once.
            task_callback: the function to call, in one of the processes that add it. It gets the
                instant, an aware datetime, if it takes an argument. An `async def` runs in the
                event loop, a `def` in a thread. Of one scheduled task, a process runs one call
                at a time. What it raises is logged. If the process dies between the trigger and
                the end of the call, that call is lost: at most once.
            task_type: instead of a function, the type of the task that each instant creates, in
                the transaction that records the trigger: exactly once.
            payload: of those tasks; this and the following as in `TaskQueue.create`.
            retry_count: how often a failure is tried again; None for ever.
            retry_interval: milliseconds between two tries; None for the queue's default.
            retain_for: milliseconds that a row is kept after its end; -1 for ever.
            priority: the higher first.
            delay: not before so many milliseconds after the trigger.
            misfire: what becomes of instants that passed while nothing ran: "coalesce" triggers
                once, at the first of them; "catch_up" triggers each.
            overlap: "skip" creates no task while the one before has not ended, and records that.

        Raises:
            InvalidArgumentError: if an argument is refused.
            QueueClosedError: if the queue is not open.
            DatabaseUnavailableError: if the database cannot be reached.
        """
        schedules = self._schedules
        task_id = check.label("task_id", task_id, 255)
        checked = _times(times)
        for name, value, allowed in (
            ("misfire", misfire, ("coalesce", "catch_up")),
            ("overlap", overlap, ("allow", "skip")),
        ):
            if value not in allowed:
                check.refuse(name, value, " or ".join(map(repr, allowed)))
        template = None
        if task_type is not None:
            if task_callback is not None:
                check.refuse("task_callback", task_callback, "either it or a task_type")
            template = self._queue._new_row(
                NewTask(
                    task_type,
                    payload,
                    retry_count=retry_count,
                    retry_interval=retry_interval,
                    retain_for=retain_for,
                    priority=priority,
                    delay=delay,
                )
            )
        elif task_callback is None:
            check.refuse("task_callback", task_callback, "a callable, or a task_type instead,")
        else:
            check.function("task_callback", task_callback)
            for name, option, default in (
                ("payload", payload, None),
                ("retry_count", retry_count, None),
                ("retry_interval", retry_interval, None),
                ("retain_for", retain_for, 0),
                ("priority", priority, 0),
                ("delay", delay, None),
                ("overlap", overlap, "allow"),
            ):
                if option != default:
                    check.refuse(name, option, "None, as it is for a task_type,")
        new = NewSchedule(task_id, checked, misfire, overlap, template)
        changed = await schedules.add(new)
        if task_callback is None:
            self._callbacks.pop(task_id, None)
        else:
            self._callbacks[task_id] = task_callback
        self._loop.wake()
        if changed:
            await self._tell()

    async def remove_task(self, task_id: str) -> bool:
        """Remove a scheduled task, for every process. A call of its function that runs goes on.

        Returns:
            False if there was none.
        """
        task_id = check.label("task_id", task_id, 255)
        removed = await self._schedules.remove(task_id)
        self._callbacks.pop(task_id, None)
        return removed

    async def tasks_info(self) -> ScheduledTaskInfo:
        """Return all scheduled tasks, those of other processes too."""
        found = await self._schedules.times()
        return ScheduledTaskInfo(
            tasks={name: [time.shown() for time in times] for name, times in found.items()}
        )

    async def task_state(self, task_id: str) -> ScheduledTaskState | None:
        """Return one scheduled task and what last became of it, None if there is none."""
        return await self._schedules.state(check.label("task_id", task_id, 255))

    async def pause_task(self, task_id: str) -> bool:
        """Let a scheduled task trigger no more, in any process, until it is resumed.

        Returns:
            False if there is none, or it is paused already.
        """
        return await self._schedules.pause(check.label("task_id", task_id, 255))

    async def resume_task(self, task_id: str) -> bool:
        """Let a paused task trigger again. Its instants during the pause are left out.

        Returns:
            False if there is none, or it is not paused.
        """
        resumed = await self._schedules.resume(check.label("task_id", task_id, 255))
        if resumed:
            self._loop.wake()
            await self._tell()
        return resumed

    async def trigger_task(self, task_id: str) -> bool:
        """Trigger a scheduled task now. Its instants stay as they are, also while it is paused.

        Returns:
            False if nothing was triggered: there is no such task, its function was not added in
            this process or runs already, or its overlap rule left it out.

        Raises:
            QueueClosedError: if the queue is not open, or its function is to be called and the
                queue is not started.
        """
        task_id = check.label("task_id", task_id, 255)
        ours = task_id in self._callbacks
        if ours and not self._started:
            raise QueueClosedError("the queue is not started: functions are called while it is")
        schedules = self._schedules
        async with self._triggering:
            done = await schedules.trigger(task_id, ours and task_id not in self._calls)
            self._carry_out(done)
        return bool(done.triggers or done.types)

    @staticmethod
    def preview(times: Times, count: int = 10) -> list[datetime]:
        """Return the next instants of times that would be given now, at most `count`, in UTC.

        Raises:
            InvalidArgumentError: if a time is refused, or the count is not 1 to 10,000.
        """
        checked = _times(times)
        return instants(checked, datetime.now(UTC), check.integer("count", count, 1, 10_000))

    # What the queue calls.

    def start(self) -> None:
        """Begin to trigger."""
        self._hurry.clear()
        self._loop = Loop("scheduler", self._trigger_due, self._events.emit)
        self._loop.start()
        self._started = True

    async def stop(self, timeout: float) -> None:
        """Trigger no more; give calls that run `timeout` seconds to end."""
        if not self._started:
            return
        if self._hinted is not None:
            self._hinted.cancel()
            self._hinted = None
        # What a pass has taken is to be called: it is not cut short.
        await self._loop.end(_LAST_PASS)
        await self._calls.drain(timeout, self._hurry)
        with suppress(DatabaseUnavailableError):
            await self._record()
        self._started = False

    def hurry(self) -> None:
        """End the time that calls get in a `stop` under way."""
        self._hurry.set()

    def runs(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether an asyncio task is a call of a function."""
        return self._calls.runs(task)

    def forget(self) -> None:
        """Forget what ran in an event loop that is closed, or before a fork."""
        self._started = False
        self._hinted = None
        self._calls = Calls(self._ended)
        self._triggering = asyncio.Lock()

    # The loop.

    @property
    def _schedules(self) -> Schedules:
        return Schedules(self._queue._store)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, SchedulesChanged) and self._started and not self._hinted:
            self._hinted = asyncio.get_running_loop().call_later(_HINT_GAP, self._heed)

    def _heed(self) -> None:
        self._hinted = None
        self._loop.wake()

    async def _trigger_due(self) -> float:
        await self._record()
        schedules = self._schedules
        ours = [name for name in self._callbacks if name not in self._calls]
        due = await schedules.next_due(ours)
        if due != 0:
            self._backoff = 0.0
            poll = _SLOW_POLL if self._queue._notify else self._queue._poll_interval / 1000
            return poll if due is None else min(poll, due)
        async with self._triggering:
            ours = [name for name in ours if name not in self._calls]
            done = await schedules.advance(ours, _BATCH)
            self._carry_out(done)
        if done.found:
            self._backoff = 0.0
            return 0.0
        # Due and not to be had: another process has locked it.
        self._backoff = min(_MAX_BACKOFF, max(_MIN_BACKOFF, 2 * self._backoff))
        return self._backoff

    def _carry_out(self, done: Advance) -> None:
        for schedule_id, error in done.damaged:
            self._events.emit(ScheduleFailed(schedule_id, error))
        for trigger in done.triggers:
            function = self._callbacks.get(trigger.id)
            if function is not None:
                self._calls.start(trigger.id, trigger.due, function)
        if done.types:
            self._queue._hint(done.types)

    def _ended(self, schedule_id: str, due: datetime, error: BaseException | None) -> None:
        text = None
        if error is not None:
            self._events.emit(ScheduleFailed(schedule_id, error))
            text = describe(error, _name_of(self._callbacks.get(schedule_id)), self._queue._limits)
        outcome = "success" if error is None else "failed"
        self._ends.append(End(Trigger(schedule_id, due), outcome, text))
        self._loop.wake()

    async def _record(self) -> None:
        ends = self._ends[:_BATCH]
        if ends:
            await self._schedules.record(ends)
            del self._ends[: len(ends)]

    async def _tell(self) -> None:
        if self._queue._notify:
            # It is stored; without the hint others see it with their next look.
            with suppress(DatabaseUnavailableError):
                await self._queue._store.hint_schedules()


def _times(times: Times) -> list[ScheduledTaskTime]:
    if isinstance(times, str | bytes | Mapping) or not isinstance(times, Iterable):
        check.refuse("times", times, "a list of ScheduledTaskTime")
    checked = []
    for place, time in enumerate(times):
        if place == MAX_TIMES:
            raise InvalidArgumentError(f"times: more than {MAX_TIMES} were given")
        if time is None:
            check.refuse(f"times.{place}", time, "a ScheduledTaskTime")
        checked.append(check.model(f"times.{place}", time, ScheduledTaskTime))
        if not is_complete(checked[-1]):
            raise InvalidArgumentError(
                f"times.{place}: neither an instant nor an interval nor a cron line was given"
            )
    if not checked:
        check.refuse("times", [], "a list of at least one ScheduledTaskTime")
    return checked


def _name_of(function: ScheduledCallback | None) -> str:
    if function is None or not inspect.isroutine(function):
        return "rowlock"
    return f"{function.__module__}.{function.__qualname__}"
