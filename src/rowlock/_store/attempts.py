"""What a worker says of the attempts that it holds, fenced by id, attempt and holder."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Executable,
    Select,
    Text,
    Update,
    bindparam,
    case,
    literal_column,
    null,
    select,
    update,
)
from sqlalchemy import cast as sql_cast

from rowlock._batch_size import StatementTooSlowError
from rowlock._store.database import Database, Operation, autocommit, reading
from rowlock._store.ends import (
    FAILED,
    AttemptOutcome,
    Ends,
    attempt_entry,
    dropped,
    ended_retain_until,
    failed,
)
from rowlock._store.sql import (
    ATTEMPT,
    COLUMNS,
    Dialect,
    Statement,
    Statements,
    constant,
    fence,
    retain_until,
)
from rowlock._store.tables import JsonType, task
from rowlock.models import Task, TaskStatus


class Finished(NamedTuple):
    """What became of outcomes. One that is in neither was refused: its attempt had moved on.

    Attributes:
        tasks: of each that was stored its task, None where nobody asked for it.
        locked: the ids of those that were not stored, because somebody else has locked the row.
        unsent: the ids of those whose statement was too slow, and was undone.
    """

    tasks: dict[str, Task | None]
    locked: set[str]
    unsent: set[str]


class AttemptStatements(Statements):
    """What a worker writes of the attempts that it holds, and what it asks."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._now = dialect.now
        build, of_batch = dialect.statement, dialect.on_batch

        self.succeed = of_batch(lambda skip: self._succeed(skip).returning(task.c.id))
        self.succeed_row = of_batch(lambda skip: self._succeed(skip).returning(*COLUMNS))
        self.fail = of_batch(lambda skip: failed(dialect, dialect.batch(FAILED, skip_locked=skip)))
        self.drop = of_batch(lambda skip: self._drop(skip).returning(task.c.id))
        self.drop_row = of_batch(
            lambda skip: self._drop(skip).returning(*COLUMNS, self._now.label("now"))
        )
        self.extend = of_batch(self._extend)
        self.release = of_batch(self._release)
        self.progress = of_batch(self._progress)
        self.held = build(self._held())
        self.cancel_requests = build(self._held().where(task.c.cancel_requested.is_not(None)))

    def _succeed(self, skip_locked: bool) -> Update:
        batch = self._dialect.batch({**ATTEMPT, "result": Text()}, skip_locked=skip_locked)
        return (
            update(task)
            .where(fence(self._dialect, batch))
            .values(
                status=constant(TaskStatus.SUCCESS),
                result=sql_cast(batch.c.result, JsonType),
                error=null(),
                lease_until=null(),
                cancel_requested=null(),
                date_modified=self._now,
                date_retain_until=retain_until(self._dialect),
            )
        )

    def _drop(self, skip_locked: bool) -> Any:
        return dropped(self._dialect, self._dialect.batch(ATTEMPT, skip_locked=skip_locked))

    def _extend(self, skip_locked: bool) -> Executable:
        batch = self._dialect.batch(ATTEMPT, skip_locked=skip_locked)
        lease = bindparam("lease", type_=BigInteger)
        return (
            update(task)
            .where(fence(self._dialect, batch))
            .values(lease_until=self._dialect.after(self._now, lease))
            .returning(task.c.id)
        )

    def _release(self, skip_locked: bool) -> Executable:
        batch = self._dialect.batch({**ATTEMPT, "begun": Boolean()}, skip_locked=skip_locked)
        cancelled = task.c.cancel_requested.is_not(None)
        outcome = case(
            (cancelled, literal_column("'cancelled'", Text)),
            else_=literal_column("'released'", Text),
        )
        return (
            update(task)
            .where(fence(self._dialect, batch))
            .values(
                status=case(
                    (cancelled, constant(TaskStatus.CANCELLED)),
                    else_=constant(TaskStatus.PENDING),
                ),
                thread_id=case((cancelled, task.c.thread_id), else_=literal_column("'0'")),
                # An attempt that was claimed ahead and never begun is not kept: the list is
                # bounded, and would lose failures to it.
                attempts=case(
                    (batch.c.begun, attempt_entry(self._dialect, outcome, null())),
                    else_=task.c.attempts,
                ),
                lease_until=null(),
                cancel_requested=null(),
                date_modified=self._now,
                date_retain_until=ended_retain_until(self._dialect, cancelled),
            )
            .returning(*COLUMNS)
        )

    def _progress(self, skip_locked: bool) -> Executable:
        batch = self._dialect.batch({**ATTEMPT, "progress": Text()}, skip_locked=skip_locked)
        return (
            update(task)
            .where(fence(self._dialect, batch))
            .values(progress=sql_cast(batch.c.progress, JsonType))
            .returning(task.c.id)
        )

    def _held(self) -> Select[Any]:
        return select(task.c.id).where(fence(self._dialect, self._dialect.batch(ATTEMPT)))


