"""What SQLite does differently: one writing connection, whole transactions in its thread, JSON."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, Self, cast

import aiosqlite
from sqlalchemy import (
    URL,
    BigInteger,
    ColumnElement,
    Delete,
    Executable,
    FromClause,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import NullPool, StaticPool
from sqlalchemy.types import TypeEngine

from rowlock._store.operations import (
    KeyTakenError,
    NewRow,
    NoTableError,
    Operation,
    T,
    no_schema,
    used_up,
)
from rowlock._store.sqlite.forks import ForkGuard, refuse_inherited
from rowlock._store.sqlite.wal import USUAL_BYTES, Checkpoints
from rowlock._store.sqlite.watch import Watcher, watcher_of
from rowlock._store.statements import (
    MOST_ATTEMPTS,
    MOST_BYTES_OF_A_CLAIM,
    MOST_OF_A_CLAIM,
    Dialect,
    Statement,
    Statements,
    TaskRow,
)
from rowlock._store.store import LOCK_TIMEOUT, Store
from rowlock._store.tables import JsonType, task
from rowlock._store.url import upgrade_command
from rowlock.errors import (
    DatabaseError,
    DatabaseUnavailableError,
    InvalidArgumentError,
    RowlockError,
    SchemaError,
)

BUSY_TIMEOUT_MS = 10_000
_GLIMPSE = 0.0001
_FILES = "PRAGMA database_list"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class SqliteDialect(Dialect):
    """SQLite's way to say it."""

    now = bindparam("now", type_=BigInteger)

    def __init__(self) -> None:
        self._dialect = sqlite.dialect(paramstyle="named")

    def insert(self, table: Table) -> Any:
        return insert(table)

    def notifying(self, insert: Any) -> Executable:
        # Others see the change of the file.
        return cast(Executable, insert)

    def after(self, instant: ColumnElement[Any], ms: ColumnElement[Any]) -> ColumnElement[Any]:
        return instant + ms * literal_column("1000")

    def batch(
        self, columns: Mapping[str, TypeEngine[Any]], *, skip_locked: bool = False
    ) -> FromClause:
        # Nobody locks a row.
        rows = func.json_each(bindparam("batch", type_=Text)).table_valued("value", name="item")
        return select(
            *(
                func.json_extract(rows.c.value, literal_column(f"'$.{name}'")).label(name)
                for name in columns
            )
        ).subquery("batch")

    def same(self, column: ColumnElement[Any], value: ColumnElement[Any]) -> ColumnElement[bool]:
        return column == value

    def delete(self, batch: FromClause, fence: ColumnElement[bool]) -> Delete:
        # A DELETE has no other table: its rows are found by a SELECT of its own.
        held = select(task.c.id).where(fence).correlate(None)
        return delete(task).where(task.c.id.in_(held))

    def appended(self, entry: Mapping[str, ColumnElement[Any]]) -> ColumnElement[Any]:
        attempts = task.c.attempts
        earlier = case(
            (
                and_(
                    func.json_valid(attempts),
                    func.json_type(attempts) == literal_column("'array'"),
                ),
                attempts,
            ),
            else_=literal_column("'[]'"),
        )
        left_out = func.json_array_length(earlier) - literal_column(str(MOST_ATTEMPTS - 1))
        element = func.json_each(earlier).table_valued("key", "value", "type", name="element")
        kept = select(func.json_group_array(func.json(element.c.value))).where(
            element.c.key >= left_out, element.c.type == literal_column("'object'")
        )
        added = func.json_object(
            *chain.from_iterable(
                (
                    literal_column(f"'{name}'"),
                    func.json(value) if isinstance(value.type, JsonType) else value,
                )
                for name, value in entry.items()
            )
        )
        return func.json_insert(kept.scalar_subquery(), literal_column("'$[#]'"), added)

    def one_of(self, column: ColumnElement[Any], ids: Select[Any]) -> ColumnElement[bool]:
        return column.in_(ids)

    def compile(self, core: Executable) -> Statement:
        compiled = core.compile(dialect=self._dialect)  # type: ignore[attr-defined]
        constants = {name: value for name, value in compiled.params.items() if value is not None}
        return Statement(str(compiled), (), constants, core)


