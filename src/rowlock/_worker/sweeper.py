"""The sweeper: tasks of lost workers, and tasks past their retention. Runs in every worker."""

from __future__ import annotations

import asyncio
import time

from rowlock._batch_size import BatchSize, StatementTooSlowError
from rowlock._events import Events, TaskChanged
from rowlock._loop import Loop
from rowlock._store.sweep import Sweep
from rowlock._worker.failures import failure
from rowlock._worker.held import Held

BATCH = 500
# A batch of the retention is to take about so many seconds: on SQLite nobody else can write
# meanwhile. It is never smaller than this, or it might never end.
_SECONDS = 0.05
_SMALLEST = 10
# By how many seconds the clock is further than the time that has passed, where it was set or the
# host was suspended. A clock that is slewed gains 0.5 ms a second.
_STEP = 1.0


class Sweeper:
    """Puts back what lost workers held, and deletes what is past its retention.

    Args:
        sweep: its operations.
        events: where each task put back or ended is emitted.
        interval: seconds between two passes.
        lease: in seconds, of the workers.
        held: what this process holds, which it does not put back.
    """

    def __init__(
        self, sweep: Sweep, events: Events, interval: float, lease: float, held: Held
    ) -> None:
        self._held = held
        self._sweep = sweep
        self._events = events
        self._interval = interval
        self._size = BatchSize(BATCH)
        self._limit = BATCH
        self._lease = lease
        self._clock = time.time() - time.monotonic()
        self._patient_until = 0.0
        self.loop = Loop("sweeper", self.sweep, events.emit, jitter=0.1)

    async def sweep(self) -> float:
        """Run one pass, in batches small enough to hold no lock for long."""
        if self._is_patient():
            return min(self._interval, self._lease)
        full = True
        while full:
            limit = self._size.rows
            with self._size.statement(limit):
                swept = await self._sweep.leases(
                    limit, holder=self._held.holder, holds=self._held.holds
                )
            for task in swept.changed:
                if (failed := failure(task)) is not None:
                    self._events.emit(failed)
                self._events.emit(TaskChanged(task))
            if swept.spared:
                # This process was kept from extending, or the clock was set.
                await self._held.extend(swept.spared)
            full = swept.found == limit
        await self._prune()
        return self._interval

    def _is_patient(self) -> bool:
        """Whether the clock was set within a lease.

        By a clock that was set, or stood still with its host, the leases of all workers of this
        host seem to have run out at once. They have the time to extend them.
        """
        now = time.monotonic()
        before, self._clock = self._clock, time.time() - now
        if abs(self._clock - before) > _STEP:
            self._patient_until = now + self._lease
        return now < self._patient_until

    async def _prune(self) -> None:
        while True:
            began = time.monotonic()
            try:
                full = await self._sweep.retention(self._limit) == self._limit
            except StatementTooSlowError:
                self._limit = max(1, self._limit // 2)
                raise
            taken = time.monotonic() - began
            if not full:
                return
            fitting = int(self._limit * _SECONDS / max(taken, 0.001))
            self._limit = min(BATCH, 2 * self._limit, max(_SMALLEST, fitting))
            # Half of the time is left to others: no lock is fair to who waits for SQLite's.
            await asyncio.sleep(taken)
