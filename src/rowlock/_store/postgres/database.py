"""PostgreSQL: sessions, claims, COPY, NOTIFY and LISTEN."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import datetime
from typing import Any, Self

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import NullPool

from rowlock._rows import NewRow
from rowlock._store.database import LOCK_TIMEOUT, Database, Hint, HintKind, Operation, R, T, clock
from rowlock._store.libpq_url import connect_timeout
from rowlock._store.new_rows import COPY_COLUMNS, copy_record
from rowlock._store.postgres.claim import ClaimPositions, ClaimStatements
from rowlock._store.postgres.connections import CONNECT_TIMEOUT, Connections
from rowlock._store.postgres.dialect import CODEC, DIALECT
from rowlock._store.postgres.driver import BEGIN, COMMAND_TIMEOUT, Fetch, drive
from rowlock._store.postgres.errors import translated, translated_of_caller
from rowlock._store.postgres.listen import (
    Listener,
    ListenStatements,
    notify_parameters,
)
from rowlock._store.sql import Dialect, Statements
from rowlock._store.tables import task
from rowlock._store.url import upgrade_command
from rowlock.errors import DatabaseError, SchemaError

# Connections of a worker: claims, finishes, progress, requests to cancel, the sweeper.
_WORKERS = 5

# A process that is suspended in a transaction must not hold its locks for ever.
_BEGIN_TOGETHER = f"{BEGIN}; SET LOCAL idle_in_transaction_session_timeout = '10s'"

# Pages are read in the order of an index. A planner with old statistics may believe that few
# rows match and sort them all; these make it take the one index that has the order.
_BEGIN_SORTED = (
    f"{BEGIN}; SET LOCAL enable_sort = off; SET LOCAL enable_incremental_sort = off; "
    "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL jit = off"
)


def connect_arguments() -> dict[str, Any]:
    """Return the arguments of an engine that rowlock makes itself."""
    return {
        "poolclass": NullPool,
        "connect_args": {"timeout": CONNECT_TIMEOUT, "command_timeout": COMMAND_TIMEOUT},
    }


class SessionStatements(Statements):
    """What is asked of a database before it is used."""

    def __init__(self, dialect: Dialect) -> None:
        # It returns one row in any case. A claim names rows by ctid, which identifies a row in one
        # table only, so partitions and children are refused.
        self.look = dialect.statement(
            text(
                "SELECT current_setting('server_encoding'), CAST(c.relkind AS text),"
                " EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid),"
                " (SELECT string_agg(quote_ident(n.nspname), ', ') FROM pg_class AS k"
                " JOIN pg_namespace AS n ON n.oid = k.relnamespace"
                " WHERE k.relname = 'rowlock_task' AND k.relkind IN ('r', 'p'))"
                " FROM (SELECT to_regclass('rowlock_task') AS oid) AS found"
                " LEFT JOIN pg_class AS c ON c.oid = found.oid"
            )
        )
        # A restored copy may have the same oids, but its server was not started at the same time.
        self.identity = dialect.statement(
            text(
                "SELECT CAST(pg_postmaster_start_time() AS text), CAST(oid AS bigint),"
                " CAST(CAST(to_regclass('rowlock_task') AS oid) AS bigint)"
                " FROM pg_database WHERE datname = current_database()"
            )
        )


_SQL = SessionStatements.of(DIALECT)
_CLAIM = ClaimStatements.of(DIALECT)
_HINTS = ListenStatements.of(DIALECT)


class PostgresDatabase(Database):
    """PostgreSQL, through asyncpg."""

    dialect = DIALECT
    codec = CODEC
    _listener: Listener | None = None

    def __init__(
        self, engine: AsyncEngine, *, connections: Connections | None = None, **settings: Any
    ) -> None:
        super().__init__(engine, **settings)
        self._connections = connections or Connections(
            engine,
            owned=self._owns_engine,
            connect_timeout=connect_timeout(self.url),
        )
        self._positions = ClaimPositions()
        # What the driver calls, of each kind that the connection listens for.
        self._callbacks: dict[HintKind, Callable[..., None]] = {}

    async def open(self) -> None:
        self.revision = await self.read(self._verify())

    def _verify(self) -> Operation[str]:
        ((encoding, kind, has_children, schemas),) = yield _SQL.look, {}
        if encoding != "UTF8":
            raise DatabaseError(
                f"PostgreSQL: the database has the encoding {encoding}, rowlock needs UTF8"
            )
        if kind is None and schemas is not None:
            raise SchemaError(
                f"the rowlock schema is in {schemas}, where this role does not look: it needs USAGE"
                " there, and a search_path that names it (options=-csearch_path%3DNAME in the URL,"
                f" or ALTER ROLE … SET search_path); or run {upgrade_command(self.url)}"
            )
        if kind is not None and (kind != "r" or has_children):
            raise SchemaError(
                "rowlock_task must be one table: it is partitioned, has children or is a view, "
                "and a claim would take rows of another part"
            )
        return (yield from super()._verify())

    def for_caller(self) -> AbstractContextManager[None]:
        return translated_of_caller(self.url)

    async def identity(self, connection: AsyncConnection | None = None) -> Any:
        if connection is not None:
            return tuple((await connection.execute(_SQL.identity.core)).one())
        async with self._session() as fetch:
            return tuple((await fetch(_SQL.identity, {}))[0])

    async def close(self) -> None:
        await self.unwatch()
        await self._connections.close()

    def sibling(self, lock_timeout: int = LOCK_TIMEOUT) -> Self:
        connections = self._connections.others(
            most=_WORKERS, fewest=1, settings=[f"lock_timeout = {lock_timeout}"]
        )
        return type(self)(
            connections.engine, connections=connections, owns_engine=True, url=self.url
        )

    def for_worker(self) -> Self:
        return self.sibling()

    async def keep_alive(self) -> None:
        async with self._session() as fetch:
            await fetch(clock(DIALECT), {"now": None})

    async def watch(
        self,
        kinds: frozenset[HintKind],
        heard: Callable[[Hint], None],
        look: Callable[[], None],
    ) -> float:
        """Keep one connection listening."""
        if self._listener is None:
            self._listener = Listener(self._connections.others(most=1, fewest=1))
        with translated(self.url):
            return await self._listener.watch(kinds, heard)

    async def unwatch(self) -> None:
        if self._listener is not None:
            await self._listener.close()
            self._listener = None

    async def hint(self, hints: Iterable[Hint]) -> None:
        async with self._session() as fetch:
            await fetch(_HINTS.notify, notify_parameters(hints))

    async def hint_on(self, connection: AsyncConnection, hints: Iterable[Hint]) -> None:
        parameters = self.codec.core_parameters(notify_parameters(hints))
        await connection.execute(_HINTS.notify_on.core, parameters)

    async def bulk_insert(
        self,
        rows: Sequence[NewRow],
        more: AsyncIterator[Sequence[NewRow]],
        now: datetime | None = None,
    ) -> None:
        async with self._session(BEGIN) as fetch:
            ((instant,),) = await fetch(clock(DIALECT), {"now": now})

            async def records() -> AsyncIterator[tuple[Any, ...]]:
                for row in rows:
                    yield copy_record(row, instant)
                async for part in more:
                    for row in part:
                        yield copy_record(row, instant)

            await fetch.driver.copy_records_to_table(
                task.name, records=records(), columns=COPY_COLUMNS, timeout=COMMAND_TIMEOUT
            )

    async def _claim(
        self,
        kind: type[R],
        holder: str,
        rooms: Mapping[str, int],
        lease: int,
        now: datetime | None,
    ) -> list[R]:
        look = self._positions.scan_from(rooms)
        parameters = {
            **look,
            "rooms": list(rooms.values()),
            "holder": holder,
            "lease": lease,
            "now": now,
        }
        async with self._session() as fetch:
            found = await fetch(_CLAIM.claims[kind], parameters)
            claimed = [kind(row[0].hex, *row[1:]) for row in map(tuple, found)]
            self._positions.claimed(rooms, look, claimed, fetch.seconds)
        return sorted(
            claimed, key=lambda row: (-row.priority, self.codec.from_time(row.run_at), row.id)
        )

    async def next_due(self, types: Iterable[str], now: datetime | None = None) -> float | None:
        owed = self._positions.seconds_to_full_scan()
        if owed == 0:
            return 0.0
        parameters = {**self._positions.scan_from(types), "now": now}
        async with self._session() as fetch:
            ((seconds,),) = await fetch(_CLAIM.next_due, parameters)
        waits = [max(0.0, wait) for wait in (seconds, owed) if wait is not None]
        return min(waits, default=None)

    async def autocommit(self, operation: Operation[T]) -> T:
        # Each statement commits by itself: what an operation writes is one row, or rows that
        # are fenced one by one. A transaction that spans an `await` would keep its locks for
        # as long as a handler blocks the loop, and the lease thread would wait for them.
        async with self._session() as fetch:
            return await drive(operation, fetch)

    async def transaction(self, operation: Operation[T]) -> T:
        async with self._session(_BEGIN_TOGETHER) as fetch:
            return await drive(operation, fetch)

    async def read(self, operation: Operation[T]) -> T:
        return await self.autocommit(operation)

    async def read_in_index_order(self, operation: Operation[T]) -> T:
        async with self._session(_BEGIN_SORTED) as fetch:
            return await drive(operation, fetch)

    @asynccontextmanager
    async def _session(self, begin: str | None = None) -> AsyncIterator[Fetch]:
        with translated(self.url):
            async with self._connections.session(begin) as fetch:
                yield fetch
