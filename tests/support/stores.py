"""Stores without a queue around them, and what puts rows into them. Instants are arguments."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from rowlock._endings import HandlerResult
from rowlock._ids import new_id
from rowlock._rows import HeldRow, NewRow, TaskRow
from rowlock._store.ends import AttemptOutcome, Policy
from rowlock._store.open import database_of
from rowlock._store.store import Store
from rowlock._store.url import async_url
from rowlock.models import Task

START = datetime(2027, 3, 9, 10, 30, tzinfo=UTC)
LEASE = 10_000


def at(milliseconds: int) -> datetime:
    """The instant so many milliseconds after the start of the test."""
    return START + timedelta(milliseconds=milliseconds)


@asynccontextmanager
async def open_store(
    url: str, *, retry_interval: int = 5000, max_lost_workers: int = 5, keep_failed: int = 0
) -> AsyncIterator[Store]:
    """A store on a database with the schema; its retries come exactly after their interval."""
    policy = Policy(retry_interval, max_lost_workers, keep_failed)
    store = Store(database_of(async_url(url)), policy)
    try:
        store.ends.spread = 0.0
        await store.database.open()
        yield store
    finally:
        await store.database.close()


def new_row(**overrides: Any) -> NewRow:
    """A row of type "t" that is due, has no bound on its tries and is kept for ever."""
    values: dict[str, Any] = {
        "id": new_id(),
        "type": "t",
        "payload": None,
        "retries_remaining": None,
        "retry_interval": None,
        "retain_for": -1,
        "priority": 0,
        "run_at": START,
        "delay": 0,
        "key": None,
    }
    return NewRow(**{**values, **overrides})


def operation(method: Any, *given: Any, **named: Any) -> Any:
    """What a method of the store's does, as the generator of its statements."""
    return method.__wrapped__(method.__self__, *given, **named)


async def claim_one(
    store: Store, *, holder: str = "worker", now: datetime | None = START, lease: int = LEASE
) -> TaskRow:
    """Claim the one task of type "t" that is due."""
    (row,) = await store.database.claim(holder, {"t": 2}, lease, now)
    return row


async def insert_and_claim(store: Store, *, holder: str = "worker", **overrides: Any) -> TaskRow:
    """Insert a task and claim it."""
    await store.tasks.insert(new_row(**overrides), START)
    return await claim_one(store, holder=holder)


def success(row: HeldRow, result: str | None = '"done"') -> AttemptOutcome:
    """The row's attempt returned."""
    return AttemptOutcome(row, HandlerResult(result=result))


def failure(row: HeldRow, *, retry: bool = True) -> AttemptOutcome:
    """The row's attempt raised."""
    return AttemptOutcome(
        row, HandlerResult(error='{"name":"ValueError","message":"no"}', retry=retry)
    )


async def existing(store: Store, task_id: str) -> Task:
    """A task that must be there."""
    task = await store.tasks.get(task_id)
    assert task is not None
    return task


async def execute(url: str, sql: str) -> list[tuple[Any, ...]]:
    """Run SQL that both databases understand, on a connection of its own."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10)) as database:
            rows: list[tuple[Any, ...]] = database.execute(sql).fetchall()
            database.commit()
        return rows
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


async def stored(url: str) -> Sequence[tuple[Any, ...]]:
    """Every row to the byte; on PostgreSQL with its version, which any write would change."""
    if url.startswith("sqlite"):
        return await execute(url, "SELECT * FROM rowlock_task ORDER BY id")
    return await execute(
        url, "SELECT t::text, ctid::text, xmin::text FROM rowlock_task t ORDER BY id"
    )


def is_writable(url: str) -> bool:
    """Whether nobody keeps all others from writing, as a process stopped amid a write to SQLite."""
    if not url.startswith("sqlite"):
        return True
    database = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=2)
    with closing(database), suppress(sqlite3.OperationalError):
        database.execute("BEGIN IMMEDIATE")
        return True
    return False
