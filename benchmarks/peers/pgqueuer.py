"""PgQueuer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import ClassVar

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from benchmarks.peers._marks import hit
from benchmarks.peers._peer import POSTGRESQL, Creator, Peer

_ENTRYPOINT = "nothing"
_BATCH = 400


class Pgqueuer(Peer):
    """https://github.com/janbjorge/pgqueuer."""

    name = "pgqueuer"
    distributions: ClassVar[tuple[str, ...]] = ("pgqueuer", "asyncpg", "uvloop")
    server = POSTGRESQL
    rows = "deleted, and a row kept in its log"
    settings = (
        f"docs/guides/performance-tuning.md: batch_size={_BATCH} (its default is 10), `pgq "
        "autovac`, a pool for producers and one asyncpg connection for the worker, durable "
        "(the default); uvloop as `pgq run`"
    )
    rate = 20_000
    uvloop = True
    counts = """
        SELECT (SELECT count(*) FROM pgqueuer),
               (SELECT count(*) FROM pgqueuer_log WHERE status = 'successful')
    """

    async def install(self, url: str) -> None:
        connection = await asyncpg.connect(url)
        queries = Queries(AsyncpgDriver(connection))
        await queries.install()
        await queries.optimize_autovacuum()
        await connection.close()

    @asynccontextmanager
    async def creating(self, url: str, connections: int) -> AsyncIterator[Creator]:
        async with asyncpg.create_pool(url, min_size=connections, max_size=connections) as pool:
            queries = Queries(AsyncpgPoolDriver(pool))

            async def many(payloads: list[str]) -> None:
                count = len(payloads)
                await queries.enqueue(
                    [_ENTRYPOINT] * count, [p.encode() for p in payloads], [0] * count
                )

            yield Creator(lambda payload: queries.enqueue(_ENTRYPOINT, payload.encode()), many)

    async def work(self, url: str, go: Callable[[], None], place: int) -> None:
        queue = PgQueuer(AsyncpgDriver(await asyncpg.connect(url)))

        async def nothing(job: Job) -> None:
            assert job.payload is not None
            hit(job.payload.decode())

        queue.entrypoint(_ENTRYPOINT)(nothing)
        go()
        await queue.run(batch_size=_BATCH)


PEER = Pgqueuer()
