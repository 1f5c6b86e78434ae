"""The worker: claims in batches, runs pools, finishes in batches, keeps its leases."""

from __future__ import annotations

import asyncio
import contextvars
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from math import inf
from typing import Any

from rowlock._background import Background
from rowlock._batch_size import BatchSize, StatementTooSlowError
from rowlock._endings import HandlerResult, describe
from rowlock._events import (
    AttemptLost,
    Events,
    HookFailed,
    OutcomeRefused,
    RowUnreadable,
    TaskChanged,
    WorkerStopped,
)
from rowlock._executors.context import running_task
from rowlock._executors.handler import Handler
from rowlock._ids import new_id
from rowlock._loop import Loop
from rowlock._rows import HeldRow, TaskRow
from rowlock._store.database import MOST_OF_A_CLAIM, Heard, Hint, HintKind
from rowlock._store.ends import AttemptOutcome
from rowlock._store.store import Store
from rowlock._worker.concurrent_pool import ConcurrentPool
from rowlock._worker.contention import StatementGate
from rowlock._worker.failures import failure, last_failure
from rowlock._worker.leases import LeaseThread, lock_timeout
from rowlock._worker.pool import Job, Pool
from rowlock._worker.progress import Reports
from rowlock._worker.quarantine import Quarantine
from rowlock._worker.settings import WorkerSettings
from rowlock._worker.slot_pool import SlotPool
from rowlock._worker.sweeper import Sweeper
from rowlock.errors import DatabaseError, DatabaseUnavailableError, InvalidPayloadError
from rowlock.models import Task, TaskStatus

FINISH_BATCH = 1000
# No statement is to take long to make and to send, however large the results are.
FINISH_LENGTH = 16 * 2**20
MAX_UNFINISHED = 2000
_FOREVER = 3600.0
_END_OF = {
    TaskStatus.SUCCESS: "succeeded",
    TaskStatus.FAILED: "failed",
    TaskStatus.PENDING: "retried",
    TaskStatus.CANCELLED: "cancelled",
}
_LAST_WRITES = 5.0
_LOOK_AGAIN = 1.0
# Requests to cancel are looked for so many seconds apart.
_CANCEL_GAP = 0.05


def new_holder() -> str:
    """Return a name for this start of this process that no other start has."""
    return f"{socket.gethostname()[:64]}:{os.getpid()}:{new_id()[-12:]}"


