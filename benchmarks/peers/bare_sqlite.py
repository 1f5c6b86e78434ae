"""sqlite3 alone, on rowlock's own table, at rowlock's synchronous = FULL."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from typing import Any, ClassVar

from benchmarks import _bare
from benchmarks._databases import sqlite_file
from benchmarks.peers._marks import hit
from benchmarks.peers._peer import SQLITE, Creator, Peer
from benchmarks.peers.rowlock_postgresql import _TYPE, Rowlock
from rowlock._ids import new_id

_FULL = 2
_INSERT = """
    INSERT INTO rowlock_task (id, type, status, priority, run_at, attempt, thread_id,
        lost_workers, retain_for, date_created, date_modified, payload)
    VALUES (?, ?, 'pending', 0, ?, 0, '0', 0, -1, ?, ?, ?)
"""


class BareOnSqlite(Peer):
    """No handler is looked up, nothing is leased, nothing overlaps."""

    name = "bare"
    distributions: ClassVar[tuple[str, ...]] = ()
    server = SQLITE
    rows = "kept"
    settings = f"synchronous=FULL; {_bare.BATCH} rows in each claim"
    rate = Rowlock.rate
    # One connection is what there is to write with.
    leaves_out = frozenset({"create-concurrent", "latency"})
    counts = Rowlock.counts

    async def install(self, url: str) -> None:
        await Rowlock().install(url)

    @asynccontextmanager
    async def creating(self, url: str, connections: int) -> AsyncIterator[Creator]:
        with closing(sqlite3.connect(sqlite_file(url), isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute(f"PRAGMA synchronous = {_FULL}")

            async def one(payload: str) -> None:
                database.execute(_INSERT, _row(payload))

            async def many(payloads: list[str]) -> None:
                database.execute("BEGIN IMMEDIATE")
                database.executemany(_INSERT, map(_row, payloads))
                database.execute("COMMIT")

            yield Creator(one, many)

    async def work(self, url: str, go: Callable[[], None], place: int) -> None:
        go()
        _bare.on_sqlite(url, _TYPE, _FULL, keep=True, seen=_see, holder=f"bare {place}")
        await asyncio.Event().wait()


def _row(payload: str) -> tuple[Any, ...]:
    now = time.time_ns() // 1000
    return new_id(), _TYPE, now, now, now, json.dumps(payload)


def _see(dumped: str) -> None:
    hit(json.loads(dumped))


PEER = BareOnSqlite()
