"""The sweeper: tasks of lost workers, and tasks past their retention. Runs in every worker."""

from __future__ import annotations

from rowlock._events import Events, TaskChanged
from rowlock._loop import Loop
from rowlock._store import Store

BATCH = 500


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
        self.loop = Loop("sweeper", self.sweep, events.emit, jitter=0.1)

    async def sweep(self) -> float:
        """Run one pass, in batches small enough to hold no lock for long."""
        found = BATCH
        while found == BATCH:
            found, changed = await self._store.sweep(BATCH)
            for task in changed:
                self._events.emit(TaskChanged(task))
        while await self._store.forget(BATCH) == BATCH:
            pass
        return self._interval
