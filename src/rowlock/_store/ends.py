"""How the end of an attempt is written: by who held it, and by the sweeper for who was lost."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Delete,
    FromClause,
    Integer,
    Text,
    Update,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal_column,
    not_,
    null,
    update,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.types import TypeEngine

from rowlock._endings import HandlerResult, brief
from rowlock._rows import KEEP_IF_FAILED, MOST_ATTEMPTS, HeldRow, TaskRow
from rowlock._store.database import Database, Operation, RowsLockedError
from rowlock._store.sql import (
    ATTEMPT,
    COLUMNS,
    HOLDER,
    KEPT_IF_FAILED,
    NAMED,
    REMOVED_AT_ONCE,
    Dialect,
    Statement,
    Statements,
    constant,
    fence,
    retain_until,
)
from rowlock._store.tables import JsonType, task
from rowlock.models import MAX_DURATION_MS, Task, TaskAttempt, TaskStatus

# Milliseconds: the retries of a lost worker's tasks are spread over no more than these.
_MAX_SPREAD = 60_000

FAILED: Final[Mapping[str, TypeEngine[Any]]] = {
    **ATTEMPT,
    "outcome": Text(),
    "error": Text(),
    "brief": Text(),
    "retry": Boolean(),
    "lost": Integer(),
    "wait": BigInteger(),
}
"""What a batch of attempts that failed has."""


@dataclass(frozen=True, slots=True)
class AttemptOutcome:
    """How an attempt ended.

    Attributes:
        row: the row as it was claimed.
        ending: how its handler ended.
    """

    row: HeldRow
    ending: HandlerResult

    @property
    def succeeds(self) -> bool:
        """Whether the task becomes a success."""
        return self.ending.error is None and not self.ending.cancelled

    @property
    def status(self) -> TaskStatus:
        """What the task becomes."""
        if self.ending.cancelled:
            return TaskStatus.CANCELLED
        if self.ending.error is None:
            return TaskStatus.SUCCESS
        return TaskStatus.PENDING if self.retries else TaskStatus.FAILED

    @property
    def retries(self) -> bool:
        """Whether the task goes back to pending."""
        return (
            self.ending.error is not None
            and self.ending.retry
            and not self.ending.cancelled
            and (self.row.retries_remaining is None or self.row.retries_remaining > 0)
        )

    @property
    def drops(self) -> bool:
        """Whether the row is removed at once."""
        if self.row.retain_for == KEEP_IF_FAILED:
            return self.ending.error is None or self.ending.cancelled
        return self.row.retain_for == 0 and not self.retries

    @property
    def name(self) -> str:
        """What the attempt is kept as, if it was no success."""
        if self.ending.lost:
            return "lost"
        if self.ending.cancelled:
            return "cancelled"
        return "timeout" if self.ending.late else "failed"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a queue was told about failures.

    Attributes:
        retry_interval: milliseconds, of tasks that have none of their own.
        max_lost_workers: with so many lost workers a task ends as failed.
        keep_failed: milliseconds for which failed tasks are kept whose creator said nothing, -1
            for ever.
    """

    retry_interval: int
    max_lost_workers: int
    keep_failed: int


# The statements.


def attempt_entry(
    dialect: Dialect, outcome: ColumnElement[Any], error: ColumnElement[Any]
) -> ColumnElement[Any]:
    """The attempts of a task with the one that ends now."""
    return dialect.appended(
        {
            "attempt": task.c.attempt,
            "worker": task.c.thread_id,
            "started": task.c.date_started,
            "ended": dialect.now,
            "outcome": outcome,
            "error": sql_cast(error, JsonType),
        }
    )


def ended_retain_until(dialect: Dialect, ended: ColumnElement[bool]) -> ColumnElement[Any]:
    """Until when a task is kept that ended by what only its row knew.

    It is removed at once all the same, and if that fails by the next retention pass.
    """
    unkept = and_(ended, REMOVED_AT_ONCE)
    return case((unkept, dialect.now), (ended, retain_until(dialect)), else_=null())


def failed(dialect: Dialect, batch: FromClause, holder: ColumnElement[Any] = HOLDER) -> Update:
    """The UPDATE of attempts that failed, as `FAILED` describes them."""
    cancelled = task.c.cancel_requested.is_not(None)
    again = and_(batch.c.retry, not_(cancelled))
    kept = dialect.after(dialect.now, bindparam("keep_failed", type_=BigInteger))
    return (
        update(task)
        .where(fence(dialect, batch, holder))
        .values(
            status=case(
                (cancelled, constant(TaskStatus.CANCELLED)),
                (again, constant(TaskStatus.PENDING)),
                else_=constant(TaskStatus.FAILED),
            ),
            thread_id=case((again, literal_column("'0'")), else_=task.c.thread_id),
            retries_remaining=case(
                (again, task.c.retries_remaining - literal_column("1")),
                else_=task.c.retries_remaining,
            ),
            run_at=case((again, dialect.after(dialect.now, batch.c.wait)), else_=task.c.run_at),
            # A cancelled attempt has none of its own: what an earlier one left stays.
            error=func.coalesce(sql_cast(batch.c.error, JsonType), task.c.error),
            lost_workers=case(
                (task.c.lost_workers < literal_column("2147483647"), task.c.lost_workers),
                else_=literal_column("0"),
            )
            + batch.c.lost,
            attempts=attempt_entry(
                dialect, batch.c.outcome, func.coalesce(batch.c.brief, batch.c.error)
            ),
            lease_until=null(),
            cancel_requested=null(),
            date_modified=dialect.now,
            date_retain_until=case(
                (cancelled, ended_retain_until(dialect, cancelled)),
                (again, null()),
                (KEPT_IF_FAILED, kept),
                else_=retain_until(dialect),
            ),
        )
        .returning(*COLUMNS)
    )


