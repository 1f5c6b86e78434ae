"""What PostgreSQL does differently: clock, arrays, SKIP LOCKED, COPY, NOTIFY."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import asyncpg
from sqlalchemy import (
    Column,
    ColumnElement,
    Executable,
    FromClause,
    Select,
    Table,
    Text,
    any_,
    bindparam,
    event,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_connection
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.types import TypeEngine

from rowlock._ids import id_instant
from rowlock._lanes import CHOSEN, NEXT_DUE, Lanes
from rowlock._operations import NewRow, Operation, T, no_schema
from rowlock._plans import Plans
from rowlock._statements import Dialect, Statement, Statements, TaskRow
from rowlock._store import Store
from rowlock._tables import TimeType, task
from rowlock.errors import DatabaseUnavailableError, RowlockError

CONNECT_TIMEOUT = 10.0
COMMAND_TIMEOUT = 30.0
HEALTH_CHECK = 10.0
_WARM = 5
HEALTH_TIMEOUT = 4.0
# Seconds, at most, before a statement is repeated that met a deadlock or a conflict.
_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
CHANNEL = "rowlock_task"
CANCEL_CHANNEL = "rowlock_cancel"
SCHEDULE_CHANNEL = "rowlock_schedule"
_FETCH = "rowlock"

# A claim skips locked rows, which a stricter isolation would refuse as a conflict.
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"

# A process that is stopped in the midst of it must not hold its locks for ever.
_BEGIN_TOGETHER = f"{_BEGIN}; SET LOCAL idle_in_transaction_session_timeout = '10s'"

# Pages are read in the order of an index. A planner with old statistics may believe that few
# rows match and sort them all; these make it take the one index that has the order.
_BEGIN_SORTED = (
    f"{_BEGIN}; SET LOCAL enable_sort = off; SET LOCAL enable_incremental_sort = off; "
    "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL jit = off"
)


class PostgresDialect(Dialect):
    """PostgreSQL's way to say it."""

    now = func.coalesce(bindparam("now", type_=TimeType), func.statement_timestamp())

    def __init__(self) -> None:
        self._dialect = asyncpg_dialect()  # type: ignore[no-untyped-call]

    def insert(self, table: Table) -> Any:
        return insert(table)

    def telling(self, insert: Any) -> Executable:
        told = func.pg_notify(literal_column(f"'{CHANNEL}'"), task.c.type)
        return cast(Executable, insert.returning(told))

    def after(self, instant: ColumnElement[Any], ms: ColumnElement[Any]) -> ColumnElement[Any]:
        return instant + ms * literal_column("INTERVAL '1 millisecond'")

    def batch(self, columns: Mapping[str, TypeEngine[Any]]) -> FromClause:
        # From a subquery the planner does not know how long they are, and expects few rows: what
        # it then looks up by key it would else find by a scan of the table.
        arrays = [
            select(sql_cast(bindparam(f"all_{name}", type_=Text), ARRAY(kind))).scalar_subquery()
            for name, kind in columns.items()
        ]
        rows = func.unnest(*arrays).table_valued(
            *(Column(name, kind) for name, kind in columns.items()), name="batch"
        )
        return rows.render_derived()

    def one_of(self, column: ColumnElement[Any], ids: Select[Any]) -> ColumnElement[bool]:
        return column == any_(func.array(ids.scalar_subquery()))

    def compile(self, core: Executable) -> Statement:
        compiled = core.compile(dialect=self._dialect)  # type: ignore[attr-defined]
        return Statement(str(compiled), compiled.positiontup or (), {}, core)


_dialect = PostgresDialect()
_claim, _claim_to_run = (
    _dialect.compile(Statements(_dialect).claim(text(CHOSEN), rows=rows)) for rows in (True, False)
)
_next_due = _dialect.compile(text(NEXT_DUE))
_NOTIFY = (
    "SELECT pg_notify(:channel, hint){} FROM unnest(CAST(CAST(:hints AS text) AS text[])) AS hint"
)
_notify_on = text(_NOTIFY.format(""))
# A hint may be lost, so its transaction does not wait for the disk.
_notify = _dialect.compile(text(_NOTIFY.format(", set_config('synchronous_commit', 'off', true)")))
_COPY_COLUMNS = (
    "id", "type", "status", "priority", "run_at", "attempt", "thread_id", "lost_workers",
    "retries_remaining", "retry_interval", "retain_for", "date_created", "date_modified", "key",
    "payload",
)  # fmt: skip


