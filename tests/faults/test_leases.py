"""Workers that go on after they have lost their tasks, and workers that must not lose them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from rowlock import TaskQueue
from tests.faults.harness import Run
from tests.faults.producer import create_all

Begin = Callable[[str, str], Awaitable[Run]]
Size = Callable[..., int]

AT_ONCE = 3
LEASE = 1000


async def test_zombie(database: str, begin: Begin, size: Size) -> None:
    """A worker is stopped past its lease; attempt 2 runs elsewhere when its handler returns.

    Each zombie writes at least its outcome, for its handler blocks the loop: nothing there hears
    before that its lease is gone. Fails where the fence is the status (variant
    "fence-by-status"), with one accepted write a zombie.
    """
    run = await begin("zombie", database)
    for _ in range(2 * AT_ONCE):
        run.worker("blocking", options={"max_worker_count": 1}, lease=LEASE)
    await run.ready()
    async with TaskQueue(database) as queue:
        for _ in range(size(short=1, ci=17, long=170)):
            ids = await create_all(queue, run.ledger, f"{run.cycles}", AT_ONCE, "blocking")
            for task_id in ids:
                await run.recorded(1, "start", task=task_id, attempt=1)
                await run.holder(task_id, 1).stop()
            for task_id in ids:
                await run.recorded(1, "start", task=task_id, attempt=2)
            # A zombie may not begin anything else, which would keep its outcome from being written.
            for task_id in ids:
                run.open_gate(task_id, 1)
                run.holder(task_id, 1).go_on()
            for task_id in ids:
                await run.recorded(1, "write", write="finish", task=task_id, attempt=1)
                run.open_gate(task_id, 2)
            for task_id in ids:
                await run.recorded(1, "write", write="finish", task=task_id, attempt=2)
                run.cycles += 1
                ends = [run.count("end", task=task_id, attempt=attempt) for attempt in (1, 2)]
                assert ends == [1, 1]
    figures = await run.finish()
    assert figures.refused >= run.cycles


async def test_own_lost_task(database: str, begin: Begin, size: Size) -> None:
    """The same process holds attempt 1, which it has lost, and attempt 2: its leases stall.

    Fails where the fence is the holder (variant "fence-by-holder").
    """
    run = await begin("own lost task", database)
    node = run.worker("gated", lease=LEASE, stalled_leases=True)
    # Its own sweeper spares what it holds.
    run.worker("quick")
    await run.ready()
    async with TaskQueue(database) as queue:
        for _ in range(size(short=1, ci=13, long=130)):
            ids = await create_all(queue, run.ledger, f"{run.cycles}", 4, "gated")
            for task_id in ids:
                await run.recorded(1, "start", task=task_id, attempt=2)
                assert run.holder(task_id, 1) is run.holder(task_id, 2) is node
                run.open_gate(task_id, 1)
            for task_id in ids:
                await run.recorded(1, "write", write="finish", task=task_id, attempt=1)
                # However many leases have run out meanwhile.
                for attempt in range(2, 50):
                    run.open_gate(task_id, attempt)
                run.cycles += 1
            await run.drained()
    figures = await run.finish()
    assert figures.refused >= run.cycles


async def test_stopped_alone(database: str, begin: Begin, size: Size) -> None:
    """The only worker is stopped past its lease, and goes on with what it ran.

    Its own sweeper comes as soon as its leases do. Fails where that takes what this process holds
    (variant "sweep-own"; about every second time).
    """
    run = await begin("stopped alone", database)
    node = run.worker("gated", lease=LEASE)
    await run.ready()
    async with TaskQueue(database) as queue:
        for _ in range(size(short=3, ci=13, long=130)):
            ids = await create_all(queue, run.ledger, f"{run.cycles}", 4, "gated")
            for task_id in ids:
                await run.recorded(1, "start", task=task_id)
            await node.stop()
            await asyncio.sleep(1.5 * LEASE / 1000)
            node.go_on()
            # It looks again and again what has run out.
            await asyncio.sleep(0.5)
            for task_id in ids:
                run.open_gate(task_id, 1)
                run.cycles += 1
            await run.drained()
    await run.finish()
    assert run.count("start") == run.count("start", attempt=1) == run.cycles


async def test_loop_blocked(database: str, begin: Begin, size: Size) -> None:
    """A handler blocks the event loop for three leases, and runs once.

    Fails where leases are extended in the loop (variant "leases-in-loop").
    """
    run = await begin("event loop blocked", database)
    for _ in range(5):
        run.worker("sleepy", options={"max_worker_count": 1}, lease=1500)
    run.worker()
    await run.ready()
    async with TaskQueue(database) as queue:
        for _ in range(size(short=1, ci=10, long=100)):
            ids = await create_all(
                queue, run.ledger, f"{run.cycles}", 5, "sleepy", payload={"seconds": 4.5}
            )
            await run.drained()
            run.cycles += 5
            assert [run.count("start", task=task_id) for task_id in ids] == [1] * 5
    await run.finish()
