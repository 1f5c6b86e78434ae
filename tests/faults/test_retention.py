"""Very many rows past their retention."""

from __future__ import annotations

import signal
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from rowlock import TaskQueue
from tests.faults.harness import Run
from tests.faults.producer import create_all
from tests.support.helpers import eventually
from tests.support.stores import execute

COLUMNS = (
    "id, type, status, priority, run_at, attempt, thread_id, lost_workers, retain_for,"
    " date_created, date_modified, date_retain_until"
)
POSTGRES = """
INSERT INTO rowlock_task ({columns})
SELECT gen_random_uuid(), 'past', 'success', 0, past, 1, 'w', 0, 1, past, past, past
FROM generate_series(1, {count}) AS n, LATERAL (
    SELECT now() - n * INTERVAL '1 millisecond' AS past
) AS instant
"""
SQLITE = """
INSERT INTO rowlock_task ({columns})
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})
SELECT lower(hex(randomblob(16))), 'past', 'success', 0, n, 1, 'w', 0, 1, n, n, n FROM numbers
"""
STATEMENT_TIMEOUT = 500


async def test_retention_of_many_rows(
    database: str, begin: Callable[..., Awaitable[Run]], size: Callable[..., int]
) -> None:
    """On PostgreSQL no statement may take longer than 500 ms; tasks go on beside it.

    Fails on PostgreSQL, from 100,000 rows on, where all is deleted at once (variant
    "forget-at-once").
    """
    run = await begin("retention", database, noted=False)
    run.cycles = count = size(short=20_000, ci=100_000, long=2_000_000)
    insert = SQLITE if database.startswith("sqlite") else POSTGRES
    await execute(database, insert.format(columns=COLUMNS, count=count))
    watched = database
    if not database.startswith("sqlite"):
        parts = urlsplit(database)
        # It is not the look of this test that may not take longer.
        query = "&".join(filter(None, (parts.query, "statement_timeout=0")))
        watched = parts._replace(query=query).geturl()
        name = parts.path.removeprefix("/")
        await execute(
            database, f'ALTER DATABASE "{name}" SET statement_timeout = {STATEMENT_TIMEOUT}'
        )
    node = run.worker("quick")
    await node.ready()
    began = time.monotonic()

    async def left() -> Any:
        return await execute(watched, "SELECT 1 FROM rowlock_task WHERE type = 'past' LIMIT 1")

    async with TaskQueue(database) as queue:
        ids: list[str] = []
        while await left():
            assert time.monotonic() - began < 60 + count / 500, run.ledger.records("trouble")
            (task_id,) = await create_all(queue, run.ledger, f"{len(ids)}", 1, "quick")
            ids.append(task_id)
            await run.recorded(1, "end", task=task_id)
        await eventually(lambda: run.count("change", status="success") == len(ids), 60)
    node.signal(signal.SIGTERM)
    await node.ended()
    figures = run.blank()
    figures.acknowledged = len(ids)
    figures.drain = time.monotonic() - began
    batches = run.ledger.records("forgot")
    assert sum(batch["rows"] for batch in batches) >= count
    taken = sorted(batch["seconds"] * 1000 for batch in batches)
    figures.note = (
        f"{len(taken)} batches: median {median(taken):.1f} ms, longest {taken[-1]:.0f} ms"
    )
    run.report(figures)
    assert run.ledger.records("trouble") == []
