"""What the sweeper does: leases that have run out, and tasks past their retention."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Executable, Integer, Text, bindparam, delete, select

from rowlock._endings import HandlerResult
from rowlock._rows import TaskRow
from rowlock._store.database import Database, Operation, autocommit
from rowlock._store.ends import FAILED, AttemptOutcome, Ends, dropped, failed
from rowlock._store.sql import ATTEMPT, COLUMNS, PROCESSING, Dialect, Statements
from rowlock._store.tables import task
from rowlock.models import Task, TaskError, clean_text

Holds = Callable[[tuple[str, int]], bool]


class Swept(NamedTuple):
    """What a pass over expired leases has done.

    Attributes:
        found: how many had expired, but for those that cannot be read.
        changed: the tasks put back or ended.
        spared: the ids and attempts of those that their holder, who asks, goes on with.
    """

    found: int
    changed: list[Task]
    spared: list[tuple[str, int]]


class SweepStatements(Statements):
    """What the sweeper writes, and what it asks."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        expired = task.c.lease_until <= dialect.now
        holder = {"holder": Text()}

        def fail(skip_locked: bool) -> Executable:
            batch = dialect.batch({**FAILED, **holder}, skip_locked=skip_locked)
            return failed(dialect, batch, batch.c.holder).where(expired)

        def drop(skip_locked: bool) -> Executable:
            batch = dialect.batch({**ATTEMPT, **holder}, skip_locked=skip_locked)
            return (
                dropped(dialect, batch, batch.c.holder)
                .where(expired)
                .returning(*COLUMNS, dialect.now.label("now"))
            )

        self.expired = dialect.statement(
            select(*COLUMNS)
            .where(PROCESSING, expired)
            .limit(bindparam("limit", type_=Integer))
            .with_for_update(skip_locked=True)
        )
        self.fail = dialect.on_batch(fail)
        self.drop = dialect.on_batch(drop)
        self.prune = dialect.statement(self._prune())

    def _prune(self) -> Executable:
        past = (
            select(task.c.id)
            .where(task.c.date_retain_until <= self._dialect.now)
            .order_by(task.c.date_retain_until)
            .limit(bindparam("limit", type_=Integer))
            .with_for_update(skip_locked=True)
        )
        return delete(task).where(self._dialect.one_of(task.c.id, past)).returning(task.c.id)


class Sweep:
    """What the sweeper does."""

    def __init__(self, database: Database, ends: Ends) -> None:
        self._database = database
        self._codec = database.codec
        self._ends = ends
        self._sql = SweepStatements.of(database.dialect)

    @autocommit
    def leases(
        self,
        limit: int,
        now: datetime | None = None,
        *,
        holder: str | None = None,
        holds: Holds = lambda key: False,
    ) -> Operation[Swept]:
        """Take up to `limit` tasks from lost workers.

        A task goes back to pending while it has tries and its lost workers are below the bound.

        Args:
            limit: how many expired leases are looked at.
            now: the instant.
            holder: who asks.
            holds: tells whether that one goes on with an attempt, which is then left alone.
        """
        instant = self._codec.instant(now)
        raw = yield self._sql.expired, {"limit": limit, "now": instant}
        rows = self._codec.rows(raw)
        spared = [
            (row.id, row.attempt)
            for row in rows
            if row.thread_id == holder and holds((row.id, row.attempt))
        ]
        left_out = set(spared)
        lost = sorted(
            (row for row in rows if (row.id, row.attempt) not in left_out),
            key=lambda row: str(row.id),
        )
        outcomes = [outcome for row in lost if (outcome := self._lost_if_readable(row))]
        changed: dict[str, Task | None] = {}
        drops = {o.row.id: o for o in outcomes if o.drops}
        if drops:
            batch = self._codec.batch(
                [{"id": o.row.id, "attempt": o.row.attempt, **_holder(o)} for o in drops.values()]
            )
            found, _ = yield from self._ends.past_locks(
                self._sql.drop, {"now": instant, **batch}, True
            )
            changed.update(self._ends.deleted(drops, found))
        kept = [o for o in outcomes if not o.drops]
        if kept:
            batch = self._codec.batch([{**self._ends.failure(o), **_holder(o)} for o in kept])
            parameters = {"now": instant, "keep_failed": self._ends.keep_failed, **batch}
            found, _ = yield from self._ends.past_locks(self._sql.fail, parameters, True)
            changed.update((yield from self._ends.updated(found)))
        tasks = [task for task in changed.values() if task is not None]
        return Swept(len(outcomes) + len(spared), tasks, spared)

    def _lost_if_readable(self, row: TaskRow) -> AttemptOutcome | None:
        # SQLite stores anything in any column.
        try:
            outcome = self._lost(row)
            return outcome if outcome.status and isinstance(row.id, str) else None
        except TypeError:
            return None

    def _lost(self, row: TaskRow) -> AttemptOutcome:
        most = self._ends.policy.max_lost_workers
        error = TaskError(
            name="LeaseLostError",
            message=(
                f"worker {clean_text(row.thread_id, 255)} was lost while it held "
                f"attempt {row.attempt} (lost worker {row.lost_workers + 1} of {most})"
            ),
            source="rowlock",
        )
        ending = HandlerResult(
            error=error.model_dump_json(by_alias=True),
            lost=True,
            cancelled=row.cancel_requested is not None,
        )
        return self._ends.bounded(AttemptOutcome(row, ending))

    @autocommit
    def retention(self, limit: int, now: datetime | None = None) -> Operation[int]:
        """Delete up to `limit` tasks past their retention; return how many."""
        rows = yield self._sql.prune, {"limit": limit, "now": self._codec.instant(now)}
        return len(rows)


def _holder(outcome: AttemptOutcome) -> dict[str, Any]:
    row = outcome.row
    assert isinstance(row, TaskRow)  # noqa: S101
    return {"holder": row.thread_id}
