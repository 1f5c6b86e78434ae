"""Connections to PostgreSQL: taken for an operation, kept for the next, given up when they idle."""

from __future__ import annotations

import asyncio
import random
import select
import socket
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from math import inf
from typing import Any

import asyncpg
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import NullPool

from rowlock._batch_size import StatementTooSlowError
from rowlock._store.database import used_up
from rowlock._store.postgres.errors import is_used_up
from rowlock._store.sql import Statement
from rowlock.errors import DatabaseUnavailableError, RowlockError

CONNECT_TIMEOUT = 10.0
COMMAND_TIMEOUT = 30.0
# Seconds, at most, before a statement is repeated that met a deadlock or a conflict.
_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_KEY = "rowlock"

# A claim skips locked rows, which a stricter isolation would refuse as a conflict.
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"

# Seconds for which a connection may idle. A NAT or a balancer forgets one without a word, and
# what is sent over it then waits for the timeout of the statement.
_MOST_IDLE = 30.0
# So many dead connections are thrown out of the application's pool before a new one is made.
_MOST_DEAD = 100
# The kernel asks a silent peer after so many seconds, so often again, and gives up what was sent
# and is not acknowledged after so many milliseconds.
_KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}

PLANNER = (
    # The estimated cost of a claim grows with the types; compiling it takes far longer.
    "jit = off",
    # Each statement has an index. A plan that is made while the table is almost empty would sort
    # or scan instead, and is kept when it has grown.
    "enable_sort = off",
    "enable_seqscan = off",
    # What the arrays hold is hidden from the planner: there is no better plan for a certain
    # batch, and five would be made to find out, on each connection.
    "plan_cache_mode = force_generic_plan",
)


class Fetch:
    """Sends statements over one connection.

    Attributes:
        driver: the driver's connection.
        keeps_statements: whether it keeps what was prepared, and the server its plan; not behind
            a pooler, which shares the server's sessions between clients.
        seconds: how long the last statement took, without the way to the server and back.
        idle_since: `time.monotonic()` when it was last given back.
    """

    def __init__(self, connection: AsyncConnection, driver: asyncpg.Connection) -> None:
        self.connection = connection
        self.driver = driver
        self.keeps_statements = bool(driver._config.statement_cache_size)  # type: ignore[attr-defined]
        self._poll = _poll_of(driver)
        self.seconds = 0.0
        self.idle_since = inf
        # For statements that are no transaction by the caller's wish.
        self._begin: str | None = None
        self._round_trip = inf

    async def set_up(self, settings: Iterable[str]) -> None:
        """Have settings apply to all that is sent."""
        if self.keeps_statements:
            await self.execute("; ".join(f"SET {setting}" for setting in settings))
        else:
            local = [f"SET LOCAL {setting}" for setting in settings]
            self._begin = "; ".join([BEGIN, *local])

    async def execute(self, script: str) -> None:
        """Send statements without parameters."""
        began = time.monotonic()
        await self.driver.execute(script, timeout=COMMAND_TIMEOUT)
        self._took(time.monotonic() - began)

    async def begin(self, script: str) -> None:
        """Begin a transaction."""
        local = "" if self._begin is None else self._begin.removeprefix(BEGIN)
        await self.execute(script + local)

    async def __call__(self, statement: Statement, parameters: Mapping[str, Any]) -> list[Any]:
        """Send a statement, which commits by itself unless a transaction was begun."""
        arguments = in_order(statement, parameters)
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
        # Unnamed statements are prepared and executed in two steps, which a pooler sends to one
        # server only inside a transaction.
        alone = not self.keeps_statements and not self.driver.is_in_transaction()
        if alone:
            await self.execute(self._begin or BEGIN)
        began = time.monotonic()
        try:
            rows = await self.driver.fetch(statement.sql, *arguments, timeout=COMMAND_TIMEOUT)
        except asyncpg.PostgresError as error:
            if alone:
                await self.execute("ROLLBACK")
            if isinstance(error, asyncpg.QueryCanceledError):
                raise StatementTooSlowError(f"PostgreSQL: {error}") from error
            raise
        except TimeoutError as error:
            # Whether it was done is not known, nor what comes over the connection next.
            self.driver.terminate()
            raise StatementTooSlowError(
                f"PostgreSQL: a statement took longer than {COMMAND_TIMEOUT:g} s"
            ) from error
        self._took(time.monotonic() - began)
        if alone:
            await self.execute("COMMIT")
        return rows

    def _took(self, seconds: float) -> None:
        # The quickest one took little more than the way.
        self._round_trip = min(self._round_trip, seconds)
        self.seconds = seconds - self._round_trip

    def is_alive(self) -> bool:
        """Whether, as far as can be told without sending anything, the server is at the other end.

        A loop that was busy has not heard yet of an end that the kernel knows of.
        """
        return not self.driver.is_closed() and (self._poll is None or not self._poll.poll(0))


