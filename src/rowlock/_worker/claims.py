"""The claim loop: how much there is room for, one claim, and what becomes of the rows."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from math import inf

from rowlock._batch_size import BatchSize
from rowlock._events import Events, RowUnreadable, TaskChanged
from rowlock._loop import Loop
from rowlock._rows import HeldRow, TaskRow
from rowlock._store.database import MOST_OF_A_CLAIM
from rowlock._store.store import Store
from rowlock._worker.contention import StatementGate
from rowlock._worker.finishes import Finishes
from rowlock._worker.held import Held
from rowlock._worker.pool import Job, Pool
from rowlock._worker.pools import Pools
from rowlock._worker.quarantine import Quarantine
from rowlock._worker.releases import Releases
from rowlock._worker.side_tasks import SideTasks

_LOOK_AGAIN = 1.0
_SOON = 0.05


class Claims:
    """Claims what there is room for, and gives it to the pools.

    Args:
        store: the tasks.
        held: what this process holds.
        pools: where it runs.
        releases: puts back what cannot begin here.
        finishes: nothing is claimed while too many outcomes wait.
        quarantine: decides what may begin beside what.
        gate: for each claim.
        side_tasks: put back what a pool gives back.
        events: where claimed tasks and troubles are emitted.
        poll_interval: seconds between two looks without a hint.
        observed: whether anybody wants the changes of a type.
    """

    def __init__(
        self,
        store: Store,
        held: Held,
        pools: Pools,
        releases: Releases,
        finishes: Finishes,
        quarantine: Quarantine,
        gate: StatementGate,
        side_tasks: SideTasks,
        events: Events,
        *,
        poll_interval: float,
        observed: Callable[[str], bool],
    ) -> None:
        self.loop = Loop("claim", self.claim, events.emit)
        self._store = store
        self._held = held
        self._pools = pools
        self._releases = releases
        self._finishes = finishes
        self._quarantine = quarantine
        self._gate = gate
        self._side_tasks = side_tasks
        self._events = events
        self._poll_interval = poll_interval
        self._observed = observed
        self._size = BatchSize(MOST_OF_A_CLAIM)
        # The types of which the last claim may have left some, or that had a hint since.
        self._maybe_more: set[str] = set()
        self._claiming = asyncio.Lock()
        self._closed = False

    def close(self) -> None:
        """Claim nothing from now on; what a claim under way brings is put back."""
        self._closed = True

    def hint(self, task_type: str | None) -> None:
        """There may be work of a type, or of any."""
        known = self._pools.by_type.keys()
        types = known if task_type is None else known & {task_type}
        if types:
            self._maybe_more.update(types)
            self.loop.wake()

    def refill(self, task_type: str) -> None:
        """Claim again if the last claim did not take all there was."""
        if task_type in self._maybe_more:
            self.loop.wake()

    def give_back(self, jobs: Iterable[Job]) -> None:
        """Let other processes have what no worker here can begin."""
        given = list(jobs)
        self._side_tasks.start(lambda: self._give_back(given))

    async def wait(self) -> None:
        """Wait until no claim is under way."""
        async with self._claiming:
            pass

    async def claim(self) -> float:
        """Claim once; return the seconds until there may be more to claim."""
        async with self._claiming:
            if self._finishes.is_behind:
                return min(self._poll_interval, _SOON)
            await self._give_back(self._pools.take_stalled())
            rooms, delay = self._rooms()
            if not rooms:
                return delay
            hinted = not self._maybe_more.isdisjoint(rooms)
            if not hinted and (seconds := await self._seconds_to_due(rooms)):
                return min(delay, seconds)
            jobs = await self._take_in_turn()
            if jobs is None:
                return delay
            await self._begin(jobs)
            if jobs or hinted:
                return 0.0
            # Due and not to be had: somebody holds the row's lock.
            return min(delay, _SOON)

    async def _give_back(self, jobs: Sequence[Job]) -> None:
        await self._releases.put_back(jobs)
        for task_type in {job.row.type for job in jobs}:
            self.hint(task_type)

    def _rooms(self) -> tuple[dict[str, int], float]:
        """Return how many rows of each type may be claimed, and in how many seconds to look again.

        Only types with room are among them: none while something that failed is to be put back,
        or while a task is alone.
        """
        delay, unwanted = self._poll_interval, bool(self._held.unwanted)
        if unwanted or self._pools.have_waiting:
            delay = min(delay, _LOOK_AGAIN)
        if unwanted and self._releases.failed:
            return {}, delay
        most, seconds = self._quarantine.hold_back(self._size.rows)
        if not most:
            return {}, min(delay, seconds)
        rooms = self._pools.rooms(most)
        if len(rooms) < len(self._pools):
            # No hint comes when a pool that could not start a worker may try again.
            delay = min(delay, _LOOK_AGAIN)
        return rooms, delay

    async def _seconds_to_due(self, rooms: Mapping[str, int]) -> float:
        # What was claimed before begins before this statement is sent, which takes 0.3 ms: its
        # pool in the next turn of the loop, the tasks of its handlers in the one after.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        due = await self._store.database.next_due(rooms)
        return inf if due is None else due

    async def _take_in_turn(self) -> list[Job] | None:
        """Claim when there is a turn for it; None if there is nothing to claim any more."""
        async with self._gate.turn():
            # It may have taken a while to come.
            most, _ = self._quarantine.hold_back(self._size.rows)
            rooms = self._pools.rooms(most)
            if self._closed or not rooms:
                return None
            # Before the claim: a hint that comes while it runs must not be forgotten after it.
            self._maybe_more.difference_update(rooms)
            jobs = await self._take(rooms)
        taken = Counter(job.row.type for job in jobs)
        if len(jobs) < MOST_OF_A_CLAIM:
            self._maybe_more.update(name for name, count in taken.items() if count >= rooms[name])
        else:
            self._maybe_more.update(rooms)
            # The types that it did not come to are first in the next one.
            self._pools.move_to_end(taken)
        return jobs

    async def _take(self, rooms: Mapping[str, int]) -> list[Job]:
        pools = dict(self._pools.by_type)
        # Before: who begins to observe meanwhile expects only what is claimed after that.
        observed = {name for name in rooms if self._observed(name)}
        claimed_at = self._held.claiming_since = time.monotonic()
        try:
            with self._size.statement(sum(rooms.values())):
                rows = await self._claim_rows(rooms, whole=bool(observed))
            rows, leased_at = await self._extend_late(rows, claimed_at)
            return self._hold(rows, pools, observed, claimed_at, leased_at)
        finally:
            self._held.claiming_since = inf

    async def _claim_rows(self, rooms: Mapping[str, int], *, whole: bool) -> Sequence[HeldRow]:
        database, held = self._store.database, self._held
        if whole:
            return await database.claim(held.holder, rooms, held.lease)
        return await database.claim_to_run(held.holder, rooms, held.lease)

    async def _extend_late(
        self, rows: Sequence[HeldRow], claimed_at: float
    ) -> tuple[Sequence[HeldRow], float]:
        """Return the rows whose leases are kept, and since when they are."""
        held = self._held
        if not rows or time.monotonic() - claimed_at <= held.lease / 3000:
            return rows, claimed_at
        # The answer came late (a handler blocked the loop): some leases may be lost.
        leased_at = time.monotonic()
        attempts = [(row.id, row.attempt) for row in rows]
        kept, locked = await self._store.attempts.extend(held.holder, attempts, held.lease)
        return [row for row in rows if row.id in kept or row.id in locked], leased_at

    def _hold(
        self,
        rows: Sequence[HeldRow],
        pools: Mapping[str, Pool],
        observed: set[str],
        claimed_at: float,
        leased_at: float,
    ) -> list[Job]:
        held = self._held.jobs
        jobs = [Job(row, claimed_at, pools[row.type]) for row in rows]
        for job in jobs:
            job.leased_at = leased_at
            held[job.key] = job
            if job.row.scheduled_for is not None:
                job.scheduled_for = self._scheduled_for(job.row)
            if job.row.type in observed:
                self._emit_claimed(job.row)
        return jobs

    def _scheduled_for(self, row: HeldRow) -> datetime | None:
        try:
            return self._store.database.codec.from_time(row.scheduled_for)
        except Exception as error:
            self._events.emit(RowUnreadable(row.id, error))
            return None

    def _emit_claimed(self, row: HeldRow) -> None:
        try:
            assert isinstance(row, TaskRow)  # noqa: S101
            task = self._store.database.codec.task(row)
        except Exception as error:
            # Its handler runs all the same, and so do those of the rows beside it.
            self._events.emit(RowUnreadable(row.id, error))
        else:
            self._events.emit(TaskChanged(task))

    async def _begin(self, taken: list[Job]) -> None:
        """Give jobs to their pools, or put them back where that is not possible any more."""
        jobs = taken
        if self._pools.share_a_process:  # what crashes in a process of its own harms nobody
            jobs = await self._quarantine.admit(taken, partial(self._clear_for, taken))
        pools, orphans = self._pools.by_type, []
        for job in jobs:
            if pools.get(job.row.type) is not job.pool or self._closed:
                orphans.append(job)
            else:
                job.pool.submit(job)
        if orphans:
            await self._releases.put_back(orphans)

    async def _clear_for(self, taken: Iterable[Job], alone: Job) -> bool:
        """Put back all else that has not begun, which would be lost with it; say whether it is."""
        self._maybe_more.update(self._pools.by_type)
        waiting = self._pools.take_waiting()
        cleared = False
        try:
            await self._releases.put_back([*waiting, *(job for job in taken if job is not alone)])
            # What somebody has locked cannot be lost with it, either.
            cleared = not self._releases.failed
        finally:
            if not cleared:
                self._held.unwanted[alone.key] = alone
        return cleared
