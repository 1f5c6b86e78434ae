"""Workers and producers are killed at any moment, as kill -9 does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.faults.harness import Node, Run

WORKERS = 3


async def test_worker_killed(
    database: str,
    begin: Callable[[str, str], Awaitable[Run]],
    size: Callable[..., int],
) -> None:
    """Three workers under load; now and then the producer is killed, too.

    Fails where nobody sweeps (variant "no-sweep"), and where a create is acknowledged before its
    row is durable ("acknowledge-early").
    """
    run = await begin("worker killed", database)

    def worker() -> Node:
        return run.worker("quick", options={"max_worker_count": 4})

    def producer() -> Node:
        return run.producer("quick", payload={"seconds": 0.05}, gap=0.02)

    workers = [worker() for _ in range(WORKERS)]
    producing = producer()
    await run.ready()
    for _ in range(size(short=8, ci=200, long=2000)):
        begun = run.count("start")
        await run.recorded(begun + run.random.randrange(1, 40), "start")
        if run.random.random() < 0.2:
            await producing.ready()
            producing.kill()
            producing = producer()
        else:
            place = run.random.randrange(WORKERS)
            await workers[place].ready()
            workers[place].kill()
            workers[place] = worker()
        run.cycles += 1
    await run.ready()
    producing.kill()
    await run.finish()
    assert run.count("acknowledged") > 0
