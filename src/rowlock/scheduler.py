"""TaskScheduler: what triggers by the clock."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

from rowlock import _arguments as check
from rowlock._endings import describe
from rowlock._events import (
    Event,
    ScheduleFailed,
    SchedulesChanged,
    SchedulesRemoved,
    ScheduleUnread,
    ThreadRefused,
)
from rowlock._loop import Loop
from rowlock._scheduling.calls import Calls, Function, ScheduledCallback
from rowlock._store.database import RowsLockedError
from rowlock._store.schedule_rows import MISFIRE_GRACE, MISFIRES, OVERLAPS, Left
from rowlock._store.schedules import Advance, CallOutcome, NewSchedule, Schedules, Trigger
from rowlock._times import NotUnderstoodError, instants, is_complete
from rowlock._worker.call_outcomes import ScheduleReports
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
# How calls ended is stored again after so many seconds, where somebody had locked a row.
_RECORD_AGAIN = 5.0
# What this process could not read may be there now: time zones, or files to be had.
_READ_AGAIN = 60.0
_THREAD_WAIT = 1.0


@dataclass(slots=True)
class _Room:
    """The functions that can be called now: in the loop and in threads."""

    in_loop: dict[str, Function] = field(default_factory=dict)
    in_thread: dict[str, Function] = field(default_factory=dict)


class TaskScheduler:
    """Triggers scheduled tasks, each instant once over all processes.

    Scheduled tasks are rows and outlive the process. They trigger while the queue is started. One
    that creates a task is triggered by any process that has a scheduler; one that calls a
    function, by those that have added it.

    What a process does not understand, as a time zone that its host does not know or what a newer
    version of rowlock has stored, it leaves to others, and logs that once.

    Args:
        queue: whose database it is, and whose `open`, `start` and `stop` apply to the scheduler
            too.
        max_threads: how many functions that are no `async def` run at once, 1 to 10,000. What is
            due beyond waits in the table, where another process can take it.
        max_coroutines: the same for `async def`.

    Raises:
        InvalidArgumentError: if it is no queue, or a number is out of bounds.
    """

    def __init__(
        self, queue: TaskQueue, *, max_threads: int = 32, max_coroutines: int = 1000
    ) -> None:
        if not isinstance(queue, TaskQueue):
            check.refuse("queue", queue, "a TaskQueue")
        self._queue = queue
        self._events = queue._events
        self._callbacks: dict[str, Function] = {}
        self._new_calls = partial(
            Calls,
            self._ended,
            self._wake,
            max_threads=check.integer("max_threads", max_threads, 1, 10_000),
            max_coroutines=check.integer("max_coroutines", max_coroutines, 1, 10_000),
        )
        self._calls = self._new_calls()
        # Threads that are started for a pass; twice as many for the next if all were needed.
        self._spare = 1
        self._thread_at = 0.0
        self._refused = False
        self._ends: list[CallOutcome] = []
        # Added before the queue is open.
        self._kept: dict[str, tuple[NewSchedule, Function | None]] = {}
        self._was_open = False
        self._reports = ScheduleReports(self._events.emit)
        self._left = Left()
        self._read_again_at = 0.0
        self._backoff = 0.0
        # From the look at what runs to the start of what was taken.
        self._triggering = asyncio.Lock()
        self._loop = Loop("scheduler", self._trigger_due, self._events.emit)
        self._started = False
        self._record_at = 0.0
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
        retain_for: Duration | None = None,
        priority: int = 0,
        delay: Duration | None = None,
        misfire: Literal["coalesce", "catch_up", "skip"] = "coalesce",
        misfire_grace: Duration | None = None,
        overlap: Literal["allow", "skip"] = "allow",
    ) -> None:
        """Add a scheduled task, or change the one with this id.

        With the times that it has already, it keeps its next instants, so a daily task stays
        daily in a process that restarts every hour. Other times replace them. It stays paused if
        it is. What replaces the definition of another process is logged there and here.

        Before the queue is open it is checked and kept, and written by `open`, whose error it is
        if that fails.

        Args:
            task_id: its id, 1 to 255 characters.
            times: when it triggers, 1 to 100 times, each by itself; also as mappings of their
                fields. An instant that has passed already triggers at once.
            task_callback: the function to call, in one of the processes that add it. It gets the
                instant, an aware datetime, if it takes an argument. An `async def` runs in the
                event loop, a `def` in a thread; what that returns is awaited if it is awaitable.
                Of one scheduled task, a process runs one call at a time. What it raises is
                logged. If the process dies between the trigger and the end of the call, that
                call is lost: at most once.
            task_type: instead of a function, the type of the task that each instant creates, in
                the transaction that records the trigger: exactly once.
            payload: of those tasks; this and the following as in `TaskQueue.create`.
            retry_count: how often a failure is tried again; None for ever.
            retry_interval: milliseconds between two tries; None for the queue's default.
            retain_for: milliseconds that a row is kept after its end; -1 for ever; None until
                its end, but if it has failed for the queue's `keep_failed`.
            priority: the higher first.
            delay: not before so many milliseconds after the trigger.
            misfire: what becomes of instants that passed while nothing ran: "coalesce" triggers
                once, at the first of them; "catch_up" triggers each; "skip" leaves out those
                that are later than `misfire_grace`, records and logs the last, and coalesces
                the others.
            misfire_grace: milliseconds that an instant may be late with "skip", at least 1,000;
                by default a minute.
            overlap: "skip" creates no task while the one before has not ended, and records that.

        Raises:
            InvalidArgumentError: if an argument is refused.
            QueueClosedError: if the queue has been closed.
            DatabaseUnavailableError: if the database cannot be reached.
        """
        task_id = check.label("task_id", task_id, 255)
        checked = _times(times)
        for name, value, allowed in (
            ("misfire", misfire, MISFIRES),
            ("overlap", overlap, OVERLAPS),
        ):
            if value not in allowed:
                check.refuse(name, value, " or ".join(map(repr, allowed)))
        if misfire_grace is not None and misfire != "skip":
            check.refuse("misfire_grace", misfire_grace, "None, or with misfire='skip' a duration,")
        grace = None
        if misfire == "skip":
            given = MISFIRE_GRACE if misfire_grace is None else misfire_grace
            grace = check.duration("misfire_grace", given, minimum=1000)
        template = function = None
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
            function = Function.of("task_callback", task_callback)
            for name, option, default in (
                ("payload", payload, None),
                ("retry_count", retry_count, None),
                ("retry_interval", retry_interval, None),
                ("retain_for", retain_for, None),
                ("priority", priority, 0),
                ("delay", delay, None),
                ("overlap", overlap, "allow"),
            ):
                if option != default:
                    check.refuse(name, option, "None, as it is for a task_type,")
        new = NewSchedule(task_id, checked, misfire, overlap, template, grace)
        if self._queue._opened is None and not self._was_open:
            self._kept[task_id] = new, function
            return
        self._kept.pop(task_id, None)
        await self._add(new, function)

    async def _add(self, new: NewSchedule, function: Function | None) -> None:
        added = await self._schedules.add(new)
        if function is None:
            self._callbacks.pop(new.id, None)
        else:
            self._callbacks[new.id] = function
        self._reports.added(new.id, added)
        self._loop.wake()
        if added.changed:
            await self._tell()

    async def remove_task(self, task_id: str) -> bool:
        """Remove a scheduled task, for every process. A call of its function that runs goes on.

        Returns:
            False if there was none.
        """
        task_id = check.label("task_id", task_id, 255)
        removed = await self._schedules.remove(task_id)
        self._forget(task_id)
        return removed

    async def only(self, ids: Iterable[str], *, prefix: str) -> list[str]:
        """Remove, for every process, the scheduled tasks that are no longer declared.

        Args:
            ids: those that are.
            prefix: only what begins with it is removed, so that several applications can share
                a database. With "" it is every one but `ids`, whoever added it.

        Returns:
            The ids of what was removed, sorted. They are logged.

        Raises:
            InvalidArgumentError: if an argument is refused.
            QueueClosedError: if the queue is not open.
            DatabaseUnavailableError: if the database cannot be reached.
        """
        schedules = self._schedules
        if isinstance(ids, str | bytes | Mapping) or not isinstance(ids, Iterable):
            check.refuse("ids", ids, "an iterable of ids")
        kept = {check.label("ids", task_id, 255) for task_id in ids}
        if prefix != "":
            check.label("prefix", prefix, 255)
        removed = await schedules.remove_others(kept, prefix)
        for task_id in removed:
            self._forget(task_id)
        if removed:
            self._events.emit(SchedulesRemoved(prefix, ", ".join(removed)))
        return removed

    async def tasks_info(self) -> ScheduledTaskInfo:
        """Return all scheduled tasks, those of other processes too.

        Of times that this process does not understand it has the fields that it does.
        """
        return ScheduledTaskInfo.model_construct(tasks=await self._schedules.times())

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
            False if there is none, it is not paused, its row is still damaged, or this process
            does not understand it, which is logged: then another one can resume it.
        """
        task_id = check.label("task_id", task_id, 255)
        try:
            resumed = await self._schedules.resume(task_id)
        except NotUnderstoodError as error:
            self._events.emit(ScheduleUnread(task_id, str(error)))
            return False
        if resumed:
            self._loop.wake()
            await self._tell()
        return resumed

    async def trigger_task(self, task_id: str) -> bool:
        """Trigger a scheduled task now. Its instants stay as they are, also while it is paused.

        Returns:
            False if nothing was triggered: there is no such task, its row is damaged or not
            understood here, its function was not added in this process or runs already, so many
            others run, or its overlap rule left it out.

        Raises:
            QueueClosedError: if the queue is not open, or its function is to be called and the
                queue is not started.
        """
        task_id = check.label("task_id", task_id, 255)
        if task_id in self._callbacks and not self._started:
            raise QueueClosedError("the queue is not started: functions are called while it is")
        schedules = self._schedules
        async with self._triggering:
            function = self._callbacks.get(task_id)
            ours = function is not None and task_id not in self._calls
            if function is not None and ours:
                ours = self._calls.room(in_loop=function.in_loop) > 0
                if ours and not function.in_loop:
                    ours = self._prepare(1) > 0
            done = await schedules.trigger(task_id, ours)
            self._carry_out(done, {} if function is None else {task_id: function})
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

    async def open(self) -> None:
        """Write what was added before the queue was open."""
        while self._kept:
            task_id, kept = next(iter(self._kept.items()))
            await self._add(*kept)
            if self._kept.get(task_id) is kept:
                del self._kept[task_id]
        self._was_open = True

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

    def skip_grace(self) -> None:
        """End the time that calls get in a `stop` under way."""
        self._hurry.set()

    def runs(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether an asyncio task is a call of a function."""
        return self._calls.runs(task)

    def forget(self) -> None:
        """Forget what ran in an event loop that is closed, or before a fork."""
        self._started = False
        self._hinted = None
        self._calls = self._new_calls()
        self._triggering = asyncio.Lock()

    # The loop.

    @property
    def _own_schedules(self) -> Schedules:
        """By the connections of the worker, which no call of the application can take."""
        return Schedules(self._queue._worker_store.database, self._left)

    @property
    def _schedules(self) -> Schedules:
        return Schedules(self._queue._store.database, self._left)

    def _wake(self) -> None:
        self._loop.wake()

    def _forget(self, task_id: str) -> None:
        self._callbacks.pop(task_id, None)
        self._reports.forget(task_id)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, SchedulesChanged) and self._started and not self._hinted:
            self._hinted = asyncio.get_running_loop().call_later(_HINT_GAP, self._heed)

    def _heed(self) -> None:
        self._hinted = None
        self._reports.hinted()
        self._loop.wake()

    async def _trigger_due(self) -> float:
        await self._record()
        now = asyncio.get_running_loop().time()
        if now >= self._read_again_at:
            self._left.clear()
            self._read_again_at = now + _READ_AGAIN
        schedules = self._own_schedules
        compared = await self._reports.compare(schedules, now)
        room = self._room(now)
        due = await schedules.next_due([*room.in_loop, *room.in_thread])
        if due != 0:
            self._backoff = 0.0
            async with self._triggering:  # which has a thread wait for what it triggers
                self._calls.prepare(0)
            poll = _SLOW_POLL if self._queue._notify else self._queue._poll_interval / 1000
            if self._ends:
                poll = min(poll, _RECORD_AGAIN)
            if now < self._thread_at:
                poll = min(poll, self._thread_at - now)
            return min(poll, compared) if due is None else min(poll, compared, due)
        async with self._triggering:
            done = await self._advance(schedules, self._room(now))
        if done.found > len(done.unread) or (done.found and not self._left.is_full):
            self._backoff = 0.0
            return 0.0
        # Due and not to be had: another process has locked it, or can read it.
        self._backoff = min(_MAX_BACKOFF, max(_MIN_BACKOFF, 2 * self._backoff))
        return self._backoff

    async def _advance(self, schedules: Schedules, room: _Room) -> Advance:
        loop_room = self._calls.room(in_loop=True)
        rooms: list[tuple[Iterable[str], int]] = []
        ours: Iterable[str] = room.in_loop
        if loop_room < _BATCH:
            ours, rooms = (), [(room.in_loop, loop_room)] if room.in_loop else []
        # Before anything is taken, for there may be none to be had.
        threads = self._prepare(self._spare) if room.in_thread else 0
        if threads:
            rooms.append((room.in_thread, threads))
        done = await schedules.advance(ours, _BATCH, None, rooms)
        self._carry_out(done, {**room.in_loop, **room.in_thread})
        used = sum(trigger.id in room.in_thread for trigger in done.triggers)
        self._spare = 2 * threads if used and used == threads else 1
        return done

    def _room(self, now: float) -> _Room:
        room = _Room()
        may_begin = {
            True: self._calls.room(in_loop=True) > 0,
            False: self._calls.room(in_loop=False) > 0 and now >= self._thread_at,
        }
        for name, function in self._callbacks.items():
            if may_begin[function.in_loop] and name not in self._calls:
                (room.in_loop if function.in_loop else room.in_thread)[name] = function
        return room

    def _prepare(self, count: int) -> int:
        try:
            ready = self._calls.prepare(count)
        except RuntimeError as error:
            self._thread_at = asyncio.get_running_loop().time() + _THREAD_WAIT
            if not self._refused:
                self._events.emit(ThreadRefused(str(error)))
            self._refused = True
            return 0
        self._refused = False
        return ready

    def _carry_out(self, done: Advance, functions: Mapping[str, Function]) -> None:
        for trigger in done.triggers:
            self._calls.start(trigger.id, trigger.due, functions[trigger.id])
        if done.types:
            self._queue._hint(done.types)
        self._reports.advanced(done)

    def _ended(
        self, schedule_id: str, due: datetime, function: Function, error: BaseException | None
    ) -> None:
        text = None
        if error is not None:
            self._events.emit(ScheduleFailed(schedule_id, error))
            text = describe(error, _name_of(function.call), self._queue._limits)
        outcome = "success" if error is None else "failed"
        self._ends.append(CallOutcome(Trigger(schedule_id, due), outcome, text))
        self._loop.wake()

    async def _record(self) -> None:
        now = asyncio.get_running_loop().time()
        ends = self._ends[:_BATCH]
        if not ends or now < self._record_at:
            return
        try:
            await self._own_schedules.record(ends)
            del self._ends[: len(ends)]
        except RowsLockedError:
            # What is to trigger does not wait for who has locked one of the rows.
            self._record_at = now + _RECORD_AGAIN
            await self._record_each(ends)

    async def _record_each(self, ends: Iterable[CallOutcome]) -> None:
        for end in ends:
            try:
                await self._own_schedules.record([end])
            except RowsLockedError:
                self._ends.remove(end)
                self._ends.append(end)  # the others come first the next time
                return
            self._ends.remove(end)

    async def _tell(self) -> None:
        if self._queue._notify:
            # It is stored; without the hint others see it with their next look.
            with suppress(DatabaseUnavailableError):
                await self._queue._store.database.hint_schedules()


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


def _name_of(function: ScheduledCallback) -> str:
    if not inspect.isroutine(function):
        return "rowlock"
    return f"{function.__module__}.{function.__qualname__}"
