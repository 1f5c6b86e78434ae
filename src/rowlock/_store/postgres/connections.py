"""Connections to PostgreSQL: taken for an operation, kept for the next, given up when they idle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import asyncpg
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import NullPool

from rowlock._store.database import used_up
from rowlock._store.postgres.driver import Fetch, driver_of, keep_alive
from rowlock._store.postgres.errors import is_used_up
from rowlock.errors import DatabaseUnavailableError, RowlockError

CONNECT_TIMEOUT = 10.0
_KEY = "rowlock"

# Seconds for which a connection may idle. A NAT or a balancer forgets one without a word, and
# what is sent over it then waits for the timeout of the statement.
_MOST_IDLE = 30.0
# So many dead connections are thrown out of the application's pool before a new one is made.
_MOST_DEAD = 100

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
                    # max_connections is reached: wait for one of those that are open.
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
                driver = await driver_of(connection)
                fetch = Fetch(connection, driver)
                keep_alive(driver)
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
                # `info` lives as long as the driver's connection, which the pool lends again.
                fetch: Fetch | None = connection.info.get(_KEY)
                if fetch is None:
                    fetch = connection.info[_KEY] = Fetch(connection, await driver_of(connection))
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


async def _discard(connection: AsyncConnection) -> None:
    # Terminated first: a graceful close would wait for a server that may be gone.
    (await driver_of(connection)).terminate()
    await connection.invalidate()
    await connection.close()
