"""The schema of a PostgreSQL database is changed while it is used, or through a pooler."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from rowlock import DatabaseUnavailableError, SchemaError, schema
from rowlock._store.migrate import Migrations
from rowlock._store.postgres import migrate as _postgres_migrate
from rowlock._store.url import async_url
from tests.support import pgbouncer as _pgbouncer
from tests.support.helpers import eventually
from tests.support.roles import role
from tests.support.stores import execute

# Of a table that the revision after it changes under an exclusive lock.
BEFORE = "0002"
LOCKS = (
    "SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


@asynccontextmanager
async def open_transaction(
    url: str, statement: str, name: str = "the report"
) -> AsyncIterator[Any]:
    """A connection that has run a statement in a transaction, and does no more."""
    connection = await asyncpg.connect(url, server_settings={"application_name": name})
    try:
        await connection.execute("BEGIN")
        await connection.execute(statement)
        yield connection
    finally:
        connection.terminate()


async def waits_for_a_lock(url: str) -> bool:
    rows = await execute(
        url,
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database()",
    )
    return bool(rows)


async def test_who_comes_after_a_waiting_upgrade_is_let_through(postgres_url: str) -> None:
    """Fails where it waits for its lock until it has it: all that come later wait behind it."""
    await asyncio.to_thread(schema.downgrade, postgres_url, BEFORE)
    async with open_transaction(postgres_url, "SELECT FROM rowlock_task") as report:
        upgrade = asyncio.create_task(asyncio.to_thread(schema.upgrade, postgres_url))
        # So often it has waited, and given up, and begun again.
        for _ in range(2):
            await eventually(lambda: waits_for_a_lock(postgres_url))
            reader = await asyncpg.connect(postgres_url)
            # Behind an upgrade that does not give up it would be cancelled.
            await reader.execute("SET statement_timeout = '20s'")
            await reader.fetch("SELECT FROM rowlock_task")
            await reader.close()
            assert not upgrade.done()
        await report.execute("ROLLBACK")
        await upgrade
    assert await asyncio.to_thread(schema.check, postgres_url) == []
    assert await execute(postgres_url, LOCKS) == []


@pytest.mark.parametrize(
    ("revision", "statement"),
    [
        # Of the table, and of one that only shows rows as they were, for CONCURRENTLY.
        (BEFORE, "SELECT FROM rowlock_task"),
        ("0003", "DECLARE old CURSOR FOR SELECT FROM pg_class"),
    ],
)
async def test_who_is_in_the_way_is_named(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, revision: str, statement: str
) -> None:
    """Fails where it says that a lock was not to be had, and not whose it is."""
    monkeypatch.setattr(Migrations, "lock_timeout", 0.4)
    await asyncio.to_thread(schema.downgrade, postgres_url, revision)
    async with open_transaction(postgres_url, statement) as report:
        pid = report.get_server_pid()
        with pytest.raises(DatabaseUnavailableError) as error:
            await asyncio.to_thread(schema.upgrade, postgres_url)
    message = str(error.value)
    assert re.search(
        rf"process {pid} \(the report, user \w+\), idle in transaction, since \d{{4}}-", message
    ), message
    assert "\n" not in message
    assert await asyncio.to_thread(schema.current, postgres_url) == revision
    await asyncio.to_thread(schema.upgrade, postgres_url)
    assert await asyncio.to_thread(schema.check, postgres_url) == []


async def test_who_upgrades_already_is_named(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Migrations, "lock_timeout", 0.3)
    lock = f"SELECT pg_advisory_lock({_postgres_migrate.ADVISORY_LOCK})"
    async with open_transaction(postgres_url, lock, "deploy") as other:
        with pytest.raises(DatabaseUnavailableError, match="has been upgrading it") as error:
            await asyncio.to_thread(schema.upgrade, postgres_url)
        assert f"process {other.get_server_pid()} (deploy" in str(error.value)


async def test_others_are_named_as_far_as_a_role_sees_them(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where what is hidden from the role is shown as None, or brings an error."""
    monkeypatch.setattr(Migrations, "lock_timeout", 0.3)
    lock = f"SELECT pg_advisory_lock({_postgres_migrate.ADVISORY_LOCK})"
    async with role(postgres_url) as url, open_transaction(postgres_url, lock, "deploy") as other:
        with pytest.raises(DatabaseUnavailableError) as error:
            await asyncio.to_thread(schema.upgrade, url)
        message = str(error.value)
        assert f"process {other.get_server_pid()}" in message
        assert "may not see" in message
        assert "None" not in message


