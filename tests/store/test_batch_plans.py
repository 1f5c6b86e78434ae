"""The plans of what is done to a batch of attempts, where the statistics know of none.

A backlog was analyzed while nothing of it was processing, so that the planner expects no row that
a worker holds; or the table was, while it held dead rows only, so that it expects none at all. It
must look the batch up by its keys all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from rowlock._rows import TaskRow
from rowlock._store.postgres import driver as _driver
from rowlock._store.postgres.database import PostgresDatabase
from rowlock._store.store import Store
from tests.store import test_explain as explain
from tests.store.test_explain import MODES
from tests.support.stores import LEASE, START, at, failure, new_row, open_store, operation, success

BATCH = 500
MOST_BLOCKS = 40 * BATCH


async def claimed(url: str) -> tuple[Store, list[TaskRow]]:
    async with open_store(url) as store:
        assert isinstance(store.database, PostgresDatabase)
        return store, await store.database.claim("w", {"t": 2 * BATCH}, LEASE, START)


def backlog(url: str, rows: int, *, emptied: bool) -> None:
    pending = {
        "type": "'t'",
        "priority": "0",
        "lease_until": "NULL::timestamptz",
        "retain_for": "CASE WHEN i % 2 = 0 THEN -1 ELSE 0 END",
        "run_at": f"timestamptz '{START.isoformat()}'",
    }
    insert = explain._insert(explain.POSTGRES, f"generate_series(0, {rows - 1}) AS i", **pending)
    dead = [insert, "DELETE FROM rowlock_task", "ANALYZE rowlock_task", insert]
    explain._script(
        url,
        "ALTER TABLE rowlock_task SET (autovacuum_enabled = off)",
        *(dead if emptied else [insert, "ANALYZE rowlock_task"]),
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rows", [2_000, 20_000])
@pytest.mark.parametrize("emptied", [True, False], ids=["emptied", "backlog"])
def test_a_batch_is_looked_up_by_its_keys(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, emptied: bool, mode: str, rows: int
) -> None:
    """Fails if the planner knows how long a batch is, and with an equality of ids."""
    backlog(postgres_url, rows, emptied=emptied)
    store, held = asyncio.run(claimed(postgres_url))
    kept, dropped = ([row for row in held if row.retain_for == kind] for kind in (-1, 0))
    assert len(kept) == len(dropped) == BATCH
    keyed = [new_row(key=f"key {number}") for number in range(BATCH)]
    attempts = [(row.id, row.attempt) for row in kept]
    monkeypatch.setattr(explain, "MOST_ROWS", BATCH)
    finish = store.attempts.finish
    operations: dict[str, Callable[[], Any]] = {
        "succeed": partial(
            operation, finish, "w", [success(r) for r in kept], rows=False, now=START
        ),
        "succeed, rows": partial(operation, finish, "w", [success(r) for r in kept], now=START),
        "fail": partial(operation, finish, "w", [failure(r) for r in kept], now=START),
        "drop": partial(
            operation, finish, "w", [success(r) for r in dropped], rows=False, now=START
        ),
        "extend": partial(operation, store.attempts.extend, "w", attempts, LEASE, START),
        "release": partial(operation, store.attempts.release, "w", attempts, START),
        "progress": partial(operation, store.attempts.progress, "w", dict.fromkeys(attempts, "{}")),
        "cancel requests": partial(operation, store.attempts.cancel_requests, "w", attempts),
        "create by key": partial(store.tasks._insert_each, keyed, START),
        "sweep": partial(operation, store.sweep.leases, BATCH, at(2 * LEASE)),
    }
    complaints = asyncio.run(
        explain._check_postgres(postgres_url, mode, _driver.BEGIN, operations, MOST_BLOCKS)
    )
    assert not complaints, "\n".join(complaints)
