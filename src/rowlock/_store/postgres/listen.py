"""LISTEN and NOTIFY: what processes tell each other through PostgreSQL.

A hint is never the truth: it may be lost, and what it says is looked up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import asyncpg
from sqlalchemy import text

from rowlock._store.database import Hint, HintKind
from rowlock._store.postgres.connections import Connections
from rowlock._store.postgres.dialect import CHANNEL
from rowlock._store.postgres.driver import Fetch
from rowlock._store.sql import Dialect, Statements

HEALTH_CHECK = 10.0
HEALTH_TIMEOUT = 4.0
CHANNELS = {
    HintKind.WORK: CHANNEL,
    HintKind.CANCEL: "rowlock_cancel",
    HintKind.SCHEDULES: "rowlock_schedule",
}

_NOTIFY = (
    "SELECT pg_notify(channel, hint){} FROM unnest(CAST(CAST(:channels AS text) AS text[]),"
    " CAST(CAST(:hints AS text) AS text[])) AS sent (channel, hint)"
)


class ListenStatements(Statements):
    """How hints are given."""

    def __init__(self, dialect: Dialect) -> None:
        # In a transaction of the caller's.
        self.notify_on = dialect.statement(text(_NOTIFY.format("")))
        # A hint may be lost, so its transaction does not wait for the disk.
        asynchronous = ", set_config('synchronous_commit', 'off', true)"
        self.notify = dialect.statement(text(_NOTIFY.format(asynchronous)))


def notify_parameters(hints: Iterable[Hint]) -> dict[str, list[str]]:
    """Return the parameters of either of them."""
    given = list(hints)
    return {
        "channels": [CHANNELS[hint.kind] for hint in given],
        "hints": [hint.value or "" for hint in given],
    }


class Listener:
    """Keeps one connection listening.

    Args:
        connections: of which it uses one.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._listening: Fetch | None = None
        # What the driver calls, of each kind that the connection listens for.
        self._callbacks: dict[HintKind, Callable[..., None]] = {}

    async def watch(self, kinds: frozenset[HintKind], heard: Callable[[Hint], None]) -> float:
        """Listen for these kinds; see `Database.watch`."""
        if self._listening is not None and not await _is_alive(self._listening):
            await self._stop()
        new = kinds - self._callbacks.keys()
        if self._listening is None:
            self._listening = await self._connections.take()
        try:
            async with asyncio.timeout(HEALTH_TIMEOUT):
                await self._listen(self._listening, kinds, heard)
        except BaseException:
            await self._stop()
            raise
        # What was done while nobody listened gave no hint.
        for kind in new:
            heard(Hint(kind))
        return HEALTH_CHECK

    async def _listen(
        self, listening: Fetch, kinds: frozenset[HintKind], heard: Callable[[Hint], None]
    ) -> None:
        driver = listening.driver
        for kind in self._callbacks.keys() - kinds:
            await driver.remove_listener(CHANNELS[kind], self._callbacks.pop(kind))
        for kind in kinds - self._callbacks.keys():
            callback = _callback(kind, heard)
            await driver.add_listener(CHANNELS[kind], callback)
            self._callbacks[kind] = callback

    async def close(self) -> None:
        """Listen no more."""
        await self._stop()
        await self._connections.close()

    async def _stop(self) -> None:
        listening, self._listening = self._listening, None
        self._callbacks.clear()
        if listening is not None:
            await self._connections.discard(listening)


def _callback(kind: HintKind, heard: Callable[[Hint], None]) -> Callable[..., None]:
    return lambda *args: heard(Hint(kind, args[3] or None))


async def _is_alive(listening: Fetch) -> bool:
    try:
        read_only = await listening.driver.fetchval(
            "SHOW transaction_read_only", timeout=HEALTH_TIMEOUT
        )
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    # Nobody commits anything on a primary that was demoted.
    return bool(read_only == "off")
