"""Tasks, as clients see them: create, get, count, retry, cancel, remove."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Executable,
    Text,
    bindparam,
    delete,
    exists,
    func,
    literal_column,
    not_,
    null,
    select,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from rowlock._rows import NewRow
from rowlock._store import new_rows
from rowlock._store.database import (
    Database,
    KeyTakenError,
    NoRoomForHintsError,
    Operation,
    autocommit,
    reading,
)
from rowlock._store.sql import (
    COLUMNS,
    NAMED,
    PROCESSING,
    REMOVED_AT_ONCE,
    RESTING,
    Dialect,
    Statements,
    constant,
    retain_until,
)
from rowlock._store.tables import KEY_TAKEN, IdType, key_taken, stored_from_batch, task
from rowlock.errors import DuplicateKeyError
from rowlock.models import TRANSITIONS, Task, TaskStatus

# So many tasks with keys go in one statement.
_KEYED_BATCH = 1000

_RETRIED = (TaskStatus.FAILED, TaskStatus.CANCELLED)
_STATUSES = frozenset(TaskStatus)


class TaskStatements(Statements):
    """What clients write of tasks, and what they ask."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._now = dialect.now
        build = dialect.statement
        of_type = task.c.type == bindparam("type", type_=Text)

        self.insert = build(self._insert_one())
        self.insert_and_notify = build(dialect.notifying(self._insert_one()))
        self.insert_batch = build(self._insert_batch())
        self.insert_keyed = build(_keyed(self._insert_one()))
        self.insert_batch_keyed = build(_keyed(self._insert_batch()))
        self.with_key = build(
            select(task.c.id).where(of_type, task.c.key == bindparam("key", type_=Text), KEY_TAKEN)
        )
        self.with_keys = build(self._with_keys())
        self.get = build(select(*COLUMNS).where(NAMED))
        self.counts = build(_counts())
        self.counts_of_type = build(_counts(of_type))
        self.retry_waiting = build(self._retry_waiting())
        self.retry_ended = build(self._retry_ended())
        self.cancel_keep = build(self._cancel_keep())
        self.cancel_drop = build(self._cancel_drop())
        self.request_cancel = build(self._request_cancel())
        self.remove = build(delete(task).where(NAMED).returning(task.c.id))

    def _insert_values(self, given: Mapping[str, ColumnElement[Any]]) -> dict[str, Any]:
        values = {
            name: stored_from_batch(task.c[name], value)
            for name, value in given.items()
            if name != "delay"
        }
        return {
            **values,
            **{name: literal_column(repr(value)) for name, value in new_rows.INITIAL.items()},
            "run_at": func.coalesce(
                given["run_at"], self._dialect.after(self._now, given["delay"])
            ),
            "date_modified": self._now,
        }

    def _insert_one(self) -> Any:
        given = {name: bindparam(name, type_=kind) for name, kind in new_rows.TYPES.items()}
        return self._dialect.insert(task).values(self._insert_values(given))

    def _insert_batch(self) -> Any:
        batch = self._dialect.batch(new_rows.BATCH_TYPES)
        values = self._insert_values({column.name: column for column in batch.c})
        return self._dialect.insert(task).from_select(
            list(values),
            # SQLite would take a conflict clause for one of a join.
            select(*values.values()).where(literal_column("true")),
        )

    def _with_keys(self) -> Executable:
        batch = self._dialect.batch({"id": IdType(), "type": Text(), "key": Text()})
        return select(batch.c.id, task.c.id).where(
            self._dialect.same(task.c.type, batch.c.type),
            self._dialect.same(task.c.key, batch.c.key),
            KEY_TAKEN,
        )

    def _retry_waiting(self) -> Executable:
        return (
            update(task)
            .where(NAMED, task.c.status == constant(TaskStatus.PENDING), task.c.run_at > self._now)
            .values(run_at=self._now, date_modified=self._now)
            .returning(*COLUMNS)
        )

    def _retry_ended(self) -> Executable:
        other = task.alias("other")
        return (
            update(task)
            .where(
                NAMED,
                _sources(TaskStatus.PENDING),
                RESTING,
                not_(
                    exists().where(
                        other.c.type == task.c.type, other.c.key == task.c.key, key_taken(other)
                    )
                ),
            )
            .values(
                status=constant(TaskStatus.PENDING),
                thread_id=literal_column("'0'"),
                run_at=self._now,
                lost_workers=literal_column("0"),
                cancel_requested=null(),
                date_modified=self._now,
                date_retain_until=null(),
            )
            .returning(*COLUMNS)
        )

    def _cancel_keep(self) -> Executable:
        return (
            update(task)
            .where(NAMED, task.c.status == constant(TaskStatus.PENDING), not_(REMOVED_AT_ONCE))
            .values(
                status=constant(TaskStatus.CANCELLED),
                date_modified=self._now,
                date_retain_until=retain_until(self._dialect),
            )
            .returning(*COLUMNS)
        )

    def _cancel_drop(self) -> Executable:
        return (
            delete(task)
            .where(NAMED, task.c.status == constant(TaskStatus.PENDING), REMOVED_AT_ONCE)
            .returning(*COLUMNS, self._now.label("now"))
        )

    def _request_cancel(self) -> Executable:
        return (
            update(task)
            .where(NAMED, PROCESSING)
            .values(cancel_requested=func.coalesce(task.c.cancel_requested, self._now))
            .returning(*COLUMNS)
        )