def _poll_of(driver: asyncpg.Connection) -> select.poll | None:
    peer = driver._transport.get_extra_info("socket")  # type: ignore[attr-defined]
    if peer is None or not hasattr(select, "poll"):
        return None
    poll = select.poll()
    # POLLRDHUP is Linux's: the peer has ended its half. POLLHUP needs no asking.
    poll.register(peer.fileno(), getattr(select, "POLLRDHUP", 0))
    return poll


class Connections:
    """The connections of a store.

    Those of an engine of rowlock's own are kept when they are given back: to check one out of a
    pool and in costs as much Python as a statement. Those of the application's engine go back to
    its pool.

    Args:
        engine: where they come from.
        owned: whether it is rowlock's own, whose pool keeps none.
        most: how many there are at most, where it is rowlock's own.
        fewest: so many are kept however long they idle.
        settings: of each session, as `name = value`; only of rowlock's own.
        connect_timeout: seconds that connecting may take; by default 10.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        owned: bool,
        most: int = 10,
        fewest: int = 0,
        settings: Sequence[str] = (),
        connect_timeout: float | None = None,
    ) -> None:
        self.engine = engine
        self._connect_timeout = connect_timeout or CONNECT_TIMEOUT
        self.owned = owned
        self._most = most
        self._fewest = fewest
        self._settings = (*PLANNER, *settings)
        self._open = 0
        self._idle: list[Fetch] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._pruning: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Future[None]] = set()
        self._closed = False

    def others(self, *, most: int, fewest: int, settings: Sequence[str] = ()) -> Connections:
        """Return connections to the same server that nobody else can take.

        They may be used in another thread's loop.
        """
        engine = self.engine.sync_engine
        pool = NullPool(
            engine.pool._creator, dialect=engine.dialect, _dispatch=engine.pool.dispatch
        )
        own = AsyncEngine(Engine(pool, engine.dialect, engine.url))
        return Connections(
            own,
            owned=True,
            most=most,
            fewest=fewest,
            settings=settings,
            connect_timeout=self._connect_timeout,
        )

    async def close(self) -> None:
        """Close all that idle, and those that are in use when they are given back."""
        self._closed = True
        if self._pruning is not None:
            self._pruning.cancel()
        while self._idle:
            await self.discard(self._idle.pop())
        if self._closing:
            await asyncio.wait(self._closing)
        if self.owned:
            await self.engine.dispose()

    @asynccontextmanager
    async def session(self, begin: str | None = None) -> AsyncIterator[Fetch]:
        """Lend a connection; with `begin` in a transaction, which is committed at the end."""
        fetch = await self.take()
        try:
            if begin is not None:
                await fetch.begin(begin)
            yield fetch
            if begin is not None:
                await fetch.execute("COMMIT")
        except BaseException as error:
            # What an operation refuses by itself leaves the connection as it was.
            refused = isinstance(error, RowlockError) and not isinstance(
                error, DatabaseUnavailableError
            )
            if begin is not None or not refused:
                # Whatever state it is in, nobody else gets it: not a connection with an open
                # transaction, nor one that still waits for an answer.
                await self.discard(fetch)
                raise
            await self._give(fetch)
            raise
        await self._give(fetch)

    async def take(self) -> Fetch:
        """Take a connection; it is given back, or discarded.

        Raises:
            DatabaseUnavailableError: if all are in use for 10 s.
        """
        if not self.owned:
            return await self._borrow()
        deadline = time.monotonic() + CONNECT_TIMEOUT
        while True:
            while self._idle:
                fetch = self._idle.pop()
                if fetch.is_alive() and time.monotonic() - fetch.idle_since < _MOST_IDLE:
                    return fetch
                await self.discard(fetch)
            if self._open < self._most:
                try:
                    return await self._connect()
                except DatabaseUnavailableError:
                    raise
                except asyncpg.TooManyConnectionsError:
                    # The server has no more: those that there are have to do.
                    if not self._open:
                        raise
            await self._wait(deadline)

    async def _wait(self, deadline: float) -> None:
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(given)
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await given
        except TimeoutError:
            raise DatabaseUnavailableError(
                f"PostgreSQL: all {self._open} connections were in use for {CONNECT_TIMEOUT:g} s"
            ) from None
        except asyncio.CancelledError:
            if given.done() and not given.cancelled():
                self._wake()
            raise
        finally:
            with suppress(ValueError):
                self._waiting.remove(given)

    def _wake(self) -> None:
        for given in self._waiting:
            if not given.done():
                given.set_result(None)
                return

    async def _connect(self) -> Fetch:
        self._open += 1
        try:
            connection = await _open(self.engine, self._connect_timeout)
            try:
                driver = await _driver_of(connection)
                fetch = Fetch(connection, driver)
                _keep_alive(driver)
                await fetch.set_up(self._settings)
            except BaseException:
                await _discard(connection)
                raise
        except BaseException:
            self._open -= 1
            self._wake()
            raise
        return fetch

    async def _borrow(self) -> Fetch:
        # Each that the server has closed leaves the application's pool, which makes a new one.
        for _ in range(_MOST_DEAD):
            connection = await _open(self.engine, self._connect_timeout)
            try:
                # Here it lives as long as the driver's connection, which others borrow, too.
                fetch: Fetch | None = connection.info.get(_KEY)
                if fetch is None:
                    fetch = connection.info[_KEY] = Fetch(connection, await _driver_of(connection))
                fetch.connection = connection
            except BaseException:
                await connection.close()
                raise
            if fetch.is_alive():
                return fetch
            await _discard(connection)
        raise DatabaseUnavailableError("PostgreSQL: the engine gives out dead connections only")

    async def _give(self, fetch: Fetch) -> None:
        if not self.owned:
            await fetch.connection.close()
        elif self._closed:
            await self.discard(fetch)
        else:
            fetch.idle_since = time.monotonic()
            self._idle.append(fetch)
            self._wake()
            self._prune_later()

    def _prune_later(self) -> None:
        if self._pruning is None and len(self._idle) > self._fewest:
            loop = asyncio.get_running_loop()
            self._pruning = loop.call_later(_MOST_IDLE, self._prune)

    def _prune(self) -> None:
        self._pruning = None
        # What was used last is taken first, so those at the front have idled longest.
        old = time.monotonic() - _MOST_IDLE
        while len(self._idle) > self._fewest and self._idle[0].idle_since <= old:
            closing = asyncio.ensure_future(self.discard(self._idle.pop(0)))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        self._prune_later()

    async def discard(self, fetch: Fetch) -> None:
        """Close a connection that was taken, whatever its state is."""
        if self.owned:
            self._open -= 1
            self._wake()
        await _discard(fetch.connection)


async def _open(engine: AsyncEngine, timeout: float) -> AsyncConnection:
    try:
        async with asyncio.timeout(timeout):
            return await engine.connect()
    except TimeoutError:
        if is_used_up(engine.pool):
            raise used_up() from None
        raise DatabaseUnavailableError(f"PostgreSQL: no connection within {timeout:g} s") from None


async def _driver_of(connection: AsyncConnection) -> asyncpg.Connection:
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, asyncpg.Connection)  # noqa: S101
    return driver


async def _discard(connection: AsyncConnection) -> None:
    # Terminated first: a graceful close would wait for a server that may be gone.
    (await _driver_of(connection)).terminate()
    await connection.invalidate()
    await connection.close()


def _keep_alive(driver: asyncpg.Connection) -> None:
    peer = driver._transport.get_extra_info("socket")  # type: ignore[attr-defined]
    if peer is None or peer.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with suppress(OSError):  # a platform without one of them
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


_INFINITIES = {
    instant.replace(tzinfo=zone): name
    for instant, name in ((datetime.min, "-infinity"), (datetime.max, "infinity"))
    for zone in (UTC, None)  # without: as they came from the driver
}


def in_order(statement: Statement, parameters: Mapping[str, Any]) -> list[Any]:
    """Return the parameters as the driver takes them."""
    return [
        as_array(value) if isinstance(value, list) else value
        for value in map(parameters.__getitem__, statement.names)
    ]


def as_array(items: Iterable[Any]) -> str:
    """Return the text of an array."""
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
