"""litequeue."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import ClassVar

from litequeue import LiteQueue

from benchmarks._databases import sqlite_file
from benchmarks.peers._marks import hit
from benchmarks.peers._peer import LOOK, SQLITE, Creator, Peer


class Litequeue(Peer):
    """https://github.com/litements/litequeue."""

    name = "litequeue"
    distributions: ClassVar[tuple[str, ...]] = ("litequeue",)
    server = SQLITE
    rows = "kept until prune() is called"
    settings = (
        "README.md: pop() and done() in a loop, WAL; synchronous=FULL, so that it is as durable "
        f"as the others (its own is NORMAL); looks every {LOOK * 1000:.0f} ms when idle"
    )
    rate = 1000
    # Its calls are synchronous, and it has none for many messages.
    leaves_out = frozenset({"create-concurrent", "create-bulk"})
    counts = (
        "SELECT count(*) FILTER (WHERE status < 2), count(*) FILTER (WHERE status = 2) FROM Queue"
    )

    def _open(self, url: str, synchronous: str = "FULL") -> LiteQueue:
        queue = LiteQueue(sqlite_file(url), timeout=30)
        queue.conn.execute(f"PRAGMA synchronous = {synchronous}")
        return queue

    async def install(self, url: str) -> None:
        self._open(url).close()

    @asynccontextmanager
    async def creating(self, url: str, connections: int) -> AsyncIterator[Creator]:
        queue = self._open(url)

        async def one(payload: str) -> None:
            queue.put(payload)

        yield Creator(one)
        queue.close()

    async def fill(self, url: str, payloads: list[str]) -> None:
        queue = self._open(url, "OFF")
        for payload in payloads:
            queue.put(payload)
        queue.close()

    async def work(self, url: str, go: Callable[[], None], place: int) -> None:
        queue = self._open(url)
        go()
        while True:
            message = queue.pop()
            if message is None:
                time.sleep(LOOK)  # noqa: ASYNC251
                continue
            hit(message.data)
            queue.done(message.message_id)


PEER = Litequeue()
