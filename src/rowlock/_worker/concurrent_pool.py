"""The jobs of a type whose handlers run in the event loop, all of them in one worker."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from rowlock._endings import CANCELLED, HandlerResult
from rowlock._executors.base import Executor
from rowlock._executors.handler import Handler
from rowlock._executors.in_loop import InLoop
from rowlock._worker.pool import Job, Owner, Pool
from rowlock.models import SizeLimits

# Where Python can, handlers begin as they are started, for so long with nothing else between them.
_EAGER: Final[dict[str, Any]] = {"eager_start": True} if sys.version_info >= (3, 12) else {}
_SLICE: Final = 0.005


class ConcurrentPool(Pool):
    """Runs each job in an asyncio task and a context of its own, beside the others."""

    _running: dict[Job, asyncio.Task[None]]

    def __init__(self, handler: Handler, limits: SizeLimits, owner: Owner) -> None:
        super().__init__(handler, limits, owner, places=handler.workers)
        self._name = f"rowlock {handler.task_type}"
        self._executor: InLoop | None = None
        self._scheduled = False
        # Set while no job runs or waits, which began then.
        self._rests = asyncio.Event()
        self._rested_at = 0.0
        self._closed = asyncio.Event()

    def _interrupt(self, job: Job) -> None:
        self._running[job].cancel()

    def kill(self, job: Job) -> None:
        if (task := self._running.get(job)) is not None:
            task.cancel()

    def abort(self) -> None:
        super().abort()
        for task in self._running.values():
            task.cancel()

    def _new_executor(self) -> Executor:
        return InLoop(self.handler, self._limits)

    def _release(self) -> None:
        self._closed.set()

    async def _work(self, executor: Executor) -> None:
        assert isinstance(executor, InLoop)  # noqa: S101
        self._executor = executor
        self._begin()
        try:
            await self._until_idle()
        finally:
            self._executor = None

    async def _until_idle(self) -> None:
        timeout = self.handler.options.idle_shutdown_timeout / 1000
        while True:
            await self._rests.wait()
            left = self._rested_at + timeout - time.monotonic()
            if self._rests.is_set() and (self._closing or left <= 0):
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._closed.wait()

    def _wake(self) -> None:
        if self._executor is None:
            if self._waiting:
                self._start_worker()
        elif not self._scheduled:
            # Once for all that a claim brings, or that end in the same turn.
            self._scheduled = True
            self._rests.clear()
            self.loop.call_soon(self._begin, context=self._context)

    def _begin(self) -> None:
        """Begin with all that there are places for."""
        self._scheduled = False
        if (executor := self._executor) is None:
            return
        waiting, running, most = self._waiting, self._running, self.handler.workers
        begun, batch = 0, []
        new_task = self._task_factory()
        until = time.monotonic() + _SLICE
        while waiting and len(running) < most:
            job = waiting.popleft()
            task = new_task(self._run(job, executor), context=executor.context.copy())
            if not task.done():
                running[job] = task
            begun += 1
            if not job.begun:
                batch.append(job)
            elif time.monotonic() > until:
                break
        if begun:
            self._moved_at = time.monotonic()
            self._begun += begun
        if batch:
            # After the first step of each of them.
            self.loop.call_soon(self._check, batch, context=self._context)
        if len(waiting) <= self._low:
            self.owner.refill(self.handler.task_type)
        if not waiting and not running:
            self._rested_at = time.monotonic()
            self._rests.set()
            return
        self._rests.clear()
        if waiting and len(running) < most:
            self._wake()

    def _task_factory(self) -> Callable[..., asyncio.Task[None]]:
        loop, name = self.loop, self._name
        if loop.get_task_factory() is not None:  # the application's, which traces its tasks
            return partial(loop.create_task, name=name)
        return partial(asyncio.Task, loop=loop, name=name, **_EAGER)

    async def _run(self, job: Job, executor: InLoop) -> None:
        job.begun = True
        began = time.monotonic()
        try:
            ending = await executor.run(job.row, job)
        except BaseException as error:
            # Whatever it is, the task must not stay processing.
            ending = self._results.raised(error)
        self._took(time.monotonic() - began)
        self._end(job, ending)

    def _check(self, batch: list[Job]) -> None:
        # Who cancels all tasks there are may do it before the first step of one, which then has
        # none. (A task factory may put it off.)
        for job in batch:
            if not job.begun and (task := self._running.get(job)) is not None:
                task.add_done_callback(partial(self._never_began, job))

    def _never_began(self, job: Job, task: asyncio.Task[None]) -> None:
        if not job.begun:
            self._end(job, self._results.raised(asyncio.CancelledError()))

    def _end(self, job: Job, ending: HandlerResult) -> None:
        self._running.pop(job, None)
        if not job.over:
            self._finish(job, CANCELLED if job.cancelling else ending)
        self._wake()