def dropped(dialect: Dialect, batch: FromClause, holder: ColumnElement[Any] = HOLDER) -> Delete:
    """The DELETE of tasks that are not kept."""
    return dialect.delete(batch, fence(dialect, batch, holder))


class EndStatements(Statements):
    """What is sent beside the statements of attempts and of the sweeper."""

    def __init__(self, dialect: Dialect) -> None:
        self.drop_cancelled = dialect.statement(
            delete(task).where(
                NAMED, task.c.status == constant(TaskStatus.CANCELLED), REMOVED_AT_ONCE
            )
        )


class Ends:
    """Writes ends, and tells what became of the tasks."""

    # With 0 a retry comes exactly after its interval.
    spread = 1.0

    def __init__(self, database: Database, policy: Policy) -> None:
        self._codec = database.codec
        self.policy = policy
        self._sql = EndStatements.of(database.dialect)

    @property
    def keep_failed(self) -> int | None:
        """Milliseconds for which a failed task is kept, None for ever."""
        return None if self.policy.keep_failed < 0 else self.policy.keep_failed

    def past_locks(
        self, statement: Statement, parameters: Mapping[str, Any], wait: bool
    ) -> Operation[tuple[Sequence[Any], bool]]:
        """Send a statement on a batch; return its rows, and whether it was on all of the batch.

        A lock on one row delays that row and nothing else.

        Args:
            statement: what is done to them.
            parameters: of the batch.
            wait: for a lock, for as long as the connection does; else what is locked is left out.
        """
        if wait:
            with suppress(RowsLockedError):
                return (yield statement, parameters), True
        return (yield statement.skipping, parameters), False

    def bounded(self, outcome: AttemptOutcome) -> AttemptOutcome:
        """Return an outcome that is not tried again where too many workers were lost."""
        count = outcome.row.lost_workers + 1
        if not outcome.ending.lost or count < self.policy.max_lost_workers:
            return outcome
        return replace(outcome, ending=replace(outcome.ending, retry=False))

    def failure(self, outcome: AttemptOutcome) -> dict[str, Any]:
        """Return what a batch says of an attempt that failed."""
        return {
            "id": outcome.row.id,
            "attempt": outcome.row.attempt,
            "outcome": outcome.name,
            "error": outcome.ending.error,
            "brief": brief(outcome.ending.error),
            "retry": outcome.retries,
            "lost": int(outcome.ending.lost),
            "wait": self._wait(outcome),
        }

    def _wait(self, outcome: AttemptOutcome) -> int:
        row = outcome.row
        interval = row.retry_interval
        if interval is None:
            interval = self.policy.retry_interval
        elif not isinstance(interval, int) or not 0 <= interval <= MAX_DURATION_MS:
            # rowlock writes no such interval. It gives an instant that no date can hold, and the
            # statement would fail for the whole batch.
            interval = MAX_DURATION_MS
        # Tasks that fail together, as when a service is down, are retried over a tenth of the
        # interval, not at one instant. Tasks that a worker lost together are spread further with
        # each lost worker: one of them may crash its worker, and the others, if they ran beside
        # it each time, would reach `max_lost_workers` with it.
        spread = interval / 10
        if outcome.ending.lost:
            spread = min(max(interval, interval * (row.lost_workers + 1)), _MAX_SPREAD)
        return interval + int(spread * self.spread * random.random())  # noqa: S311

    def updated(self, found: Sequence[Any]) -> Operation[dict[str, Task | None]]:
        """Return the tasks of rows that were written; remove those that are not kept."""
        rows = self._codec.rows(found)
        for row in rows:
            if row.status == TaskStatus.CANCELLED and row.retain_for in (0, KEEP_IF_FAILED):
                # If somebody has locked it, the next retention pass removes it.
                with suppress(RowsLockedError):
                    yield self._sql.drop_cancelled, {"id": row.id}
        return {row.id: self._codec.task_if_readable(row) for row in rows}

    def deleted(
        self, outcomes: Mapping[str, AttemptOutcome], found: Sequence[Any]
    ) -> dict[str, Task | None]:
        """Return the tasks of rows that were removed, as they ended."""
        return {
            row.id: self._as_ended(row, outcomes[row.id], instant)
            for row, instant in self._with_instants(found)
        }

    def _with_instants(self, found: Sequence[Any]) -> Iterator[tuple[TaskRow, Any]]:
        for *columns, instant in found:
            yield self._codec.row(columns), instant

    def _as_ended(self, row: TaskRow, outcome: AttemptOutcome, instant: Any) -> Task | None:
        ended = self._codec.task_if_readable(_end(row, outcome, instant))
        if ended is None or ended.status is TaskStatus.SUCCESS:
            return ended
        last = TaskAttempt(
            attempt=ended.attempt,
            worker=ended.thread_id,
            started=ended.date_started,
            ended=ended.date_modified,
            outcome=outcome.name,
            error=None if outcome.ending.error is None else ended.error,
        )
        return ended.model_copy(update={"attempts": [*ended.attempts, last][-MOST_ATTEMPTS:]})


def _end(row: TaskRow, outcome: AttemptOutcome, instant: Any) -> TaskRow:
    status, error = outcome.status, outcome.ending.error
    if status is TaskStatus.FAILED and row.cancel_requested is not None:
        status = TaskStatus.CANCELLED
    if status is TaskStatus.CANCELLED:
        error = error or row.error  # what an earlier attempt left stays
    return row._replace(
        status=status.value,
        result=outcome.ending.result,
        error=error,
        date_modified=instant,
    )
