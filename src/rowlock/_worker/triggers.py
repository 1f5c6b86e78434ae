"""The loop that triggers scheduled tasks: what is due creates tasks and calls functions."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from rowlock._endings import describe
from rowlock._events import Event, ScheduleFailed, ThreadRefused
from rowlock._loop import Loop
from rowlock._scheduling.calls import Calls, Function, ScheduledCallback
from rowlock._store.database import Database, Heard, HintKind, RowsLockedError
from rowlock._store.schedules import Added, Schedules
from rowlock._store.triggers import Advance, CallOutcome, Left, Trigger, Triggers
from rowlock._worker.call_outcomes import ScheduleReports
from rowlock._worker.settings import WorkerSettings
from rowlock.errors import DatabaseUnavailableError, QueueClosedError

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


class TriggerLoop:
    """Triggers what is due while the queue is started.

    Args:
        emit: takes events.
        settings: of the worker.
        database: returns that of the open queue, by the connections of the worker, which no
            call of the application can take.
        opened: called when the queue is opened.
        created: called with the types of the tasks that were created.
        max_threads: how many functions run in threads at once.
        max_coroutines: how many run in the loop at once.

    Attributes:
        left: the rows that this process leaves to others.
        reports: what was said of scheduled tasks.
    """

    def __init__(
        self,
        emit: Callable[[Event], None],
        settings: WorkerSettings,
        database: Callable[[], Database],
        opened: Callable[[], Awaitable[None]],
        created: Callable[[set[str]], None],
        *,
        max_threads: int,
        max_coroutines: int,
    ) -> None:
        self.left = Left()
        self.reports = ScheduleReports(emit)
        self.hears: Mapping[HintKind, Heard] = {HintKind.SCHEDULES: self._hinted}
        self._emit = emit
        self._settings = settings
        self._database = database
        self._opened = opened
        self._created = created
        self._functions: dict[str, Function] = {}
        self._new_calls = partial(
            Calls, self._ended, self.wake, max_threads=max_threads, max_coroutines=max_coroutines
        )
        self._calls = self._new_calls()
        # Threads that are started for a pass; twice as many for the next if all were needed.
        self._spare = 1
        self._thread_at = 0.0
        self._refused = False
        self._ends: list[CallOutcome] = []
        self._read_again_at = 0.0
        self._backoff = 0.0
        # From the look at what runs to the start of what was taken.
        self._triggering = asyncio.Lock()
        self._loop = Loop("scheduler", self.trigger_due, emit)
        self._started = False
        self._record_at = 0.0
        self._skip_grace = asyncio.Event()
        self._wakes: asyncio.TimerHandle | None = None

    # What the queue calls.

    async def open(self) -> None:
        """Write what was kept until the queue is open."""
        await self._opened()

    def start(self) -> None:
        """Begin to trigger."""
        self._skip_grace.clear()
        self._loop = Loop("scheduler", self.trigger_due, self._emit)
        self._loop.start()
        self._started = True

    async def stop(self, timeout: float) -> None:
        """Trigger no more; give calls that run `timeout` seconds to end."""
        if not self._started:
            return
        if self._wakes is not None:
            self._wakes.cancel()
            self._wakes = None
        # What a pass has taken is to be called: it is not cut short.
        await self._loop.end(_LAST_PASS)
        await self._calls.drain(timeout, self._skip_grace)
        with suppress(DatabaseUnavailableError):
            await self._record()
        self._started = False

    def skip_grace(self) -> None:
        """End the time that calls get in a `stop` under way."""
        self._skip_grace.set()

    def runs(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether an asyncio task is a call of a function."""
        return self._calls.runs(task)

    def forget(self) -> None:
        """Forget what ran in an event loop that is closed, or before a fork."""
        self._started = False
        self._wakes = None
        self._calls = self._new_calls()
        self._triggering = asyncio.Lock()

    # What the scheduler calls.

    def wake(self) -> None:
        """Look now for what is due."""
        self._loop.wake()

    def added(self, schedule_id: str, added: Added, function: Function | None) -> None:
        """This process has added a scheduled task, with a function or without."""
        if function is None:
            self._functions.pop(schedule_id, None)
        else:
            self._functions[schedule_id] = function
        self.reports.added(schedule_id, added)
        self.wake()

    def removed(self, schedule_id: str) -> None:
        """It was removed."""
        self._functions.pop(schedule_id, None)
        self.reports.forget(schedule_id)

    async def trigger(self, database: Database, schedule_id: str) -> bool:
        """Trigger a scheduled task now; return whether it was.

        Raises:
            QueueClosedError: if its function is to be called and the queue is not started.
        """
        if schedule_id in self._functions and not self._started:
            raise QueueClosedError("the queue is not started: functions are called while it is")
        async with self._triggering:
            function = self._functions.get(schedule_id)
            ours = function is not None and schedule_id not in self._calls
            if function is not None and ours:
                ours = self._calls.room(in_loop=function.in_loop) > 0
                if ours and not function.in_loop:
                    ours = self._prepare(1) > 0
            done = await Triggers(database, self.left).trigger(schedule_id, ours)
            self._carry_out(done, {} if function is None else {schedule_id: function})
        return bool(done.triggers or done.types)

    # The loop.

    def _hinted(self, _: str | None) -> None:
        if self._started and not self._wakes:
            self._wakes = asyncio.get_running_loop().call_later(_HINT_GAP, self._look)

    def _look(self) -> None:
        self._wakes = None
        self.reports.hinted()
        self.wake()

    async def trigger_due(self) -> float:
        """Trigger once what is due; return the seconds until there may be more."""
        await self._record()
        now = asyncio.get_running_loop().time()
        if now >= self._read_again_at:
            self.left.clear()
            self._read_again_at = now + _READ_AGAIN
        database = self._database()
        triggers = Triggers(database, self.left)
        compared = await self.reports.compare(Schedules(database), now)
        room = self._room(now)
        due = await triggers.next_due([*room.in_loop, *room.in_thread])
        if due != 0:
            self._backoff = 0.0
            async with self._triggering:  # which has a thread wait for what it triggers
                self._calls.prepare(0)
            poll = _SLOW_POLL if self._settings.notify else self._settings.poll_interval
            if self._ends:
                poll = min(poll, _RECORD_AGAIN)
            if now < self._thread_at:
                poll = min(poll, self._thread_at - now)
            return min(poll, compared) if due is None else min(poll, compared, due)
        async with self._triggering:
            done = await self._advance(triggers, self._room(now))
        if done.found > len(done.unread) or (done.found and not self.left.is_full):
            self._backoff = 0.0
            return 0.0
        # Due and not to be had: another process has locked it, or can read it.
        self._backoff = min(_MAX_BACKOFF, max(_MIN_BACKOFF, 2 * self._backoff))
        return self._backoff

    async def _advance(self, triggers: Triggers, room: _Room) -> Advance:
        loop_room = self._calls.room(in_loop=True)
        rooms: list[tuple[Iterable[str], int]] = []
        ours: Iterable[str] = room.in_loop
        if loop_room < _BATCH:
            ours, rooms = (), [(room.in_loop, loop_room)] if room.in_loop else []
        # Before anything is taken, for there may be none to be had.
        threads = self._prepare(self._spare) if room.in_thread else 0
        if threads:
            rooms.append((room.in_thread, threads))
        done = await triggers.advance(ours, _BATCH, None, rooms)
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
        for name, function in self._functions.items():
            if may_begin[function.in_loop] and name not in self._calls:
                (room.in_loop if function.in_loop else room.in_thread)[name] = function
        return room

    def _prepare(self, count: int) -> int:
        try:
            ready = self._calls.prepare(count)
        except RuntimeError as error:
            self._thread_at = asyncio.get_running_loop().time() + _THREAD_WAIT
            if not self._refused:
                self._emit(ThreadRefused(str(error)))
            self._refused = True
            return 0
        self._refused = False
        return ready

    def _carry_out(self, done: Advance, functions: Mapping[str, Function]) -> None:
        for trigger in done.triggers:
            self._calls.start(trigger.id, trigger.due, functions[trigger.id])
        if done.types:
            self._created(done.types)
        self.reports.advanced(done)

    def _ended(
        self, schedule_id: str, due: datetime, function: Function, error: BaseException | None
    ) -> None:
        text = None
        if error is not None:
            self._emit(ScheduleFailed(schedule_id, error))
            text = describe(error, _name_of(function.call), self._settings.limits)
        outcome = "success" if error is None else "failed"
        self._ends.append(CallOutcome(Trigger(schedule_id, due), outcome, text))
        self._loop.wake()

    async def _record(self) -> None:
        now = asyncio.get_running_loop().time()
        ends = self._ends[:_BATCH]
        if not ends or now < self._record_at:
            return
        try:
            await Triggers(self._database(), self.left).record(ends)
            del self._ends[: len(ends)]
        except RowsLockedError:
            # What is to trigger does not wait for who has locked one of the rows.
            self._record_at = now + _RECORD_AGAIN
            await self._record_each(ends)

    async def _record_each(self, ends: Iterable[CallOutcome]) -> None:
        for end in ends:
            try:
                await Triggers(self._database(), self.left).record([end])
            except RowsLockedError:
                self._ends.remove(end)
                self._ends.append(end)  # the others come first the next time
                return
            self._ends.remove(end)


def _name_of(function: ScheduledCallback) -> str:
    if not inspect.isroutine(function):
        return "rowlock"
    return f"{function.__module__}.{function.__qualname__}"
