"""The jobs of one task type, and their workers: started on demand, ended when idle."""

from __future__ import annotations

import asyncio
import contextvars
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rowlock._endings import CANCELLED, HandlerResult
from rowlock._executors.base import Executor
from rowlock._executors.handler import Handler
from rowlock._executors.results import Results
from rowlock._rows import HeldRow
from rowlock.errors import LeaseLostError
from rowlock.models import SizeLimits

# Of two full claims one runs while the next is on its way.
MAX_PREFETCH = 1900
_HORIZON = 0.05
_STALLED = 1.0
_STALLED_AT_START = 5.0


class Job:
    """An attempt that this process holds. It is the link of its handler to the worker.

    Attributes:
        row: the row as it was claimed.
        claimed_at: `time.monotonic()` when its claim began.
        leased_at: `time.monotonic()` when that, or the last extension of its lease, began.
        pool: the pool that it was given to.
        cancelling: its task is to be cancelled, and its handler knows.
        begun: its handler was called.
        over: its outcome is known, or nobody wants it any more.
        reported: it has a progress to take.
        scheduled_for: the instant of a schedule that its task was created for.
    """

    __slots__ = (
        "_progress",
        "begun",
        "cancelling",
        "claimed_at",
        "leased_at",
        "over",
        "pool",
        "reported",
        "row",
        "scheduled_for",
    )

    def __init__(self, row: HeldRow, claimed_at: float, pool: Pool) -> None:
        self.row = row
        self.claimed_at = self.leased_at = claimed_at
        self.pool = pool
        self.begun = False
        self.cancelling = False
        self.over = False
        self._progress: str | None = None
        self.reported = False
        self.scheduled_for: datetime | None = None

    @property
    def key(self) -> tuple[str, int]:
        """The id and the attempt."""
        return self.row.id, self.row.attempt

    @property
    def cancelled(self) -> bool:
        """Whether its handler should end."""
        return self.cancelling or self.over

    def report(self, progress: str) -> None:
        """Take a progress, from any thread; only the last one until it is taken counts."""
        if self.over:
            raise LeaseLostError(f"attempt {self.row.attempt} no longer holds task {self.row.id}")
        self._progress = progress
        if not self.reported:
            self.reported = True
            with suppress(RuntimeError):  # the loop is closed, and nobody is left to hear of it
                self.pool.loop.call_soon_threadsafe(self.pool.owner.progressed, self)

    def take_progress(self) -> str | None:
        """Return the last progress."""
        # First: what a thread says between the two is then taken twice rather than never.
        self.reported = False
        return self._progress

    def abandon(self) -> None:
        """Drop the outcome, and end the handler as far as that is possible."""
        self.over = True
        if self.begun:
            self.pool.kill(self)


@dataclass(slots=True)
class Owner:
    """What a pool calls of the worker that it belongs to.

    Attributes:
        finished: takes the ending of a job.
        progressed: a job has a progress to take.
        refill: there is room for more jobs of a type.
        give_back: takes back jobs that have not begun: other processes may run them.
        hook_failed: a worker of a type could not start, or its `shutdown_method` raised.
    """

    finished: Callable[[Job, HandlerResult], None]
    progressed: Callable[[Job], None]
    refill: Callable[[str], None]
    give_back: Callable[[Iterable[Job]], None]
    hook_failed: Callable[[str, BaseException], None]