async def test_a_lock_that_no_session_has(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a transaction that was prepared; where the server allows none it is only gone."""
    monkeypatch.setattr(Migrations, "lock_timeout", 0.3)
    monkeypatch.setattr(_postgres_migrate, "_HOLD_TABLE", "false")
    async with open_transaction(postgres_url, "LOCK TABLE rowlock_task"):
        with pytest.raises(DatabaseUnavailableError, match="pg_prepared_xacts"):
            await asyncio.to_thread(schema.downgrade, postgres_url, "base")


@pytest.mark.parametrize("name", ["statement_timeout", "lock_timeout"])
async def test_the_servers_time_limits_are_not_the_migrations(postgres_url: str, name: str) -> None:
    """Fails where a migration is cut off by a limit that is meant for the application."""
    database = make_url(postgres_url).database
    await asyncio.to_thread(schema.downgrade, postgres_url, "0003")
    await execute(postgres_url, f"ALTER DATABASE {database} SET {name} = '300ms'")
    waiting = (
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database() AND clock_timestamp() - query_start > '600ms'"
    )
    async with open_transaction(postgres_url, "DECLARE old CURSOR FOR SELECT FROM pg_class"):
        upgrade = asyncio.create_task(asyncio.to_thread(schema.upgrade, postgres_url))

        async def has_waited() -> bool:
            return upgrade.done() or bool(await execute(postgres_url, waiting))

        await eventually(has_waited, 30)
    await upgrade
    assert await asyncio.to_thread(schema.check, postgres_url) == []


@pytest.mark.parametrize(
    ("revision", "index"),
    [("0003", "ix_rowlock_task_processing"), ("head", "ix_rowlock_task_status_id")],
)
async def test_an_index_that_is_not_valid_is_built_anew(
    postgres_url: str, revision: str, index: str
) -> None:
    """Fails where the index is taken for one because it is there.

    One that a migration left half-way, and one that somebody has rebuilt in vain since.
    """
    if revision != "head":
        await asyncio.to_thread(schema.downgrade, postgres_url, revision)
        await execute(postgres_url, f"CREATE INDEX {index} ON rowlock_task (status, id)")
    await execute(
        postgres_url,
        f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{index}'::regclass",
    )
    await execute(postgres_url, "CREATE INDEX ix_ccnew ON rowlock_task (id)")
    await execute(postgres_url, "CREATE INDEX ix_of_user ON rowlock_task (id)")
    await execute(
        postgres_url,
        "UPDATE pg_index SET indisvalid = false"
        " WHERE indexrelid IN ('ix_ccnew'::regclass, 'ix_of_user'::regclass)",
    )
    found = await asyncio.to_thread(schema.check, postgres_url)
    assert any(f"index {index} is not valid" in line for line in found)
    await asyncio.to_thread(schema.upgrade, postgres_url)
    # What is not rowlock's is left alone.
    assert await execute(
        postgres_url, "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"
    ) == [("ix_of_user",)]
    await execute(postgres_url, "DROP INDEX ix_of_user")
    assert await asyncio.to_thread(schema.check, postgres_url) == []


async def test_an_upgrade_that_was_killed_leaves_nothing_in_the_way(postgres_url: str) -> None:
    """While it builds an index CONCURRENTLY, which then is there and not valid."""
    await asyncio.to_thread(schema.downgrade, postgres_url, "0003")
    async with open_transaction(postgres_url, "DECLARE old CURSOR FOR SELECT FROM pg_class"):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "rowlock", "db", "upgrade", "--database", postgres_url
        )
        building = "SELECT 1 FROM pg_stat_progress_create_index"
        await eventually(lambda: execute(postgres_url, building), 30)
        process.kill()
        await process.wait()
    await eventually(lambda: has_no(postgres_url, LOCKS), 30)
    await asyncio.to_thread(schema.upgrade, postgres_url)
    assert await asyncio.to_thread(schema.check, postgres_url) == []


async def has_no(url: str, query: str) -> bool:
    return not await execute(url, query)


# Poolers.


@contextmanager
def pooler(url: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of the same database through PgBouncer."""
    if _pgbouncer.find() is None:
        pytest.skip("needs pgbouncer")
    monkeypatch.setattr(_pgbouncer, "MODE", mode)
    with _pgbouncer.pgbouncer(url) as through:
        yield through


@pytest.mark.parametrize("from_engine", [False, True])
@pytest.mark.parametrize("busy", [0, 2])
def test_a_pooler_that_shares_sessions_is_refused(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, from_engine: bool, busy: int
) -> None:
    """Fails where the lock and the settings are left to whoever gets the session next."""
    with pooler(postgres_url, "transaction", monkeypatch) as through:
        database: Any = through
        if from_engine:
            unnamed = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
            database = create_async_engine(async_url(through), connect_args=unnamed)
        clients = [
            subprocess.Popen(
                [sys.executable, "-c", _CLIENT, through], stdout=subprocess.PIPE, text=True
            )
            for _ in range(busy)
        ]
        try:
            for client in clients:
                assert client.stdout
                assert client.stdout.readline() == "ready\n"
            with pytest.raises(SchemaError, match="connect directly"):
                schema.upgrade(database)
            with pytest.raises(SchemaError, match="connect directly"):
                schema.downgrade(database, "base")
        finally:
            for client in clients:
                client.kill()
                client.communicate()
        assert asyncio.run(execute(postgres_url, LOCKS)) == []
        # To look at it is no harm, and works.
        assert schema.current(through) == schema.head()
        assert schema.check(through) == []
    schema.upgrade(postgres_url)


_CLIENT = """
import asyncio, sys
import asyncpg

async def main():
    connection = await asyncpg.connect(sys.argv[1], statement_cache_size=0)
    print("ready", flush=True)
    while True:
        async with connection.transaction():
            await connection.fetchval("SELECT 1")

asyncio.run(main())
"""


def test_a_pooler_that_lends_sessions_whole_is_used(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where every pooler is refused, also one that is the only way to the server."""
    schema.downgrade(postgres_url, "0002")
    with pooler(postgres_url, "session", monkeypatch) as through:
        schema.upgrade(through)
        assert schema.check(through) == []
        assert asyncio.run(execute(postgres_url, LOCKS)) == []
        (leftover,) = asyncio.run(execute(through, "SELECT current_setting('lock_timeout')"))
        assert leftover == ("0",)


def test_the_wait_is_bounded_by_what_is_waited_for(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where the time that a migration works counts as time that it waits."""
    calls: list[float] = []

    class Clock:
        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def sleep(seconds: float) -> None:
            calls.append(seconds)

    monkeypatch.setattr(_postgres_migrate, "time", Clock)
    monkeypatch.setattr(_postgres_migrate, "_ATTEMPT", 0.05)
    monkeypatch.setattr(Migrations, "lock_timeout", 2.0)
    schema.downgrade(postgres_url, BEFORE)

    async def blocked() -> None:
        async with open_transaction(postgres_url, "SELECT FROM rowlock_task"):
            with pytest.raises(DatabaseUnavailableError, match="within 2 s"):
                await asyncio.to_thread(schema.upgrade, postgres_url)

    asyncio.run(blocked())
    assert len(calls) == 3  # four attempts of 0.05 s, and half a second after each
