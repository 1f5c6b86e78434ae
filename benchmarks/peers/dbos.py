"""DBOS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import ClassVar

from dbos import DBOS, DBOSClient, DBOSConfig

from benchmarks.peers._marks import hit
from benchmarks.peers._peer import POSTGRESQL, Creator, Peer

_QUEUE, _NAME, _VERSION = "nothing", "field", "1"
_POLL = 0.01
_CONCURRENCY = 100


class Dbos(Peer):
    """https://github.com/dbos-inc/dbos-transact-py."""

    name = "dbos"
    distributions: ClassVar[tuple[str, ...]] = ("dbos", "psycopg")
    server = POSTGRESQL
    rows = "kept"
    settings = (
        f"docs/python/reference/queues.md: worker_concurrency={_CONCURRENCY}, "
        f"polling_interval_sec={_POLL} (its default is 1); configuration.md: executor_id, log_level"
    )
    rate = 800
    # Its client has no call for many workflows, so that a deep backlog would take minutes to make.
    leaves_out = frozenset({"create-bulk", "deep"})
    counts = """
        SELECT count(*) FILTER (WHERE status <> 'SUCCESS'),
               count(*) FILTER (WHERE status = 'SUCCESS')
        FROM dbos.workflow_status
    """

    async def install(self, url: str) -> None:
        await asyncio.to_thread(_launch, url, 0)
        DBOS.destroy()

    @asynccontextmanager
    async def creating(self, url: str, connections: int) -> AsyncIterator[Creator]:
        client = DBOSClient(system_database_url=url)
        yield Creator(
            lambda payload: client.enqueue_async(
                {"queue_name": _QUEUE, "workflow_name": "nothing", "app_version": _VERSION}, payload
            )
        )
        client.destroy()

    async def work(self, url: str, go: Callable[[], None], place: int) -> None:
        go()
        await asyncio.to_thread(_launch, url, place)
        await asyncio.Event().wait()


async def _nothing(payload: str) -> None:
    hit(payload)


def _launch(url: str, place: int) -> None:
    config: DBOSConfig = {
        "name": _NAME,
        "system_database_url": url,
        "executor_id": str(place),
        "application_version": _VERSION,
        "log_level": "ERROR",
        "run_admin_server": False,
    }
    DBOS(config=config)
    DBOS.workflow(name="nothing")(_nothing)
    DBOS.launch()
    DBOS.register_queue(_QUEUE, worker_concurrency=_CONCURRENCY, polling_interval_sec=_POLL)


PEER = Dbos()
