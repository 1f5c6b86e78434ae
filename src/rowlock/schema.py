"""The schema of the database: create it, change it, look at it.

Alembic is imported only here. It runs from code, without a configuration file, and leaves the
process's logging alone.

The functions block, for as long as a minute if another process is upgrading the same database.
They may be called where an event loop runs, but that loop stands still meanwhile: there, await
`asyncio.to_thread(upgrade, database)`.

Several processes may upgrade one database at once: one of them does the work, the others wait for
it and find nothing left to do. On PostgreSQL they meet at a lock of the session, so a pooler that
shares sessions between clients is refused: connect directly.

Where a function takes a database, that is its URL, as for `TaskQueue`, or an `AsyncEngine`, whose
way to connect is used, but none of its connections.
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
from sqlalchemy import URL, Column, Connection, Index, Table, create_engine, event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from rowlock._store import indexes as indexes  # the metadata has them then
from rowlock._store.libpq_url import connect_timeout
from rowlock._store.open import checked_engine
from rowlock._store.postgres import schema as _postgres_schema
from rowlock._store.postgres.errors import UNAVAILABLE
from rowlock._store.tables import VERSION_TABLE, metadata
from rowlock._store.url import async_url, connecting, shown
from rowlock.errors import (
    DatabaseError,
    DatabaseUnavailableError,
    InvalidArgumentError,
    SchemaError,
)

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
    "is_newer",
    "migrations_path",
    "sql",
    "upgrade",
]

T = TypeVar("T")
Database = str | URL | AsyncEngine

CONNECT_TIMEOUT = 10.0
LOCK_TIMEOUT = 60.0
_LOCK_POLL = 0.1

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


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema up to a revision; if it is there already, or beyond, do nothing.

    So also where a newer rowlock has brought it further: this one works with that. On PostgreSQL
    an index whose building was interrupted is built anew.

    A SQLite file that does not exist is created, in WAL mode; the mode of an existing one is
    left as it is.

    Args:
        database: its URL or engine.
        revision: "head" or a revision such as "0001".

    Raises:
        InvalidArgumentError: not such a URL, or not such a revision.
        DatabaseUnavailableError: the database cannot be reached within 10 s (`connect_timeout`
            of the URL), is damaged, is not writable, or stayed locked for 60 s; on PostgreSQL
            the message names who was in the way. A migration's own statements have no time limit.
        DatabaseError: a right is missing, or the database is not encoded as UTF8.
        SchemaError: the migration failed, and nothing is changed; or a pooler stands between; or
            a migration of another Alembic application is running in this process.
    """
    _known(revision)
    name = shown(_url_of(database))

    def run(config: Config, connection: Connection) -> None:
        on_postgresql = connection.dialect.name == "postgresql"
        if on_postgresql:
            _postgres_schema.need_utf8(connection, name)
        found = _migration(connection).get_current_revision()
        connection.rollback()
        if is_newer(found):
            return
        command.upgrade(config, revision)
        if on_postgresql and revision == "head":
            _postgres_schema.rebuild_invalid(connection)

    _command(database, run)


def downgrade(database: Database, revision: str) -> None:
    """Bring the schema down to a revision. What the tables held beyond it is lost.

    Args:
        database: its URL or engine.
        revision: a revision such as "0001", or "base" to remove everything but the empty
            version table.

    Raises:
        InvalidArgumentError: not such a URL, or not such a revision.
        DatabaseUnavailableError: as for `upgrade`.
        DatabaseError: as for `upgrade`.
        SchemaError: as for `upgrade`, or the schema is not at that revision or beyond it, or is
            of a newer rowlock.
    """
    _known(revision)
    url = _url_of(database)
    if _is_missing(url):
        raise SchemaError(f"{shown(url)}: there is no such file")

    def run(config: Config, connection: Connection) -> None:
        found = _migration(connection).get_current_revision()
        connection.rollback()
        if is_newer(found):
            raise SchemaError(
                f"{shown(url)}: the schema is at revision {found}, of a newer rowlock than this "
                f"one ({head()}): only that one can bring it down"
            )
        command.downgrade(config, revision)

    _command(database, run)


def current(database: Database) -> str | None:
    """Return the revision of a database's schema, None if it has none.

    Args:
        database: its URL or engine. A SQLite file that does not exist is not created.

    Raises:
        InvalidArgumentError: not such a URL.
        DatabaseUnavailableError: as for `upgrade`.
    """
    if _is_missing(_url_of(database)):
        return None
    return _connected(database, lambda connection: _migration(connection).get_current_revision())


def is_newer(revision: str | None) -> bool:
    """Return whether a revision is one of a newer rowlock, which this one does not have."""
    return revision is not None and revision.isdecimal() and int(revision) > int(head())


