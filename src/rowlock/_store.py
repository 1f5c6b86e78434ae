"""Every database operation, once.

An operation is a generator: it yields a statement with its parameters and is sent the rows. It
knows no driver and does not wait, so the same code runs between BEGIN and COMMIT of asyncpg and
in one call inside the thread of an SQLite connection, where a transaction must not span an
`await`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar, Self, TypeVar

from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from rowlock import _cursor
from rowlock._ids import id_instant
from rowlock._json import loads
from rowlock._paging import segments
from rowlock._statements import Statement, Statements, TaskRow
from rowlock._tables import REVISION
from rowlock.errors import SchemaError
from rowlock.models import (
    SortDirection,
    SortProperty,
    Task,
    TaskError,
    TaskPage,
    TaskProgress,
    TaskStatus,
)

T = TypeVar("T")
Operation = Generator[tuple[Statement, Mapping[str, Any]], Sequence[Any], T]

Walk = tuple[str | None, TaskStatus | None, SortProperty, SortDirection]

_COMPLETED = (TaskStatus.FAILED, TaskStatus.SUCCESS)


@dataclass(frozen=True, slots=True)
class NewRow:
    """What `create` stores: checked, the payload as JSON text, durations in milliseconds."""

    id: str
    type: str
    payload: str | None
    retries_remaining: int | None
    retry_interval: int | None
    retain_for: int
    priority: int
    run_at: datetime | None
    delay: int
    key: str | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        row: the row as it was claimed.
        result: the result's JSON text, of a success.
        error: the error's JSON text, of a failure; None is a success.
        retry: whether a failure may be tried again, if tries remain.
        lost: the worker was lost, which is bounded even where tries are not.
        cancelled: the handler was stopped because the row asks for it.
    """

    row: TaskRow
    result: str | None = None
    error: str | None = None
    retry: bool = True
    lost: bool = False
    cancelled: bool = False

    @property
    def status(self) -> TaskStatus:
        """What the task becomes."""
        if self.cancelled:
            return TaskStatus.CANCELLED
        if self.error is None:
            return TaskStatus.SUCCESS
        return TaskStatus.PENDING if self.retries else TaskStatus.FAILED

    @property
    def retries(self) -> bool:
        """Whether the task goes back to pending."""
        return (
            self.error is not None
            and self.retry
            and not self.cancelled
            and self.row.retries_remaining != 0
        )

    @property
    def drops(self) -> bool:
        """Whether the row is removed at once."""
        return self.row.retain_for == 0 and not self.retries


