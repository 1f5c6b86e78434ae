"""Plans that PostgreSQL makes while the table is empty, and keeps when it has grown.

It makes them again when it makes the statistics again, which here it never does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import asyncpg
import pytest
from sqlalchemy import text

from rowlock import _plans, _postgres
from rowlock._lanes import Lanes
from rowlock._plans import Plans
from rowlock._postgres import PostgresStore, in_order
from rowlock._statements import Statement
from tests import test_explain as explain
from tests.stores import LEASE, START, execute, insert_and_claim, new_row, open_store, success

GROWN = 20_000
MOST_BLOCKS = 100


@asynccontextmanager
async def analyzed(url: str, rows: int | None) -> AsyncIterator[PostgresStore]:
    """A store on a table of so many rows, or of nobody knows how many."""
    await execute(url, "ALTER TABLE rowlock_task SET (autovacuum_enabled = off)")
    async with open_store(url) as store:
        assert isinstance(store, PostgresStore)
        await store.insert_many([new_row() for _ in range(rows or 0)], START)
        if rows is not None:
            await execute(url, "ANALYZE rowlock_task")
        yield store


async def grow(url: str) -> None:
    """Add tasks that have ended."""
    columns = {"type": "'t'", "status": "'success'", "retain_for": "-1"}
    await execute(
        url, explain._insert(explain.POSTGRES, f"generate_series(1, {GROWN}) AS i", **columns)
    )


async def blocks(
    connection: asyncpg.Connection, statement: Statement, parameters: Mapping[str, Any]
) -> int:
    """How many blocks a statement touches that the connection has prepared."""
    name = await connection.fetchval(
        "SELECT name FROM pg_prepared_statements WHERE statement = $1", statement.sql
    )
    given = ", ".join(map(explain._literal, in_order(statement, parameters)))
    (plan,) = await connection.fetchval(
        f'EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE "{name}"({given})'
    )
    return int(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])


@pytest.mark.session
@pytest.mark.parametrize("rows", [None, 0, 1])
async def test_what_is_asked_again_and_again_never_scans_the_table(
    postgres_url: str, rows: int | None
) -> None:
    """Fails where rowlock's own connections let the planner scan the table."""
    given = {**Lanes().look(["t"]), "now": START, "limit": 10}
    given |= {"rooms": [10], "holder": "w", "lease": LEASE}
    statements = {
        "claim": _postgres._claim,
        "next due": _postgres._next_due,
        "expired": PostgresStore.sql.expired,
        "forget": PostgresStore.sql.forget,
    }
    async with analyzed(postgres_url, rows) as store, store._session() as fetch:
        for statement in statements.values():
            await fetch(statement, given)
        await grow(postgres_url)
        touched = {name: await blocks(fetch.driver, s, given) for name, s in statements.items()}
    assert max(touched.values()) < MOST_BLOCKS, touched


@pytest.mark.session
async def test_a_plan_that_was_slow_is_made_again(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where plans are never discarded, and where what was slow is not noted.

    PostgreSQL 14 and later plan what is done to an empty table as a scan; before, this cannot fail.
    """
    monkeypatch.setattr(_plans, "_SHORTEST", 0.0)
    async with analyzed(postgres_url, 0) as store:
        task = await insert_and_claim(store)
        await store.finish("worker", [success(task)], rows=False, now=START)
        await grow(postgres_url)
        succeed = store.sql.succeed
        given = {"now": START, "holder": "w", "all_id": [task.id], "all_attempt": [1]}
        given["all_result"] = ["1"]
        monkeypatch.setattr(_plans, "_TOLERATED", -1.0)
        monkeypatch.setattr(_plans, "_TOLERATED_PER_ROW", 0.0)
        async with store._session() as fetch:
            for _ in range(2):
                await fetch(succeed, given)
            assert await blocks(fetch.driver, succeed, given) < MOST_BLOCKS


@pytest.mark.parametrize("cached", [100, 0])
async def test_plans_are_discarded_before_a_statement(
    monkeypatch: pytest.MonkeyPatch, cached: int
) -> None:
    """Fails where it is done after one, for another batch, and where no plan is kept."""
    sent: list[str] = []

    class Driver:
        _config = SimpleNamespace(statement_cache_size=cached)

        async def fetch(self, sql: str, *arguments: Any, timeout: float) -> list[Any]:
            sent.append(sql)
            return []

        async def execute(self, sql: str, timeout: float) -> None:
            sent.append(sql)

    monkeypatch.setattr(_plans, "_OLD", 0.0)
    fetch = _postgres._Fetch(cast(asyncpg.Connection, Driver()))
    statement = Statement("SELECT", ["ids"], {}, text("SELECT"))
    await fetch(statement, {"ids": ["x"] * 99, "more": "x" * 100})
    assert sent == ["SELECT"]
    await fetch(statement, {"few": ["x"], "ids": ["x"] * 100, "none": []})
    assert sent[1:] == (["DISCARD PLANS", "SELECT"] if cached else ["SELECT"])


def test_when_plans_are_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails without each of the conditions."""
    now = 1000.0
    monkeypatch.setattr(_plans, "time", SimpleNamespace(monotonic=lambda: now))
    plans = Plans()
    now += 9.9
    assert not plans.are_stale(100)
    now += 0.2
    assert not plans.are_stale(99)
    assert plans.are_stale(100)
    plans.discarded()
    assert not plans.are_stale(100)
    now += 0.9
    plans.executed(0.024, 100)
    plans.executed(0.016, 1)
    plans.executed(0.016, 100)
    assert not plans.are_stale(0)
    now += 0.2
    assert plans.are_stale(0)
    plans.discarded()
    now += 5
    assert not plans.are_stale(0)


def test_slow_statements_that_no_plan_helps_are_put_up_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fails where plans are made again once a second, or once a minute for ever."""
    now = 1000.0
    monkeypatch.setattr(_plans, "time", SimpleNamespace(monotonic=lambda: now))
    plans = Plans()

    def discards(seconds: int) -> list[int]:
        nonlocal now
        found = []
        for second in range(1, seconds + 1):
            now += 1
            plans.executed(0.1, 0)
            if plans.are_stale(0):
                plans.discarded()
                found.append(second)
        return found

    assert discards(200) == [1, 3, 7, 15, 31, 63, 123, 183]
    now += 120
    assert discards(10) == [1, 2, 4, 8]
