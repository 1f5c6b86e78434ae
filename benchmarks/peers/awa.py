"""Awa, whose worker is written in Rust."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import awa

from benchmarks.peers._marks import hit
from benchmarks.peers._peer import POSTGRESQL, Creator, Peer

_QUEUE = "nothing"
_WORKERS = 512


@dataclass
class _Nothing:
    payload: str


class Awa(Peer):
    """https://github.com/hardbyte/awa."""

    name = "awa"
    distributions: ClassVar[tuple[str, ...]] = ("awa-pg",)
    server = POSTGRESQL
    rows = "kept until their partition is truncated, seconds later"
    settings = (
        f"docs/configuration.md: max_workers={_WORKERS} (its default is 50), claim_batch_size=512 "
        "(the default), and its hint for a hot queue to leave claimers at 1; "
        "README.md of awa-python: enqueue_many_copy"
    )
    rate = 4500
    counts = """
        SELECT count(*) FILTER (WHERE state <> 'completed'), NULL FROM awa.jobs
    """

    async def install(self, url: str) -> None:
        async with awa.AsyncClient(url) as client:
            await client.migrate()
            await client.install_queue_storage(schema="awa")

    @asynccontextmanager
    async def creating(self, url: str, connections: int) -> AsyncIterator[Creator]:
        client = awa.AsyncClient(url, max_connections=connections)
        yield Creator(
            lambda payload: client.insert(_Nothing(payload), queue=_QUEUE),
            lambda payloads: client.enqueue_many_copy(list(map(_Nothing, payloads)), queue=_QUEUE),
        )
        await client.close()

    async def work(self, url: str, go: Callable[[], None], place: int) -> None:
        client = awa.AsyncClient(url)

        async def nothing(job: Any) -> None:
            hit(job.args.payload)

        client.task(_Nothing, queue=_QUEUE)(nothing)
        go()
        await client.start([(_QUEUE, _WORKERS)])
        await asyncio.Event().wait()


PEER = Awa()
