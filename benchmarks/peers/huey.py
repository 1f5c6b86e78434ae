"""huey on SQLite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from huey import SqliteHuey

from benchmarks._databases import sqlite_file
from benchmarks.peers._marks import hit
from benchmarks.peers._peer import LOOK, SQLITE, Creator, Peer


class Huey(Peer):
    """https://github.com/coleifer/huey."""

    name = "huey"
    distributions: ClassVar[tuple[str, ...]] = ("huey",)
    server = SQLITE
    rows = "deleted when a worker takes them: a task is lost if the worker dies"
    settings = (
        "docs/api.rst, SqliteHuey: fsync=True, which is synchronous=FULL, results=False; "
        f"docs/consumer.rst: one thread for each process, -n, -C, -d {LOOK} -m {LOOK}"
    )
    rate = 1500
    # Its calls are synchronous, and it has none for many tasks.
    leaves_out = frozenset({"create-concurrent", "create-bulk"})
    counts = "SELECT (SELECT count(*) FROM task), NULL"

    def _open(self, url: str, *, fsync: bool = True) -> tuple[SqliteHuey, Any]:
        queue = SqliteHuey(filename=sqlite_file(url), fsync=fsync, results=False, timeout=30)
        return queue, queue.task(name="nothing")(_nothing)

    async def install(self, url: str) -> None:
        self._open(url)

    @asynccontextmanager
    async def creating(self, url: str, connections: int) -> AsyncIterator[Creator]:
        _, task = self._open(url)

        async def one(payload: str) -> None:
            task(payload)

        yield Creator(one)

    async def fill(self, url: str, payloads: list[str]) -> None:
        _, task = self._open(url, fsync=False)
        for payload in payloads:
            task(payload)

    async def work(self, url: str, go: Callable[[], None], place: int) -> None:
        queue, _ = self._open(url)
        consumer = queue.create_consumer(
            workers=1,
            periodic=False,
            initial_delay=LOOK,
            max_delay=LOOK,
            check_worker_health=False,
        )
        go()
        consumer.start()
        await asyncio.Event().wait()


def _nothing(payload: str) -> None:
    hit(payload)


PEER = Huey()
