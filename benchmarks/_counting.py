"""What a process sends to its database, counted and timed from inside it."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import asyncpg

from benchmarks._databases import SQLITE
from rowlock._store.postgres.database import PostgresDatabase
from rowlock._store.sqlite import database as _sqlite
from rowlock._store.sqlite import driver as _driver
from rowlock._store.sqlite.database import SqliteDatabase

Ask = Callable[[str], Awaitable[Any]]

_TRANSACTIONS = (
    "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count statements by whose they are: at asyncpg's methods, and by SQLite's trace callback."""
    sent: Counter[str] = Counter()

    def count(statement: str) -> None:
        if "data_version" in statement:
            sent["file"] += 1
        else:
            sent["scheduler" if "rowlock_scheduled_task" in statement else "queue"] += 1

    def counting(method: Callable[..., Awaitable[Any]]) -> Any:
        async def call(driver: Any, statement: str, *args: Any, **options: Any) -> Any:
            count(statement)
            return await method(driver, statement, *args, **options)

        return call

    set_up = _driver.set_up

    def traced(driver: sqlite3.Connection) -> None:
        set_up(driver)
        driver.set_trace_callback(count)

    connection = asyncpg.Connection
    with (
        mock.patch.object(connection, "fetch", counting(connection.fetch)),
        mock.patch.object(connection, "execute", counting(connection.execute)),
        mock.patch.object(_sqlite, "set_up", traced),
    ):
        yield sent


@contextmanager
def claims_timed() -> Iterator[list[float]]:
    """Gather how many seconds each claim takes, also one that finds nothing."""
    taken: list[float] = []

    def timing(method: Callable[..., Awaitable[Any]]) -> Any:
        async def call(*args: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return await method(*args, **options)
            finally:
                taken.append(time.perf_counter() - began)

        return call

    with (
        mock.patch.object(PostgresDatabase, "_claim", timing(PostgresDatabase._claim)),
        mock.patch.object(SqliteDatabase, "_claim", timing(SqliteDatabase._claim)),
    ):
        yield taken


async def transactions_of(url: str, ask: Ask) -> int:
    """Return how many a PostgreSQL server has seen in this database; 0 on SQLite."""
    if url.startswith(SQLITE):
        return 0
    ((transactions,),) = await ask(_TRANSACTIONS)
    return int(transactions)
