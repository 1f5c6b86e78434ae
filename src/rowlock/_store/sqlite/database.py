"""SQLite: one writing connection, whole transactions in its thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Self

import aiosqlite
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import NullPool, StaticPool

from rowlock._rows import NewRow
from rowlock._store.database import LOCK_TIMEOUT, Database, Hint, HintKind, Operation, R, T
from rowlock._store.new_rows import parameters
from rowlock._store.sqlite.claim import claim_rows, next_due
from rowlock._store.sqlite.dialect import CODEC, DIALECT
from rowlock._store.sqlite.driver import (
    FILES,
    file_id,
    file_id_of,
    list_files,
    next_version,
    open_driver,
    path_of,
    run_read,
    run_write,
    set_up,
)
from rowlock._store.sqlite.errors import translated, translated_of_caller
from rowlock._store.sqlite.forks import ForkGuard, refuse_inherited
from rowlock._store.sqlite.wal import Checkpoints, use_wal
from rowlock._store.sqlite.watch import Watcher, watcher_of
from rowlock._store.tasks import TaskStatements
from rowlock._store.url import upgrade_command
from rowlock.errors import DatabaseUnavailableError, InvalidArgumentError, SchemaError


def connect_arguments() -> dict[str, Any]:
    """Return the arguments of an engine that rowlock makes itself."""
    return {"connect_args": {"async_creator_fn": open_driver}}


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
            identity = await asyncio.to_thread(file_id, file)
            if identity is None:
                # Connecting would create an empty file.
                raise SchemaError(f"there is no database {file}: run {upgrade_command(self.url)}")
            refuse_inherited(file, identity)
        try:
            self._reader = await self._connect()
            self._file = await self._in_thread(self._reader, path_of)
            self._identity = file_id(self._file)
            refuse_inherited(self._file, self._identity)
            self._guards[0].file = self._identity
            self.revision = await self.read(self._verify())
            self._writer = await self._connect()
            self._checkpoints = Checkpoints(self._file)
            await self._in_thread(self._writer, use_wal)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        await self.unwatch()
        # One by one: if this is cancelled, another call closes the rest.
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
            self._writer, next_version, self._seen_version, seconds, lambda: self._writing > 0
        )
        if version != self._seen_version:
            self._seen_version = version
            for kind in kinds:
                heard(Hint(kind))
        return self._watcher.pause()

    def for_caller(self) -> AbstractContextManager[None]:
        return translated_of_caller(self.url)

    async def identity(self, connection: AsyncConnection | None = None) -> Any:
        if connection is None:
            files = await self._in_thread(self._reader, list_files)
        else:
            files = (await connection.exec_driver_sql(FILES)).all()
        return file_id_of(files)

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
        # Within one call into the thread a statement costs no round trip: 33 us a row. Parsing a
        # batch from JSON takes 44.
        insert = TaskStatements.of(DIALECT).insert
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
        claimed = await self.autocommit(claim_rows(kind, rooms, parameters))
        rows = [kind(*row) for row in claimed]
        return sorted(rows, key=lambda row: (-row.priority, row.run_at, row.id))

    async def next_due(self, types: Iterable[str], now: datetime | None = None) -> float | None:
        return await self.read(next_due(list(types), self.codec.instant(now)))

    async def autocommit(self, operation: Operation[T]) -> T:
        abandoned = threading.Event()
        self._writing += 1
        try:
            result: T = await self._in_thread(
                self._writer, run_write, operation, abandoned, self._check, self._checkpoints
            )
        except asyncio.CancelledError:
            abandoned.set()
            raise
        finally:
            self._writing -= 1
        return result

    async def read(self, operation: Operation[T]) -> T:
        result: T = await self._in_thread(self._reader, run_read, operation, self._check)
        return result

    def _check(self) -> None:
        # Writes to a file that was unlinked or replaced succeed, and are lost.
        if file_id(self._file) != self._identity:
            raise DatabaseUnavailableError(
                f"SQLite: {self._file} was removed or replaced while it was open. Close what has "
                "it open, put the right file there without the -wal and -shm of another one, "
                "and open it again"
            )

    async def read_in_index_order(self, operation: Operation[T]) -> T:
        return await self.read(operation)

    async def _connect(self) -> AsyncConnection:
        with translated(self.url):
            connection = await self._engine.connect()
            try:
                await self._in_thread(connection, set_up)
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
        with translated(self.url):
            call = self._guards[connection is self._writer].call
            # aiosqlite has no public call into its thread; SQLAlchemy's dialect uses this too.
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