class Worker:
    """Runs the handlers of one process.

    Args:
        store: the tasks.
        events: where changes and troubles are emitted.
        settings: how it behaves.
        observed: tells whether anybody wants the changes of a type.
        send: gives a hint to other processes.
    """

    def __init__(
        self,
        store: Store,
        events: Events,
        settings: WorkerSettings,
        observed: Callable[[str], bool],
        send: Callable[[Hint], None],
    ) -> None:
        self.holder = new_holder()
        self.stopping: Background | None = None
        self.hears: Mapping[HintKind, Heard] = {
            HintKind.WORK: self.hint,
            HintKind.CANCEL: self.hint_cancel,
        }
        self._store = store
        self._events = events
        self._settings = settings
        self._lease = int(settings.lease * 1000)
        self._observed = observed
        self._send = send
        # Of who starts the worker; handlers that are registered later run in no other.
        self._context = contextvars.copy_context()
        self._pools: dict[str, Pool] = {}
        self._retired: set[Pool] = set()
        self._side_tasks: set[asyncio.Future[None]] = set()
        self._held: dict[tuple[str, int], Job] = {}
        self._maybe_more: set[str] = set()
        self._outcomes: list[AttemptOutcome] = []
        # `time.monotonic()` of the last hint that was not heeded in full, and of the claim that
        # is under way.
        self._asked_at: float | None = None
        self._claiming_since = inf
        self._hurry = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._gate = StatementGate()
        self._quarantine = Quarantine(store.policy.max_lost_workers)
        # To be put back, and held until they are.
        self._unwanted: dict[tuple[str, int], Job] = {}
        # Whether the last try to do so failed, and `time.monotonic()` when those are tried again
        # whose rows somebody has locked.
        self._release_failed = False
        self._release_again_at = 0.0
        # Outcomes that wait for the lock of somebody else, or were too slow by themselves.
        self._aside: list[AttemptOutcome] = []
        self._aside_again_at = 0.0
        self._claim_size = BatchSize(MOST_OF_A_CLAIM)
        self._finish_size = BatchSize(FINISH_BATCH)
        self._release_size = BatchSize(FINISH_BATCH)
        self._began_at = time.monotonic()
        self._ends: Counter[str] = Counter()
        self._claims = Loop("claim", self.claim, events.emit)
        self._finishes = Loop("finish", self.finish, events.emit)
        self._reports = Reports(store.attempts, self.holder, events)
        self._cancels = Loop("cancel", self.handle_cancel_requests, events.emit)
        self._sweeper = Sweeper(store.sweep, events, settings.sweep_interval, settings.lease, self)
        self._leases = LeaseThread(
            self, store.sibling(lock_timeout(settings.lease)), events, settings.lease
        )

    # What runs where.

    async def start(self, handlers: Iterable[Handler]) -> None:
        """Begin to claim.

        Raises:
            DatabaseUnavailableError: if no connection can be had, for leases or for the rest.
        """
        await self._leases.start()
        try:
            await self._store.database.keep_alive()
        except BaseException:
            await asyncio.to_thread(self._leases.stop)
            raise
        for handler in handlers:
            self.set_handler(handler)
        loops = [
            self._claims,
            self._finishes,
            self._reports.loop,
            self._cancels,
            self._sweeper.loop,
        ]
        for loop in loops:
            loop.start()

    async def stop(self) -> None:
        """Drain: claim nothing, finish what runs, put back what has not begun."""
        try:
            await self._drain()
        finally:
            await asyncio.to_thread(self._leases.stop)

    async def _drain(self) -> None:
        await self._end(self._claims, self._sweeper.loop)
        pools = [*self._pools.values(), *self._retired]
        await self._put_back([job for pool in pools for job in pool.take_waiting()])
        closing = asyncio.create_task(_close(pools))
        hurried = asyncio.create_task(self._hurry.wait())
        waiting: set[asyncio.Task[Any]] = {closing, hurried}
        await asyncio.wait(
            waiting,
            timeout=self._settings.stop_timeout,
            return_when=asyncio.FIRST_COMPLETED,
        )
        hurried.cancel()
        late = [job for pool in pools for job in pool.running]
        for job in late:
            job.begun = True
            job.abandon()
        await self._put_back(late)
        await asyncio.wait({closing}, timeout=1)
        for pool in pools:
            pool.abort()
        # A handler that swallows its cancellation must not keep `stop` for ever.
        await asyncio.wait({closing}, timeout=1)
        closing.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WRITES):
                while self._outcomes or self._aside:
                    self._finishes.wake()
                    await asyncio.sleep(0.005)
        await self._end(self._finishes, self._reports.loop, self._cancels)
        if self._side_tasks:
            await asyncio.wait(self._side_tasks, timeout=_LAST_WRITES)

    def tally(self) -> WorkerStopped:
        """Return what became of what this worker has held."""
        names = ("succeeded", "failed", "retried", "cancelled", "lost", "released")
        return WorkerStopped(
            worker=self.holder,
            seconds=time.monotonic() - self._began_at,
            **{name: self._ends[name] for name in names},
        )

    def skip_grace(self) -> None:
        """End the grace period of a `stop` that is under way."""
        self._hurry.set()

    async def _end(self, *loops: Loop) -> None:
        await asyncio.gather(*(loop.end(_LAST_WRITES) for loop in loops))

    def runs(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether an asyncio task is a handler's."""
        running = running_task.get(None)
        if running is None or running.runs_in is not task:
            return False
        return (running.id, running.attempt) in self._held

    def set_handler(self, handler: Handler) -> None:
        """Run a type from now on; what runs with an earlier handler of the type finishes."""
        self._retire(handler.task_type)
        kind = ConcurrentPool if handler.executor == "async" else SlotPool
        self._pools[handler.task_type] = self._context.run(
            kind, handler, self._settings.limits, self
        )
        self.hint(handler.task_type)

    async def remove_handler(self, task_type: str) -> None:
        """Claim a type no more; return when no claim of it is under way."""
        self._retire(task_type)
        async with self._claiming:
            pass

    def _retire(self, task_type: str) -> None:
        pool = self._pools.pop(task_type, None)
        if pool is not None:
            self._retired.add(pool)
            self._beside(lambda: self._wind_up(pool))

    async def _wind_up(self, pool: Pool) -> None:
        await self._put_back(pool.take_waiting())
        await pool.close()
        self._retired.discard(pool)

    def _beside(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        ended = Background(work, "rowlock").ended
        self._side_tasks.add(ended)
        ended.add_done_callback(self._side_tasks.discard)

    # Claiming.

    def hint(self, task_type: str | None) -> None:
        """There may be work of a type, or of any."""
        types = self._pools.keys() if task_type is None else self._pools.keys() & {task_type}
        if types:
            self._maybe_more.update(types)
            self._claims.wake()

    def refill(self, task_type: str) -> None:
        """Claim again if the last claim did not take all there was."""
        if task_type in self._maybe_more:
            self._claims.wake()

    async def claim(self) -> float:
        """Claim once; return the seconds until there may be more to claim."""
        async with self._claiming:
            return await self._claim()

    async def _claim(self) -> float:
        poll = self._settings.poll_interval
        if len(self._outcomes) > MAX_UNFINISHED:
            return min(poll, 0.05)
        await self._give_back([job for pool in self._pools.values() for job in pool.take_stalled()])
        if self._unwanted or any(pool.waits for pool in self._pools.values()):
            poll = min(poll, _LOOK_AGAIN)
        if self._unwanted and self._release_failed:
            return poll
        if left := self._quarantine.left(self._held):
            return min(poll, left)
        pools, rooms = self._rooms()
        if len(rooms) < len(pools):
            # Nobody tells when a pool that could not start a worker may try again.
            poll = min(poll, _LOOK_AGAIN)
        if not rooms:
            return poll
        hinted = bool(self._maybe_more.intersection(rooms))
        if not hinted:
            # What was claimed before begins before this is asked, which takes 0.3 ms: its pool in
            # the next turn of the loop, the tasks of its handlers in the one after.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            due = await self._store.database.next_due(rooms)
            if due != 0:
                return poll if due is None else min(poll, due)
        async with self._gate.turn():
            # It may have taken a while to come.
            pools, rooms = self._rooms()
            if self.stopping is not None or not rooms:
                return poll
            # Before the claim: a hint that comes while it runs must not be forgotten after it.
            self._maybe_more.difference_update(rooms)
            jobs = await self._take(pools, rooms)
        taken = Counter(job.row.type for job in jobs)
        if len(jobs) < MOST_OF_A_CLAIM:
            self._maybe_more.update(name for name, count in taken.items() if count >= rooms[name])
        else:
            self._maybe_more.update(rooms)
            # The types that it did not come to are first in the next one.
            for name in taken.keys() & self._pools.keys():
                self._pools[name] = self._pools.pop(name)
        # What crashes in a process of its own harms nobody.
        shared = any(pool.handler.executor != "process" for pool in self._pools.values())
        if shared and (alone := self._quarantine.choose(jobs)) is not None:
            if not await self._clear_for(alone, jobs):
                return 0.0
            jobs = [alone]
        orphans = []
        for job in jobs:
            if self._pools.get(job.row.type) is not job.pool or self.stopping is not None:
                orphans.append(job)
            else:
                job.pool.submit(job)
        await self._put_back(orphans)
        if jobs or hinted:
            return 0.0
        # Due and not to be had: somebody holds the row's lock.
        return min(poll, 0.05)

    async def _clear_for(self, alone: Job, jobs: Iterable[Job]) -> bool:
        """Put back all else that has not begun, which would be lost with it; say whether it is."""
        self._maybe_more.update(self._pools)
        waiting = [job for pool in self._pools.values() for job in pool.take_waiting()]
        cleared = False
        try:
            await self._put_back([*waiting, *(job for job in jobs if job is not alone)])
            # What somebody has locked cannot be lost with it, either.
            cleared = not self._release_failed
        finally:
            if not cleared:
                self._unwanted[alone.key] = alone
        if cleared:
            self._quarantine.begin(alone)
        return cleared

    def _rooms(self) -> tuple[dict[str, Pool], dict[str, int]]:
        pools = dict(self._pools)
        most = 1 if self._quarantine.wary else self._claim_size.rows
        rooms = {name: min(pool.room(), most) for name, pool in pools.items()}
        return pools, {name: room for name, room in rooms.items() if room}

    async def _take(self, pools: Mapping[str, Pool], rooms: Mapping[str, int]) -> list[Job]:
        claimed_at = leased_at = self._claiming_since = time.monotonic()
        # Before: whoever comes meanwhile wants to see what is not asked for.
        observed = {name for name in rooms if self._observed(name)}
        try:
            with self._claim_size.statement(sum(rooms.values())):
                database = self._store.database
                rows: Sequence[HeldRow] = await (
                    database.claim(self.holder, rooms, self._lease)
                    if observed
                    else database.claim_to_run(self.holder, rooms, self._lease)
                )
            if rows and time.monotonic() - leased_at > self._settings.lease / 3:
                # The answer came late (a handler blocked the loop): some leases may be lost.
                leased_at = time.monotonic()
                attempts = [(row.id, row.attempt) for row in rows]
                kept, locked = await self._store.attempts.extend(self.holder, attempts, self._lease)
                rows = [row for row in rows if row.id in kept or row.id in locked]
            jobs = [Job(row, claimed_at, pools[row.type]) for row in rows]
            for job in jobs:
                job.leased_at = leased_at
                self._held[job.key] = job
                if job.row.scheduled_for is not None:
                    job.scheduled_for = self._scheduled_for(job.row)
                if job.row.type in observed:
                    self._emit_claimed(job.row)
            return jobs
        finally:
            self._claiming_since = inf

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

    def hook_failed(self, task_type: str, error: BaseException) -> None:
        """A worker of the type could not start, or failed at its end."""
        self._events.emit(HookFailed(task_type, error))

    def give_back(self, jobs: Iterable[Job]) -> None:
        """Let other processes have what no worker here can begin."""
        given = list(jobs)
        self._beside(lambda: self._give_back(given))

    async def _give_back(self, jobs: Sequence[Job]) -> None:
        await self._put_back(jobs)
        for task_type in {job.row.type for job in jobs}:
            self.hint(task_type)

    async def _put_back(self, jobs: Iterable[Job]) -> None:
        # Held until that is done, so that their leases are extended: to lose one more worker may
        # be the end of a task. What fails is tried again before the next claim.
        new = {job.key: job for job in jobs}
        again = self._release_failed or time.monotonic() >= self._release_again_at
        attempts = [*new, *(self._unwanted if again else ())]
        self._unwanted.update(new)
        if not attempts:
            return
        with suppress(Exception):
            async with asyncio.timeout(_LAST_WRITES / 2):
                await self._reports.write()
        # If the database is gone, the leases run out and another worker's sweeper does it.
        self._release_failed = True
        with suppress(Exception):
            async with asyncio.timeout(_LAST_WRITES / 2):
                while attempts:
                    some = attempts[: self._release_size.rows]
                    await self._release(some)
                    del attempts[: len(some)]
                self._release_failed = False

    async def _release(self, attempts: list[tuple[str, int]]) -> None:
        begun = {key for key in attempts if self._unwanted[key].begun}
        # Those that somebody had locked are asked about without waiting.
        wait = not self._release_again_at
        with self._release_size.statement(len(attempts)):
            released, locked = await self._store.attempts.release(
                self.holder, attempts, begun=begun, wait=wait
            )
        self._release_again_at = time.monotonic() + _LOOK_AGAIN if locked else 0.0
        for key in attempts:
            if key[0] not in locked:
                self._unwanted.pop(key, None)
                self._held.pop(key, None)
        self._ends["released"] += len(released)
        for task in released:
            self._events.emit(TaskChanged(task))
        for task_type in {task.type for task in released}:
            self._send(Hint(HintKind.WORK, task_type))

    # Finishing.

    def finished(self, job: Job, ending: HandlerResult) -> None:
        """Take the end of a job; it is written with the next batch."""
        if job.reported:
            self._reports.add(job)  # the loop may call `progressed` after the batch has gone
        self._outcomes.append(AttemptOutcome(job.row, ending))
        self._finishes.wake()

    async def finish(self) -> float:
        """Write the outcomes gathered so far; those that come meanwhile go together next."""
        slow: list[AttemptOutcome] = []
        if batch := self._next_batch(self._outcomes):
            # First: the next attempt may begin as soon as this one has ended, and reads it.
            await self._reports.write()
            slow = await self._write(batch)
            self._outcomes[: len(batch)] = slow
            if len(batch) == 1:
                # Too slow by itself: the others do not wait for it.
                self._aside += slow
                del self._outcomes[: len(slow)]
        if self._aside and time.monotonic() >= self._aside_again_at:
            await self._write_aside()
        if slow:
            raise StatementTooSlowError(f"{len(slow)} outcomes in one statement are too slow")
        if self._outcomes:
            return 0.0
        return _LOOK_AGAIN if self._aside else _FOREVER

    def _next_batch(self, outcomes: Iterable[AttemptOutcome]) -> list[AttemptOutcome]:
        batch: list[AttemptOutcome] = []
        seen: set[str] = set()
        length = 0
        for outcome in islice(outcomes, self._finish_size.rows):
            if outcome.row.id in seen:
                break  # two attempts of one task: the fence decides each by itself
            if length > FINISH_LENGTH:
                break
            seen.add(outcome.row.id)
            batch.append(outcome)
            length += outcome.ending.length
        return batch

    async def _write_aside(self) -> None:
        """Try again what was put aside; those whose rows are still locked are left out at once."""
        await self._reports.write_locked()
        waiting, self._aside = self._aside, []
        try:
            while batch := self._next_batch(waiting):
                self._aside += await self._write(batch, wait=False)
                del waiting[: len(batch)]
        finally:
            self._aside += waiting
            self._aside_again_at = time.monotonic() + _LOOK_AGAIN

    async def _write(
        self, batch: list[AttemptOutcome], *, wait: bool = True
    ) -> list[AttemptOutcome]:
        """Write outcomes; return those that were too slow together, of which nothing is stored."""
        wanted = any(self._observed(outcome.row.type) for outcome in batch)
        try:
            async with self._gate.turn():
                done = await self._store.attempts.finish(self.holder, batch, rows=wanted, wait=wait)
        except DatabaseUnavailableError:
            raise
        except Exception as error:
            return await self._write_one_by_one(batch, error)
        slow = [outcome for outcome in batch if outcome.row.id in done.unsent]
        self._aside += [outcome for outcome in batch if outcome.row.id in done.locked]
        unwritten = done.unsent | done.locked
        for outcome in batch:
            if outcome.row.id not in unwritten:
                self._written(outcome, done.tasks)
        if slow:
            self._finish_size.too_slow(len(batch))
        else:
            self._finish_size.worked()
        if any(outcome.retries for outcome in batch):
            self._claims.wake()  # it sleeps until what was due first before
        if self._quarantine.ended(self._held):
            self._claims.wake()
        return slow

    def _written(self, outcome: AttemptOutcome, tasks: Mapping[str, Task | None]) -> None:
        row = outcome.row
        self._held.pop((row.id, row.attempt), None)
        if row.id not in tasks:
            self._ends["lost"] += 1
            self._events.emit(AttemptLost(row.id, row.attempt))
            return
        task = tasks[row.id]
        if task is None and outcome.succeeds:  # at once, as most do
            self._ends["succeeded"] += 1
            return
        self._ends[_END_OF[outcome.status if task is None else task.status]] += 1
        if outcome.ending.error is not None:
            failed = last_failure(outcome) if task is None else failure(task)
            if failed is not None:
                self._events.emit(failed)
        if task is not None:
            self._events.emit(TaskChanged(task))

    async def _write_one_by_one(
        self, batch: list[AttemptOutcome], error: Exception
    ) -> list[AttemptOutcome]:
        if len(batch) > 1:
            return [slow for outcome in batch for slow in await self._write([outcome])]
        row = batch[0].row
        self._events.emit(OutcomeRefused(row.id, row.attempt, error))
        # Its text shows no value; that of another error might.
        reason = error if isinstance(error, DatabaseError) else type(error).__name__
        refusal = InvalidPayloadError(f"the database refused the outcome: {reason}")
        text = describe(refusal, "rowlock", self._settings.limits)
        if batch[0].ending.error == text:
            # Not even that can be written: the lease runs out, and the sweeper counts it.
            self._held.pop((row.id, row.attempt), None)
            return []
        return await self._write([AttemptOutcome(row, HandlerResult(error=text))])

    # Progress, and requests to cancel.

    def progressed(self, job: Job) -> None:
        """A job has a progress to store."""
        self._reports.add(job)
        self._reports.loop.wake()

    def hint_cancel(self, holder: str | None) -> None:
        """Somebody may have asked to cancel a task of a holder, or of any."""
        if holder in (None, self.holder):
            self._asked_at = time.monotonic()
            self._cancels.wake()

    async def handle_cancel_requests(self) -> float:
        """Cancel once what somebody asked to cancel; leave out what will soon have ended."""
        asked_at, poll = self._asked_at, self._settings.poll_interval
        limit = time.monotonic() - (poll if asked_at is None else _CANCEL_GAP)
        # What was claimed since then cannot have been meant; what was before is old enough.
        in_full = asked_at is not None and asked_at <= limit and self._claiming_since > asked_at
        keys = [key for key, job in self._held.items() if job.claimed_at <= limit]
        if keys:
            asked = await self._store.attempts.cancel_requests(self.holder, keys)
            for job in [self._held[key] for key in keys if key[0] in asked and key in self._held]:
                job.pool.cancel(job)
        if in_full and self._asked_at == asked_at:
            self._asked_at = None
        if self._asked_at is None:
            return poll
        await asyncio.sleep(_CANCEL_GAP)
        return 0.0

    # Leases.

    def holds(self, key: tuple[str, int]) -> bool:
        """Whether this worker goes on with an attempt."""
        return key in self._held

    async def extend(self, keys: Iterable[tuple[str, int]]) -> None:
        """Extend leases; what is refused is lost."""
        jobs = [self._held[key] for key in keys if key in self._held]
        began = time.monotonic()
        kept, locked = await self._store.attempts.extend(
            self.holder, [job.key for job in jobs], self._lease
        )
        for job in jobs:
            if job.row.id in kept:
                job.leased_at = began
            elif job.row.id not in locked:
                self.lose(job)

    def leased_before(self, age: float) -> list[Job]:
        """Return the jobs whose lease is older than `age` seconds. Called by the lease thread."""
        limit = time.monotonic() - age
        return [job for job in list(self._held.values()) if job.leased_at <= limit]

    def lose(self, job: Job) -> None:
        """An attempt no longer holds its task: drop it, unless it has ended meanwhile."""
        key = job.key
        if job.over or key not in self._held or key in self._unwanted:
            return
        del self._held[key]
        self._ends["lost"] += 1
        self._events.emit(AttemptLost(*key))
        job.pool.discard(job)


async def _close(pools: Iterable[Pool]) -> None:
    await asyncio.gather(*(pool.close() for pool in pools))