_dialect = SqliteDialect()
_top_priority = _dialect.compile(
    text(
        "SELECT priority FROM rowlock_task WHERE status = 'pending' AND type = :type"
        " AND priority < :below ORDER BY priority DESC LIMIT 1"
    )
)
_due = _dialect.compile(
    text(
        "SELECT id, COALESCE(length(CAST(payload AS BLOB)), 0) FROM rowlock_task"
        " WHERE status = 'pending' AND type = :type AND priority = :priority AND run_at <= :now"
        " AND attempt < 2147483647 ORDER BY run_at, id LIMIT :room"
    )
)
_first_due = _dialect.compile(
    text(
        "SELECT run_at FROM rowlock_task WHERE status = 'pending' AND type = :type"
        " AND priority = :priority ORDER BY run_at LIMIT 1"
    )
)
_ids = func.json_each(bindparam("ids", type_=Text)).table_valued("value", name="item")
_claim, _claim_to_run = (
    _dialect.compile(Statements(_dialect).claim(task.c.id.in_(select(_ids.c.value)), rows=rows))
    for rows in (True, False)
)

_ABOVE_EVERY_PRIORITY = 2**31


def connect_arguments() -> dict[str, Any]:
    """Return the arguments of an engine that rowlock makes itself."""
    return {"connect_args": {"async_creator_fn": _open_driver}}


async def _open_driver(*arguments: Any, **options: Any) -> aiosqlite.Connection:
    connection = aiosqlite.connect(*arguments, **options)
    # As SQLAlchemy has it: a queue that was not closed does not keep a program from ending.
    connection._thread.daemon = True
    try:
        return await connection
    except (Exception, asyncio.CancelledError):
        # The thread of what could not be opened still tells its loop that it has ended, and
        # nobody else waits for that: a program would end with the traceback of a closed loop.
        await asyncio.to_thread(connection._thread.join)
        raise