def check(database: Database) -> list[str]:
    """Compare a database's schema with the one that this version of rowlock declares.

    What Alembic can see is compared: tables, columns with their types and NOT NULL, indexes with
    their columns. Tables that are not rowlock's are not looked at.

    Args:
        database: its URL or engine. A SQLite file that does not exist is not created.

    Returns:
        The differences, a line for each; none if the schema is current and equal.

    Raises:
        InvalidArgumentError: not such a URL.
        DatabaseUnavailableError: as for `upgrade`.
    """
    if _is_missing(_url_of(database)):
        return ["there is no such file"]
    return _connected(database, _differences)


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


def exclusively(database: Database, work: Callable[[Connection], T]) -> T:
    """Call `work` with a connection while no other process upgrades; not for users.

    It is called again where a lock was in its way. migrations/env.py needs it for the command
    `alembic`. Raises what `upgrade` raises.
    """
    return _connected(database, work, lock=True)


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
    if connection.dialect.name == "postgresql":
        invalid = _postgres_schema.invalid_indexes(connection)
        differences.extend(f"index {name} is not valid: upgrade builds it anew" for name in invalid)
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


def _command(database: Database, run: Callable[[Config, Connection], None]) -> None:
    def work(connection: Connection) -> None:
        config.attributes["connection"] = connection
        run(config, connection)

    with _alembic() as config:
        exclusively(database, work)


def _url_of(database: Database) -> URL:
    if not isinstance(database, AsyncEngine):
        return async_url(database)
    url = checked_engine(database).url
    # How an engine of PostgreSQL connects is its own affair.
    return async_url(url) if url.get_backend_name() == "sqlite" else url


def _connected(database: Database, work: Callable[[Connection], T], *, lock: bool = False) -> T:
    url = _url_of(database)
    timeout = CONNECT_TIMEOUT
    if url.get_backend_name() == "postgresql":
        timeout = connect_timeout(url) or CONNECT_TIMEOUT
    with _errors(shown(url), timeout):
        if url.get_backend_name() == "sqlite":
            return _on_sqlite(url, work, lock)
        return _to_completion(_on_postgresql(database, url, work, lock, timeout))


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


async def _on_postgresql(
    database: Database, url: URL, work: Callable[[Connection], T], lock: bool, timeout: float
) -> T:
    engine = _engine_of(database, url)
    try:
        async with asyncio.timeout(timeout):
            connection = await engine.connect()
        try:
            if lock:
                return await _postgres_schema.exclusively(
                    engine, connection, work, name=shown(url), timeout=LOCK_TIMEOUT
                )
            return await connection.run_sync(work)
        finally:
            await connection.close()
    finally:
        # The pool of an engine would keep the session, and with it the lock.
        await engine.dispose()


def _engine_of(database: Database, url: URL) -> AsyncEngine:
    if isinstance(database, AsyncEngine):
        engine = database.sync_engine
        return AsyncEngine(Engine(engine.pool.recreate(), engine.dialect, engine.url))
    bare, arguments = connecting(url)
    # Unnamed statements, as a pooler needs them to look at a schema.
    unnamed = {
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": str,
    }
    return create_async_engine(bare, poolclass=NullPool, connect_args={**arguments, **unnamed})


def _to_completion(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


@contextmanager
def _errors(name: str, timeout: float = CONNECT_TIMEOUT) -> Iterator[None]:
    try:
        yield
    except CommandError as error:
        raise SchemaError(f"{name}: {_line(error)}") from error
    except (DBAPIError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        origin = _origin(error)
        text = f"{name}: {_line(origin)}"
        if isinstance(error, TimeoutError):
            text = f"{name}: no answer within {timeout:g} s"
        elif isinstance(origin, asyncpg.InsufficientPrivilegeError):
            raise DatabaseError(f"{text}; who changes the schema must own it") from error
        elif _is_of_schema(origin):
            raise SchemaError(text) from error
        raise DatabaseUnavailableError(text) from error


def _is_of_schema(error: BaseException) -> bool:
    """Whether an error says that the schema is not as a migration expects it."""
    if isinstance(error, asyncpg.PostgresError):
        return not isinstance(error, UNAVAILABLE)
    if isinstance(error, sqlite3.IntegrityError):
        return True
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR


def _origin(error: BaseException) -> BaseException:
    """The driver's error within SQLAlchemy's two."""
    origin = error.orig if isinstance(error, DBAPIError) else None
    if origin is None:
        return error
    return origin.__cause__ if isinstance(origin.__cause__, asyncpg.PostgresError) else origin


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
