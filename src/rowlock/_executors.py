"""The workers of one task type: slots in the event loop or in threads. Knows no store."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Protocol

from rowlock._context import RunningTask, running_task
from rowlock._handlers import Handler
from rowlock._json import loads
from rowlock._statements import TaskRow

MAX_PREFETCH = 400
_HORIZON = 0.05
_SLICE = 0.005
_STALLED = 1.0


class Job:
    """An attempt that this process holds.

    Attributes:
        row: the row as it was claimed.
        leased_at: `time.monotonic()` of the last claim or extension of its lease.
        lost: nobody wants its outcome any more.
        slot: the task in which the loop runs its handler, None at any other time.
    """

    __slots__ = ("leased_at", "lost", "row", "slot")

    def __init__(self, row: TaskRow, leased_at: float) -> None:
        self.row = row
        self.leased_at = leased_at
        self.lost = False
        self.slot: asyncio.Task[None] | None = None

    def abandon(self) -> None:
        """Drop the outcome, and cancel the handler if it runs in the loop."""
        self.lost = True
        if self.slot is not None:
            self.slot.cancel()


class Owner(Protocol):
    """What a pool tells the worker that it belongs to."""

    def finished(self, job: Job, result: Any, error: BaseException | None) -> None:
        """Take the result of a job, or the exception that ended it."""

    def refill(self, task_type: str) -> None:
        """There is room for more jobs."""

    def broken(self, task_type: str, error: BaseException) -> None:
        """The `initialise_method` or `shutdown_method` raised."""


class Pool:
    """Runs the jobs of one type in slots that start on demand and end when idle."""

    def __init__(self, handler: Handler, owner: Owner) -> None:
        self.handler = handler
        self._owner = owner
        self._waiting: deque[Job] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._slots: set[asyncio.Task[None]] = set()
        self._running: set[Job] = set()
        self._waking = False
        self._closing = False
        self._aborting = False
        self._moved_at = time.monotonic()
        self._broken_until = 0.0
        self._breaks = 0
        # How long a job takes; unknown at first.
        self._seconds: float | None = None

    @property
    def running(self) -> set[Job]:
        """The jobs that have begun and not ended."""
        return set(self._running)

    def room(self) -> int:
        """How many more jobs can begin soon; 0 until half of the last ones have begun."""
        if self._closing or time.monotonic() < self._broken_until:
            return 0
        prefetch = self._prefetch()
        if len(self._waiting) > prefetch // 2:
            return 0
        return max(0, self.handler.workers + prefetch - len(self._running) - len(self._waiting))

    def _prefetch(self) -> int:
        if self._seconds is None:
            return 0
        return min(MAX_PREFETCH, int(_HORIZON * self.handler.workers / self._seconds))

    def submit(self, job: Job) -> None:
        """Run a job as soon as a slot is free."""
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
        if not self._waiting or stalled < _STALLED:
            return []
        self._seconds = max(stalled, self._seconds or 0.0)
        return self.take_waiting()

    def discard(self, job: Job) -> None:
        """Drop a job that has lost its task."""
        try:
            self._waiting.remove(job)
        except ValueError:
            job.abandon()

    async def close(self) -> None:
        """End each slot when its job ends, and wait for that."""
        self._closing = True
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
        if len(self._slots) < self.handler.workers:
            self._waking = True
            slot = asyncio.create_task(self._slot(), name=f"rowlock {self.handler.task_type}")
            self._slots.add(slot)
            slot.add_done_callback(self._ended)

    def _ended(self, slot: asyncio.Task[None]) -> None:
        self._slots.discard(slot)
        if self._waiting and not self._closing:
            self._wake_one()

    async def _slot(self) -> None:
        place = _Thread(self.handler.task_type) if self.handler.executor == "thread" else _InLoop()
        if self.handler.initialise is not None:
            # It may take its time: nobody else is to wait for it.
            self._waking = False
            if len(self._waiting) > 1:
                self._wake_one()
        try:
            await place.hook(self.handler.initialise)
        except BaseException as error:
            self._waking = False
            if self._aborting:
                raise
            self._breaks += 1
            self._broken_until = time.monotonic() + min(60.0, 0.5 * 2.0**self._breaks)
            self._owner.broken(self.handler.task_type, error)
            place.stop()
            return
        self._breaks = 0
        try:
            await self._work(place)
            await place.hook(self.handler.shutdown)
        except BaseException as error:
            if self._aborting:
                raise
            self._owner.broken(self.handler.task_type, error)
        finally:
            place.stop()

    async def _work(self, place: _InLoop | _Thread) -> None:
        resumed = time.perf_counter()
        self._waking = False
        while (job := await self._next()) is not None:
            self._running.add(job)
            self._moved_at = time.monotonic()
            began = time.perf_counter()
            try:
                await self._run(job, place)
                if place.late is not None:
                    await asyncio.wait({place.late})
                    place.late = None
            finally:
                self._running.discard(job)
            ended = time.perf_counter()
            took = max(ended - began, 1e-6)
            self._seconds = (
                took if self._seconds is None else self._seconds + 0.1 * (took - self._seconds)
            )
            if ended - resumed > _SLICE:
                await asyncio.sleep(0)
                resumed = time.perf_counter()

    async def _next(self) -> Job | None:
        while not self._waiting:
            if self._closing:
                return None
            future = asyncio.get_running_loop().create_future()
            self._idle.append(future)
            self._owner.refill(self.handler.task_type)
            try:
                async with asyncio.timeout(self.handler.options.idle_shutdown_timeout / 1000):
                    await future
            except TimeoutError:
                if not self._waiting:
                    if not future.cancelled():
                        # Woken and timed out at once, and another slot has taken the job.
                        self._waking = False
                    return None
            self._waking = False
        job = self._waiting.popleft()
        if self._waiting:
            self._wake_one()
        if len(self._waiting) <= self._prefetch() // 2:
            self._owner.refill(self.handler.task_type)
        return job

    async def _run(self, job: Job, place: _InLoop | _Thread) -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            row = job.row
            payload = loads(row.payload)
            arguments = (payload,) if self.handler.takes_payload else ()
            running = RunningTask(row.id, row.type, row.attempt, payload)
            result = await place.run(job, running, self.handler, arguments)
        except asyncio.CancelledError as cancelled:
            if self._aborting:
                raise
            error = cancelled
        except BaseException as raised:
            # A handler that exits or raises KeyboardInterrupt fails its attempt, not the worker.
            error = raised
        await self._clear_cancellation()
        if not job.lost:
            self._owner.finished(job, result, error)

    async def _clear_cancellation(self) -> None:
        # Of the job, which may have swallowed it or cancelled its own task: the next job in
        # this slot must not meet it.
        slot = asyncio.current_task()
        if slot is None or not slot.cancelling():
            return
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        while slot.cancelling():
            slot.uncancel()


def _late(handler: Handler) -> TimeoutError:
    return TimeoutError(f"the handler ran longer than its timeout of {handler.options.timeout} ms")


class _InLoop:
    """Calls handlers in the event loop."""

    late: asyncio.Future[Any] | None = None

    async def hook(self, function: Callable[[], Any] | None) -> None:
        if function is not None:
            answer = function()
            if inspect.isawaitable(answer):
                await answer

    async def run(
        self, job: Job, running: RunningTask, handler: Handler, arguments: tuple[Any, ...]
    ) -> Any:
        running_task.set(running)
        job.slot = asyncio.current_task()
        try:
            if handler.options.timeout is None:
                return await handler.function(*arguments)
            async with asyncio.timeout(handler.options.timeout / 1000) as limit:
                return await handler.function(*arguments)
        except TimeoutError:
            if handler.options.timeout is not None and limit.expired():
                raise _late(handler) from None
            raise
        finally:
            job.slot = None

    def stop(self) -> None:
        pass


class _Thread:
    """Calls handlers in a thread of its own.

    A daemon, unlike the threads of an executor: one that never returns must not keep the
    process from ending.
    """

    def __init__(self, task_type: str) -> None:
        self._calls: SimpleQueue[tuple[asyncio.Future[Any], Callable[[], Any]] | None] = (
            SimpleQueue()
        )
        self.late: asyncio.Future[Any] | None = None
        threading.Thread(target=self._serve, name=f"rowlock {task_type}", daemon=True).start()

    async def hook(self, function: Callable[[], Any] | None) -> None:
        if function is None:
            return
        if inspect.iscoroutinefunction(function):
            await self._submit(lambda: asyncio.run(function()))
        else:
            await self._submit(function)

    async def run(
        self, job: Job, running: RunningTask, handler: Handler, arguments: tuple[Any, ...]
    ) -> Any:
        context = contextvars.copy_context()
        context.run(running_task.set, running)
        future = self._submit(lambda: context.run(handler.function, *arguments))
        if handler.options.timeout is not None:
            done, _ = await asyncio.wait({future}, timeout=handler.options.timeout / 1000)
            if not done:
                # It cannot be stopped: the slot stays taken until it returns.
                self.late = future
                raise _late(handler)
        return await future

    def stop(self) -> None:
        self._calls.put(None)

    def _submit(self, call: Callable[[], Any]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls.put((future, call))
        return future

    def _serve(self) -> None:
        while (item := self._calls.get()) is not None:
            future, call = item
            result: Any = None
            error: BaseException | None = None
            try:
                result = call()
            except StopIteration as raised:
                # A future cannot hold one.
                error = RuntimeError(f"the handler raised {raised!r}")
            except BaseException as raised:
                error = raised
            try:
                future.get_loop().call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:
                return  # the loop has been closed meanwhile


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
        future.exception()  # a late error is dropped, and nobody is to be warned of it
