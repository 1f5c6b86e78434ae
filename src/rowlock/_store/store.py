"""The operations on one database: connections around what `_operations` says."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from typing import Any, Self

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from rowlock._store import cursor as _cursor
from rowlock._store.operations import (
    AttemptOutcome,
    Finished,
    Holds,
    KeyTakenError,
    NewRow,
    Operation,
    Operations,
    Swept,
    T,
)
from rowlock._store.statements import TaskRow
from rowlock.errors import InvalidArgumentError
from rowlock.models import SortDirection, SortProperty, Task, TaskPage, TaskStatus

LOCK_TIMEOUT = 1000
"""Milliseconds, at most, that a worker waits for a row which somebody else has locked."""

# rowlock's tables are where the queue's own connections find them, whatever the caller's tables
# are called for the time being.
_UNMAPPED = {"schema_translate_map": None}
_IDENTITY = "rowlock identity"
_DRIVERS = (("postgresql", "asyncpg"), ("sqlite", "aiosqlite"))


class Store(Operations):
    """The operations on one database.

    Instants are `datetime | None` in the arguments called `now`; None is the clock that the
    database goes by, and tests pass their own.

    Attributes:
        revision: of the schema, once it is open.
    """

    revision: str
    keeps_trying = False
    """Whether a worker that cannot extend its leases keeps its tasks until that is refused."""
    _identity: Any = None

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        owns_engine: bool,
        retry_interval: int,
        max_lost_workers: int,
        keep_failed: int,
        url: URL | None = None,
    ) -> None:
        super().__init__(
            retry_interval=retry_interval,
            max_lost_workers=max_lost_workers,
            keep_failed=keep_failed,
        )
        self._engine = engine
        self._owns_engine = owns_engine
        self.url = engine.url if url is None else url

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

    @abstractmethod
    def sibling(self, lock_timeout: int = LOCK_TIMEOUT) -> Self:
        """Return another store on the same database, with connections of its own.

        It may be used in another thread's loop.

        Args:
            lock_timeout: milliseconds that it waits for a row which somebody else has locked.
        """

    @abstractmethod
    def for_worker(self) -> Self:
        """Return the store for a worker in this loop, whose connections nobody else can take."""

    @abstractmethod
    async def keep_alive(self) -> None:
        """Use a connection, so that there is one when it is needed."""

    @abstractmethod
    def core_parameters(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the parameters of a statement as SQLAlchemy takes them."""

    def _like(self, engine: AsyncEngine, **options: Any) -> Self:
        return type(self)(
            engine,
            **options,
            owns_engine=True,
            retry_interval=self._retry_interval,
            max_lost_workers=self.max_lost_workers,
            keep_failed=self._keep_failed,
            url=self.url,
        )

    @abstractmethod
    async def watch(
        self,
        wake: Callable[[str | None], None],
        cancel_requested: Callable[[str | None], None],
        rescheduled: Callable[[], None],
        look: Callable[[], None],
    ) -> float:
        """Look for what others did; return the seconds until the next look.

        Args:
            wake: called with the type that there may be work for, None for any.
            cancel_requested: called with the holder of tasks to be cancelled, None for any.
            rescheduled: called when scheduled tasks may have changed.
            look: called in the loop when the next look is due before the seconds are over.
        """

    @abstractmethod
    async def unwatch(self) -> None:
        """Forget the last look."""

    @abstractmethod
    def for_caller(self) -> AbstractContextManager[None]:
        """Raise what goes wrong on a connection of the caller's as an error of rowlock."""

    @abstractmethod
    async def identity(self, connection: AsyncConnection | None = None) -> Any:
        """Return what tells the database of a connection from others; by default the store's."""

    async def accept(self, connection: AsyncConnection) -> None:
        """Check a connection of the caller's, once for each connection of the driver.

        Raises:
            InvalidArgumentError: it leads to another database than the queue's.
        """
        kind = self._engine.dialect.name
        if connection.dialect.name != kind:
            raise InvalidArgumentError(
                f"connection: of {connection.dialect.name} was given, of {kind} is allowed"
            )
        known = connection.info.get(_IDENTITY)
        if known is not None and known == self._identity:
            return
        theirs = await self.identity(connection)
        if theirs != self._identity:
            self._identity = await self.identity()
        if theirs != self._identity:
            raise InvalidArgumentError(
                "connection: it finds another database, or another schema of it, than the queue"
            )
        connection.info[_IDENTITY] = theirs

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
    async def hint_schedules(self) -> None:
        """Tell other processes that scheduled tasks have changed."""

    @abstractmethod
    async def transaction(self, operation: Operation[T]) -> T:
        """Run an operation in one transaction, all of it or nothing."""

    @abstractmethod
    async def autocommit(self, operation: Operation[T]) -> T:
        """Run an operation that writes; on PostgreSQL each statement commits by itself."""

    @abstractmethod
    async def read(self, operation: Operation[T]) -> T:
        """Run an operation that only reads."""

    @abstractmethod
    async def read_in_index_order(self, operation: Operation[T]) -> T:
        """Run an operation that reads in the order of an index."""

    @abstractmethod
    async def insert_many(self, rows: Sequence[NewRow], now: datetime | None = None) -> list[str]:
        """Store many tasks, all or none; return the id of each, or of the one with its key."""

    async def insert_new(
        self,
        rows: Sequence[NewRow],
        more: AsyncIterator[Sequence[NewRow]],
        now: datetime | None = None,
    ) -> None:
        """Store many tasks without a key, all or none; `more` of them may be made meanwhile."""
        await self.insert_many([*rows, *[row async for part in more for row in part]], now)

    @abstractmethod
    async def claim(
        self,
        holder: str,
        rooms: Mapping[str, int],
        lease: int,
        now: datetime | None = None,
        *,
        rows: bool = True,
    ) -> list[TaskRow]:
        """Take due tasks, of each type as many as there is room for, in the order to run.

        Args:
            holder: who takes them.
            rooms: how many of each type.
            lease: milliseconds until they are taken for lost.
            now: the instant.
            rows: whether all of the rows is wanted, or what it takes to run them.
        """

    @abstractmethod
    async def next_due(self, types: Iterable[str], now: datetime | None = None) -> float | None:
        """Return the seconds until a task of the types is due: 0 if one is, None if none waits."""

    # Tasks, as clients see them.

    async def insert(
        self, row: NewRow, now: datetime | None = None, *, notify: bool = False
    ) -> str:
        """Store a task; return its id, or that of the task that has its key.

        Args:
            row: the task.
            now: the instant.
            notify: give the hint to other processes with it; not for a task with a key.
        """
        return await self.autocommit(self._insert(row, now, notify=notify))

    async def insert_group(self, rows: Sequence[NewRow], now: datetime | None = None) -> None:
        """Store tasks without a key in one statement."""
        await self.autocommit(self._insert_batch(rows, now))

    async def insert_on(
        self, connection: AsyncConnection, rows: Sequence[NewRow], now: datetime | None = None
    ) -> list[str]:
        """Store tasks in the transaction of the caller's connection."""
        if len(rows) == 1:
            return [await self._drive_on(connection, self._insert(rows[0], now))]
        if not any(row.refuses for row in rows):
            return await self._drive_on(connection, self._insert_each(rows, now))
        # All or none, also if the caller's transaction goes on.
        async with connection.begin_nested():
            return await self._drive_on(connection, self._insert_each(rows, now))

    async def _drive_on(self, connection: AsyncConnection, operation: Operation[T]) -> T:
        try:
            statement, parameters = next(operation)
            while True:
                result = await connection.execute(
                    statement.core,
                    self.core_parameters(parameters),
                    execution_options=_UNMAPPED,
                )
                rows = result.all() if result.returns_rows else []
                statement, parameters = operation.send(rows)
        except StopIteration as stop:
            value: T = stop.value
            return value

    async def get(self, task_id: str) -> Task | None:
        """Return a task."""
        return await self.read(self._get(task_id))

    async def counts(self, task_type: str | None) -> dict[TaskStatus, int]:
        """Return how many tasks have each status."""
        return await self.read(self._counts(task_type))

    async def retry(self, task_id: str, now: datetime | None = None) -> Task | None:
        """Make a waiting or ended task due now; return it, None if it is neither.

        Raises:
            DuplicateKeyError: if another task has its key meanwhile.
        """
        while True:
            # The second time it is seen who took the key.
            with suppress(KeyTakenError):
                return await self.autocommit(self._retry(task_id, now))

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
        return await self.autocommit(self._cancel(task_id, now, running))

    async def remove(self, task_id: str) -> bool:
        """Delete a task whatever its status."""
        return await self.autocommit(self._remove(task_id))

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
        return await self.read_in_index_order(self._page(walk, after, limit))

    # Attempts, fenced by id, attempt and holder.

    async def finish(
        self,
        holder: str,
        outcomes: Sequence[AttemptOutcome],
        *,
        rows: bool = True,
        wait: bool = True,
        now: datetime | None = None,
    ) -> Finished:
        """Store outcomes.

        Args:
            holder: who holds the attempts.
            outcomes: at most one for each task.
            rows: whether the tasks are wanted as they are afterwards.
            wait: for rows that somebody has locked, about a second; else they are left out at
                once. So for the following methods.
            now: the instant.
        """
        return await self.autocommit(self._finish(holder, outcomes, rows, now, wait))

    async def progress(
        self, holder: str, reports: Mapping[tuple[str, int], str], *, wait: bool = True
    ) -> set[str]:
        """Store the progress of attempts, as JSON text; those that have moved on are left alone.

        Returns:
            the ids of those whose row somebody has locked, which were left out.
        """
        return await self.autocommit(self._progress(holder, reports, wait))

    async def cancel_requests(self, holder: str, attempts: Sequence[tuple[str, int]]) -> set[str]:
        """Return the ids of those attempts whose tasks somebody asked to cancel."""
        return await self.read(self._cancel_requests(holder, attempts))

    async def extend(
        self,
        holder: str,
        attempts: Sequence[tuple[str, int]],
        lease: int,
        now: datetime | None = None,
        *,
        wait: bool = True,
    ) -> tuple[set[str], set[str]]:
        """Extend leases by `lease` milliseconds from now.

        Returns:
            the ids whose lease was extended, and those held whose row somebody has locked.
        """
        return await self.autocommit(self._extend(holder, attempts, lease, now, wait))

    async def release(
        self,
        holder: str,
        attempts: Sequence[tuple[str, int]],
        now: datetime | None = None,
        *,
        begun: Collection[tuple[str, int]] = (),
        wait: bool = True,
    ) -> tuple[list[Task], set[str]]:
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
        return await self.autocommit(self._release(holder, attempts, begun, now, wait))

    # The sweeper.

    async def sweep(
        self,
        limit: int,
        now: datetime | None = None,
        *,
        holder: str | None = None,
        holds: Holds = lambda key: False,
    ) -> Swept:
        """Take up to `limit` tasks from lost workers.

        A task goes back to pending while it has tries and its lost workers are below the bound.

        Args:
            limit: how many expired leases are looked at.
            now: the instant.
            holder: who asks.
            holds: tells whether that one goes on with an attempt, which is then left alone.
        """
        return await self.autocommit(self._sweep(limit, now, holder, holds))

    async def prune(self, limit: int, now: datetime | None = None) -> int:
        """Delete up to `limit` tasks past their retention; return how many."""
        return await self.autocommit(self._prune(limit, now))


def checked_engine(engine: AsyncEngine) -> AsyncEngine:
    """Return an engine that rowlock can work with.

    Raises:
        InvalidArgumentError: for another kind of database, or one that renames tables.
    """
    if (engine.dialect.name, engine.dialect.driver) not in _DRIVERS:
        raise InvalidArgumentError(
            f"database: an engine for {engine.dialect.name} by {engine.dialect.driver} was given, "
            "allowed are PostgreSQL by asyncpg and SQLite by aiosqlite"
        )
    if None in engine.sync_engine.get_execution_options().get("schema_translate_map", ()):
        # The statements are compiled once, and go to the driver as they are.
        raise InvalidArgumentError(
            "database: an engine whose schema_translate_map renames tables without a schema was "
            "given; give one without it, and name the schema by search_path"
        )
    return engine
