"""asyncpg alone, on rowlock's own table: INSERT, COPY, and the statements of `_bare`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import ClassVar

import asyncpg

from benchmarks import _bare
from benchmarks.peers._marks import hit
from benchmarks.peers._peer import POSTGRESQL, Creator, Peer
from benchmarks.peers.rowlock_postgresql import _TYPE, Rowlock
from rowlock._ids import new_id

_COLUMNS = (
    *("id", "type", "status", "priority", "run_at", "attempt", "thread_id", "lost_workers"),
    *("retries_remaining", "retry_interval", "retain_for", "date_created", "date_modified"),
    *("key", "payload"),
)
_INSERT = f"""
    INSERT INTO rowlock_task ({", ".join(_COLUMNS)})
    VALUES ($1, $2, 'pending', 0, now(), 0, '0', 0, NULL, NULL, -1, now(), now(), NULL, $3)
"""


class Bare(Peer):
    """No handler is looked up, nothing is leased, nothing overlaps."""

    name = "bare"
    distributions: ClassVar[tuple[str, ...]] = ("asyncpg", "uvloop")
    server = POSTGRESQL
    rows = "kept"
    settings = f"{_bare.BATCH} rows in each claim; on uvloop"
    uvloop = True
    rate = Rowlock.rate
    leaves_out = frozenset({"latency"})
    counts = Rowlock.counts

    async def install(self, url: str) -> None:
        await Rowlock().install(url)

    @asynccontextmanager
    async def creating(self, url: str, connections: int) -> AsyncIterator[Creator]:
        async with asyncpg.create_pool(url, min_size=connections, max_size=connections) as pool:
            statements: asyncio.Queue[asyncpg.prepared_stmt.PreparedStatement] = asyncio.Queue()
            held = [await pool.acquire() for _ in range(connections)]
            for connection in held:
                statements.put_nowait(await connection.prepare(_INSERT))

            async def one(payload: str) -> None:
                statement = await statements.get()
                await statement.fetch(new_id(), _TYPE, json.dumps(payload))
                statements.put_nowait(statement)

            async def many(payloads: list[str]) -> None:
                now = datetime.now(UTC)
                await held[0].copy_records_to_table(
                    "rowlock_task",
                    columns=_COLUMNS,
                    records=[
                        (
                            *(new_id(), _TYPE, "pending", 0, now, 0, "0", 0),
                            *(None, None, -1, now, now, None, dumped),
                        )
                        for dumped in map(json.dumps, payloads)
                    ],
                )

            yield Creator(one, many)
            for connection in held:
                await pool.release(connection)

    async def work(self, url: str, go: Callable[[], None], place: int) -> None:
        connection = await asyncpg.connect(url)
        go()
        await _bare.on_postgresql(connection, _TYPE, keep=True, seen=_see, holder=f"bare {place}")
        await asyncio.Event().wait()


def _see(dumped: str) -> None:
    hit(json.loads(dumped))


PEER = Bare()
