"""SQLite: one writing connection, whole transactions in its thread."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any, Self

import aiosqlite
from sqlalchemy import URL, Text, bindparam, func, select, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import NullPool, StaticPool

from rowlock._rows import HeldRow, NewRow
from rowlock._store.database import (
    LOCK_TIMEOUT,
    MOST_BYTES_OF_A_CLAIM,
    MOST_OF_A_CLAIM,
    Database,
    Hint,
    HintKind,
    KeyTakenError,
    NoTableError,
    Operation,
    R,
    T,
    no_schema,
    used_up,
)
from rowlock._store.new_rows import parameters
from rowlock._store.sql import claims
from rowlock._store.sqlite.dialect import CODEC, DIALECT
from rowlock._store.sqlite.forks import ForkGuard, refuse_inherited
from rowlock._store.sqlite.wal import USUAL_BYTES, Checkpoints
from rowlock._store.sqlite.watch import Watcher, watcher_of
from rowlock._store.tables import task
from rowlock._store.tasks import task_statements
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

_top_priority = DIALECT.compile(
    text(
        "SELECT priority FROM rowlock_task WHERE status = 'pending' AND type = :type"
        " AND priority < :below ORDER BY priority DESC LIMIT 1"
    )
)
_due = DIALECT.compile(
    text(
        "SELECT id, COALESCE(length(CAST(payload AS BLOB)), 0) FROM rowlock_task"
        " WHERE status = 'pending' AND type = :type AND priority = :priority AND run_at <= :now"
        " AND attempt < 2147483647 ORDER BY run_at, id LIMIT :room"
    )
)
_first_due = DIALECT.compile(
    text(
        "SELECT run_at FROM rowlock_task WHERE status = 'pending' AND type = :type"
        " AND priority = :priority ORDER BY run_at LIMIT 1"
    )
)
_ids = func.json_each(bindparam("ids", type_=Text)).table_valued("value", name="item")
_claims = claims(DIALECT, task.c.id.in_(select(_ids.c.value)))

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


class SqliteDatabase(Database):
    """SQLite, through aiosqlite.

    Writes go through one connection: SQLite takes one writer at a time anyway, and within a
    process a queue is fairer than its locks. Reads have a second one and never wait. Both are
    kept as long as it is open, so that an application's own engine does not lend them, whose pool
    may have no more than one: it says only how to connect.
    """

    dialect = DIALECT
    codec = CODEC
    # Where one process cannot write, because another program has the lock of the file or the
    # disk is full, nobody else can take its tasks.
    keeps_trying = True
    _reader: AsyncConnection | None = None
    _writer: AsyncConnection | None = None
    _writing = 0
    _seen_version: int | None = None
    _file = ""
    _identity: tuple[int, int] | None = None
    _watcher: Watcher | None = None
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
        own = AsyncEngine(Engine(engine.pool.recreate(), engine.dialect, engine.url))
        return type(self)(own, owns_engine=True, url=self.url)

    def for_worker(self) -> Self:
        # There is one writer anyway.
        return self

    async def keep_alive(self) -> None:
        """Do nothing: its connections stay."""

    async def watch(
        self,
        kinds: frozenset[HintKind],
        heard: Callable[[Hint], None],
        look: Callable[[], None],
    ) -> float:
        """Look whether another connection has committed anything, which may be of any kind."""
        if self._watcher is None:
            self._watcher = watcher_of(self._file, look)
        seconds = await self._watcher.spin_seconds()
        if seconds is None:
            return self._watcher.pause()
        version = await self._in_thread(
            self._writer, _next_version, self._seen_version, seconds, lambda: self._writing > 0
        )
        if version != self._seen_version:
            self._seen_version = version
            for kind in kinds:
                heard(Hint(kind))
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

    async def hint(self, hints: Iterable[Hint]) -> None:
        """Do nothing: others see the change of the file."""

    async def hint_on(self, connection: AsyncConnection, hints: Iterable[Hint]) -> None:
        """Do nothing: others see the change of the file."""

    async def transaction(self, operation: Operation[T]) -> T:
        return await self.autocommit(operation)

    async def bulk_insert(
        self,
        rows: Sequence[NewRow],
        more: AsyncIterator[Sequence[NewRow]],
        now: datetime | None = None,
    ) -> None:
        every = [*rows, *[row async for part in more for row in part]]
        await self.autocommit(self._bulk_insert(every, self.codec.instant(now)))

    def _bulk_insert(self, rows: Sequence[NewRow], now: int) -> Operation[None]:
        # In the thread a statement costs no wait. A batch goes as a JSON text, which takes a third
        # longer: 44 and 33 us each.
        insert = task_statements(DIALECT).insert
        to_time = self.codec.to_time
        for row in rows:
            values = parameters(row, to_time)
            values["now"] = now
            yield insert, values

    async def _claim(
        self,
        kind: type[R],
        holder: str,
        rooms: Mapping[str, int],
        lease: int,
        now: datetime | None,
    ) -> list[R]:
        parameters = {"holder": holder, "lease": lease, "now": self.codec.instant(now)}
        claimed = await self.autocommit(self._claim_rows(kind, rooms, parameters))
        rows = [kind(*row) for row in claimed]
        return sorted(rows, key=lambda row: (-row.priority, row.run_at, row.id))

    def _claim_rows(
        self, kind: type[HeldRow], rooms: Mapping[str, int], parameters: Mapping[str, Any]
    ) -> Operation[Sequence[Any]]:
        ids: list[str] = []
        left = MOST_BYTES_OF_A_CLAIM
        for task_type, wanted in rooms.items():
            room = min(wanted, MOST_OF_A_CLAIM - len(ids)) if left > 0 else 0
            priority = yield from self._next_priority(task_type, _ABOVE_EVERY_PRIORITY)
            while room > 0 and priority is not None:
                found = yield (
                    _due,
                    {
                        "type": task_type,
                        "priority": priority,
                        "now": parameters["now"],
                        "room": room,
                    },
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
        return (yield _claims[kind], {"ids": json.dumps(ids), **parameters})

    async def next_due(self, types: Iterable[str], now: datetime | None = None) -> float | None:
        return await self.read(self._next_due(list(types), self.codec.instant(now)))

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
