"""Connections to PostgreSQL that are dead, forgotten, idle or used up."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from rowlock import DatabaseUnavailableError, DuplicateKeyError, TaskQueue
from rowlock._store.postgres import connections as _connections
from rowlock._store.postgres import driver as _driver
from rowlock._store.postgres.claim import ClaimPositions
from rowlock._store.postgres.connections import Connections
from rowlock._store.postgres.database import PostgresDatabase
from rowlock._store.postgres.dialect import DIALECT
from rowlock._store.store import Store
from rowlock._store.url import async_url
from tests.faults.proxy import proxied
from tests.support.helpers import eventually
from tests.support.pools import task_row
from tests.support.stores import START, execute, new_row, open_store

TERMINATE = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


async def waits(payload: float) -> None:
    await asyncio.sleep(payload)


def connections_of(store: Store) -> Connections:
    assert isinstance(store.database, PostgresDatabase)
    return store.database._connections


@asynccontextmanager
async def pooled(url: str, **options: Any) -> AsyncIterator[Store]:
    async with open_store(url) as store:
        assert isinstance(store.database, PostgresDatabase)
        yield store


async def backends(url: str) -> int:
    ((number,),) = await execute(
        url,
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
    )
    return int(number)


@pytest.mark.parametrize("engine", [None, "queue", "null"])
@pytest.mark.parametrize("busy", [True, False], ids=["busy loop", "idle loop"])
async def test_no_call_fails_for_a_connection_that_was_dead_before(
    postgres_url: str, engine: str | None, busy: bool
) -> None:
    """Fails where the pool lends what the server has closed, one after the other.

    A loop that was busy has not read of it yet: fails there where only the driver is asked.
    """
    url = async_url(postgres_url)
    own: dict[str, dict[str, Any]] = {"queue": {"pool_size": 10}, "null": {"poolclass": NullPool}}
    database = None if engine is None else create_async_engine(url, **own[engine])
    try:
        async with TaskQueue(database or postgres_url) as queue:
            await asyncio.gather(*(queue.counts() for _ in range(10)))
            if busy:
                thread = threading.Thread(target=asyncio.run, args=(terminated(postgres_url),))
                thread.start()
                thread.join()  # this loop does not run meanwhile
            else:
                await terminated(postgres_url)
            for _ in range(12):
                await queue.create("t")
            assert sum((await queue.counts()).values()) == 12
    finally:
        if database is not None:
            await database.dispose()


async def terminated(url: str) -> None:
    """End all connections to a database."""
    await execute(url, TERMINATE)

    async def gone() -> bool:
        return await backends(url) == 0

    await eventually(gone)


async def test_what_idles_for_long_is_closed_and_not_used(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A NAT may have forgotten it. Fails where it is kept, or lent once more."""
    monkeypatch.setattr(_connections, "_MOST_IDLE", 0.3)
    async with pooled(postgres_url) as store:
        await asyncio.gather(*(store.tasks.insert(new_row()) for _ in range(6)))
        assert len(connections_of(store)._idle) > 1

        async def none() -> bool:
            return await backends(postgres_url) == 0

        await eventually(none)
        await store.tasks.insert(new_row())
        assert connections_of(store)._open == 1


