"""Nodes end themselves before and after each step."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.faults.crash import CRASHED, HANDLER, PRODUCER, WORKER
from tests.faults.harness import Run

Begin = Callable[[str, str], Awaitable[Run]]


async def test_killed_at_each_step_of_a_worker(
    database: str, begin: Begin, size: Callable[..., int]
) -> None:
    """Each node meets what those before it left behind; the last one finishes it all.

    Fails where nobody sweeps (variant "no-sweep").
    """
    run = await begin("killed at each step", database)
    for cycle in range(size(short=1, ci=10, long=50)):
        for point in [*HANDLER, *WORKER]:
            producing = run.producer("quick", count=8, gap=0, name=f"{point}-{cycle}")
            await producing.ended()
            types = ["quick"]
            if point.startswith("sweep"):
                # It runs no tasks, so that another one must have lost some.
                types = []
                await crashing(run, "start-after", "quick")
            await crashing(run, point, *types)
            run.cycles += 1
    run.worker("quick")
    await run.finish()


async def crashing(run: Run, point: str, *types: str) -> None:
    node = run.worker(*types, options={"max_worker_count": 1}, crash=point)
    await node.ended(CRASHED)
    assert run.count("crash", point=point, process=node.pid) == 1


async def test_killed_at_each_step_of_a_create(
    database: str, begin: Begin, size: Callable[..., int]
) -> None:
    """The next producer asks again for all that the last one asked for.

    Fails where a key makes a second row (variant "no-keys").
    """
    run = await begin("create cut off", database)
    for cycle in range(size(short=1, ci=10, long=50)):
        for point in PRODUCER:
            name = f"{point}-{cycle}"
            await run.producer("quick", keyed=True, name=name, crash=point).ended(CRASHED)
            assert run.count("crash", point=point) == cycle + 1
            again = run.producer("quick", keyed=True, count=12, name=name)
            await again.ended()
            run.cycles += 1
    run.worker("quick")
    figures = await run.finish()
    assert figures.unknown == 0
