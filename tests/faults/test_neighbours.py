"""One bad thing beside others: a locked row, a slow statement, a slow handler."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg

from rowlock import TaskQueue
from tests.faults.harness import PATIENCE, Run
from tests.faults.producer import create, create_all
from tests.store.test_batch_sizes import make_slow
from tests.support.helpers import eventually

Begin = Callable[[str, str], Awaitable[Run]]
Size = Callable[..., int]

LEASE = 1000
# Two leases: whoever lets go of a lease that is locked has let go of it by then.
HELD = 2.0


@asynccontextmanager
async def locked(url: str, task_id: str) -> AsyncIterator[None]:
    """A row that somebody has locked in psql."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            lock = "SELECT 1 FROM rowlock_task WHERE id = $1 FOR UPDATE"
            assert await connection.fetchval(lock, task_id)
            yield
    finally:
        await connection.close()


async def test_locked_rows(postgres_url: str, begin: Begin, size: Size) -> None:
    """Somebody locks a row that runs, one that waits and one that has ended, for two leases.

    They are late, and what is created meanwhile is not. Fails where the workers wait for the lock
    of a row (variant "wait-for-locks"), and where they look for it from time to time only: once it
    is gone, the sweeper of another one finds the lease run out (variant "pass-by").
    """
    run = await begin("locked rows", postgres_url)
    for _ in range(2):
        run.worker("gated", "quick", lease=LEASE)
    await run.ready()
    longest = 0.0
    async with TaskQueue(run.url) as queue:
        for cycle in range(size(short=2, ci=50, long=500)):
            key = f"{cycle}-runs"
            (runs,) = await create_all(queue, run.ledger, key, 1, "gated", keyed=True)
            (ended,) = await create_all(queue, run.ledger, f"{cycle}-ended", 1, "quick")
            (waits,) = await create_all(
                queue, run.ledger, f"{cycle}-waits", 1, "quick", delay=int(HELD * 500)
            )
            await run.recorded(1, "start", task=runs)
            await run.recorded(1, "write", write="finish", task=ended)
            async with (
                locked(run.url, runs),
                locked(run.url, ended),
                locked(run.url, waits),
            ):
                began = time.monotonic()
                # Its outcome comes while it is locked.
                run.open_gate(runs, 1)
                others = await create_all(queue, run.ledger, f"{cycle}-beside", 20, "quick")
                for task_id in others:
                    # Half of what a statement may take that waits for the lock.
                    await run.recorded(1, "write", write="finish", task=task_id, patience=15)
                longest = max(longest, time.monotonic() - began)
                again = await create_all(queue, run.ledger, key, 1, "gated", keyed=True)
                assert again == [runs]
                await asyncio.sleep(began + HELD - time.monotonic())
            run.cycles += 3
            await run.drained()
    await run.finish()
    run.line += f"  others ended within {longest:.1f} s"
    # No lease was lost, and no outcome refused.
    assert run.count("start") == run.count("start", attempt=1), run.log()


async def test_slow_statements(postgres_url: str, begin: Begin, size: Size) -> None:
    """The server ends each statement of more than some 20 rows: all outcomes are written.

    Fails where the same batch is sent again (variant "same-batch").
    """
    run = await begin("slow statements", postgres_url)
    await make_slow(run.url, "NEW.result IS NOT NULL")
    run.worker("quick", options={"max_worker_count": 100}, lease=5000)
    await run.ready()
    async with TaskQueue(run.url) as queue:
        for cycle in range(size(short=1, ci=10, long=100)):
            await create_all(queue, run.ledger, f"{cycle}", 60, "quick", payload={"seconds": 0.1})
            await run.drained()
            run.cycles += 1
    await run.finish()
    assert run.count("start") == 60 * run.cycles


async def test_slow_beside_quick(database: str, begin: Begin, size: Size) -> None:
    """What was claimed ahead of a task that turns out slow begins in a worker that is idle.

    Fails where it is kept (variant "hoard").
    """
    run = await begin("slow beside quick", database)
    options = {"max_worker_count": 2}
    run.worker("gated", "quick", options=options)
    await run.ready()
    longest = 0.0
    async with TaskQueue(database) as queue:
        for cycle in range(size(short=1, ci=20, long=100)):
            # It learns that they are quick, and claims many ahead.
            await create_all(queue, run.ledger, f"{cycle}-warm", 300, "quick")
            await run.drained()
            slow = [
                await create(queue, run.ledger, f"{cycle}-slow-{n}", "quick", priority=-9,
                             payload={"seconds": 6})
                for n in range(2)
            ]  # fmt: skip
            rest = await create_all(queue, run.ledger, f"{cycle}-rest", 60, "quick")
            for task_id in slow:
                await run.recorded(1, "start", task=task_id)
            idle = run.worker("quick", options=options)
            await idle.ready()
            began = time.monotonic()

            async def begun(rest: list[str] = rest) -> bool:
                started = {record["task"] for record in run.ledger.records("start")}
                return started >= set(rest)

            await eventually(begun, PATIENCE)
            longest = max(longest, time.monotonic() - began)
            assert [run.count("end", task=task_id) for task_id in slow] == [0, 0]
            await run.drained()
            idle.signal(signal.SIGTERM)
            await idle.ended()
            run.cycles += 1
    await run.finish()
    run.line += f"  begun within {longest:.1f} s"