class Tasks:
    """What clients do with tasks."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._codec = database.codec
        self._sql = TaskStatements.of(database.dialect)

    # Create.

    @autocommit
    def insert(
        self, row: NewRow, now: datetime | None = None, *, notify: bool = False
    ) -> Operation[str]:
        """Store a task; return its id, or that of the task that has its key.

        Args:
            row: the task.
            now: the instant.
            notify: give the hint to other processes with it; not for a task with a key.
        """
        return self._insert(row, now, notify=notify)

    @autocommit
    def insert_group(self, rows: Sequence[NewRow], now: datetime | None = None) -> Operation[None]:
        """Store tasks without a key in one statement."""
        yield (
            self._sql.insert_batch,
            {"now": self._codec.instant(now), **self._batch(rows)},
        )

    async def insert_many(self, rows: Sequence[NewRow], now: datetime | None = None) -> list[str]:
        """Store many tasks, all or none; return the id of each, or of the one with its key."""
        if any(row.key is not None for row in rows):
            return await self._database.transaction(self._insert_each(rows, now))
        await self._database.bulk_insert(rows, _nothing(), now)
        return [row.id for row in rows]

    async def insert_new(
        self,
        rows: Sequence[NewRow],
        more: AsyncIterator[Sequence[NewRow]],
        now: datetime | None = None,
    ) -> None:
        """Store many tasks without a key, all or none; `more` of them may be made meanwhile."""
        await self._database.bulk_insert(rows, more, now)

    async def insert_on(
        self, connection: AsyncConnection, rows: Sequence[NewRow], now: datetime | None = None
    ) -> list[str]:
        """Store tasks in the transaction of the caller's connection."""
        if len(rows) == 1:
            return [await self._database.on(connection, self._insert(rows[0], now))]
        if not any(row.refuses for row in rows):
            return await self._database.on(connection, self._insert_each(rows, now))
        # All or none, also if the caller's transaction goes on.
        async with connection.begin_nested():
            return await self._database.on(connection, self._insert_each(rows, now))

    def _insert(self, row: NewRow, now: datetime | None, *, notify: bool = False) -> Operation[str]:
        parameters = new_rows.parameters(row, self._codec.to_time)
        parameters["now"] = self._codec.instant(now)
        if row.key is None:
            if notify:
                # If the server has no room for it, the task matters more than its hint.
                with suppress(NoRoomForHintsError):
                    yield self._sql.insert_and_notify, parameters
                    return row.id
            yield self._sql.insert, parameters
            return row.id
        # Who has the key may be gone by the time of the look at it.
        while not (yield self._sql.insert_keyed, parameters):
            holder = yield from self._with_key(row.type, row.key)
            if holder is not None:
                if row.refuses:
                    raise _key_taken(row.type, row.key, holder)
                return holder
        return row.id

    def _insert_each(self, rows: Sequence[NewRow], now: datetime | None) -> Operation[list[str]]:
        ids: dict[str, str] = {}
        # In the order of keys, or two callers with the same keys wait for each other.
        ordered = sorted(rows, key=lambda row: (row.type, row.key or ""))
        for place in range(0, len(ordered), _KEYED_BATCH):
            ids.update((yield from self._insert_keyed(ordered[place : place + _KEYED_BATCH], now)))
        return [ids[row.id] for row in rows]

    def _insert_keyed(
        self, rows: Sequence[NewRow], now: datetime | None
    ) -> Operation[dict[str, str]]:
        """Store tasks; return of each the id, or that of the task that has its key."""
        to_id = self._codec.to_id
        ids: dict[str, str] = {}
        # Who has a key may be gone by the time of the look at it.
        while left := [row for row in rows if row.id not in ids]:
            inserted = yield (
                self._sql.insert_batch_keyed,
                {"now": self._codec.instant(now), **self._batch(left)},
            )
            ids.update((new, new) for new in (to_id(row[0]) for row in inserted))
            if taken := [row for row in left if row.id not in ids]:
                keys = [{"id": row.id, "type": row.type, "key": row.key} for row in taken]
                found = yield self._sql.with_keys, self._codec.batch(keys)
                holders = {to_id(new): to_id(holder) for new, holder in found}
                for row in taken:
                    if row.refuses and row.id in holders:
                        raise _key_taken(row.type, row.key, holders[row.id])
                ids.update(holders)
        return ids

    def _batch(self, rows: Sequence[NewRow]) -> dict[str, Any]:
        to_time = self._codec.to_time
        return self._codec.batch([new_rows.batch_parameters(row, to_time) for row in rows])

    def _with_key(self, task_type: str, key: str) -> Operation[str | None]:
        rows = yield self._sql.with_key, {"type": task_type, "key": key}
        return self._codec.to_id(rows[0][0]) if rows else None

    # Look.

    @reading
    def get(self, task_id: str) -> Operation[Task | None]:
        """Return a task."""
        return self._codec.only((yield self._sql.get, {"id": task_id}))

    @reading
    def counts(self, task_type: str | None) -> Operation[dict[TaskStatus, int]]:
        """Return how many tasks have each status."""
        if task_type is None:
            rows = yield self._sql.counts, {}
        else:
            rows = yield self._sql.counts_of_type, {"type": task_type}
        # Another status is none that rowlock has written.
        return {TaskStatus(status): count for status, count in rows if status in _STATUSES}

    # Change.

    async def retry(self, task_id: str, now: datetime | None = None) -> Task | None:
        """Make a waiting or ended task due now; return it, None if it is neither.

        Raises:
            DuplicateKeyError: if another task has its key meanwhile.
        """
        while True:
            # The second time it is seen who took the key.
            with suppress(KeyTakenError):
                return await self._database.autocommit(self._retry(task_id, now))

    def _retry(self, task_id: str, now: datetime | None) -> Operation[Task | None]:
        parameters = {"id": task_id, "now": self._codec.instant(now)}
        rows = yield self._sql.retry_waiting, parameters
        if not rows:
            rows = yield self._sql.retry_ended, parameters
        if not rows:
            rows = yield self._sql.get, {"id": task_id}
            row = self._codec.row(rows[0]) if rows else None
            if row is None or row.status not in _RETRIED or row.key is None:
                return None
            holder = yield from self._with_key(row.type, row.key)
            if holder is None:
                return None
            raise _key_taken(row.type, row.key, holder)
        return self._codec.only(rows)

    @autocommit
    def cancel(
        self, task_id: str, now: datetime | None = None, *, running: bool = False
    ) -> Operation[Task | None]:
        """Cancel a pending task; return it, None if it is not pending.

        Args:
            task_id: which.
            now: the instant.
            running: ask the holder of a processing task to cancel it; the task is then returned
                as it is, with status processing.
        """
        parameters = {"id": task_id, "now": self._codec.instant(now)}
        # Asked about a running task, a second look: it may be pending again by then.
        for _ in range(2):
            rows = yield self._sql.cancel_keep, parameters
            if rows:
                return self._codec.only(rows)
            rows = yield self._sql.cancel_drop, parameters
            if rows:
                *columns, instant = rows[0]
                return self._codec.task(
                    self._codec.row(columns)._replace(
                        status=TaskStatus.CANCELLED.value, date_modified=instant
                    )
                )
            if not running:
                return None
            rows = yield self._sql.request_cancel, parameters
            if rows:
                return self._codec.only(rows)
        return None

    @autocommit
    def remove(self, task_id: str) -> Operation[bool]:
        """Delete a task whatever its status."""
        rows = yield self._sql.remove, {"id": task_id}
        return bool(rows)


async def _nothing() -> AsyncIterator[Sequence[NewRow]]:
    return
    yield


def _keyed(insert: Any) -> Executable:
    # Nothing is done to a row that has the key: DO UPDATE would lock it until the end of the
    # caller's transaction.
    return cast(
        Executable,
        insert.on_conflict_do_nothing(
            index_elements=["type", "key"], index_where=KEY_TAKEN
        ).returning(task.c.id),
    )


def _counts(*filters: ColumnElement[bool]) -> Executable:
    # In two parts, each of which an index covers.
    counted = select(task.c.status, func.count()).where(*filters).group_by(task.c.status)
    return union_all(counted.where(RESTING), counted.where(PROCESSING))


def _sources(target: TaskStatus) -> ColumnElement[bool]:
    """The row has a status from which the transition table allows `target`."""
    allowed = [status for status, targets in TRANSITIONS.items() if target in targets]
    return task.c.status.in_([constant(status) for status in allowed])


def _key_taken(task_type: str, key: str | None, holder: str) -> DuplicateKeyError:
    return DuplicateKeyError(f"key: task {holder} of type {task_type!r} has {key!r}", holder)
