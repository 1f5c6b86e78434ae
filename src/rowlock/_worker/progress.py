"""The progress that handlers report: the newest of each job, in one statement."""

from __future__ import annotations

import asyncio
from itertools import islice

from rowlock._batch_size import BatchSize
from rowlock._events import Events
from rowlock._loop import Loop
from rowlock._store.attempts import Attempts
from rowlock._worker.pool import Job
from rowlock.errors import DatabaseUnavailableError

# Seconds between two writes, in which more is gathered.
_GAP = 0.1
_FOREVER = 3600.0
_LOOK_AGAIN = 1.0
_MOST = 1000


class Reports:
    """Writes what jobs have reported.

    Args:
        attempts: their operations.
        holder: who holds the jobs.
        events: where the failures of the loop are emitted.
    """

    def __init__(self, attempts: Attempts, holder: str, events: Events) -> None:
        self.loop = Loop("progress", self.run_pass, events.emit)
        self._attempts = attempts
        self._holder = holder
        self._jobs: set[Job] = set()
        self._unsaved: dict[tuple[str, int], str] = {}
        # Of rows that somebody has locked.
        self._locked: dict[tuple[str, int], str] = {}
        self._size = BatchSize(_MOST)
        self._writing = asyncio.Lock()

    def add(self, job: Job) -> None:
        """Write the progress of a job before the next outcomes."""
        self._jobs.add(job)

    def progressed(self, job: Job) -> None:
        """A job has a progress to store, which no outcome follows yet."""
        self._jobs.add(job)
        self.loop.wake()

    async def run_pass(self) -> float:
        """Write once; what is reported meanwhile is the next batch."""
        if self._locked:
            await self.write_locked()
        await self.write()
        await asyncio.sleep(_GAP)
        return _LOOK_AGAIN if self._locked else _FOREVER

    async def write(self) -> None:
        """Write all that was reported so far, and wait for a write that is under way."""
        async with self._writing:
            jobs, self._jobs = self._jobs, set()
            for job in jobs:
                if (text := job.take_progress()) is not None:
                    where = self._locked if job.key in self._locked else self._unsaved
                    where[job.key] = text
            await self._send(self._unsaved, wait=True)

    async def write_locked(self) -> None:
        """Write what somebody has kept from being written, if the lock has gone."""
        async with self._writing:
            waiting, self._locked = self._locked, {}
            try:
                await self._send(waiting, wait=False)
            finally:
                self._locked.update(waiting)

    async def _send(self, reports: dict[tuple[str, int], str], *, wait: bool) -> None:
        while reports:
            some = dict(islice(reports.items(), self._size.rows))
            try:
                with self._size.statement(len(some)):
                    locked = await self._attempts.progress(self._holder, some, wait=wait)
            except (DatabaseUnavailableError, asyncio.CancelledError):
                raise
            except BaseException:
                _remove(reports, some)  # they would be refused again
                raise
            _remove(reports, some)
            self._locked.update((key, text) for key, text in some.items() if key[0] in locked)


def _remove(reports: dict[tuple[str, int], str], sent: dict[tuple[str, int], str]) -> None:
    for key in sent:
        del reports[key]
