"""The workers of one task type: started on demand, ended when idle, replaced when worn."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, Protocol

from rowlock._endings import CANCELLED, Ending, raised
from rowlock._executors import Executor, InLoop, InThread
from rowlock._handlers import Handler
from rowlock._processes import InProcess
from rowlock._statements import TaskRow
from rowlock.errors import LeaseLostError
from rowlock.models import Limits

MAX_PREFETCH = 900
_HORIZON = 0.05
_SLICE = 0.005
_STALLED = 1.0
_STALLED_AT_START = 5.0
_EXECUTORS: Final[dict[str, type[Executor]]] = {
    "async": InLoop,
    "thread": InThread,
    "process": InProcess,
}


class Job:
    """An attempt that this process holds. It is the link of its handler to the worker.

    Attributes:
        row: the row as it was claimed.
        claimed_at: `time.monotonic()` when its claim began.
        leased_at: `time.monotonic()` when that, or the last extension of its lease, began.
        pool: the pool that it was given to.
        executor: what runs its handler, None at any other time.
        told: its task is to be cancelled, and its handler has been told.
        begun: its handler was called.
        over: its outcome is known, or nobody wants it any more.
        reported: it has a progress to take.
    """

    __slots__ = (
        "_progress",
        "begun",
        "claimed_at",
        "executor",
        "leased_at",
        "over",
        "pool",
        "reported",
        "row",
        "told",
    )

    def __init__(self, row: TaskRow, claimed_at: float, pool: Pool) -> None:
        self.row = row
        self.claimed_at = self.leased_at = claimed_at
        self.pool = pool
        self.executor: Executor | None = None
        self.told = False
        self.begun = False
        self.over = False
        self._progress: str | None = None
        self.reported = False

    @property
    def key(self) -> tuple[str, int]:
        """The id and the attempt."""
        return self.row.id, self.row.attempt

    @property
    def cancelled(self) -> bool:
        """Whether its handler should end."""
        return self.told or self.over

    def report(self, progress: str) -> None:
        """Take a progress, from any thread; only the last one until it is taken counts."""
        if self.over:
            raise LeaseLostError(f"attempt {self.row.attempt} no longer holds task {self.row.id}")
        self._progress = progress
        if not self.reported:
            self.reported = True
            with suppress(RuntimeError):  # the loop is closed, and nobody is left to be told
                self.pool.loop.call_soon_threadsafe(self.pool.owner.progressed, self)

    def take_progress(self) -> str | None:
        """Return the last progress."""
        # First: what a thread says between the two is then taken twice rather than never.
        self.reported = False
        return self._progress

    def abandon(self) -> None:
        """Drop the outcome, and end the handler as far as that is possible."""
        self.over = True
        if self.executor is not None:
            self.executor.kill()


class Owner(Protocol):
    """What a pool tells the worker that it belongs to."""

    def finished(self, job: Job, ending: Ending) -> None:
        """Take the ending of a job."""

    def progressed(self, job: Job) -> None:
        """A job has a progress to take."""

    def refill(self, task_type: str) -> None:
        """There is room for more jobs."""

    def give_back(self, jobs: Iterable[Job]) -> None:
        """Take back jobs that have not begun: other processes may run them."""

    def hook_failed(self, task_type: str, error: BaseException) -> None:
        """A worker could not start, or its `shutdown_method` raised."""


class Pool:
    """Runs the jobs of one type in workers, each of which is a slot for one job at a time."""

    def __init__(self, handler: Handler, limits: Limits, owner: Owner) -> None:
        self.handler = handler
        self.owner = owner
        self.loop = asyncio.get_running_loop()
        self._limits = limits
        self._waiting: deque[Job] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._slots: set[asyncio.Task[None]] = set()
        self._running: set[Job] = set()
        self._ready = 0
        self._starting: asyncio.Task[None] | None = None
        self._started_at = 0.0
        self._start_seconds = 0.0
        self._waking = False
        self._closing = False
        self._aborting = False
        self._moved_at = time.monotonic()
        self._broken_until = 0.0
        self._breaks = 0
        # With no more waiting than this it is time to claim, as `room` found last.
        self._low = 0
        # How long a job takes; unknown at first.
        self._seconds: float | None = None

    @property
    def running(self) -> set[Job]:
        """The jobs that have begun and not ended."""
        return set(self._running)

    def room(self) -> int:
        """How many more jobs can begin soon; 0 until half of the last ones have begun."""
        if self._closing:
            return 0
        workers = self._workers()
        prefetch = self._prefetch(workers)
        self._low = prefetch // 2
        if not workers or len(self._waiting) > self._low:
            return 0
        return max(0, workers + prefetch - len(self._running) - len(self._waiting))

    def _workers(self) -> int:
        # Those that there are or can be soon: where a start takes time, one more at a time.
        if self.handler.starts_at_once:
            return self.handler.workers if self._may_start() else self._ready
        starts_soon = self._may_start() and (
            self._starting is None or time.monotonic() - self._started_at < self._patience()
        )
        return min(self.handler.workers, self._ready + starts_soon)

    def _patience(self) -> float:
        # How long a job may wait before others get it. Many imports take longer than a second.
        return _STALLED if self._ready else max(_STALLED_AT_START, 2 * self._start_seconds)

    def _may_start(self) -> bool:
        return time.monotonic() >= self._broken_until

    def _prefetch(self, workers: int) -> int:
        if self._seconds is None:
            return 0
        return min(MAX_PREFETCH, int(_HORIZON * workers / self._seconds))

    def submit(self, job: Job) -> None:
        """Run a job as soon as a slot is free, unless nobody wants that any more."""
        if job.over:
            return
        if job.told:
            self._finish(job, CANCELLED)
            return
        if not self._waiting:
            self._moved_at = time.monotonic()
        self._waiting.append(job)
        self._wake_one()

    def take_waiting(self) -> list[Job]:
        """Take back the jobs that have not begun."""
        jobs = list(self._waiting)
        self._waiting.clear()
        return jobs

    def take_stalled(self) -> list[Job]:
        """Take back the jobs that wait although none has begun for long: others may be free."""
        stalled = time.monotonic() - self._moved_at
        if not self._waiting or stalled < self._patience():
            return []
        if self._ready:
            self._seconds = max(stalled, self._seconds or 0.0)
        return self.take_waiting()

    def discard(self, job: Job) -> None:
        """Drop a job that has lost its task."""
        with suppress(ValueError):
            self._waiting.remove(job)
        job.abandon()

    def cancel(self, job: Job) -> None:
        """End a job because its task is to be cancelled, whatever its handler returns.

        The handler has `cancel_timeout` to end by itself.
        """
        if job.told or job.over:
            return
        job.told = True
        if job.executor is not None:
            job.executor.interrupt()
            self.loop.call_later(
                self.handler.options.cancel_timeout / 1000, self._give_up, job, job.executor
            )
        elif job in self._waiting:
            self._waiting.remove(job)
            self._finish(job, CANCELLED)

    def _give_up(self, job: Job, executor: Executor) -> None:
        if job.executor is executor and not job.over:
            self._finish(job, CANCELLED)
            job.abandon()

    def _finish(self, job: Job, ending: Ending) -> None:
        job.over = True
        self.owner.finished(job, ending)

    async def close(self) -> None:
        """End each slot when its job ends, and wait for that."""
        self._closing = True
        if self._starting is not None:
            self._starting.cancel()  # it has no job
        for future in self._idle:
            if not future.done():
                future.set_result(None)
        if self._slots:
            await asyncio.wait(self._slots)

    def abort(self) -> None:
        """End the slots that still run. A thread is left alone: nobody waits for it any more."""
        self._aborting = True
        for slot in self._slots:
            slot.cancel()

    def _wake_one(self) -> None:
        # One at a time: a woken slot wakes the next if work is left. Handlers that do not wait
        # are then all run by one slot, with no switch between them.
        if self._waking:
            return
        while self._idle:
            future = self._idle.pop()
            if not future.done():
                self._waking = True
                future.set_result(None)
                return
        if self._starting is None and len(self._slots) < self.handler.workers and self._may_start():
            self._started_at = time.monotonic()
            slot = asyncio.create_task(self._slot(), name=f"rowlock {self.handler.task_type}")
            self._starting = slot
            self._slots.add(slot)
            slot.add_done_callback(self._ended)

    def _ended(self, slot: asyncio.Task[None]) -> None:
        self._slots.discard(slot)
        if self._closing:
            return
        if self._waiting:
            self._wake_one()
        else:
            self.owner.refill(self.handler.task_type)

    async def _slot(self) -> None:
        executor = _EXECUTORS[self.handler.executor](self.handler, self._limits)
        try:
            await self._start(executor)
            self._ready += 1
            try:
                await self._work(executor)
            finally:
                self._ready -= 1
            await executor.stop()
        except asyncio.CancelledError as error:
            if self._closing:
                raise
            self.owner.hook_failed(self.handler.task_type, error)
        except BaseException as error:
            self.owner.hook_failed(self.handler.task_type, error)
        finally:
            await executor.close()

    async def _start(self, executor: Executor) -> None:
        try:
            await executor.start()
        except BaseException:
            self._breaks = min(self._breaks + 1, 7)
            self._broken_until = time.monotonic() + 0.5 * 2.0**self._breaks
            if not self._ready and not self._closing:
                self.owner.give_back(self.take_waiting())
            raise
        else:
            self._breaks = 0
            self._start_seconds = time.monotonic() - self._started_at
        finally:
            self._starting = None

    async def _work(self, executor: Executor) -> None:
        resumed = time.perf_counter()
        # A start is part of what the first job takes: where each worker has few, it is most of it.
        extra = self._start_seconds
        while (job := await self._next()) is not None:
            self._running.add(job)
            self._moved_at = time.monotonic()
            began = time.perf_counter()
            try:
                await self._run(job, executor)
            finally:
                self._running.discard(job)
            ended = time.perf_counter()
            took = max(ended - began + extra, 1e-6)
            extra = 0.0
            self._seconds = (
                took if self._seconds is None else self._seconds + 0.1 * (took - self._seconds)
            )
            if executor.worn:
                return
            if ended - resumed > _SLICE:
                await asyncio.sleep(0)
                resumed = time.perf_counter()

    async def _next(self) -> Job | None:
        while not self._waiting:
            if self._closing:
                return None
            future = self.loop.create_future()
            self._idle.append(future)
            self.owner.refill(self.handler.task_type)
            try:
                async with asyncio.timeout(self.handler.options.idle_shutdown_timeout / 1000):
                    await future
            except TimeoutError:
                if not self._waiting:
                    if not future.cancelled():
                        # Woken and timed out at once, and another slot has taken the job.
                        self._waking = False
                    return None
            except asyncio.CancelledError:
                # Of an earlier handler, which had its own task cancelled too late.
                if self._closing or (slot := asyncio.current_task()) is None:
                    raise
                slot.uncancel()
            self._waking = False
        job = self._waiting.popleft()
        if self._waiting:
            self._wake_one()
        if len(self._waiting) <= self._low:
            self.owner.refill(self.handler.task_type)
        return job

    async def _run(self, job: Job, executor: Executor) -> None:
        job.executor = executor
        try:
            ending = await executor.run(job.row, job)
        except BaseException as error:
            if self._aborting:
                raise
            # Whatever it is, the task must not stay processing.
            self._finish(job, raised(error, self.handler.source, self._limits))
            raise
        finally:
            job.executor = None
        if self._aborting:
            raise asyncio.CancelledError
        if ending is None and not job.cancelled:
            # Its worker ended before it began, which costs no try.
            self.owner.give_back([job])
            return
        ending = ending or CANCELLED
        if not job.over:
            self._finish(job, CANCELLED if job.told else ending)
        await executor.settle()
