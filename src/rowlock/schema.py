"""The schema of the database: create it, change it, look at it.

Alembic is imported only here. It runs from code, without a configuration file, and leaves the
process's logging alone.

The functions block, for as long as a minute if another process is upgrading the same database.
They may be called where an event loop runs, but that loop stands still meanwhile: there, await
`asyncio.to_thread(upgrade, database)`.

Several processes may upgrade one database at once: one of them does the work, the others wait for
it and find nothing left to do. On PostgreSQL they meet at a lock of the session, so connect
directly and not through a pooler that shares sessions between clients.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import asyncpg
from alembic import command, context
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Column, Connection, Index, Table, create_engine, event, text
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from rowlock import _indexes  # noqa: F401  the metadata has them then
from rowlock._tables import VERSION_TABLE, metadata
from rowlock._url import async_url, shown
from rowlock.errors import DatabaseUnavailableError, InvalidArgumentError, SchemaError

if TYPE_CHECKING:
    from alembic.runtime.environment import (
        IncludeNameFn,
        NameFilterParentNames,
        NameFilterType,
    )

__all__ = [
    "check",
    "current",
    "downgrade",
    "head",
    "ignore_rowlock",
    "migrations_path",
    "sql",
    "upgrade",
]

T = TypeVar("T")

CONNECT_TIMEOUT = 10.0
LOCK_TIMEOUT = 60.0
_LOCK_POLL = 0.1
_ADVISORY_LOCK = 0x726F776C6F636B  # "rowlock"

_TABLES = frozenset(metadata.tables) | {VERSION_TABLE}

# Alembic's commands speak to env.py through globals of the process.
_one_at_a_time = threading.Lock()


def migrations_path() -> Path:
    """Return the directory of the migrations: in the installed package, or in the checkout."""
    package = Path(__file__).parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parents[1] / "migrations"


def head() -> str:
    """Return the newest revision that this version of rowlock has."""
    return str(_scripts().get_current_head())


def upgrade(database: str | URL, revision: str = "head") -> None:
    """Bring the schema up to a revision; if it is there already, or beyond, do nothing.

    A SQLite file that does not exist is created, in WAL mode; the mode of an existing one is
    left as it is.

    Args:
        database: its URL, as for `TaskQueue`.
        revision: "head" or a revision such as "0001".

    Raises:
        InvalidArgumentError: not such a URL, or not such a revision.
        DatabaseUnavailableError: the database cannot be reached within 10 s, is damaged, is not
            writable, or stayed locked for 60 s. A migration's own statements have no time limit.
        SchemaError: the migration failed, and nothing is changed; or the database is of a newer
            rowlock; or a migration of another Alembic application is running in this process.
    """
    _known(revision)
    _command(database, lambda config: command.upgrade(config, revision))


def downgrade(database: str | URL, revision: str) -> None:
    """Bring the schema down to a revision. What the tables held beyond it is lost.

    Args:
        database: its URL, as for `TaskQueue`.
        revision: a revision such as "0001", or "base" to remove everything but the empty
            version table.

    Raises:
        InvalidArgumentError: not such a URL, or not such a revision.
        DatabaseUnavailableError: as for `upgrade`.
        SchemaError: as for `upgrade`, or the schema is not at that revision or beyond it.
    """
    _known(revision)
    url = async_url(database)
    if _is_missing(url):
        raise SchemaError(f"{shown(url)}: there is no such file")
    _command(url, lambda config: command.downgrade(config, revision))


def current(database: str | URL) -> str | None:
    """Return the revision of a database's schema, None if it has none.

    Args:
        database: its URL, as for `TaskQueue`. A SQLite file that does not exist is not created.

    Raises:
        InvalidArgumentError: not such a URL.
        DatabaseUnavailableError: as for `upgrade`.
    """
    url = async_url(database)
    if _is_missing(url):
        return None
    return _connected(url, lambda connection: _migration(connection).get_current_revision())


def check(database: str | URL) -> list[str]:
    """Compare a database's schema with the one that this version of rowlock declares.

    What Alembic can see is compared: tables, columns with their types and NOT NULL, indexes with
    their columns. Tables that are not rowlock's are not looked at.

    Args:
        database: its URL, as for `TaskQueue`. A SQLite file that does not exist is not created.

    Returns:
        The differences, a line for each; none if the schema is current and equal.

    Raises:
        InvalidArgumentError: not such a URL.
        DatabaseUnavailableError: as for `upgrade`.
    """
    url = async_url(database)
    if _is_missing(url):
        return ["there is no such file"]
    return _connected(url, _differences)


def sql(
    dialect: Literal["postgresql", "sqlite"], revision: str = "head", *, start: str = "base"
) -> str:
    """Return the script that brings a schema from one revision to a later one, if it is later.

    It is for those who must run SQL by other means. It records the revision as `upgrade` does,
    but does not lock anything against upgrades at the same time.

    Args:
        dialect: "postgresql" or "sqlite".
        revision: "head" or a revision such as "0001".
        start: the revision that the database has, see `current`; "base" for none.

    Raises:
        InvalidArgumentError: not such a dialect, or not such a revision.
        SchemaError: a migration of another Alembic application is running in this process.
    """
    if dialect not in ("postgresql", "sqlite"):
        raise InvalidArgumentError(f"dialect: {dialect!r}; allowed are postgresql and sqlite")
    _known(revision)
    _known(start, "start")
    script = StringIO()
    with _alembic(script) as config, _errors(dialect):
        config.attributes["dialect"] = dialect
        command.upgrade(config, f"{start}:{revision}", sql=True)
    return script.getvalue()


def ignore_rowlock(include_name: IncludeNameFn | None = None) -> IncludeNameFn:
    """Keep your own Alembic away from rowlock's tables, where both share a database.

    Without it, `alembic revision --autogenerate` proposes to drop them. In your env.py:

        context.configure(..., include_name=ignore_rowlock())

    Args:
        include_name: your own filter, asked about everything else.

    Returns:
        A filter for the argument `include_name` of `context.configure`.
    """

    def include(name: str | None, kind: NameFilterType, parents: NameFilterParentNames) -> bool:
        if kind == "table" and name in _TABLES:
            return False
        return include_name is None or include_name(name, kind, parents)

    return include


def _only_rowlock(name: str | None, kind: str, parents: object) -> bool:
    return kind != "table" or name in _TABLES


CONFIGURATION: dict[str, Any] = {
    "target_metadata": metadata,
    "version_table": VERSION_TABLE,
    "include_name": _only_rowlock,
    # Alembic assumes that SQLite's driver cannot. Then each revision is a transaction of its own,
    # and between two of them another process begins to upgrade.
    "transactional_ddl": True,
}
"""What migrations/env.py configures; not for users."""


def exclusively(database: str | URL, work: Callable[[Connection], T]) -> T:
    """Call `work` with a connection while no other process upgrades; not for users.

    migrations/env.py needs it for the command `alembic`. Raises what `upgrade` raises.
    """
    return _connected(async_url(database), work, lock=True)


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(migrations_path())


def _known(revision: str, argument: str = "revision") -> None:
    ordinals = sorted(script.revision for script in _scripts().walk_revisions())
    if revision not in ("base", "head", *ordinals):
        raise InvalidArgumentError(
            f"{argument}: {revision!r}; allowed are base, head, {', '.join(ordinals)}"
        )


def _is_missing(url: URL) -> bool:
    # A file: URI is left to SQLite.
    return (
        url.get_backend_name() == "sqlite"
        and not str(url.database).startswith("file:")
        and not Path(str(url.database)).exists()
    )


def _migration(connection: Connection) -> MigrationContext:
    return MigrationContext.configure(connection, opts=CONFIGURATION)


def _differences(connection: Connection) -> list[str]:
    migration = _migration(connection)
    revision = migration.get_current_revision()
    differences = [_describe(difference) for difference in compare_metadata(migration, metadata)]
    if revision != head():
        differences.insert(0, f"the revision is {revision or 'none'}, the newest is {head()}")
    return differences


def _describe(difference: Any) -> str:
    match difference:
        case [tuple() as only]:
            return _describe(only)
        case (kind, (Table() | Index()) as item):
            return f"{kind} {item.name}"
        case (kind, _, table, Column() as column):
            return f"{kind} {table}.{column.name}"
        case (kind, _, table, column, _, found, declared):
            return f"{kind} {table}.{column}: {found} is to be {declared}"
        case _:
            return repr(difference)


@contextmanager
def _alembic(output: StringIO | None = None) -> Iterator[Config]:
    with _one_at_a_time:
        if hasattr(context, "config"):
            raise SchemaError(
                "a migration of another Alembic application is running in this process; "
                "change rowlock's schema before or after it"
            )
        config = Config(output_buffer=output)
        # A ConfigParser reads it, to which a percent sign is special.
        config.set_main_option("script_location", str(migrations_path()).replace("%", "%%"))
        yield config


def _command(database: str | URL, run: Callable[[Config], None]) -> None:
    def work(connection: Connection) -> None:
        config.attributes["connection"] = connection
        run(config)

    with _alembic() as config:
        exclusively(database, work)


def _connected(url: URL, work: Callable[[Connection], T], *, lock: bool = False) -> T:
    with _errors(shown(url)):
        if url.get_backend_name() == "sqlite":
            return _on_sqlite(url, work, lock)
        return _to_completion(_on_postgresql(url, work, lock))


def _on_sqlite(url: URL, work: Callable[[Connection], T], lock: bool) -> T:
    # With isolation_level None the driver begins no transactions of its own; with the plain
    # driver no thread stands between the migration and its connection.
    engine = create_engine(
        url.set(drivername="sqlite"),
        poolclass=NullPool,
        connect_args={"timeout": LOCK_TIMEOUT, "isolation_level": None},
    )
    if lock:
        event.listen(engine, "connect", _choose_wal)
        event.listen(engine, "begin", _begin_immediate)
    with engine.connect() as connection:
        return work(connection)


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _choose_wal(connection: sqlite3.Connection, record: object) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT
    while connection.execute("PRAGMA page_count").fetchone() == (0,):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # This statement does not wait for a lock, whatever the busy timeout is.
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(_LOCK_POLL)
        else:
            return


async def _on_postgresql(url: URL, work: Callable[[Connection], T], lock: bool) -> T:
    engine = create_async_engine(url, poolclass=NullPool)
    async with asyncio.timeout(CONNECT_TIMEOUT):
        connection = await engine.connect()
    try:
        if lock:
            await _lock(connection, shown(url))
        return await connection.run_sync(work)
    finally:
        # Without a pool this ends the session, and with it the lock.
        await connection.close()


async def _lock(connection: AsyncConnection, name: str) -> None:
    await connection.execute(
        text("SELECT set_config('lock_timeout', :milliseconds, false)"),
        {"milliseconds": str(int(LOCK_TIMEOUT * 1000))},
    )
    # Polled, each time in a transaction of its own: CREATE INDEX CONCURRENTLY waits for every
    # open transaction, also for one that waits for this lock.
    attempt = text("SELECT pg_try_advisory_lock(:key)")
    try:
        async with asyncio.timeout(LOCK_TIMEOUT):
            while not await connection.scalar(attempt, {"key": _ADVISORY_LOCK}):
                await connection.commit()
                await asyncio.sleep(_LOCK_POLL)
            await connection.commit()
    except TimeoutError:
        raise DatabaseUnavailableError(
            f"{name}: another process has been upgrading it for {LOCK_TIMEOUT:g} s"
        ) from None


def _to_completion(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


@contextmanager
def _errors(name: str) -> Iterator[None]:
    try:
        yield
    except CommandError as error:
        raise SchemaError(f"{name}: {_line(error)}") from error
    except DBAPIError as error:
        origin = error.orig
        if isinstance(error, ProgrammingError | IntegrityError) or (
            isinstance(origin, sqlite3.Error)
            and getattr(origin, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
        ):
            raise SchemaError(f"{name}: {_line(origin)}") from error
        raise DatabaseUnavailableError(f"{name}: {_line(origin)}") from error
    except TimeoutError as error:
        raise DatabaseUnavailableError(f"{name}: no answer within {CONNECT_TIMEOUT:g} s") from error
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseUnavailableError(f"{name}: {_line(error)}") from error


def _line(error: BaseException | None) -> str:
    # SQLAlchemy's own form of an asyncpg error begins with the name of a class.
    if error and isinstance(error.__cause__, asyncpg.PostgresError):
        error = error.__cause__
    return (str(error).splitlines() or [type(error).__name__])[0]