class Pool(ABC):
    """Runs the jobs of one type in workers, each of which has places for one job or more.

    All of it runs in a copy of the context that the pool was made in, and so do the handlers:
    what one of them leaves in its context no other one sees.

    Args:
        handler: what it runs.
        limits: sizes of what handlers return, raise and report.
        owner: what it calls.
        places: how many jobs one worker runs at a time.
    """

    def __init__(
        self, handler: Handler, limits: SizeLimits, owner: Owner, *, places: int = 1
    ) -> None:
        self.handler = handler
        self.owner = owner
        self.loop = asyncio.get_running_loop()
        self._limits = limits
        self._results = Results(handler, limits)
        self._context = contextvars.copy_context()
        self._places = places
        self._waiting: deque[Job] = deque()
        self._running: dict[Job, Any] = {}
        self._workers: set[asyncio.Task[None]] = set()
        # The places of the workers that are neither starting nor stopping.
        self._ready = 0
        self._starting: asyncio.Task[None] | None = None
        self._started_at = 0.0
        self._start_seconds = 0.0
        self._closing = False
        self._aborting = False
        # When one began last, and how many did since when.
        self._moved_at = self._counted_from = time.monotonic()
        self._begun = 0
        # When one had begun last as it was found that none had for long.
        self._suspected_at = 0.0
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

    @property
    def waits(self) -> bool:
        """Whether a job has not begun."""
        return bool(self._waiting)

    # How much it can take.

    def room(self) -> int:
        """How many more jobs can begin soon; 0 until half of the last ones have begun."""
        if self._closing:
            return 0
        places = self._places_soon()
        prefetch = self._prefetch(places)
        self._low = prefetch // 2
        if not places or len(self._waiting) > self._low:
            return 0
        return max(0, places + prefetch - len(self._running) - len(self._waiting))

    def _places_soon(self) -> int:
        # Those that there are or can be soon: where a start takes time, one more at a time. Who
        # is in its `shutdown_method` still has its place.
        starting = 0 if self._starting is None else self._places
        stopping = len(self._workers) * self._places - starting - self._ready
        most = self.handler.workers - stopping
        if self.handler.starts_at_once:
            return most if self._may_start() else self._ready
        starts_soon = self._may_start() and (
            self._starting is None or time.monotonic() - self._started_at < self._patience()
        )
        return min(most, self._ready + starts_soon)

    def _patience(self) -> float:
        # How long a job may wait before others get it. Many imports take longer than a second.
        return _STALLED if self._ready else max(_STALLED_AT_START, 2 * self._start_seconds)

    def _may_start(self) -> bool:
        return time.monotonic() >= self._broken_until

    def _prefetch(self, places: int) -> int:
        if self._seconds is None:
            return 0
        return min(MAX_PREFETCH, int(_HORIZON * places / self._seconds))

    def _took(self, seconds: float) -> None:
        seconds = max(seconds, 1e-6)
        if self._seconds is None:
            self._seconds = seconds
        else:
            self._seconds += 0.1 * (seconds - self._seconds)

    # Jobs that wait.

    def submit(self, job: Job) -> None:
        """Run a job as soon as there is a place, unless nobody wants that any more."""
        if job.over:
            return
        if job.cancelling:
            self._finish(job, CANCELLED)
            return
        if not self._waiting:
            self._moved_at = time.monotonic()
        self._waiting.append(job)
        self._wake()

    def take_waiting(self) -> list[Job]:
        """Take back the jobs that have not begun."""
        jobs = list(self._waiting)
        self._waiting.clear()
        return jobs

    def take_stalled(self) -> list[Job]:
        """Take back the jobs that wait for longer than was meant: others may be free.

        These are all, if none has begun for a second, and since the last look: it may be that
        nothing at all ran in this process. Else it is what exceeds the number that began in the
        last second, once the first of them waits for two. They were to begin within 50 ms: where
        handlers take what they took before there are none.
        """
        now = time.monotonic()
        if not self._waiting:
            return []
        stalled = now - self._moved_at
        if stalled >= self._patience():
            if self._suspected_at != self._moved_at:
                self._suspected_at = self._moved_at
                return []
            if self._ready:
                self._seconds = max(stalled, self._seconds or 0.0)
            return self.take_waiting()
        passed = now - self._counted_from
        if passed < _STALLED:
            return []
        begun, self._begun = self._begun, 0
        self._counted_from = now
        surplus = len(self._waiting) - int(begun * _STALLED / passed)
        waits = now - self._waiting[0].claimed_at
        if surplus <= 0 or not self._ready or waits < passed + _STALLED:
            return []
        self._seconds = max(self.handler.workers * passed / max(begun, 1), self._seconds or 0.0)
        return [self._waiting.pop() for _ in range(surplus)]

    def discard(self, job: Job) -> None:
        """Drop a job that has lost its task."""
        with suppress(ValueError):
            self._waiting.remove(job)
        job.abandon()

    # Jobs that run.

    def cancel(self, job: Job) -> None:
        """End a job because its task is to be cancelled, whatever its handler returns.

        The handler has `cancel_timeout` to end by itself.
        """
        if job.cancelling or job.over:
            return
        job.cancelling = True
        if job in self._running:
            self._interrupt(job)
            self.loop.call_later(self.handler.options.cancel_timeout / 1000, self._give_up, job)
        elif job in self._waiting:
            self._waiting.remove(job)
            self._finish(job, CANCELLED)

    def _give_up(self, job: Job) -> None:
        if job in self._running and not job.over:
            self._finish(job, CANCELLED)
            job.abandon()

    def _finish(self, job: Job, ending: HandlerResult) -> None:
        job.over = True
        self.owner.finished(job, ending)

    @abstractmethod
    def _interrupt(self, job: Job) -> None:
        """Tell the handler of a job that runs to end, unless all it can do is to look."""

    @abstractmethod
    def kill(self, job: Job) -> None:
        """End the handler of a job as far as that is possible; nobody wants its outcome."""

    # Workers.

    async def close(self) -> None:
        """End each worker when its jobs have ended, and wait for that."""
        self._closing = True
        if self._starting is not None:
            self._starting.cancel()  # it has no job
        self._release()
        if self._workers:
            await asyncio.wait(self._workers)

    def abort(self) -> None:
        """End the workers that there still are, whatever their handlers do."""
        self._aborting = True
        for worker in self._workers:
            worker.cancel()

    @abstractmethod
    def _wake(self) -> None:
        """Have somebody begin with the jobs that wait."""

    @abstractmethod
    def _release(self) -> None:
        """Tell the workers without a job that the pool closes."""

    @abstractmethod
    def _new_executor(self) -> Executor:
        """Return a worker."""

    @abstractmethod
    async def _work(self, executor: Executor) -> None:
        """Run jobs in a worker that has started, until it is idle, used up, or the pool closes."""

    def _start_worker(self) -> None:
        # One at a time, and none beside those that stop: they have their places still.
        if (
            self._starting is None
            and len(self._workers) * self._places < self.handler.workers
            and self._may_start()
        ):
            self._started_at = time.monotonic()
            worker = self.loop.create_task(
                self._live(),
                name=f"rowlock {self.handler.task_type}",
                context=self._context.copy(),
            )
            self._starting = worker
            self._workers.add(worker)
            worker.add_done_callback(self._ended)

    def _ended(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        if self._closing:
            return
        if self._waiting:
            self._wake()
        else:
            self.owner.refill(self.handler.task_type)

    async def _live(self) -> None:
        executor = self._new_executor()
        try:
            await self._start(executor)
            self._ready += self._places
            try:
                await self._work(executor)
            finally:
                self._ready -= self._places
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