class Attempts:
    """What a worker does with the attempts that it holds."""

    def __init__(self, database: Database, ends: Ends) -> None:
        self._database = database
        self._codec = database.codec
        self._ends = ends
        self._sql = AttemptStatements.of(database.dialect)

    @autocommit
    def finish(
        self,
        holder: str,
        outcomes: Sequence[AttemptOutcome],
        *,
        rows: bool = True,
        wait: bool = True,
        now: datetime | None = None,
    ) -> Operation[Finished]:
        """Store outcomes.

        Args:
            holder: who holds the attempts.
            outcomes: at most one for each task.
            rows: whether the tasks are wanted as they are afterwards.
            wait: for rows that somebody has locked, about a second; else they are left out at
                once. So for the following methods.
            now: the instant.
        """
        common = {"holder": holder, "now": self._codec.instant(now)}
        done: dict[str, Task | None] = {}
        locked: set[str] = set()
        unsent: set[str] = set()
        kept, dropped, failed = self._sorted(outcomes)

        def on(
            statement: Statement, group: Sequence[AttemptOutcome], batch: Mapping[str, Any]
        ) -> Operation[Sequence[Any]]:
            try:
                found, waiting = yield from self._on_held(statement, {**common, **batch}, wait)
            except StatementTooSlowError:
                # The statements before this one have committed.
                unsent.update(o.row.id for o in group)
                return []
            locked.update(waiting)
            return found

        if kept:
            batch = self._codec.batch(
                [
                    {"id": o.row.id, "attempt": o.row.attempt, "result": o.ending.result}
                    for o in kept
                ]
            )
            if rows:
                found = yield from on(self._sql.succeed_row, kept, batch)
                done.update(
                    (row.id, self._codec.task_if_readable(row)) for row in self._codec.rows(found)
                )
            else:
                found = yield from on(self._sql.succeed, kept, batch)
                done.update((self._codec.to_id(row[0]), None) for row in found)
        if dropped:
            batch = self._codec.batch(
                [{"id": o.row.id, "attempt": o.row.attempt} for o in dropped.values()]
            )
            if rows:
                found = yield from on(self._sql.drop_row, list(dropped.values()), batch)
                done.update(self._ends.deleted(dropped, found))
            else:
                found = yield from on(self._sql.drop, list(dropped.values()), batch)
                done.update((self._codec.to_id(row[0]), None) for row in found)
        # Last: each statement may commit by itself, and a task that is pending again may be
        # claimed before the end of this is told to anybody.
        if failed:
            batch = self._codec.batch([self._ends.failure(o) for o in failed])
            batch["keep_failed"] = self._ends.keep_failed
            found = yield from on(self._sql.fail, failed, batch)
            done.update((yield from self._ends.updated(found)))
        return Finished(done, locked, unsent)

    def _sorted(
        self, outcomes: Sequence[AttemptOutcome]
    ) -> tuple[list[AttemptOutcome], dict[str, AttemptOutcome], list[AttemptOutcome]]:
        kept: list[AttemptOutcome] = []
        dropped: dict[str, AttemptOutcome] = {}
        failed: list[AttemptOutcome] = []
        # The order of ids is the order of locks, the same in every statement of every worker.
        for o in sorted(map(self._ends.bounded, outcomes), key=attrgetter("row.id")):
            if o.drops:
                dropped[o.row.id] = o
            elif o.succeeds:
                kept.append(o)
            else:
                failed.append(o)
        return kept, dropped, failed

    @autocommit
    def progress(
        self, holder: str, reports: Mapping[tuple[str, int], str], *, wait: bool = True
    ) -> Operation[set[str]]:
        """Store the progress of attempts, as JSON text; those that have moved on are left alone.

        Returns:
            the ids of those whose row somebody has locked, which were left out.
        """
        batch = self._codec.batch(
            [
                {"id": task_id, "attempt": attempt, "progress": text}
                for (task_id, attempt), text in sorted(reports.items())
            ]
        )
        parameters = {"holder": holder, **batch}
        _, locked = yield from self._on_held(self._sql.progress, parameters, wait)
        return locked

    @reading
    def cancel_requests(
        self, holder: str, attempts: Sequence[tuple[str, int]]
    ) -> Operation[set[str]]:
        """Return the ids of those attempts whose tasks somebody asked to cancel."""
        parameters = {"holder": holder, **self._batch(attempts)}
        rows = yield self._sql.cancel_requests, parameters
        return {self._codec.to_id(row[0]) for row in rows}

    @autocommit
    def extend(
        self,
        holder: str,
        attempts: Sequence[tuple[str, int]],
        lease: int,
        now: datetime | None = None,
        *,
        wait: bool = True,
    ) -> Operation[tuple[set[str], set[str]]]:
        """Extend leases by `lease` milliseconds from now.

        Returns:
            the ids whose lease was extended, and those held whose row somebody has locked.
        """
        parameters = {"holder": holder, "lease": lease, "now": self._codec.instant(now)}
        rows, locked = yield from self._on_held(
            self._sql.extend, {**parameters, **self._batch(attempts)}, wait
        )
        return {self._codec.to_id(row[0]) for row in rows}, locked

    @autocommit
    def release(
        self,
        holder: str,
        attempts: Sequence[tuple[str, int]],
        now: datetime | None = None,
        *,
        begun: Collection[tuple[str, int]] = (),
        wait: bool = True,
    ) -> Operation[tuple[list[Task], set[str]]]:
        """Put tasks back to pending without losing a try.

        Args:
            holder: who holds them.
            attempts: which.
            now: the instant.
            begun: those whose handler was called, which the task keeps among its attempts.
            wait: as in `finish`.

        Returns:
            those that were still held, and the ids of those whose row somebody has locked.
        """
        batch = self._codec.batch(
            [{"id": key[0], "attempt": key[1], "begun": key in begun} for key in sorted(attempts)]
        )
        parameters = {"holder": holder, "now": self._codec.instant(now), **batch}
        rows, locked = yield from self._on_held(self._sql.release, parameters, wait)
        changed = yield from self._ends.updated(rows)
        return [task for task in changed.values() if task is not None], locked

    def _on_held(
        self, statement: Statement, parameters: Mapping[str, Any], wait: bool
    ) -> Operation[tuple[Sequence[Any], set[str]]]:
        """Send a statement on attempts; return its rows, and the ids of what was left out."""
        rows, complete = yield from self._ends.past_locks(statement, parameters, wait)
        if complete:
            return rows, set()
        to_id = self._codec.to_id
        held = yield self._sql.held, parameters
        return rows, {to_id(row[0]) for row in held} - {to_id(row[0]) for row in rows}

    def _batch(self, attempts: Sequence[tuple[str, int]]) -> dict[str, Any]:
        return self._codec.batch(
            [{"id": task_id, "attempt": attempt} for task_id, attempt in sorted(attempts)]
        )
