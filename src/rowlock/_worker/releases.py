"""Claimed tasks that are not to run here: they are put back, for this process or another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from rowlock._batch_size import BatchSize
from rowlock._events import Events, TaskChanged
from rowlock._store.attempts import Attempts
from rowlock._store.database import Hint, HintKind
from rowlock._worker.held import Held
from rowlock._worker.pool import Job
from rowlock._worker.progress import Reports

_MOST = 1000
# Seconds for each of the two writes; the end of a worker leaves time for both.
_TIMEOUT = 2.5
# Rows that somebody has locked are tried again after so many seconds.
_LOCKED_AGAIN = 1.0


class Releases:
    """Puts back what is unwanted, and holds it until that is done.

    Its leases are extended meanwhile: to lose one more worker may be the end of a task.

    Args:
        attempts: their operations.
        held: what this process holds.
        reports: their progress, written before they are put back.
        events: where each task put back is emitted.
        send: gives a hint to other processes.

    Attributes:
        failed: whether the last try failed. What failed is tried again before the next claim; if
            the database is gone, the leases run out and another worker's sweeper does it.
    """

    def __init__(
        self,
        attempts: Attempts,
        held: Held,
        reports: Reports,
        events: Events,
        send: Callable[[Hint], None],
    ) -> None:
        self.failed = False
        self._attempts = attempts
        self._held = held
        self._reports = reports
        self._events = events
        self._send = send
        self._size = BatchSize(_MOST)
        # `time.monotonic()` when those are tried again whose rows somebody has locked.
        self._again_at = 0.0

    async def put_back(self, jobs: Iterable[Job]) -> None:
        """Put back jobs, and what could not be put back before."""
        new = {job.key: job for job in jobs}
        unwanted = self._held.unwanted
        again = self.failed or time.monotonic() >= self._again_at
        attempts = [*new, *(unwanted if again else ())]
        unwanted.update(new)
        if not attempts:
            return
        with suppress(Exception):
            async with asyncio.timeout(_TIMEOUT):
                await self._reports.write()
        self.failed = True
        with suppress(Exception):
            async with asyncio.timeout(_TIMEOUT):
                while attempts:
                    some = attempts[: self._size.rows]
                    await self._release(some)
                    del attempts[: len(some)]
                self.failed = False

    async def _release(self, attempts: list[tuple[str, int]]) -> None:
        held = self._held
        begun = {key for key in attempts if held.unwanted[key].begun}
        # The first answer may wait for locks; the rows that were locked then are not waited for.
        wait = not self._again_at
        with self._size.statement(len(attempts)):
            released, locked = await self._attempts.release(
                held.holder, attempts, begun=begun, wait=wait
            )
        self._again_at = time.monotonic() + _LOCKED_AGAIN if locked else 0.0
        for key in attempts:
            if key[0] not in locked:
                held.unwanted.pop(key, None)
                held.jobs.pop(key, None)
        held.ends["released"] += len(released)
        for task in released:
            self._events.emit(TaskChanged(task))
        for task_type in {task.type for task in released}:
            self._send(Hint(HintKind.WORK, task_type))
