"""The outcomes of attempts, written in batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from itertools import islice

from rowlock._batch_size import BatchSize, StatementTooSlowError
from rowlock._endings import HandlerResult, describe
from rowlock._events import Events, OutcomeRefused, TaskChanged
from rowlock._loop import Loop
from rowlock._store.attempts import Attempts
from rowlock._store.ends import AttemptOutcome
from rowlock._worker.contention import StatementGate
from rowlock._worker.failures import failure, last_failure
from rowlock._worker.held import Held
from rowlock._worker.pool import Job
from rowlock._worker.progress import Reports
from rowlock._worker.quarantine import Quarantine
from rowlock.errors import DatabaseError, DatabaseUnavailableError, InvalidPayloadError
from rowlock.models import SizeLimits, Task, TaskStatus

FINISH_BATCH = 1000
# No statement is to take long to make and to send, however large the results are.
FINISH_LENGTH = 16 * 2**20
MAX_UNFINISHED = 2000
_FOREVER = 3600.0
_LOOK_AGAIN = 1.0
_END_OF = {
    TaskStatus.SUCCESS: "succeeded",
    TaskStatus.FAILED: "failed",
    TaskStatus.PENDING: "retried",
    TaskStatus.CANCELLED: "cancelled",
}


class Finishes:
    """Gathers outcomes while a batch of them is written.

    Args:
        attempts: their operations.
        held: what this process holds.
        reports: the progress of attempts, written before their outcomes.
        quarantine: ends when the outcome of what ran alone is written.
        gate: for each statement.
        events: where changes and troubles are emitted.
        limits: sizes of what is stored of an outcome that the database refuses.
        observed: whether anybody wants the changes of a type.
        claim_soon: has the worker claim, when there may be more to claim or to begin.
    """

    def __init__(
        self,
        attempts: Attempts,
        held: Held,
        reports: Reports,
        quarantine: Quarantine,
        gate: StatementGate,
        events: Events,
        *,
        limits: SizeLimits,
        observed: Callable[[str], bool],
        claim_soon: Callable[[], None],
    ) -> None:
        self.loop = Loop("finish", self.finish, events.emit)
        self._attempts = attempts
        self._held = held
        self._reports = reports
        self._quarantine = quarantine
        self._gate = gate
        self._events = events
        self._limits = limits
        self._observed = observed
        self._claim_soon = claim_soon
        self._size = BatchSize(FINISH_BATCH)
        self._outcomes: list[AttemptOutcome] = []
        # Outcomes that wait for the lock of somebody else, or were too slow by themselves.
        self._aside: list[AttemptOutcome] = []
        self._aside_again_at = 0.0

    def add(self, job: Job, ending: HandlerResult) -> None:
        """Take the end of a job; it is written with the next batch."""
        if job.reported:
            self._reports.add(job)  # its own call may come after the batch has gone
        self._outcomes.append(AttemptOutcome(job.row, ending))
        self.loop.wake()

    @property
    def is_behind(self) -> bool:
        """Whether so much is to be written that nothing more should begin."""
        return len(self._outcomes) > MAX_UNFINISHED

    @property
    def is_idle(self) -> bool:
        """Whether all is written."""
        return not (self._outcomes or self._aside)

    async def finish(self) -> float:
        """Write the outcomes gathered so far; those that come meanwhile are the next batch."""
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
        for outcome in islice(outcomes, self._size.rows):
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
        """Write outcomes; return those that were too slow in one statement: none is stored."""
        wanted = any(self._observed(outcome.row.type) for outcome in batch)
        try:
            async with self._gate.turn():
                done = await self._attempts.finish(self._held.holder, batch, rows=wanted, wait=wait)
        except DatabaseUnavailableError:
            raise
        except Exception as error:
            return await self._write_one_by_one(batch, error)
        slow = [outcome for outcome in batch if outcome.row.id in done.unsent]
        self._aside += [outcome for outcome in batch if outcome.row.id in done.locked]
        unwritten = done.unsent | done.locked
        self._record([o for o in batch if o.row.id not in unwritten], done.tasks)
        if slow:
            self._size.too_slow(len(batch))
        else:
            self._size.worked()
        # The claim loop sleeps until what was due first before, or until a quarantine ends.
        if any(outcome.retries for outcome in batch):
            self._claim_soon()
        if self._quarantine.ended():
            self._claim_soon()
        return slow

    def _record(self, written: Iterable[AttemptOutcome], tasks: Mapping[str, Task | None]) -> None:
        """Hold no more what was written, and count it."""
        jobs, ends = self._held.jobs, self._held.ends
        for outcome in written:
            row = outcome.row
            jobs.pop((row.id, row.attempt), None)
            if row.id not in tasks:
                self._held.count_lost((row.id, row.attempt))
            elif (task := tasks[row.id]) is None and outcome.succeeds:  # at once, as most do
                ends["succeeded"] += 1
            else:
                ends[_END_OF[outcome.status if task is None else task.status]] += 1
                self._emit(outcome, task)

    def _emit(self, outcome: AttemptOutcome, task: Task | None) -> None:
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
        text = describe(refusal, "rowlock", self._limits)
        if batch[0].ending.error == text:
            # Not even that can be written: the lease runs out, and the sweeper counts it.
            self._held.jobs.pop((row.id, row.attempt), None)
            return []
        return await self._write([AttemptOutcome(row, HandlerResult(error=text))])
