"""The jobs of a type whose workers are threads or processes, with one job each at a time."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

from rowlock._endings import CANCELLED
from rowlock._executors.base import Executor
from rowlock._executors.handler import Handler
from rowlock._executors.in_process import InProcess
from rowlock._executors.in_thread import InThread
from rowlock._worker.pool import Job, Owner, Pool
from rowlock.models import SizeLimits

_EXECUTORS: Final[dict[str, type[Executor]]] = {"thread": InThread, "process": InProcess}


class SlotPool(Pool):
    """Runs jobs in workers, each of which is a slot for one job at a time."""

    _running: dict[Job, Executor]

    def __init__(self, handler: Handler, limits: SizeLimits, owner: Owner) -> None:
        super().__init__(handler, limits, owner)
        self._idle: deque[asyncio.Future[None]] = deque()

    def _interrupt(self, job: Job) -> None:
        self._running[job].interrupt()

    def kill(self, job: Job) -> None:
        if (executor := self._running.get(job)) is not None:
            executor.kill()

    def _new_executor(self) -> Executor:
        return _EXECUTORS[self.handler.executor](self.handler, self._limits)

    def _wake(self) -> None:
        while self._idle:
            future = self._idle.pop()
            if not future.done():
                future.set_result(None)
                return
        self._start_worker()

    def _release(self) -> None:
        for future in self._idle:
            if not future.done():
                future.set_result(None)

    async def _work(self, executor: Executor) -> None:
        # A start is part of what the first job takes: where each worker has few, it is most of it.
        extra = self._start_seconds
        while (job := await self._next()) is not None:
            self._moved_at = began = time.monotonic()
            self._begun += 1
            await self._run(job, executor)
            self._took(time.monotonic() - began + extra)
            extra = 0.0
            if executor.needs_replacement:
                return

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
                    return None
        job = self._waiting.popleft()
        if self._waiting:
            self._wake()
        if len(self._waiting) <= self._low:
            self.owner.refill(self.handler.task_type)
        return job

    async def _run(self, job: Job, executor: Executor) -> None:
        job.begun = True
        self._running[job] = executor
        try:
            ending = await executor.run(job.row, job)
        except BaseException as error:
            if self._aborting:
                raise
            # Whatever it is, the task must not stay processing.
            self._finish(job, self._results.raised(error))
            raise
        finally:
            del self._running[job]
        if self._aborting:
            raise asyncio.CancelledError
        if ending is None and not job.cancelled:
            # Its worker ended before it began, which costs no try.
            self.owner.give_back([job])
            return
        ending = ending or CANCELLED
        if not job.over:
            self._finish(job, CANCELLED if job.cancelling else ending)
        await executor.wait_until_free()
