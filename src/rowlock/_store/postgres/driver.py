"""One connection of asyncpg: what is sent over it, with which bounds, and in which form."""

from __future__ import annotations

import asyncio
import random
import select
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from math import inf
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from rowlock._batch_size import StatementTooSlowError
from rowlock._store.database import Operation, T
from rowlock._store.postgres.errors import for_operation
from rowlock._store.sql import Statement

COMMAND_TIMEOUT = 30.0
# Seconds, at most, before a statement is repeated that ended in a deadlock or a conflict.
_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)

# At REPEATABLE READ a claim would fail with a serialization error where it now skips rows.
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"

# The kernel probes a silent peer after 15 s, every 5 s, three times; and gives up after 30 s what
# was sent and not acknowledged. asyncpg sets none of these.
_KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}


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
        # What begins the transaction of a single statement, behind a pooler.
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
            # The server may have done it, and its answer may still arrive: the connection cannot
            # be used again.
            self.driver.terminate()
            raise StatementTooSlowError(
                f"PostgreSQL: a statement took longer than {COMMAND_TIMEOUT:g} s"
            ) from error
        self._took(time.monotonic() - began)
        if alone:
            await self.execute("COMMIT")
        return rows

    def _took(self, seconds: float) -> None:
        # The quickest statement so far is taken for the round trip.
        self._round_trip = min(self._round_trip, seconds)
        self.seconds = seconds - self._round_trip

    def is_alive(self) -> bool:
        """Whether, as far as can be told without sending anything, the server is at the other end.

        A loop that was busy has not heard yet of an end that the kernel knows of.
        """
        return not self.driver.is_closed() and (self._poll is None or not self._poll.poll(0))


async def drive(operation: Operation[T], fetch: Fetch) -> T:
    """Send what an operation yields, and tell it of the errors that it may be told."""
    try:
        statement, parameters = next(operation)
        while True:
            try:
                rows = await fetch(statement, parameters)
            except (asyncpg.PostgresError, StatementTooSlowError) as error:
                told = for_operation(error)
                if told is None:
                    raise
                statement, parameters = operation.throw(told)
            else:
                statement, parameters = operation.send(rows)
    except StopIteration as stop:
        value: T = stop.value
        return value


async def driver_of(connection: AsyncConnection) -> asyncpg.Connection:
    """Return the driver's connection."""
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, asyncpg.Connection)  # noqa: S101
    return driver


def _poll_of(driver: asyncpg.Connection) -> select.poll | None:
    peer = driver._transport.get_extra_info("socket")  # type: ignore[attr-defined]
    if peer is None or not hasattr(select, "poll"):
        return None
    poll = select.poll()
    # POLLRDHUP is Linux's: the peer has ended its half. POLLHUP needs no asking.
    poll.register(peer.fileno(), getattr(select, "POLLRDHUP", 0))
    return poll


def keep_alive(driver: asyncpg.Connection) -> None:
    """Have the kernel find out that the server is gone."""
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
    # As a text. For an array, asyncpg asks each new connection for the type, which takes longer
    # than a claim, and tests each item for being an array itself.
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
