"""persist-queue."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

from persistqueue import Empty, SQLiteAckQueue

from benchmarks._databases import sqlite_file
from benchmarks.peers._marks import hit
from benchmarks.peers._peer import LOOK, SQLITE, Creator, Peer


class PersistQueue(Peer):
    """https://github.com/peter-wangxu/persist-queue."""

    name = "persist-queue"
    distributions: ClassVar[tuple[str, ...]] = ("persist-queue",)
    server = SQLITE
    rows = "kept until clear_acked_data() is called"
    settings = (
        "README.rst, Acknowledgment Queue: SQLiteAckQueue, get() and ack() in a loop, which "
        "cannot do without auto_commit; WAL, synchronous=FULL (SQLite's default); get(block=True) "
        f"sees no other process for 10 s, so that it looks every {LOOK * 1000:.0f} ms when idle"
    )
    rate = 800
    # Its calls are synchronous, none is for many items, and get() is a SELECT and an UPDATE in
    # two transactions: two processes get the same item.
    leaves_out = frozenset({"create-concurrent", "create-bulk", "drain-2", "drain-4"})
    counts = """
        SELECT count(*) FILTER (WHERE status < 5), count(*) FILTER (WHERE status = 5)
        FROM ack_queue_default
    """

    def _open(self, url: str) -> SQLiteAckQueue:
        file = Path(sqlite_file(url))
        return SQLiteAckQueue(str(file.parent), db_file_name=file.name)

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
        queue = self._open(url)
        queue._putter.execute("PRAGMA synchronous = OFF")
        for payload in payloads:
            queue.put(payload)
        queue.close()

    async def work(self, url: str, go: Callable[[], None], place: int) -> None:
        queue = self._open(url)
        go()
        while True:
            try:
                item = queue.get(block=False, raw=True)
            except Empty:
                time.sleep(LOOK)  # noqa: ASYNC251
                continue
            hit(item["data"])
            queue.ack(id=item["pqid"])


PEER = PersistQueue()
