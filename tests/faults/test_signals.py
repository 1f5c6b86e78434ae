"""SIGTERM, once and twice."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

from rowlock import TaskQueue
from tests.faults.harness import Run
from tests.faults.producer import create_all
from tests.support.stores import execute

BACKLOG = 40


async def test_sigterm(
    database: str,
    begin: Callable[[str, str], Awaitable[Run]],
    size: Callable[..., int],
) -> None:
    """No task has a second try, so that the loss of one would be the end of its task.

    A handler that a second signal interrupts was begun, and loses none either. Fails where what
    was claimed is not put back (variant "no-release").
    """
    run = await begin("SIGTERM", database)
    held: list[str] = []
    async with TaskQueue(database) as queue:
        for cycle in range(size(short=4, ci=100, long=1000)):
            twice = cycle % 2 == 1
            await create_all(
                queue,
                run.ledger,
                f"{cycle}",
                BACKLOG,
                "quick",
                payload={"seconds": 0.005},
                retry_count=0,
            )
            node = run.worker("quick", "gated", options={"max_worker_count": 2})
            begun = run.count("start")
            await run.recorded(begun + run.random.randrange(10, BACKLOG), "start")
            if twice:
                held += await create_all(
                    queue, run.ledger, f"gated {cycle}", 1, "gated", retry_count=0
                )
                await run.recorded(1, "start", task=held[-1])
                node.signal(signal.SIGTERM)
                # Two that are pending at once are one.
                await run.recorded(1, "draining", process=node.pid)
            node.signal(signal.SIGTERM)
            await node.ended()
            run.cycles += 1
            status = "SELECT count(*) FROM rowlock_task WHERE status = "
            assert await execute(database, f"{status} 'processing'") == [(0,)]
            for task_id in held:
                for attempt in range(2, 10):
                    run.open_gate(task_id, attempt)
    run.worker("quick", "gated")
    await run.finish()
    assert await execute(database, f"{status} 'failed'") == [(0,)]
    assert await execute(database, "SELECT max(lost_workers) FROM rowlock_task") == [(0,)]