class SqliteStore(Store):
    """The operations on SQLite.

    Writes go through one connection: SQLite takes one writer at a time anyway, and within a
    process a queue is fairer than its locks. Reads have a second one and never wait. Both are
    kept as long as it is open, so that an application's own engine does not lend them, whose pool
    may have no more than one: it says only how to connect.
    """

    sql = Statements(_dialect)
    # Where one process cannot write, because another program has the lock of the file or the
    # disk is full, nobody else can take its tasks.
    keeps_trying = True
    _reader: AsyncConnection | None = None
    _writer: AsyncConnection | None = None
    _writing = 0
    _seen_version: int | None = None
    _file = ""
    _identity: tuple[int, int] | None = None
    _changes: Watcher | None = None
    _checkpoints = Checkpoints("")

    def __init__(self, engine: AsyncEngine, **settings: Any) -> None:
        if not settings["owns_engine"]:
            settings["owns_engine"] = True
            engine = _unpooled(engine)
        super().__init__(engine, **settings)
        # Of the reader and of the writer.
        self._guards = ForkGuard(), ForkGuard()

    async def open(self) -> None:
        file = self._engine.url.database
        if file and not file.startswith("file:"):
            identity = await asyncio.to_thread(_identity, file)
            if identity is None:
                # Connecting would create an empty file.
                raise SchemaError(f"there is no database {file}: run {upgrade_command(self.url)}")
            refuse_inherited(file, identity)
        try:
            self._reader = await self._connect()
            self._file = await self._in_thread(self._reader, _path)
            self._identity = _identity(self._file)
            refuse_inherited(self._file, self._identity)
            self._guards[0].file = self._identity
            self.revision = await self.read(self._verify())
            self._writer = await self._connect()
            self._checkpoints = Checkpoints(self._file)
            await self._in_thread(self._writer, _use_wal)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        await self.unwatch()
        # One by one: it goes on from here if it is cancelled.
        while (connection := self._reader or self._writer) is not None:
            if not connection.closed:
                await connection.invalidate()
                await connection.close()
            if connection is self._reader:
                self._reader = None
            else:
                self._writer = None
        self._guards[0].file = None
        await super().close()

    def sibling(self, lock_timeout: int = LOCK_TIMEOUT) -> Self:
        # Nobody locks a row.
        engine = self._engine.sync_engine
        return self._like(AsyncEngine(Engine(engine.pool.recreate(), engine.dialect, engine.url)))

    def for_worker(self) -> Self:
        # There is one writer anyway.
        return self

    async def keep_alive(self) -> None:
        """Do nothing: its connections stay."""

    async def watch(
        self,
        wake: Callable[[str | None], None],
        cancel_requested: Callable[[str | None], None],
        rescheduled: Callable[[], None],
        look: Callable[[], None],
    ) -> float:
        """Look whether another connection has committed anything."""
        if self._watcher is None:
            self._watcher = watcher_of(self._file, look)
        patience = await self._watcher.spin_seconds()
        if patience is None:
            return self._watcher.pause()
        version = await self._in_thread(
            self._writer, _next_version, self._seen_version, patience, lambda: self._writing > 0
        )
        if version != self._seen_version:
            self._seen_version = version
            wake(None)
            cancel_requested(None)
            rescheduled()
        return self._watcher.pause()

    def for_caller(self) -> AbstractContextManager[None]:
        return _translated_of_caller(self.url)

    async def identity(self, connection: AsyncConnection | None = None) -> Any:
        if connection is None:
            files = await self._in_thread(self._reader, _files)
        else:
            files = (await connection.exec_driver_sql(_FILES)).all()
        return _inode(files)

    async def unwatch(self) -> None:
        self._seen_version = None
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None

    async def hint(self, types: Iterable[str]) -> None:
        """Do nothing: others see the change of the file."""

    async def hint_on(self, connection: AsyncConnection, types: Iterable[str]) -> None:
        """Do nothing: others see the change of the file."""

    async def hint_cancel(self, holder: str) -> None:
        """Do nothing: others see the change of the file."""

    async def hint_schedules(self) -> None:
        """Do nothing: others see the change of the file."""

    async def transaction(self, operation: Operation[T]) -> T:
        return await self.autocommit(operation)

    async def insert_many(self, rows: Sequence[NewRow], now: datetime | None = None) -> list[str]:
        return await self.autocommit(self._insert_in_thread(rows, now))

    def _insert_in_thread(
        self, rows: Sequence[NewRow], now: datetime | None
    ) -> Operation[list[str]]:
        # In the thread a statement costs no wait. A batch goes as a JSON text, which takes a third
        # longer for rows without a key to look for: 44 and 33 us each.
        keyed = []
        for row in rows:
            if row.key is None:
                yield from self._insert(row, now)
            else:
                keyed.append(row)
        ids = yield from self._insert_each(keyed, now)
        of_keyed = dict(zip((row.id for row in keyed), ids, strict=True))
        return [of_keyed.get(row.id, row.id) for row in rows]

    async def claim(
        self,
        holder: str,
        rooms: Mapping[str, int],
        lease: int,
        now: datetime | None = None,
        *,
        rows: bool = True,
    ) -> list[TaskRow]:
        return await self.autocommit(
            self._claim(holder, rooms, lease, self.instant(now), rows=rows)
        )

    def _claim(
        self, holder: str, rooms: Mapping[str, int], lease: int, now: int, *, rows: bool = True
    ) -> Operation[list[TaskRow]]:
        ids: list[str] = []
        left = MOST_BYTES_OF_A_CLAIM
        for task_type, wanted in rooms.items():
            room = min(wanted, MOST_OF_A_CLAIM - len(ids)) if left > 0 else 0
            priority = yield from self._next_priority(task_type, _ABOVE_EVERY_PRIORITY)
            while room > 0 and priority is not None:
                found = yield (
                    _due,
                    {"type": task_type, "priority": priority, "now": now, "room": room},
                )
                for task_id, size in found:
                    # SQLite stores anything in any column, and an id of rowlock's is text.
                    if left > 0 and isinstance(task_id, str):
                        ids.append(task_id)
                        left -= size
                room = room - len(found) if left > 0 else 0
                if room > 0:
                    priority = yield from self._next_priority(task_type, priority)
        if not ids:
            return []
        claimed = yield (
            _claim if rows else _claim_to_run,
            {"ids": json.dumps(ids), "holder": holder, "lease": lease, "now": now},
        )
        return sorted(self._rows(claimed), key=lambda row: (-row.priority, row.run_at, row.id))

    async def next_due(self, types: Iterable[str], now: datetime | None = None) -> float | None:
        return await self.read(self._next_due(list(types), self.instant(now)))

    def _next_due(self, types: Sequence[str], now: int) -> Operation[float | None]:
        first: int | None = None
        for task_type in types:
            priority = yield from self._next_priority(task_type, _ABOVE_EVERY_PRIORITY)
            while priority is not None:
                rows = yield _first_due, {"type": task_type, "priority": priority}
                instant = rows[0][0] if rows else None
                if isinstance(instant, int) and (first is None or instant < first):
                    first = instant
                priority = yield from self._next_priority(task_type, priority)
        return None if first is None else max(0, first - now) / 1e6

    def _next_priority(self, task_type: str, below: int) -> Operation[int | None]:
        # One by one from the index: a join would let the planner, once it has statistics,
        # read the whole backlog into a filter of its own.
        rows = yield _top_priority, {"type": task_type, "below": below}
        return rows[0][0] if rows else None

    async def autocommit(self, operation: Operation[T]) -> T:
        abandoned = threading.Event()
        self._writing += 1
        try:
            result: T = await self._in_thread(
                self._writer, _run_write, operation, abandoned, self._check, self._checkpoints
            )
        except asyncio.CancelledError:
            abandoned.set()
            raise
        finally:
            self._writing -= 1
        return result

    async def read(self, operation: Operation[T]) -> T:
        result: T = await self._in_thread(self._reader, _run_read, operation, self._check)
        return result

    def _check(self) -> None:
        # What is written to a file that nobody finds any more is lost, and SQLite says nothing.
        if _identity(self._file) != self._identity:
            raise DatabaseUnavailableError(
                f"SQLite: {self._file} was removed or replaced while it was open. Close what has "
                "it open, put the right file there without the -wal and -shm of another one, "
                "and open it again"
            )

    async def read_in_index_order(self, operation: Operation[T]) -> T:
        return await self.read(operation)

    async def _connect(self) -> AsyncConnection:
        with _translated(self.url):
            connection = await self._engine.connect()
            try:
                await self._in_thread(connection, _set_up)
            except BaseException:
                await connection.close()
                raise
        return connection

    async def _in_thread(
        self, connection: AsyncConnection | None, function: Callable[..., Any], *args: Any
    ) -> Any:
        assert connection is not None  # noqa: S101
        driver = (await connection.get_raw_connection()).driver_connection
        assert isinstance(driver, aiosqlite.Connection)  # noqa: S101
        with _translated(self.url):
            call = self._guards[connection is self._writer].call
            # The only door into the connection's thread; SQLAlchemy's dialect goes through it too.
            return await driver._execute(call, function, driver._conn, *args)  # type: ignore[no-untyped-call]

    def instant(self, now: datetime | None) -> int:
        return self.to_time(datetime.now(UTC) if now is None else now)

    def to_time(self, value: datetime) -> int:
        return (value - _EPOCH) // _MICROSECOND

    def from_time(self, value: Any) -> datetime:
        return _EPOCH + timedelta(microseconds=value)

    def from_json_time(self, value: Any) -> datetime:
        return self.from_time(value)

    def core_parameters(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        return parameters

    def _rows(self, rows: Sequence[Any]) -> list[TaskRow]:
        return [TaskRow(*row) for row in rows]

    def to_id(self, value: Any) -> str:
        return str(value)

    def batch(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {"batch": json.dumps(rows)}


def _unpooled(engine: AsyncEngine) -> AsyncEngine:
    pool, sync = engine.pool, engine.sync_engine
    if isinstance(pool, StaticPool):
        raise InvalidArgumentError(
            "database: an engine with a StaticPool was given, whose one connection all share: a "
            "transaction of one would hold what others write; make it with another pool"
        )
    own = NullPool(pool._creator, dialect=sync.dialect, _dispatch=pool.dispatch)
    return AsyncEngine(Engine(own, sync.dialect, sync.url))


def _path(driver: sqlite3.Connection) -> str:
    """Return the path of the file, as SQLite found it: of a URI, or by way of a symbolic link."""
    path: str = next(row[2] for row in driver.execute("PRAGMA database_list") if row[1] == "main")
    if not path:
        raise InvalidArgumentError("database: a SQLite database without a file was given")
    return os.path.realpath(path)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DatabaseUnavailableError(f"SQLite: {error}") from error
    return found.st_dev, found.st_ino


def _files(driver: sqlite3.Connection) -> list[Any]:
    return driver.execute(_FILES).fetchall()


def _inode(files: Sequence[Any]) -> tuple[int, int] | None:
    # Of the first, which is the connection's own, and not attached. Without a name in memory.
    path = files[0][2]
    if not path:
        return None
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _set_up(driver: sqlite3.Connection) -> None:
    driver.isolation_level = None
    driver.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")


def _use_wal(driver: sqlite3.Connection) -> None:
    (mode,) = driver.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise DatabaseUnavailableError(f"SQLite: journal_mode is {mode}, WAL is needed")
    driver.execute("PRAGMA synchronous = FULL")
    # A log that starts anew would else stay as long as it ever was.
    driver.execute(f"PRAGMA journal_size_limit = {USUAL_BYTES}").fetchone()


def _run_write(
    driver: sqlite3.Connection,
    operation: Operation[T],
    abandoned: threading.Event,
    check: Callable[[], None],
    checkpoints: Checkpoints,
) -> T:
    driver.execute("BEGIN IMMEDIATE")
    try:
        result = _run_read(driver, operation, check)
        if abandoned.is_set():
            # It may have waited long for the lock. What nobody waits for any more is not done:
            # a claim would leave its tasks with a worker that has stopped.
            raise asyncio.CancelledError
        driver.execute("COMMIT")
    except BaseException:
        if driver.in_transaction:
            driver.execute("ROLLBACK")
        raise
    checkpoints.after_commit(driver)
    return result


def _run_read(driver: sqlite3.Connection, operation: Operation[T], check: Callable[[], None]) -> T:
    try:
        statement, parameters = next(operation)
        while True:
            try:
                # To the end: a RETURNING that is not read through keeps its lock.
                rows = driver.execute(
                    statement.sql, {**parameters, **statement.constants}
                ).fetchall()
            except sqlite3.OperationalError as error:
                if "Could not decode" in str(error):
                    # Of a row that rowlock has not written. From the next time on, which is
                    # soon where a loop asks, it is shown for the others' sake.
                    driver.text_factory = _legible
                if not is_of_rowlock(error):
                    raise
                statement, parameters = operation.throw(NoTableError())
            except sqlite3.IntegrityError as error:
                # An index of somebody else's has nothing to do with keys.
                if "rowlock_task.key" not in str(error):
                    raise
                statement, parameters = operation.throw(KeyTakenError(str(error)))
            else:
                statement, parameters = operation.send(rows)
    except StopIteration as stop:
        # As late as possible: the COMMIT comes next.
        check()
        value: T = stop.value
        return value


def _legible(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def _next_version(
    driver: sqlite3.Connection, seen: int | None, patience: float, is_wanted: Callable[[], bool]
) -> int:
    # It changes with each commit of another connection. Who waits for this one goes first.
    end = time.monotonic() + patience
    while True:
        (version,) = driver.execute("PRAGMA data_version").fetchone()
        if version != seen or is_wanted() or time.monotonic() >= end:
            return int(version)
        time.sleep(_GLIMPSE)


@contextmanager
def _translated(url: URL) -> Iterator[None]:
    """Raise what comes from the database as an error of rowlock, without a value of any row."""
    try:
        yield
    except RowlockError:
        raise
    except NoTableError:
        raise no_schema(url) from None
    except PoolTimeoutError:
        raise used_up() from None
    except (sqlite3.Error, DBAPIError) as error:
        cause = (error.orig or error) if isinstance(error, DBAPIError) else error
        if is_of_rowlock(cause):
            raise no_schema(url) from None
        told = f"SQLite {url.database}"
        if _is_unavailable(cause):
            raise DatabaseUnavailableError(f"{told}: {cause}") from (
                error if cause is error else None
            )
        raise DatabaseError(f"{told} refused a statement: {_reason(cause)}") from None


@contextmanager
def _translated_of_caller(url: URL) -> Iterator[None]:
    """The same for a connection of the caller's, which may be used wrongly too."""
    try:
        with _translated(url):
            yield
    except InvalidRequestError as error:
        raise InvalidArgumentError(f"connection: {str(error).partition(chr(10))[0]}") from None


def is_of_rowlock(error: BaseException) -> bool:
    """Whether a table of rowlock's is not there, and not one that a trigger wants."""
    text = str(error)
    return isinstance(error, sqlite3.OperationalError) and "no such table: rowlock_" in text


def _is_unavailable(error: BaseException) -> bool:
    # A file that is no database raises the class itself. What has no code comes from Python.
    if isinstance(error, sqlite3.OperationalError):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_ERROR
    return type(error) is sqlite3.DatabaseError


def _reason(error: BaseException) -> str:
    # A trigger may say anything.
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_CONSTRAINT_TRIGGER:
        return "a trigger raised an error, whose text may quote what is stored"
    return f"{type(error).__name__}: {error}"
