"""Procrastinate."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import ClassVar

import procrastinate

from benchmarks.peers._marks import hit
from benchmarks.peers._peer import POSTGRESQL, Creator, Peer

_CONCURRENCY = 30


class Procrastinate(Peer):
    """https://github.com/procrastinate-org/procrastinate."""

    name = "procrastinate"
    distributions: ClassVar[tuple[str, ...]] = ("procrastinate", "psycopg")
    server = POSTGRESQL
    rows = "kept (delete_jobs=never, its default)"
    settings = (
        f"docs/howto/production/concurrency.md: concurrency={_CONCURRENCY} (its default is 1); "
        "docs/howto/basics/batch_defer.md; docs/howto/production/connections.md: max_size"
    )
    rate = 600
    # A deep backlog would take it minutes to make.
    leaves_out = frozenset({"deep"})
    counts = """
        SELECT count(*) FILTER (WHERE status IN ('todo', 'doing')),
               count(*) FILTER (WHERE status = 'succeeded' AND attempts = 1)
        FROM procrastinate_jobs
    """

    def _app(self, url: str, connections: int) -> procrastinate.App:
        return procrastinate.App(
            connector=procrastinate.PsycopgConnector(
                conninfo=url, min_size=connections, max_size=connections
            )
        )

    async def install(self, url: str) -> None:
        async with self._app(url, 1).open_async() as app:
            await app.schema_manager.apply_schema_async()

    @asynccontextmanager
    async def creating(self, url: str, connections: int) -> AsyncIterator[Creator]:
        app = self._app(url, connections)
        task = app.task(name="nothing")(_nothing)
        async with app.open_async():
            yield Creator(
                lambda payload: task.defer_async(payload=payload),
                lambda payloads: task.batch_defer_async(*({"payload": p} for p in payloads)),
            )

    async def work(self, url: str, go: Callable[[], None], place: int) -> None:
        app = self._app(url, 10)
        app.task(name="nothing")(_nothing)
        async with app.open_async():
            go()
            await app.run_worker_async(concurrency=_CONCURRENCY, install_signal_handlers=False)


async def _nothing(payload: str) -> None:
    hit(payload)


PEER = Procrastinate()
