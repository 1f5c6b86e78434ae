"""The operations on one database: connections around what `_operations` says."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Self

from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from rowlock import _cursor
from rowlock._operations import NewRow, Operation, Operations, Outcome, T
from rowlock._statements import TaskRow
from rowlock.models import SortDirection, SortProperty, Task, TaskPage, TaskStatus


class Store(Operations):
    """The operations on one database.

    Instants are `datetime | None` in the arguments called `now`; None is the clock that the
    database goes by, and tests pass their own.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        owns_engine: bool,
        retry_interval: int,
        max_lost_workers: int,
    ) -> None:
        super().__init__(retry_interval=retry_interval, max_lost_workers=max_lost_workers)
        self._engine = engine
        self._owns_engine = owns_engine

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
            max_lost_workers=self.max_lost_workers,
        )

    @abstractmethod
    async def watch(
        self,
        wake: Callable[[str | None], None],
        asked: Callable[[str | None], None],
        rescheduled: Callable[[], None],
        look: Callable[[], None],
    ) -> float:
        """Look for what others did; return the seconds until the next look.

        Args:
            wake: called with the type that there may be work for, None for any.
            asked: called with the holder whose tasks may be asked to be cancelled, None for any.
            rescheduled: called when scheduled tasks may have changed.
            look: called in the loop when the next look is due before the seconds are over.
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
    async def hint_schedules(self) -> None:
        """Tell other processes that scheduled tasks have changed."""

    @abstractmethod
    async def together(self, operation: Operation[T]) -> T:
        """Run an operation in one transaction, all of it or nothing."""

    @abstractmethod
    async def _write(self, operation: Operation[T]) -> T:
        """Run an operation that writes; on PostgreSQL each statement commits by itself."""

    @abstractmethod
    async def read(self, operation: Operation[T]) -> T:
        """Run an operation that only reads."""

    @abstractmethod
    async def _read_sorted(self, operation: Operation[T]) -> T:
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

    async def insert(self, row: NewRow, now: datetime | None = None, *, tell: bool = False) -> str:
        """Store a task; return its id, or that of the task that has its key.

        Args:
            row: the task.
            now: the instant.
            tell: give the hint to other processes with it; not for a task with a key.
        """
        return await self._write(self._insert(row, now, tell=tell))

    async def insert_together(self, rows: Sequence[NewRow], now: datetime | None = None) -> None:
        """Store tasks without a key in one statement."""
        await self._write(self._insert_batch(rows, now))

    async def insert_on(
        self, connection: AsyncConnection, rows: Sequence[NewRow], now: datetime | None = None
    ) -> list[str]:
        """Store tasks in the transaction of the caller's connection."""
        ids = []
        for row in rows:
            statement = self.sql.insert if row.key is None else self.sql.insert_keyed
            parameters = {**self._insert_parameters(row), "now": self.instant(now)}
            result = await connection.execute(statement.core, parameters)
            ids.append(row.id if row.key is None else self.to_id(result.scalar_one()))
        return ids

    async def get(self, task_id: str) -> Task | None:
        """Return a task."""
        return await self.read(self._get(task_id))

    async def counts(self, task_type: str | None) -> dict[TaskStatus, int]:
        """Return how many tasks have each status."""
        return await self.read(self._counts(task_type))

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
        return await self.read(self._asked(holder, attempts))

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