class Store(ABC):
    """The operations on one database.

    Instants are `datetime | None` in the arguments called `now`; None is the clock that the
    database goes by, and tests pass their own.
    """

    sql: ClassVar[Statements]

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        owns_engine: bool,
        retry_interval: int,
        max_lost_workers: int,
    ) -> None:
        self._engine = engine
        self._owns_engine = owns_engine
        self._retry_interval = retry_interval
        self._max_lost_workers = max_lost_workers

    # What the two databases do differently.

    @abstractmethod
    async def open(self) -> None:
        """Connect, and check that the schema is there.

        Raises:
            DatabaseUnavailableError: if the database cannot be reached within the timeout.
            SchemaError: if its schema is missing or old.
        """

    async def close(self) -> None:
        """Give every connection back."""
        if self._owns_engine:
            await self._engine.dispose()

    def sibling(self) -> Self:
        """Return another store on the same database, with connections of its own.

        It may be used in another thread's loop, and takes nothing from the caller's pool.
        """
        engine = self._engine.sync_engine
        return type(self)(
            AsyncEngine(Engine(engine.pool.recreate(), engine.dialect, engine.url)),
            owns_engine=True,
            retry_interval=self._retry_interval,
            max_lost_workers=self._max_lost_workers,
        )

    @abstractmethod
    async def watch(
        self, wake: Callable[[str | None], None], asked: Callable[[str | None], None]
    ) -> float:
        """Look for what others did; return the seconds until the next look.

        Args:
            wake: called with the type that there may be work for, None for any.
            asked: called with the holder whose tasks may be asked to be cancelled, None for any.
        """

    @abstractmethod
    async def unwatch(self) -> None:
        """Forget the last look."""

    @abstractmethod
    async def hint(self, types: Iterable[str]) -> None:
        """Tell other processes that work of these types was created."""

    @abstractmethod
    async def hint_on(self, connection: AsyncConnection, types: Iterable[str]) -> None:
        """Tell other processes as soon as the caller's transaction is committed."""

    @abstractmethod
    async def hint_cancel(self, holder: str) -> None:
        """Tell a holder, in whichever process, to look which of its tasks are to be cancelled."""

    @abstractmethod
    async def _write(self, operation: Operation[T]) -> T:
        """Run an operation in one transaction that may write."""

    @abstractmethod
    async def _read(self, operation: Operation[T]) -> T:
        """Run an operation that only reads."""

    @abstractmethod
    async def _read_sorted(self, operation: Operation[T]) -> T:
        """Run an operation that reads in the order of an index."""

    @abstractmethod
    def _now(self, now: datetime | None) -> Any:
        """Return the parameter `now`."""

    @abstractmethod
    def _to_time(self, value: datetime) -> Any:
        """Return an instant as the driver takes it."""

    @abstractmethod
    def _from_time(self, value: Any) -> datetime:
        """Return an instant that came from the driver."""

    @abstractmethod
    def _rows(self, rows: Sequence[Any]) -> list[TaskRow]:
        """Return driver rows of all columns."""

    @abstractmethod
    def _id(self, value: Any) -> str:
        """Return an id that came from the driver."""

    @abstractmethod
    def _batch(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the parameters of a batch."""

    @abstractmethod
    async def insert_many(self, rows: Sequence[NewRow], now: datetime | None = None) -> list[str]:
        """Store many tasks, all or none; return the id of each, or of the one with its key."""

    @abstractmethod
    async def claim(
        self, holder: str, rooms: Mapping[str, int], lease: int, now: datetime | None = None
    ) -> list[TaskRow]:
        """Take due tasks, of each type as many as there is room for, in the order to run.

        Args:
            holder: who takes them.
            rooms: how many of each type.
            lease: milliseconds until they are taken for lost.
            now: the instant.
        """

    @abstractmethod
    async def next_due(self, types: Iterable[str], now: datetime | None = None) -> float | None:
        """Return the seconds until a task of the types is due: 0 if one is, None if none waits."""

    # Tasks, as clients see them.

    async def insert(self, row: NewRow, now: datetime | None = None) -> str:
        """Store a task; return its id, or that of the task that has its key."""
        return await self._write(self._insert(row, now))

    async def insert_on(
        self, connection: AsyncConnection, rows: Sequence[NewRow], now: datetime | None = None
    ) -> list[str]:
        """Store tasks in the transaction of the caller's connection."""
        ids = []
        for row in rows:
            statement = self.sql.insert if row.key is None else self.sql.insert_keyed
            result = await connection.execute(statement.core, self._insert_parameters(row, now))
            ids.append(row.id if row.key is None else self._id(result.scalar_one()))
        return ids

    async def get(self, task_id: str) -> Task | None:
        """Return a task."""
        return await self._read(self._get(task_id))

    async def counts(self, task_type: str | None) -> dict[TaskStatus, int]:
        """Return how many tasks have each status."""
        return await self._read(self._counts(task_type))

    async def retry(self, task_id: str, now: datetime | None = None) -> Task | None:
        """Make a waiting or ended task due now; return it, None if it is neither."""
        return await self._write(self._retry(task_id, now))

    async def cancel(
        self, task_id: str, now: datetime | None = None, *, running: bool = False
    ) -> Task | None:
        """Cancel a pending task; return it, None if it is not pending.

        Args:
            task_id: which.
            now: the instant.
            running: ask the holder of a processing task to cancel it; the task is then returned
                as it is, with status processing.
        """
        return await self._write(self._cancel(task_id, now, running))

    async def remove(self, task_id: str) -> bool:
        """Delete a task whatever its status."""
        return await self._write(self._remove(task_id))

    async def page(
        self,
        task_type: str | None,
        task_status: TaskStatus | None,
        sort: SortProperty,
        direction: SortDirection,
        cursor: str | None,
        limit: int,
    ) -> TaskPage:
        """Return a page.

        Raises:
            InvalidCursorError: if the cursor is not of this walk.
        """
        walk = (task_type, task_status, sort, direction)
        after = None if cursor is None else _cursor.decode(cursor, walk)
        return await self._read_sorted(self._page(walk, after, limit))

    # Attempts, fenced by id, attempt and holder.

    async def finish(
        self,
        holder: str,
        outcomes: Sequence[Outcome],
        *,
        rows: bool = True,
        now: datetime | None = None,
    ) -> dict[str, Task | None]:
        """Store outcomes. What is missing in the answer was refused: the attempt had moved on.

        Args:
            holder: who holds the attempts.
            outcomes: at most one for each task.
            rows: whether the tasks are wanted as they are afterwards.
            now: the instant.
        """
        return await self._write(self._finish(holder, outcomes, rows, now))

    async def progress(self, holder: str, reports: Mapping[tuple[str, int], str]) -> None:
        """Store the progress of attempts, as JSON text; those that have moved on are left alone."""
        await self._write(self._progress(holder, reports))

    async def asked(self, holder: str, attempts: Sequence[tuple[str, int]]) -> set[str]:
        """Return the ids of those attempts whose tasks somebody asked to cancel."""
        return await self._read(self._asked(holder, attempts))

    async def extend(
        self,
        holder: str,
        attempts: Sequence[tuple[str, int]],
        lease: int,
        now: datetime | None = None,
    ) -> set[str]:
        """Extend leases by `lease` milliseconds from now; return the ids still held."""
        return await self._write(self._extend(holder, attempts, lease, now))

    async def release(
        self, holder: str, attempts: Sequence[tuple[str, int]], now: datetime | None = None
    ) -> list[Task]:
        """Put tasks back to pending without losing a try; return those still held."""
        return await self._write(self._release(holder, attempts, now))

    # The sweeper.

    async def sweep(self, limit: int, now: datetime | None = None) -> tuple[int, list[Task]]:
        """Take up to `limit` tasks from lost workers; return how many were found, and the changed.

        A task goes back to pending while it has tries and its lost workers are below the bound.
        """
        return await self._write(self._sweep(limit, now))

    async def forget(self, limit: int, now: datetime | None = None) -> int:
        """Delete up to `limit` tasks past their retention; return how many."""
        return await self._write(self._forget(limit, now))

    def to_task(self, row: TaskRow) -> Task:
        """Return a row as the public model."""
        status = TaskStatus(row.status)
        modified = self._from_time(row.date_modified)
        return Task(
            id=row.id,
            type=row.type,
            thread_id=row.thread_id,
            retry_interval=row.retry_interval,
            retries_remaining=row.retries_remaining,
            date_created=self._from_time(row.date_created),
            date_modified=modified,
            date_completed=modified if status in _COMPLETED else None,
            date_cancelled=modified if status is TaskStatus.CANCELLED else None,
            date_retain_until=(
                None if row.date_retain_until is None else self._from_time(row.date_retain_until)
            ),
            status=status,
            payload=loads(row.payload),
            result=loads(row.result),
            error=None if row.error is None else TaskError.model_validate_json(row.error),
            attempt=row.attempt,
            priority=row.priority,
            run_at=self._from_time(row.run_at),
            key=row.key,
            progress=None if row.progress is None else TaskProgress(**loads(row.progress)),
        )

    # The operations themselves.

    def _verify(self) -> Operation[None]:
        try:
            rows = yield self.sql.revision, {}
        except SchemaError:
            rows = []
        found = rows[0][0] if rows else None
        if found is None:
            raise no_schema()
        if found < REVISION:
            raise SchemaError(
                f"the rowlock schema is at revision {found}, {REVISION} is needed: "
                "run `rowlock db upgrade`"
            )

    def _insert_parameters(self, row: NewRow, now: datetime | None) -> dict[str, Any]:
        return {
            "id": row.id,
            "type": row.type,
            "priority": row.priority,
            "retries_remaining": row.retries_remaining,
            "retry_interval": row.retry_interval,
            "retain_for": row.retain_for,
            "date_created": self._to_time(id_instant(row.id)),
            "key": row.key,
            "payload": row.payload,
            "run_at": None if row.run_at is None else self._to_time(row.run_at),
            "delay": row.delay,
            "now": self._now(now),
        }

    def _insert_each(self, rows: Sequence[NewRow], now: datetime | None) -> Operation[list[str]]:
        ids: dict[str, str] = {}
        # In the order of keys, or two callers with the same keys wait for each other.
        for row in sorted(rows, key=lambda row: row.key or ""):
            ids[row.id] = yield from self._insert(row, now)
        return [ids[row.id] for row in rows]

    def _insert(self, row: NewRow, now: datetime | None) -> Operation[str]:
        parameters = self._insert_parameters(row, now)
        if row.key is None:
            yield self.sql.insert, parameters
            return row.id
        rows = yield self.sql.insert_keyed, parameters
        return self._id(rows[0][0])

    def _get(self, task_id: str) -> Operation[Task | None]:
        rows = yield self.sql.get, {"id": task_id}
        return self._only(rows)

    def _counts(self, task_type: str | None) -> Operation[dict[TaskStatus, int]]:
        if task_type is None:
            rows = yield self.sql.counts, {}
        else:
            rows = yield self.sql.counts_of_type, {"type": task_type}
        return {TaskStatus(status): count for status, count in rows}

    def _retry(self, task_id: str, now: datetime | None) -> Operation[Task | None]:
        parameters = {"id": task_id, "now": self._now(now)}
        rows = yield self.sql.retry_waiting, parameters
        if not rows:
            rows = yield self.sql.retry_ended, parameters
        return self._only(rows)

    def _cancel(self, task_id: str, now: datetime | None, running: bool) -> Operation[Task | None]:
        parameters = {"id": task_id, "now": self._now(now)}
        # Asked about a running task, a second look: it may be pending again by then.
        for _ in range(2):
            rows = yield self.sql.cancel_keep, parameters
            if rows:
                return self._only(rows)
            rows = yield self.sql.cancel_drop, parameters
            if rows:
                *columns, instant = rows[0]
                (row,) = self._rows([columns])
                return self.to_task(
                    row._replace(status=TaskStatus.CANCELLED.value, date_modified=instant)
                )
            if not running:
                return None
            rows = yield self.sql.ask_cancel, parameters
            if rows:
                return self._only(rows)
        return None

    def _remove(self, task_id: str) -> Operation[bool]:
        rows = yield self.sql.remove, {"id": task_id}
        return bool(rows)

    def _page(self, walk: Walk, cursor: _cursor.Position | None, limit: int) -> Operation[TaskPage]:
        task_type, task_status, sort, direction = walk
        parts = segments(sort, task_status, typed=task_type is not None)
        tasks: list[Task] = []
        first = 0 if cursor is None else cursor.segment
        for number, part in enumerate(parts[first:], first):
            after = part.start(number, direction)
            if cursor is not None and number == first:
                after = cursor
            value = part.value(after)
            parameters = {
                "type": task_type,
                "value": self._to_time(value) if isinstance(value, datetime) else value,
                "id": after.id,
                # One more than the page holds tells whether there is another page.
                "limit": limit - len(tasks) + 1,
            }
            order = ("id",) if part.order is None else (part.order, "id")
            statement = self.sql.page(order, part.statuses, task_type is not None, direction)
            for row in self._rows((yield statement, parameters)):
                if len(tasks) == limit:
                    return TaskPage(entities=tasks, cursor=_cursor.encode(after, walk))
                task = self.to_task(row)
                tasks.append(task)
                after = part.position(number, task)
        return TaskPage(entities=tasks)

    def _finish(
        self, holder: str, outcomes: Sequence[Outcome], rows: bool, now: datetime | None
    ) -> Operation[dict[str, Task | None]]:
        common = {
            "holder": holder,
            "now": self._now(now),
            "retry_interval": self._retry_interval,
        }
        done: dict[str, Task | None] = {}
        # The order of ids is the order of locks, the same in every statement of every worker.
        ordered = sorted(map(self._bounded, outcomes), key=lambda outcome: outcome.row.id)
        kept = [o for o in ordered if not o.drops and o.status is TaskStatus.SUCCESS]
        if kept:
            batch = self._batch(
                [{"id": o.row.id, "attempt": o.row.attempt, "result": o.result} for o in kept]
            )
            if rows:
                found = yield self.sql.succeed_row, {**common, **batch}
                done.update((row.id, self.to_task(row)) for row in self._rows(found))
            else:
                found = yield self.sql.succeed, {**common, **batch}
                done.update((self._id(row[0]), None) for row in found)
        dropped = {o.row.id: o for o in ordered if o.drops}
        if dropped:
            batch = self._batch(
                [{"id": o.row.id, "attempt": o.row.attempt} for o in dropped.values()]
            )
            found = yield self.sql.drop, {**common, **batch}
            for raw_id, *ended in found:
                task_id = self._id(raw_id)
                done[task_id] = self._dropped(dropped[task_id], *ended) if rows else None
        # Last: each statement may commit by itself, and a task that is pending again may be
        # claimed before the end of this is told to anybody.
        failed = [o for o in ordered if not o.drops and o.status is not TaskStatus.SUCCESS]
        if failed:
            batch = self._batch([_failure(o) for o in failed])
            found = yield self.sql.fail, {**common, **batch}
            ended = yield from self._ended(found)
            done.update((task.id, task) for task in ended)
        return done

    def _ended(self, found: Sequence[Any]) -> Operation[list[Task]]:
        rows = self._rows(found)
        for row in rows:
            if row.status == TaskStatus.CANCELLED and row.retain_for == 0:
                yield self.sql.drop_cancelled, {"id": row.id}
        return [self.to_task(row) for row in rows]

    def _dropped(self, outcome: Outcome, asked: Any, instant: Any) -> Task:
        if asked is not None and outcome.status is TaskStatus.FAILED:
            outcome = replace(outcome, cancelled=True)
        return self.to_task(
            outcome.row._replace(
                status=outcome.status.value,
                result=outcome.result,
                error=outcome.error,
                date_modified=instant,
                lost_workers=outcome.row.lost_workers + outcome.lost,
            )
        )

    def _bounded(self, outcome: Outcome) -> Outcome:
        if not outcome.lost or outcome.row.lost_workers + 1 < self._max_lost_workers:
            return outcome
        return replace(outcome, retry=False)

    def _progress(self, holder: str, reports: Mapping[tuple[str, int], str]) -> Operation[None]:
        batch = self._batch(
            [
                {"id": task_id, "attempt": attempt, "progress": text}
                for (task_id, attempt), text in sorted(reports.items())
            ]
        )
        yield self.sql.progress, {"holder": holder, **batch}

    def _asked(self, holder: str, attempts: Sequence[tuple[str, int]]) -> Operation[set[str]]:
        rows = yield self.sql.asked, {"holder": holder, **self._attempts(attempts)}
        return {self._id(row[0]) for row in rows}

    def _extend(
        self,
        holder: str,
        attempts: Sequence[tuple[str, int]],
        lease: int,
        now: datetime | None,
    ) -> Operation[set[str]]:
        rows = yield (
            self.sql.extend,
            {"holder": holder, "lease": lease, "now": self._now(now), **self._attempts(attempts)},
        )
        return {self._id(row[0]) for row in rows}

    def _release(
        self, holder: str, attempts: Sequence[tuple[str, int]], now: datetime | None
    ) -> Operation[list[Task]]:
        rows = yield (
            self.sql.release,
            {"holder": holder, "now": self._now(now), **self._attempts(attempts)},
        )
        return (yield from self._ended(rows))

    def _attempts(self, attempts: Sequence[tuple[str, int]]) -> dict[str, Any]:
        return self._batch(
            [{"id": task_id, "attempt": attempt} for task_id, attempt in sorted(attempts)]
        )

    def _sweep(self, limit: int, now: datetime | None) -> Operation[tuple[int, list[Task]]]:
        instant = self._now(now)
        raw = yield self.sql.expired, {"limit": limit, "now": instant}
        lost = sorted(self._rows(raw))
        outcomes = [self._lost(row) for row in lost]
        changed: list[Task] = []
        dropped = {o.row.id: o for o in outcomes if o.drops}
        if dropped:
            batch = self._batch(
                [
                    {"id": o.row.id, "attempt": o.row.attempt, "holder": o.row.thread_id}
                    for o in dropped.values()
                ]
            )
            found = yield self.sql.drop_expired, {"now": instant, **batch}
            for raw_id, *ended in found:
                changed.append(self._dropped(dropped[self._id(raw_id)], *ended))
        kept = [o for o in outcomes if not o.drops]
        if kept:
            found = yield (
                self.sql.fail_expired,
                {
                    "now": instant,
                    "retry_interval": self._retry_interval,
                    **self._batch([{**_failure(o), "holder": o.row.thread_id} for o in kept]),
                },
            )
            changed.extend((yield from self._ended(found)))
        return len(lost), changed

    def _lost(self, row: TaskRow) -> Outcome:
        count = row.lost_workers + 1
        error = TaskError(
            name="LeaseLostError",
            message=(
                f"worker {row.thread_id} was lost while it held attempt {row.attempt} "
                f"(lost worker {count} of {self._max_lost_workers})"
            ),
            source="rowlock",
        )
        return self._bounded(
            Outcome(
                row,
                error=error.model_dump_json(by_alias=True),
                lost=True,
                cancelled=row.cancel_requested is not None,
            )
        )

    def _forget(self, limit: int, now: datetime | None) -> Operation[int]:
        rows = yield self.sql.forget, {"limit": limit, "now": self._now(now)}
        return len(rows)

    def _only(self, rows: Sequence[Any]) -> Task | None:
        return self.to_task(self._rows(rows)[0]) if rows else None


def no_schema() -> SchemaError:
    """Return the error of a database without rowlock's tables."""
    return SchemaError("the database has no rowlock schema: run `rowlock db upgrade`")


def _failure(outcome: Outcome) -> dict[str, Any]:
    return {
        "id": outcome.row.id,
        "attempt": outcome.row.attempt,
        "error": outcome.error,
        "retry": outcome.retries,
        "lost": int(outcome.lost),
    }