async def test_a_worker_keeps_one_however_long_it_idles(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where none is left for its outcomes once the server has no more to give."""
    monkeypatch.setattr(_connections, "_MOST_IDLE", 0.1)
    async with pooled(postgres_url) as client:
        store = client.for_worker()
        try:
            await asyncio.gather(*(store.database.keep_alive() for _ in range(4)))
            assert connections_of(store)._open == 4
            await eventually(lambda: connections_of(store)._open == 1)
            connections_of(store)._prune()
            assert connections_of(store)._open == 1
        finally:
            await store.database.close()


async def test_calls_over_forgotten_connections_are_soon_repeated_over_new_ones(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where what is sent over one that idled waits for the timeout of a statement."""
    monkeypatch.setattr(_connections, "_MOST_IDLE", 0.2)
    with proxied(postgres_url) as (proxy, url):
        async with TaskQueue(url) as queue:
            await asyncio.gather(*(queue.counts() for _ in range(6)))
            for link in list(proxy.links):
                link.silenced = {"up", "down"}
            await asyncio.sleep(2 * _connections._MOST_IDLE)
            async with asyncio.timeout(_driver.COMMAND_TIMEOUT / 2):
                for _ in range(4):
                    await queue.create("t")


async def test_the_kernel_asks_a_silent_server(postgres_url: str) -> None:
    async with pooled(postgres_url) as store:
        (fetch,) = connections_of(store)._idle
        peer = fetch.driver._transport.get_extra_info("socket")  # type: ignore[attr-defined]
        assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15


async def test_a_refusal_costs_no_connection(postgres_url: str) -> None:
    """Fails where each error of an operation closes the connection that it came over."""
    async with pooled(postgres_url) as store:
        await store.tasks.insert(new_row(key="k"))
        (fetch,) = connections_of(store)._idle
        with pytest.raises(DuplicateKeyError):
            await store.tasks.insert(new_row(key="k", refuses=True))
        assert connections_of(store)._idle == [fetch]


async def test_when_all_are_in_use_one_waits_for_its_turn(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where more are opened, where a waiter is forgotten, and where nobody says why."""
    async with pooled(postgres_url) as store:
        lent = connections_of(store)
        taken = [await lent.take() for _ in range(10)]
        waiting = [asyncio.create_task(store.tasks.insert(new_row())) for _ in range(30)]
        await eventually(lambda: len(lent._waiting) == 30)
        assert not any(task.done() for task in waiting)
        waiting[0].cancel()
        for fetch in taken:
            await lent._give(fetch)
        assert len(await asyncio.gather(*waiting[1:])) == 29
        monkeypatch.setattr(_connections, "CONNECT_TIMEOUT", 0.1)
        taken = [await lent.take() for _ in range(10)]
        with pytest.raises(DatabaseUnavailableError, match="all 10 connections were in use"):
            await store.tasks.insert(new_row())
        for fetch in taken:
            await lent._give(fetch)


async def test_a_worker_goes_on_with_the_connections_that_it_has(postgres_url: str) -> None:
    """The server has no more to give. Fails where an outcome needs one more, and is lost."""
    async with TaskQueue(postgres_url, lease=2000) as queue, TaskQueue(postgres_url) as other:
        await queue.register_handler("t", __name__, "waits")
        await queue.start()
        assert queue.runtime.worker is not None
        assert isinstance(queue.runtime.worker_store.database, PostgresDatabase)
        long = await other.create("t", 4, retain_for=-1)

        async def runs() -> bool:
            task = await other.get(long)
            return task is not None and task.status == "processing"

        await eventually(runs)
        engines = [
            connections_of(queue.runtime.worker_store).engine,
            queue.runtime.worker._leases._store.database._engine,
        ]
        for engine in engines:

            def none_left(*arguments: Any, **options: Any) -> Any:
                raise asyncpg.TooManyConnectionsError("sorry, too many clients already")

            engine.sync_engine.pool._creator = none_left
        ids = [await other.create("t", 0, retain_for=-1) for _ in range(20)]

        async def done() -> bool:
            tasks = [await other.get(task_id) for task_id in [*ids, long]]
            return all(task is not None and task.status == "success" for task in tasks)

        await eventually(done, timeout=20)
        task = await other.get(long)
        assert task is not None
        assert task.attempt == 1


async def test_the_way_to_the_server_is_not_taken_for_dead_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Over 100 ms each claim took "long", and new priorities waited a second.

    Fails where what a statement takes has the way in it.
    """
    now = 0.0
    monkeypatch.setattr(_driver, "time", SimpleNamespace(monotonic=lambda: now))

    class Driver:
        """A server that is 100 ms away."""

        _config = SimpleNamespace(statement_cache_size=100)
        _transport = SimpleNamespace(get_extra_info=lambda name: None)
        work = 0.0

        async def execute(self, script: str, timeout: float) -> None:
            await self.fetch(script, timeout=timeout)

        async def fetch(self, sql: str, *arguments: Any, timeout: float) -> list[Any]:
            nonlocal now
            now += 0.1 + self.work
            return []

        def is_in_transaction(self) -> bool:
            return False

    driver = Driver()
    fetch = _driver.Fetch(cast(Any, None), cast(asyncpg.Connection, driver))
    await fetch.set_up(["jit = off"])
    lanes = ClaimPositions()
    for work, spared in ((0.001, False), (0.5, True)):
        driver.work = work
        for _ in range(3):
            await fetch(DIALECT.statement(text("SELECT")), {})
            row = task_row(type="t", priority=0, run_at=START)
            lanes.claimed({"t": 10}, lanes.scan_from(["t"]), [row], fetch.seconds)
        assert (lanes.seconds_to_full_scan() is not None) == spared
