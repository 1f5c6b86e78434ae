"""Chancy."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import ClassVar

from chancy import Chancy as App
from chancy import Job, Queue, Worker

from benchmarks.peers import _marks
from benchmarks.peers._peer import POSTGRESQL, Creator, Peer

_QUEUE = "nothing"
_CONCURRENCY = 100


class Chancy(Peer):
    """https://github.com/TkTech/chancy."""

    name = "chancy"
    distributions: ClassVar[tuple[str, ...]] = ("chancy", "psycopg")
    server = POSTGRESQL
    rows = "kept until its pruner comes"
    settings = (
        f"docs of chancy.queue.Queue: AsyncExecutor, concurrency={_CONCURRENCY} (that executor's "
        "default), eager_polling=True (its default is False); push_many; default plugins"
    )
    rate = 900
    # A deep backlog would take it minutes to make.
    leaves_out = frozenset({"deep"})
    counts = """
        SELECT count(*) FILTER (WHERE state IN ('pending', 'running')),
               count(*) FILTER (WHERE state = 'succeeded' AND attempts = 1)
        FROM chancy_jobs
    """

    def _app(self, url: str, connections: int) -> App:
        return App(
            url,
            min_connection_pool_size=connections,
            max_connection_pool_size=connections,
            log=logging.getLogger("chancy"),
        )

    async def install(self, url: str) -> None:
        async with self._app(url, 1) as app:
            await app.migrate()
            await app.declare(
                Queue(
                    _QUEUE,
                    concurrency=_CONCURRENCY,
                    executor=App.Executor.Async,
                    eager_polling=True,
                )
            )

    @asynccontextmanager
    async def creating(self, url: str, connections: int) -> AsyncIterator[Creator]:
        job = Job.from_func(_marks.handler, queue=_QUEUE)

        async def many(payloads: list[str]) -> None:
            jobs = [job.with_kwargs(payload=payload) for payload in payloads]
            async for _ in app.push_many(jobs):
                pass

        async with self._app(url, connections) as app:
            yield Creator(lambda payload: app.push(job.with_kwargs(payload=payload)), many)

    async def work(self, url: str, go: Callable[[], None], place: int) -> None:
        async with self._app(url, 10) as app:
            go()
            async with Worker(app, register_signal_handlers=False) as worker:
                await worker.wait_for_shutdown()


PEER = Chancy()
