"""What PostgreSQL rolls back for the sake of others is repeated, and says nothing of a task."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from rowlock import TaskQueue
from tests.support.helpers import eventually
from tests.support.stores import execute, new_row, open_store, success

WAITING = (
    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


async def set_up(url: str, setting: str) -> None:
    """Change a setting of the database, for the connections to come."""
    ((name,),) = await execute(url, "SELECT current_database()")
    await execute(url, f"ALTER DATABASE {name} SET {setting}")


async def test_conflicts_are_repeated(postgres_url: str) -> None:
    """Fails where what could not be serialised is told to the caller."""
    await set_up(postgres_url, "default_transaction_isolation = 'serializable'")
    async with TaskQueue(postgres_url) as queue:
        ids = await asyncio.gather(*(queue.create("t", key="k") for _ in range(30)))
    assert len(set(ids)) == 1


async def test_deadlocks_are_repeated(postgres_url: str) -> None:
    """Somebody locks the same rows in the opposite order. Fails where the victim gives up."""
    async with open_store(postgres_url) as store:
        first, second = sorted([await store.tasks.insert(new_row(run_at=None)) for _ in range(2)])
        rows = await store.database.claim("h", {"t": 2}, 60_000)
        other = await asyncpg.connect(postgres_url)
        try:
            # The store finds the deadlock before this one looks for it.
            await other.execute("SET deadlock_timeout = '1min'; BEGIN")
            lock = "SELECT FROM rowlock_task WHERE id = $1 FOR UPDATE"
            await other.execute(lock, second)
            extending = asyncio.create_task(
                store.attempts.extend("h", [(row.id, row.attempt) for row in rows], 60_000)
            )

            async def waits() -> bool:
                return bool(await execute(postgres_url, WAITING))

            await eventually(waits)
            await other.execute(lock, first)
            await other.execute("COMMIT")
        finally:
            await other.close()
        assert await extending == ({first, second}, set())


@pytest.mark.parametrize("setting", ["lock_timeout", "statement_timeout"])
async def test_a_row_that_cannot_be_locked_costs_no_try(postgres_url: str, setting: str) -> None:
    """Fails where an outcome that could not be written now is taken for refused, or for lost."""
    await set_up(postgres_url, f"{setting} = '500ms'")
    async with open_store(postgres_url) as store:
        await store.tasks.insert(new_row(run_at=None))
        (row,) = await store.database.claim("h", {"t": 1}, 60_000)
        other = await asyncpg.connect(postgres_url)
        try:
            await other.execute("BEGIN; SELECT FROM rowlock_task FOR UPDATE")
            done = await store.attempts.finish("h", [success(row)])
            left = {"lock_timeout": done.locked, "statement_timeout": done.unsent}[setting]
            assert (done.tasks, left) == ({}, {row.id})
        finally:
            await other.close()
        assert row.id in (await store.attempts.finish("h", [success(row)])).tasks
