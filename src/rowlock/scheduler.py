"""TaskScheduler: what triggers by the clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from rowlock import _arguments as check
from rowlock._client.new_tasks import new_row, refuse_options
from rowlock._events import (
    SchedulesRemoved,
    ScheduleUnread,
)
from rowlock._scheduling.calls import Function, ScheduledCallback
from rowlock._scheduling.plan import MISFIRE_GRACE, MISFIRES, OVERLAPS
from rowlock._scheduling.times import NotUnderstoodError, instants, is_complete
from rowlock._store.database import Hint, HintKind
from rowlock._store.schedules import NewSchedule, Schedules
from rowlock._worker.triggers import TriggerLoop
from rowlock.errors import InvalidArgumentError
from rowlock.models import (
    Duration,
    NewTask,
)
from rowlock.queue import TaskQueue
from rowlock.schedule_models import ScheduledTaskInfo, ScheduledTaskState, ScheduledTaskTime

Times = Iterable[ScheduledTaskTime | Mapping[str, Any]]

MAX_TIMES = 100


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
        self._runtime = runtime = queue.runtime
        self._triggers = TriggerLoop(
            runtime.events.emit,
            runtime.settings,
            lambda: runtime.worker_store.database,
            self._write_kept,
            lambda types: runtime.hints.tell(Hint(HintKind.WORK, name) for name in types),
            max_threads=check.integer("max_threads", max_threads, 1, 10_000),
            max_coroutines=check.integer("max_coroutines", max_coroutines, 1, 10_000),
        )
        # Added before the queue is open.
        self._kept: dict[str, tuple[NewSchedule, Function | None]] = {}
        self._was_open = False
        runtime.attach(self._triggers)

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
        task = NewTask(
            "" if task_type is None else task_type,
            payload,
            retry_count=retry_count,
            retry_interval=retry_interval,
            retain_for=retain_for,
            priority=priority,
            delay=delay,
        )
        template = function = None
        if task_type is not None:
            if task_callback is not None:
                check.refuse("task_callback", task_callback, "either it or a task_type")
            template = new_row(task, self._runtime.settings.limits)
        elif task_callback is None:
            check.refuse("task_callback", task_callback, "a callable, or a task_type instead,")
        else:
            function = Function.of("task_callback", task_callback)
            refuse_options(task)
            if overlap != "allow":
                check.refuse("overlap", overlap, "None, as it is for a task_type,")
        new = NewSchedule(task_id, checked, misfire, overlap, template, grace)
        if not self._runtime.is_open and not self._was_open:
            self._kept[task_id] = new, function
            return
        self._kept.pop(task_id, None)
        await self._add(new, function)

    async def _add(self, new: NewSchedule, function: Function | None) -> None:
        added = await self._schedules.add(new)
        self._triggers.added(new.id, added, function)
        if added.changed:
            self._tell()

    async def remove_task(self, task_id: str) -> bool:
        """Remove a scheduled task, for every process. A call of its function that runs goes on.

        Returns:
            False if there was none.
        """
        task_id = check.label("task_id", task_id, 255)
        removed = await self._schedules.remove(task_id)
        self._triggers.removed(task_id)
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
            self._triggers.removed(task_id)
        if removed:
            self._runtime.events.emit(SchedulesRemoved(prefix, ", ".join(removed)))
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
            self._runtime.events.emit(ScheduleUnread(task_id, str(error)))
            return False
        if resumed:
            self._triggers.wake()
            self._tell()
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
        return await self._triggers.trigger(self._runtime.store.database, task_id)

    @staticmethod
    def preview(times: Times, count: int = 10) -> list[datetime]:
        """Return the next instants of times that would be given now, at most `count`, in UTC.

        Raises:
            InvalidArgumentError: if a time is refused, or the count is not 1 to 10,000.
        """
        checked = _times(times)
        return instants(checked, datetime.now(UTC), check.integer("count", count, 1, 10_000))

    @property
    def _schedules(self) -> Schedules:
        return Schedules(self._runtime.store.database)

    def _tell(self) -> None:
        # It is stored; without the hint others see it with their next look.
        self._runtime.hints.tell([Hint(HintKind.SCHEDULES)])

    async def _write_kept(self) -> None:
        while self._kept:
            task_id, kept = next(iter(self._kept.items()))
            await self._add(*kept)
            if self._kept.get(task_id) is kept:
                del self._kept[task_id]
        self._was_open = True


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
