"""The progress that handlers report: the newest of each job, written together."""

from __future__ import annotations

import asyncio

from rowlock._events import Events
from rowlock._loop import Loop
from rowlock._pools import Job
from rowlock._store import Store
from rowlock.errors import DatabaseUnavailableError

# Seconds between two writes, in which more is gathered.
_GAP = 0.1
_FOREVER = 3600.0


class Reports:
    """Writes what jobs have reported.

    Args:
        store: where.
        holder: who holds the jobs.
        events: where the failures of the loop are emitted.
    """

    def __init__(self, store: Store, holder: str, events: Events) -> None:
        self.loop = Loop("progress", self.run_pass, events.emit)
        self._store = store
        self._holder = holder
        self._jobs: set[Job] = set()
        self._unsaved: dict[tuple[str, int], str] = {}
        self._writing = asyncio.Lock()

    def add(self, job: Job) -> None:
        """Write the progress of a job with the next ones."""
        self._jobs.add(job)

    async def run_pass(self) -> float:
        """Write once; what is reported meanwhile goes together next."""
        await self.write()
        await asyncio.sleep(_GAP)
        return _FOREVER

    async def write(self) -> None:
        """Write all that was reported so far, and wait for a write that is under way."""
        async with self._writing:
            jobs, self._jobs = self._jobs, set()
            reports, self._unsaved = self._unsaved, {}
            for job in jobs:
                if (text := job.take_progress()) is not None:
                    reports[job.key] = text
            if not reports:
                return
            try:
                await self._store.progress(self._holder, reports)
            except (DatabaseUnavailableError, asyncio.CancelledError):
                self._unsaved = reports
                raise
