"""No operation waits for ever for a server that is silent, or trusts one that was demoted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from rowlock import DatabaseUnavailableError, NewTask, ScheduledTaskTime, TaskQueue, TaskScheduler
from rowlock._ids import new_id
from rowlock._store.database import HintKind
from rowlock._store.postgres import connections as _connections
from rowlock._store.postgres import database as _postgres
from rowlock._store.postgres import driver as _driver
from rowlock._store.postgres import listen as _listen
from rowlock._store.postgres.database import PostgresDatabase
from rowlock._store.postgres.driver import Fetch
from rowlock._store.url import async_url
from tests.faults.proxy import proxied
from tests.support.stores import new_row, open_store

BOUND = 0.3
# What is not bounded takes for ever, or the thirty seconds that are the bound otherwise.
PATIENCE = 10.0

Call = Callable[[TaskQueue, TaskScheduler], Coroutine[Any, Any, Any]]

CALLS: dict[str, Call] = {
    "create": lambda queue, _: queue.create("t", 1),
    "create with a key": lambda queue, _: queue.create("t", 1, key="k"),
    "create_many": lambda queue, _: queue.create_many([NewTask("t"), NewTask("t")]),
    "get": lambda queue, _: queue.get(new_id()),
    "retry": lambda queue, _: queue.retry(new_id()),
    "cancel": lambda queue, _: queue.cancel(new_id(), running=True),
    "remove": lambda queue, _: queue.remove(new_id()),
    "query": lambda queue, _: queue.query(),
    "counts": lambda queue, _: queue.counts(),
    "add_task": lambda _, scheduler: scheduler.add_task(
        "s", [ScheduledTaskTime(interval_days=1)], task_type="t"
    ),
    "tasks_info": lambda _, scheduler: scheduler.tasks_info(),
    "trigger_task": lambda _, scheduler: scheduler.trigger_task("s"),
}


@pytest.fixture
def bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connections, "CONNECT_TIMEOUT", BOUND)
    monkeypatch.setattr(_driver, "COMMAND_TIMEOUT", BOUND)
    monkeypatch.setattr(_postgres, "COMMAND_TIMEOUT", BOUND)
    monkeypatch.setattr(_listen, "HEALTH_TIMEOUT", BOUND)


@pytest.mark.usefixtures("bounds")
@pytest.mark.parametrize("direction", ["up", "down"])
async def test_no_operation_waits_for_a_silent_server(postgres_url: str, direction: str) -> None:
    """First on a connection that is there, then on one that has to be opened.

    Fails where statements are sent without a timeout, and where connecting has none.
    """
    with proxied(postgres_url) as (proxy, url):
        # One that has no bounds of its own.
        engine = create_async_engine(async_url(url))
        queue = TaskQueue(engine)
        scheduler = TaskScheduler(queue)
        for call in CALLS.values():
            async with asyncio.timeout(PATIENCE):
                await queue.open()
            proxy.silence(direction)
            for _ in range(2):
                async with asyncio.timeout(PATIENCE):
                    with pytest.raises(DatabaseUnavailableError):
                        await call(queue, scheduler)
            async with asyncio.timeout(PATIENCE):
                await queue.close()
            proxy.heal()
        await engine.dispose()


async def test_a_queue_that_works_closes_in_silence(postgres_url: str) -> None:
    """Fails where connections are closed politely: each waits for the server to end it."""
    with proxied(postgres_url) as (proxy, url):
        async with TaskQueue(url, stop_timeout=100) as queue:
            await queue.register_handler("t", "tests.support.worker_handlers", "echo")
            await queue.start()
            await asyncio.gather(*(queue.create("t", n) for n in range(50)))
            await asyncio.gather(*(queue.counts() for _ in range(5)))
            proxy.silence("up", "down")
            # Four waits for last writes, of five seconds each, may come before.
            async with asyncio.timeout(3 * PATIENCE):
                await queue.close()


@pytest.mark.usefixtures("bounds")
async def test_opening_does_not_wait_for_a_silent_server(postgres_url: str) -> None:
    """Fails where neither the driver nor `_connect` has a time limit."""
    with proxied(postgres_url) as (proxy, url):
        proxy.silence("up", "down")
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(DatabaseUnavailableError):
                await TaskQueue(url).open()


async def make_read_only(fetch: Fetch) -> None:
    """Let a connection be one to a primary that was demoted."""
    await fetch.execute("SET default_transaction_read_only = on")


async def test_a_connection_to_a_demoted_primary_is_dropped(postgres_url: str) -> None:
    """Fails where a connection goes back to the pool whatever the server said."""
    async with open_store(postgres_url) as store:
        assert isinstance(store.database, PostgresDatabase)
        await store.tasks.insert(new_row())
        (fetch,) = store.database._connections._idle
        await make_read_only(fetch)
        with pytest.raises(DatabaseUnavailableError, match="read-only"):
            await store.tasks.insert(new_row())
        await store.tasks.insert(new_row())


async def test_a_listener_of_a_demoted_primary_is_replaced(postgres_url: str) -> None:
    """Nobody commits there any more. Fails where any answer is taken for a sign of life."""

    async with open_store(postgres_url) as store:
        assert isinstance(store.database, PostgresDatabase)
        await store.database.watch(frozenset(HintKind), print, print)
        listener = store.database._listener
        assert listener is not None
        first = listener._listening
        assert first is not None
        await store.database.watch(frozenset(HintKind), print, print)
        assert listener._listening is first
        await make_read_only(first)
        await store.database.watch(frozenset(HintKind), print, print)
        assert listener._listening is not first
