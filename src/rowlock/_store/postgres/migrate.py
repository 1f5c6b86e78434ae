"""How the schema of a PostgreSQL database is changed while others use it.

One process changes it, under an advisory lock of its session; the session's settings are its own
too. So a pooler that shares sessions between clients is refused: what is set there would stay.

A statement that waits for an exclusive lock of the table holds up all that come after it, readers
too. So each waits for a short time only, and its transaction is tried again. What goes by itself
and CONCURRENTLY keeps nobody waiting, and waits for the whole time.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg
from sqlalchemy import URL, Connection, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from rowlock._store.libpq_url import connect_timeout
from rowlock._store.migrate import Migrations, T
from rowlock._store.postgres.errors import translated_of_migration
from rowlock._store.tables import metadata
from rowlock._store.url import connecting
from rowlock.errors import DatabaseError, DatabaseUnavailableError, SchemaError

ADVISORY_LOCK: Final = 0x726F776C6F636B  # "rowlock"
# Seconds that a statement waits for a lock, and that pass before it is tried again.
_ATTEMPT: Final = 1.0
_PAUSE: Final = 0.5
_POLL: Final = 0.1
_CONNECT_TIMEOUT: Final = 10.0
_ROUNDS: Final = 15

_SETTINGS: Final = text(
    "SELECT set_config(name, CASE name WHEN 'lock_timeout' THEN :lock ELSE '0' END, false)"
    " FROM pg_settings WHERE name IN ('lock_timeout', 'statement_timeout',"
    " 'idle_in_transaction_session_timeout', 'transaction_timeout')"
)
_BLOCKERS: Final = (
    "SELECT pid, usename, application_name, state, xact_start, backend_start FROM pg_stat_activity"
    " WHERE pid <> pg_backend_pid() AND ({}) ORDER BY xact_start LIMIT 5"
)
_HOLD_TABLE: Final = (
    "pid IN (SELECT pid FROM pg_locks WHERE granted AND locktype = 'relation'"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND relation IN (to_regclass('rowlock_task'), to_regclass('rowlock_scheduled_task'),"
    " to_regclass('rowlock_alembic_version')))"
)
# CONCURRENTLY waits for whoever may still see rows as they were before.
_HOLD_SNAPSHOT: Final = (
    f"{_HOLD_TABLE} OR (datname = current_database()"
    " AND xact_start < clock_timestamp() - CAST(:waited AS interval))"
)
_HOLD_LOCK: Final = (
    "pid IN (SELECT pid FROM pg_locks WHERE granted AND locktype = 'advisory' AND objsubid = 1"
    " AND CAST(classid AS bigint) << 32 | CAST(objid AS bigint) = :key)"
)
_INVALID: Final = text(
    "SELECT c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid"
    " WHERE NOT i.indisvalid AND i.indrelid"
    " IN (to_regclass('rowlock_task'), to_regclass('rowlock_scheduled_task')) ORDER BY 1"
)


class PostgresMigrations(Migrations):
    """The schema of a PostgreSQL database.

    Args:
        url: of the database.
        engine: the application's, whose way to connect is used, but none of its connections.
    """

    is_missing = False

    def __init__(self, url: URL, engine: AsyncEngine | None) -> None:
        super().__init__(url)
        self._given = engine
        self.connect_timeout = connect_timeout(url) or self.connect_timeout

    def _connected(self, work: Callable[[Connection], T], lock: bool) -> T:
        with translated_of_migration(self.name, self.connect_timeout):
            return _to_completion(self._with_connection(work, lock))

    async def _with_connection(self, work: Callable[[Connection], T], lock: bool) -> T:
        engine = self._engine()
        try:
            async with asyncio.timeout(self.connect_timeout):
                connection = await engine.connect()
            try:
                if lock:
                    return await exclusively(
                        engine, connection, work, name=self.name, timeout=self.lock_timeout
                    )
                return await connection.run_sync(work)
            finally:
                await connection.close()
        finally:
            # The pool of an engine would keep the session, and with it the lock.
            await engine.dispose()

    def _engine(self) -> AsyncEngine:
        if self._given is not None:
            engine = self._given.sync_engine
            return AsyncEngine(Engine(engine.pool.recreate(), engine.dialect, engine.url))
        bare, arguments = connecting(self.url)
        # Unnamed statements, as a pooler needs them to look at a schema.
        unnamed = {
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": str,
        }
        return create_async_engine(bare, poolclass=NullPool, connect_args={**arguments, **unnamed})

    def before_upgrade(self, connection: Connection) -> None:
        encoding = connection.scalar(text("SHOW server_encoding"))
        connection.rollback()
        if encoding != "UTF8":
            raise DatabaseError(
                f"{self.name}: the database has the encoding {encoding}, rowlock needs UTF8"
            )

    def after_upgrade(self, connection: Connection) -> None:
        rebuild_invalid(connection)

    def damage(self, connection: Connection) -> list[str]:
        return [
            f"index {name} is not valid: upgrade builds it anew"
            for name in invalid_indexes(connection)
        ]


def _to_completion(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


async def exclusively(
    engine: AsyncEngine,
    connection: AsyncConnection,
    work: Callable[[Connection], T],
    *,
    name: str,
    timeout: float,
) -> T:
    """Call `work` while no other process changes the schema, again where a lock was in its way.

    Args:
        engine: where the connection comes from.
        connection: it is closed afterwards, and the lock goes with it.
        work: may be called again, in a transaction that was rolled back.
        name: of the database, for messages.
        timeout: seconds that may pass in waiting for locks.

    Raises:
        SchemaError: a pooler shares the session with others.
        DatabaseUnavailableError: a lock was not to be had in that time.
    """
    if await _is_shared(engine, connection):
        raise SchemaError(
            f"{name}: a pooler shares its sessions between clients, and the lock and settings of "
            "an upgrade would stay there: connect directly to PostgreSQL"
        )
    await connection.execute(_SETTINGS, {"lock": str(int(timeout * 1000))})
    await connection.commit()
    await _lock(connection, name, timeout)
    attempt = min(_ATTEMPT, timeout)

    def wait_shortly(beginning: Connection) -> None:
        if beginning.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            beginning.exec_driver_sql(f"SET LOCAL lock_timeout = {int(attempt * 1000)}")

    event.listen(engine.sync_engine, "begin", wait_shortly)
    return await connection.run_sync(_patiently, work, name, timeout, attempt)


async def _is_shared(engine: AsyncEngine, connection: AsyncConnection) -> bool:
    first = await _driver(connection)
    if await _pid(first) == first.get_server_pid():
        return False  # who answers is who was connected to: there is no pooler
    async with AsyncExitStack() as stack:
        async with asyncio.timeout(_CONNECT_TIMEOUT):
            other = await stack.enter_async_context(engine.connect())
        second = await _driver(other)
        return await _change_places(first, second)


async def _change_places(first: asyncpg.Connection, second: asyncpg.Connection) -> bool:
    """Whether the two are served by other processes in turn, and not each by one of its own."""
    own, others = await _pid(first), await _pid(second)
    if own == others:
        return True
    # Others use the pool too: by chance, each gets the same one again in one round of four.
    for _ in range(_ROUNDS):
        # In this order, as some poolers go round.
        for driver, expected in ((second, others), (first, own), (first, own), (second, others)):
            if await _pid(driver) != expected:
                return True
    return False


async def _driver(connection: AsyncConnection) -> asyncpg.Connection:
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, asyncpg.Connection)  # noqa: S101
    return driver


async def _pid(driver: asyncpg.Connection) -> int:
    # In a transaction: a statement is prepared and executed in two steps.
    async with driver.transaction():
        return int(await driver.fetchval("SELECT pg_backend_pid()"))


async def _lock(connection: AsyncConnection, name: str, timeout: float) -> None:
    # Polled, each time in a transaction of its own: CREATE INDEX CONCURRENTLY waits for every
    # open transaction, also for one that waits for this lock.
    attempt = text("SELECT pg_try_advisory_lock(:key)")
    deadline = time.monotonic() + timeout
    while not await connection.scalar(attempt, {"key": ADVISORY_LOCK}):
        await connection.commit()
        if time.monotonic() > deadline:
            who = await connection.run_sync(
                lambda plain: _in_the_way(plain, _HOLD_LOCK, key=ADVISORY_LOCK)
            )
            raise DatabaseUnavailableError(
                f"{name}: another process has been upgrading it for {timeout:g} s{who}"
            )
        await asyncio.sleep(_POLL)
    await connection.commit()


def _patiently(
    connection: Connection,
    work: Callable[[Connection], T],
    name: str,
    timeout: float,
    attempt: float,
) -> T:
    waited = 0.0
    while True:
        try:
            return work(connection)
        except DBAPIError as error:
            cause = error.orig and error.orig.__cause__
            if not isinstance(cause, asyncpg.LockNotAvailableError | asyncpg.DeadlockDetectedError):
                raise
            at_length = "CONCURRENTLY" in (error.statement or "")
            connection.rollback()
            waited += timeout if at_length else attempt + _PAUSE
            if waited >= timeout:
                where = _HOLD_SNAPSHOT if at_length else _HOLD_TABLE
                who = _in_the_way(connection, where, waited=timedelta(seconds=timeout))
                raise DatabaseUnavailableError(
                    f"{name}: no lock of its tables could be had within {timeout:g} s{who}"
                ) from None
        # Others that wait for the table get their turn. Nothing else runs in this loop.
        time.sleep(_PAUSE)


def _in_the_way(connection: Connection, where: str, **parameters: Any) -> str:
    """Say who holds what is waited for, as the end of a sentence."""
    rows = connection.execute(text(_BLOCKERS.format(where)), parameters).all()
    connection.rollback()
    if not rows:
        return "; who was in the way is not seen any more, see also pg_prepared_xacts"
    return "; in the way: " + "; ".join(map(_told, rows))


def _told(row: Any) -> str:
    # Of other users only a member of pg_read_all_stats sees more than the process.
    since: datetime | None = row.xact_start or row.backend_start
    return f"process {row.pid}" + ", ".join(
        [
            f" ({row.application_name or 'no application_name'}, user {row.usename})",
            row.state or "in a state that this role may not see",
            "since " + ("?" if since is None else f"{since:%Y-%m-%d %H:%M:%S%z}"),
        ]
    )


def invalid_indexes(connection: Connection) -> list[str]:
    """Return the indexes of rowlock's tables that PostgreSQL does not read.

    They are what is left where the building of one, CONCURRENTLY, did not come to its end.
    """
    return list(connection.scalars(_INVALID))


def rebuild_invalid(connection: Connection) -> None:
    """Build those indexes anew that rowlock has declared, and drop what REINDEX has left."""
    names = invalid_indexes(connection)
    connection.rollback()
    declared = {index.name for table in metadata.tables.values() for index in table.indexes}
    keys = {f"{name}_pkey" for name in metadata.tables}
    quote = connection.dialect.identifier_preparer.quote
    connection.execution_options(isolation_level="AUTOCOMMIT")
    try:
        for name in names:
            if name in declared | keys:
                connection.exec_driver_sql(f"REINDEX INDEX CONCURRENTLY {quote(name)}")
            elif re.fullmatch(r".+_cc(new|old)\d*", name):
                connection.exec_driver_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {quote(name)}")
    finally:
        connection.rollback()
        connection.execution_options(isolation_level="READ COMMITTED")
