"""Claims on PostgreSQL while an open transaction keeps every dead row in its place."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from rowlock._rows import NewRow, TaskRow
from rowlock._store.postgres import claim
from rowlock._store.postgres import driver as _driver
from rowlock._store.postgres.claim import ClaimPositions, ClaimStatements
from rowlock._store.postgres.database import PostgresDatabase
from rowlock._store.postgres.dialect import DIALECT
from rowlock._store.postgres.driver import in_order
from rowlock._store.store import Store
from rowlock.errors import DatabaseUnavailableError
from tests.support.stores import LEASE, START, at, new_row, open_store

DEAD = 20_000
# Those of the table and of the index that a claim reads.
PAGES = """
    SELECT (pg_relation_size('rowlock_task') + pg_relation_size('ix_rowlock_task_claim'))
           / current_setting('block_size')::bigint
"""


@asynccontextmanager
async def slowed(url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    """A store whose claims all count as expensive; the next from the start is long in coming."""
    monkeypatch.setattr(claim, "_SLOW_CLAIMS", 1)
    monkeypatch.setattr(claim, "_TOLERATED", -1.0)
    monkeypatch.setattr(claim, "_TOLERATED_PER_ROW", 0.0)
    monkeypatch.setattr(claim, "_SPARED", 1e9)
    monkeypatch.setattr(claim, "_LONGEST", 1e9)
    async with open_store(url) as store:
        assert isinstance(store.database, PostgresDatabase)
        yield store


def positions_of(store: Store) -> ClaimPositions:
    assert isinstance(store.database, PostgresDatabase)
    return store.database._positions


async def claimed(store: Store, room: int = 10, now: datetime = START) -> list[str]:
    rows = await store.database.claim("w", {"t": room}, LEASE, now)
    return [row.id for row in rows]


def start_over(store: Store) -> None:
    """The time until a claim begins at the start again is over."""
    positions_of(store)._spared_until = 0.0


async def test_a_claim_passes_by_dead_rows(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where each claim begins at the start of its lane, and where that is read twice."""
    held = await asyncpg.connect(postgres_url)
    writer = await asyncpg.connect(postgres_url)
    try:
        async with slowed(postgres_url, monkeypatch) as store:
            await held.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            await held.execute("SELECT count(*) FROM rowlock_task")
            for start in (0, DEAD):
                rows = [new_row(run_at=at(number)) for number in range(start, start + DEAD)]
                await store.tasks.insert_many(rows, START)
                if start == 0:
                    await writer.execute("DELETE FROM rowlock_task")
            # What a vacuum sees of it: a large table with nothing in it.
            await writer.execute("DELETE FROM rowlock_task; ANALYZE rowlock_task")
            last = new_row(run_at=at(2 * DEAD))
            await store.tasks.insert(last, START)
            now = at(3 * DEAD)
            assert await claimed(store, now=now) == [last.id]
            await store.tasks.insert(new_row(run_at=at(2 * DEAD + 1)), START)
            remembered = positions_of(store).scan_from(["t"])
            whole = ClaimPositions().scan_from(["t"])
            once = await writer.fetchval(PAGES)
            statements = ClaimStatements.of(DIALECT)
            for statement, more in (
                (
                    statements.claim,
                    {"rooms": [10], "holder": "w", "lease": LEASE, "now": now},
                ),
                (statements.next_due, {"now": now}),
            ):
                read = await blocks(writer, statement, {**whole, **more})
                assert 0.9 * once < read < 1.2 * once
                assert await blocks(writer, statement, {**remembered, **more}) < 0.1 * once
    finally:
        await writer.close()
        await held.close()


async def blocks(
    connection: asyncpg.Connection, statement: Any, parameters: Mapping[str, Any]
) -> int:
    """How many blocks a statement touches."""
    arguments = in_order(statement, parameters)
    transaction = connection.transaction()
    await transaction.start()
    plan = await connection.fetchval(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.sql}", *arguments
    )
    await transaction.rollback()
    top = json.loads(plan)[0]["Plan"]
    return int(top["Shared Hit Blocks"] + top["Shared Read Blocks"])


