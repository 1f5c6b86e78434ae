"""rowlock on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import ClassVar

from benchmarks.peers import _marks
from benchmarks.peers._peer import POSTGRESQL, Creator, Peer
from rowlock import NewTask, TaskQueue, schema

_TYPE = "nothing"


class Rowlock(Peer):
    """With all its guarantees."""

    name = "rowlock"
    distributions: ClassVar[tuple[str, ...]] = ("rowlock", "asyncpg", "uvloop")
    server = POSTGRESQL
    rows = "kept (retain_for=-1)"
    settings = "as it comes, on uvloop as `rowlock worker`"
    uvloop = True
    rate = 50_000
    counts = """
        SELECT count(*) FILTER (WHERE status IN ('pending', 'processing')),
               count(*) FILTER (WHERE status = 'success' AND attempt = 1)
        FROM rowlock_task
    """

    async def install(self, url: str) -> None:
        await asyncio.to_thread(schema.upgrade, url)

    @asynccontextmanager
    async def creating(self, url: str, connections: int) -> AsyncIterator[Creator]:
        async with TaskQueue(url) as queue:
            yield Creator(
                lambda payload: queue.create(_TYPE, payload, retain_for=-1),
                lambda payloads: queue.create_many(
                    NewTask(_TYPE, payload, retain_for=-1) for payload in payloads
                ),
            )

    async def work(self, url: str, go: Callable[[], None], place: int) -> None:
        async with TaskQueue(url) as queue:
            await queue.register_handler(_TYPE, _marks.__name__, "handler")
            go()
            await queue.start()
            await asyncio.Event().wait()


PEER = Rowlock()