def connect_arguments() -> dict[str, Any]:
    """Return the arguments of an engine that rowlock makes itself."""
    return {
        "pool_size": 5,
        "max_overflow": 5,
        "pool_timeout": CONNECT_TIMEOUT,
        "connect_args": {
            "timeout": CONNECT_TIMEOUT,
            "command_timeout": COMMAND_TIMEOUT,
            "server_settings": {
                # The estimated cost of a claim grows with the types; compiling it takes far longer.
                "jit": "off",
                # Each statement has an index. A plan that is made while the table is almost empty
                # would sort or scan instead, and is kept when it has grown.
                "enable_sort": "off",
                "enable_seqscan": "off",
                # What the arrays hold is hidden from the planner: there is no better plan for a
                # certain batch, and five would be made to find out, on each connection.
                "plan_cache_mode": "force_generic_plan",
            },
        },
    }


class PostgresStore(Store):
    """The operations on PostgreSQL."""

    sql = Statements(_dialect)
    _listener: PostgresStore | None = None
    _listening: AsyncConnection | None = None

    def __init__(self, engine: AsyncEngine, **settings: Any) -> None:
        super().__init__(engine, **settings)
        # Taken from the pool and kept: to check one out and in costs as much Python as a
        # statement. Nobody else wants them, where the engine is rowlock's own.
        self._keeps = self._owns_engine
        if self._owns_engine:
            event.listen(engine.sync_engine, "close", _hang_up)
        self._warm: list[tuple[AsyncConnection, _Fetch]] = []
        self._lanes = Lanes()

    async def open(self) -> None:
        await self.read(self._verify())

    async def close(self) -> None:
        await self.unwatch()
        self._keeps = False
        while self._warm:
            connection, _ = self._warm.pop()
            await connection.close()
        await super().close()

    async def watch(
        self,
        wake: Callable[[str | None], None],
        asked: Callable[[str | None], None],
        rescheduled: Callable[[], None],
        look: Callable[[], None],
    ) -> float:
        """Keep one connection listening; a hint names a type, or the holder of a task."""
        if self._listening is not None and not await self._is_alive(self._listening):
            await self._stop_listening()
        if self._listening is None:
            if self._listener is None:
                self._listener = self.sibling()
            with _translated():
                connection = await _connect(self._listener._engine)
                try:
                    driver = await _driver_of(connection)
                    async with asyncio.timeout(HEALTH_TIMEOUT):
                        await driver.add_listener(CHANNEL, lambda *args: wake(args[3]))
                        await driver.add_listener(CANCEL_CHANNEL, lambda *args: asked(args[3]))
                        await driver.add_listener(SCHEDULE_CHANNEL, lambda *args: rescheduled())
                except BaseException:
                    await _discard(connection)
                    raise
            self._listening = connection
            # What was done while nobody listened gave no hint.
            wake(None)
            asked(None)
            rescheduled()
        return HEALTH_CHECK

    async def unwatch(self) -> None:
        await self._stop_listening()
        if self._listener is not None:
            await self._listener.close()
            self._listener = None

    async def _is_alive(self, connection: AsyncConnection) -> bool:
        driver = await _driver_of(connection)
        try:
            read_only = await driver.fetchval("SHOW transaction_read_only", timeout=HEALTH_TIMEOUT)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        # Nobody commits anything on a primary that was demoted.
        return bool(read_only == "off")

    async def _stop_listening(self) -> None:
        connection, self._listening = self._listening, None
        if connection is not None:
            await _discard(connection)

    async def hint(self, types: Iterable[str]) -> None:
        await self._send(CHANNEL, types)

    async def hint_cancel(self, holder: str) -> None:
        await self._send(CANCEL_CHANNEL, [holder])

    async def hint_schedules(self) -> None:
        await self._send(SCHEDULE_CHANNEL, [""])

    async def _send(self, channel: str, hints: Iterable[str]) -> None:
        async with self._session() as fetch:
            await fetch(_notify, {"channel": channel, "hints": list(hints)})

    async def hint_on(self, connection: AsyncConnection, types: Iterable[str]) -> None:
        await connection.execute(_notify_on, {"channel": CHANNEL, "hints": _array(types)})

    async def insert(self, row: NewRow, now: datetime | None = None, *, tell: bool = False) -> str:
        try:
            return await super().insert(row, now, tell=tell)
        except asyncpg.ProgramLimitExceededError:
            if not tell:
                raise
            # The server has no room for notifications: the task matters more than its hint.
            return await super().insert(row, now)

    async def insert_many(self, rows: Sequence[NewRow], now: datetime | None = None) -> list[str]:
        if all(row.key is None for row in rows):
            await self.insert_new(rows, _nothing(), now)
            return [row.id for row in rows]
        async with self._session(_BEGIN) as fetch:
            return await _drive(self._insert_each(rows, now), fetch)

    async def insert_new(
        self,
        rows: Sequence[NewRow],
        more: AsyncIterator[Sequence[NewRow]],
        now: datetime | None = None,
    ) -> None:
        async with self._session(_BEGIN) as fetch:
            ((instant,),) = await fetch(self.sql.clock, {"now": now})

            async def records() -> AsyncIterator[tuple[Any, ...]]:
                for row in rows:
                    yield _record(row, instant)
                async for part in more:
                    for row in part:
                        yield _record(row, instant)

            await fetch.driver.copy_records_to_table(
                task.name, records=records(), columns=_COPY_COLUMNS, timeout=COMMAND_TIMEOUT
            )

    async def claim(
        self,
        holder: str,
        rooms: Mapping[str, int],
        lease: int,
        now: datetime | None = None,
        *,
        rows: bool = True,
    ) -> list[TaskRow]:
        look = self._lanes.look(rooms)
        parameters = {
            **look,
            "rooms": list(rooms.values()),
            "holder": holder,
            "lease": lease,
            "now": now,
        }
        async with self._session() as fetch:
            claimed = self._rows(await fetch(_claim if rows else _claim_to_run, parameters))
            self._lanes.claimed(rooms, look, claimed, fetch.seconds)
        return sorted(claimed, key=lambda row: (-row.priority, self.from_time(row.run_at), row.id))

    async def next_due(self, types: Iterable[str], now: datetime | None = None) -> float | None:
        owed = self._lanes.owed()
        if owed == 0:
            return 0.0
        parameters = {**self._lanes.look(types), "now": now}
        async with self._session() as fetch:
            ((seconds,),) = await fetch(_next_due, parameters)
        waits = [max(0.0, wait) for wait in (seconds, owed) if wait is not None]
        return min(waits, default=None)

    async def _write(self, operation: Operation[T]) -> T:
        # Each statement commits by itself: what an operation writes is one row, or rows that
        # are fenced one by one. A transaction that spans an `await` would keep its locks for
        # as long as a handler blocks the loop, and the lease thread would wait for them.
        async with self._session() as fetch:
            return await _drive(operation, fetch)

    async def together(self, operation: Operation[T]) -> T:
        async with self._session(_BEGIN_TOGETHER) as fetch:
            return await _drive(operation, fetch)

    async def read(self, operation: Operation[T]) -> T:
        return await self._write(operation)

    async def _read_sorted(self, operation: Operation[T]) -> T:
        async with self._session(_BEGIN_SORTED) as fetch:
            return await _drive(operation, fetch)

    @asynccontextmanager
    async def _session(self, begin: str | None = None) -> AsyncIterator[_Fetch]:
        with _translated():
            connection, fetch = await self._take()
            try:
                if begin is None and not fetch.keeps_statements:
                    # Unnamed statements are prepared and executed in two steps, which a pooler
                    # sends to one server only inside a transaction.
                    begin = _BEGIN
                if begin is not None:
                    await fetch.driver.execute(begin, timeout=COMMAND_TIMEOUT)
                yield fetch
                if begin is not None:
                    await fetch.driver.execute("COMMIT", timeout=COMMAND_TIMEOUT)
            except BaseException:
                # Whatever state it is in, nobody else gets it: not a connection with an open
                # transaction, nor one that still waits for an answer.
                await _discard(connection)
                raise
            if self._keeps and len(self._warm) < _WARM:
                self._warm.append((connection, fetch))
            else:
                await connection.close()

    async def _take(self) -> tuple[AsyncConnection, _Fetch]:
        while self._warm:
            connection, fetch = self._warm.pop()
            if not fetch.driver.is_closed():
                return connection, fetch
            await _discard(connection)
        connection = await _connect(self._engine)
        try:
            # Here it lives as long as the driver's connection, which the engine may lend to others.
            known = connection.info.get(_FETCH)
            if known is None:
                known = connection.info[_FETCH] = _Fetch(await _driver_of(connection))
            return connection, known
        except BaseException:
            await connection.close()
            raise

    def instant(self, now: datetime | None) -> datetime | None:
        return now

    def to_time(self, value: datetime) -> datetime:
        return value

    def from_time(self, value: Any) -> datetime:
        assert isinstance(value, datetime)  # noqa: S101
        # The first and the last instant are stored as infinities, and come back naive.
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)

    def _rows(self, rows: Sequence[Any]) -> list[TaskRow]:
        return [TaskRow(row[0].hex, *row[1:]) for row in map(tuple, rows)]

    def to_id(self, value: Any) -> str:
        return value if isinstance(value, str) else str(value.hex)

    def batch(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {f"all_{name}": [row[name] for row in rows] for name in rows[0]}


_INFINITIES = {
    instant.replace(tzinfo=zone): name
    for instant, name in ((datetime.min, "-infinity"), (datetime.max, "infinity"))
    for zone in (UTC, None)  # without: as they came from the driver
}


class _Fetch:
    """Sends statements to a driver connection.

    Attributes:
        driver: the connection.
        keeps_statements: whether it keeps what was prepared, and the server its plan.
        seconds: how long the last statement took.
    """

    def __init__(self, driver: asyncpg.Connection) -> None:
        self.driver = driver
        self.keeps_statements = bool(driver._config.statement_cache_size)  # type: ignore[attr-defined]
        self.seconds = 0.0
        self._plans = Plans()

    async def __call__(self, statement: Statement, parameters: Mapping[str, Any]) -> list[Any]:
        batch = max((len(v) for v in parameters.values() if isinstance(v, list)), default=0)
        # Before a statement: should it fail, no answer is lost.
        if self.keeps_statements and self._plans.are_stale(batch):
            await self.driver.execute("DISCARD PLANS", timeout=COMMAND_TIMEOUT)
            self._plans.discarded()
        rows = await self._repeat(statement, in_order(statement, parameters))
        self._plans.executed(self.seconds, max(batch, len(rows)))
        return rows

    async def _repeat(self, statement: Statement, arguments: Sequence[Any]) -> list[Any]:
        for pause in _PAUSES:
            try:
                return await self._send(statement, arguments)
            except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
                # A statement that commits by itself is rolled back whole; it may be repeated.
                if self.driver.is_in_transaction():
                    raise
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311
        return await self._send(statement, arguments)

    async def _send(self, statement: Statement, arguments: Sequence[Any]) -> list[Any]:
        began = time.monotonic()
        rows = await self.driver.fetch(statement.sql, *arguments, timeout=COMMAND_TIMEOUT)
        self.seconds = time.monotonic() - began
        return rows


def in_order(statement: Statement, parameters: Mapping[str, Any]) -> list[Any]:
    """Return the parameters as the driver takes them."""
    return [
        _array(value) if isinstance(value, list) else value
        for value in map(parameters.__getitem__, statement.names)
    ]


def _array(items: Iterable[Any]) -> str:
    # As a text: asyncpg asks the server what an array is, on each connection anew, which takes
    # longer than a claim, and looks at each item whether it is one, too.
    return "{" + ",".join([_item(item) for item in items]) + "}"


def _item(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        given: str = value
        if "\\" in given or '"' in given:
            given = given.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + given + '"'  # an f-string would take the name of a member of an enumeration
    if isinstance(value, datetime):
        # As asyncpg sends a single one.
        return _INFINITIES.get(value) or value.isoformat()
    return str(value)


async def _drive(operation: Operation[T], fetch: _Fetch) -> T:
    try:
        statement, parameters = next(operation)
        while True:
            try:
                rows = await fetch(statement, parameters)
            except asyncpg.UndefinedTableError:
                statement, parameters = operation.throw(no_schema())
            else:
                statement, parameters = operation.send(rows)
    except StopIteration as stop:
        value: T = stop.value
        return value


async def _connect(engine: AsyncEngine) -> AsyncConnection:
    async with asyncio.timeout(CONNECT_TIMEOUT):
        return await engine.connect()


async def _driver_of(connection: AsyncConnection) -> asyncpg.Connection:
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, asyncpg.Connection)  # noqa: S101
    return driver


def _hang_up(connection: AsyncAdapt_asyncpg_connection, record: object) -> None:
    # A polite end would wait for a server that may be gone, for each connection of the pool.
    connection.driver_connection.terminate()


async def _discard(connection: AsyncConnection) -> None:
    # Terminated first: a graceful close would wait for a server that may be gone.
    (await _driver_of(connection)).terminate()
    await connection.invalidate()
    await connection.close()


async def _nothing() -> AsyncIterator[Sequence[NewRow]]:
    return
    yield


def _record(row: NewRow, now: datetime) -> tuple[Any, ...]:
    run_at = now + timedelta(milliseconds=row.delay) if row.run_at is None else row.run_at
    return (
        row.id, row.type, "pending", row.priority, run_at, 0, "0", 0,
        row.retries_remaining, row.retry_interval, row.retain_for, id_instant(row.id), now, None,
        row.payload,
    )  # fmt: skip


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except RowlockError:
        raise
    except asyncpg.UndefinedTableError:
        raise no_schema() from None
    except _UNAVAILABLE as error:
        raise DatabaseUnavailableError(f"PostgreSQL: {_line(error)}") from error
    except DBAPIError as error:
        cause = error.__cause__ or error
        raise DatabaseUnavailableError(f"PostgreSQL: {_line(cause)}") from error


def _line(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0]
    return text or type(error).__name__


_UNAVAILABLE = (
    OSError,
    TimeoutError,
    PoolTimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.PostgresSystemError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
