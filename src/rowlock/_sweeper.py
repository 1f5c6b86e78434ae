"""The sweeper: tasks of lost workers, and tasks past their retention. Runs in every worker."""

from __future__ import annotations

import asyncio
import time

from rowlock._events import Events, TaskChanged
from rowlock._loop import Loop
from rowlock._store import Store

BATCH = 500
# A batch of the retention is to take about so many seconds: on SQLite nobody else can write
# meanwhile. It is never smaller than this, or it might never end.
_SECONDS = 0.05
_SMALLEST = 10


class Sweeper:
    """Puts back what lost workers held, and deletes what is past its retention.

    Args:
        store: where.
        events: where each task put back or ended is emitted.
        interval: seconds between two passes.
    """

    def __init__(self, store: Store, events: Events, interval: float) -> None:
        self._store = store
        self._events = events
        self._interval = interval
        self._limit = BATCH
        self.loop = Loop("sweeper", self.sweep, events.emit, jitter=0.1)

    async def sweep(self) -> float:
        """Run one pass, in batches small enough to hold no lock for long."""
        found = BATCH
        while found == BATCH:
            found, changed = await self._store.sweep(BATCH)
            for task in changed:
                self._events.emit(TaskChanged(task))
        await self._forget()
        return self._interval

    async def _forget(self) -> None:
        while True:
            began = time.monotonic()
            full = await self._store.forget(self._limit) == self._limit
            taken = time.monotonic() - began
            if not full:
                return
            fitting = int(self._limit * _SECONDS / max(taken, 0.001))
            self._limit = min(BATCH, 2 * self._limit, max(_SMALLEST, fitting))
            # Half of the time is left to others: no lock is fair to who waits for SQLite's.
            await asyncio.sleep(taken)