async def test_what_comes_late_is_found_by_the_claim_from_the_start(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where a lane is never read from its start again, and without the overlap."""
    async with slowed(postgres_url, monkeypatch) as store:
        rows = {
            "first": new_row(run_at=at(-5000)),
            "just late": new_row(run_at=at(-5400)),
            "very late": new_row(run_at=at(-6000)),
            "urgent": new_row(run_at=at(-4000), priority=9),
            "other type": new_row(type="u", run_at=at(-6000)),
        }
        await store.tasks.insert(rows.pop("first"), START)
        assert len(await claimed(store)) == 1
        await store.tasks.insert_many(list(rows.values()), START)
        assert await claimed(store) == [rows["just late"].id]
        (other,) = await store.database.claim("w", {"t": 1, "u": 1}, LEASE, START)
        assert other.id == rows["other type"].id
        wait = await store.database.next_due(["t"], START)
        assert wait is not None
        assert wait > 0
        start_over(store)
        assert await store.database.next_due(["t"], START) == 0
        assert await claimed(store) == [rows["urgent"].id, rows["very late"].id]


async def test_a_claim_that_was_filled_may_not_have_seen_every_lane(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where the lanes of its rows are taken for all of them."""
    async with slowed(postgres_url, monkeypatch) as store:
        await store.tasks.insert_many([new_row(priority=n % 3) for n in range(9)], START)
        assert [len(await claimed(store, 4)) for _ in range(3)] == [4, 4, 1]


async def test_remembered_lanes_keep_the_order(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where they are given to the statement in another order."""
    async with slowed(postgres_url, monkeypatch) as store:
        await store.tasks.insert_many([new_row(priority=n) for n in (0, 5, -5)], START)
        await claimed(store)
        rows = [new_row(priority=priority, run_at=START) for priority in (-5, 0, 0, 5)]
        await store.tasks.insert_many(rows, START)
        ordered = [rows[3].id, rows[1].id, rows[2].id, rows[0].id]
        assert [(await claimed(store, 1))[0] for _ in rows] == ordered


async def rows_of(url: str, *tasks: NewRow) -> list[TaskRow]:
    """What a claim takes of these tasks."""
    async with open_store(url) as store:
        await store.tasks.insert_many(tasks, START)
        return await store.database.claim("w", {"t": 100}, LEASE, START)


async def test_one_slow_claim_is_no_reason(postgres_url: str) -> None:
    """Fails where it is, and where slow ones between quick ones are."""
    lanes = ClaimPositions()
    rows = await rows_of(postgres_url, new_row(run_at=START))
    for seconds in (1.0, 1.0, 0.001, 1.0, 1.0):
        lanes.claimed({"t": 10}, lanes.scan_from(["t"]), rows, seconds)
        assert lanes.seconds_to_full_scan() is None
    lanes.claimed({"t": 10}, lanes.scan_from(["t"]), rows, 1.0)
    assert lanes.seconds_to_full_scan()


async def test_a_quick_claim_remembers_nothing(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where what was remembered stays when it is of no more use."""
    monkeypatch.setattr(claim, "_SLOW_CLAIMS", 1)
    lanes = ClaimPositions()
    rows = await rows_of(postgres_url, new_row(run_at=START))
    lanes.claimed({"t": 10}, lanes.scan_from(["t"]), rows, 0.001)
    assert lanes.seconds_to_full_scan() is None
    lanes.claimed({"t": 10}, lanes.scan_from(["t"]), rows, 1.0)
    assert lanes.scan_from(["t"])["lane_sinces"] == [START]
    lanes._spared_until = 0.0
    lanes.claimed({"t": 10}, lanes.scan_from(["t"]), rows, 0.001)
    assert lanes.scan_from(["t"])["wholes"] == [True]


async def test_a_priority_for_each_task_is_not_remembered(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where every priority is."""
    monkeypatch.setattr(claim, "_SLOW_CLAIMS", 1)
    lanes = ClaimPositions()
    rows = await rows_of(postgres_url, *(new_row(priority=n, run_at=START) for n in range(50)))
    lanes.claimed({"t": 100}, lanes.scan_from(["t"]), rows, 1.0)
    assert lanes.scan_from(["t"])["wholes"] == [True]


async def test_the_first_and_the_last_instant(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where the infinities, as which they are stored, are compared with other instants."""
    async with slowed(postgres_url, monkeypatch) as store:
        first = datetime.min.replace(tzinfo=START.tzinfo)
        rows = [new_row(run_at=run_at) for run_at in (first, first + timedelta(microseconds=1))]
        for row in rows:
            await store.tasks.insert(row, START)
        assert await claimed(store) == [row.id for row in rows]
        await store.tasks.insert(new_row(run_at=first + timedelta(microseconds=2)), START)
        assert len(await claimed(store)) == 1


async def test_a_claim_from_the_start_that_fails_is_not_repeated_at_once(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where it is owed until it succeeds: nothing is claimed while it takes too long."""
    async with slowed(postgres_url, monkeypatch) as store:
        await store.tasks.insert(new_row(run_at=START), START)
        await claimed(store)
        start_over(store)
        monkeypatch.setattr(_driver, "COMMAND_TIMEOUT", 1e-6)
        with pytest.raises(DatabaseUnavailableError):
            await claimed(store)
        monkeypatch.undo()
        await store.tasks.insert(new_row(run_at=START), START)
        assert len(await claimed(store)) == 1
        assert positions_of(store).seconds_to_full_scan()
