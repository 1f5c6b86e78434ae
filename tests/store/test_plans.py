"""Plans that PostgreSQL makes while the table is empty, and keeps when it has grown.

It makes them again when it makes the statistics again, which here it never does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from rowlock._store.postgres.claim import ClaimPositions, ClaimStatements
from rowlock._store.postgres.database import PostgresDatabase
from rowlock._store.postgres.dialect import DIALECT
from rowlock._store.postgres.driver import in_order
from rowlock._store.sql import Statement
from rowlock._store.sweep import SweepStatements
from tests.store import test_explain as explain
from tests.support.stores import LEASE, START, execute, new_row, open_store

GROWN = 20_000
MOST_BLOCKS = 100


@asynccontextmanager
async def analyzed(url: str, rows: int | None) -> AsyncIterator[PostgresDatabase]:
    """A store on a table of so many rows, or of nobody knows how many."""
    await execute(url, "ALTER TABLE rowlock_task SET (autovacuum_enabled = off)")
    async with open_store(url) as store:
        assert isinstance(store.database, PostgresDatabase)
        await store.tasks.insert_many([new_row() for _ in range(rows or 0)], START)
        if rows is not None:
            await execute(url, "ANALYZE rowlock_task")
        yield store.database


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
    given = {**ClaimPositions().scan_from(["t"]), "now": START, "limit": 10}
    given |= {"rooms": [10], "holder": "w", "lease": LEASE}
    statements = {
        "claim": ClaimStatements.of(DIALECT).claim,
        "next due": ClaimStatements.of(DIALECT).next_due,
        "expired": SweepStatements.of(DIALECT).expired,
        "forget": SweepStatements.of(DIALECT).prune,
    }
    async with analyzed(postgres_url, rows) as database, database._session() as fetch:
        for statement in statements.values():
            await fetch(statement, given)
        await grow(postgres_url)
        touched = {name: await blocks(fetch.driver, s, given) for name, s in statements.items()}
    assert max(touched.values()) < MOST_BLOCKS, touched
