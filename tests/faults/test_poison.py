"""Tasks that take their worker down, each time they are tried."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from rowlock import TaskQueue
from tests.faults.harness import Node, Run
from tests.faults.producer import create_all
from tests.helpers import eventually
from tests.stores import execute

BOUND = 4
OTHERS = 10
KINDS = {
    # The worker goes with it, and somebody starts another one.
    "poison": ["exit", "segv", "kill"],
    # A process of its own does. It may ask for more memory than it gets, too.
    "poison_alone": ["exit", "segv", "kill", "memory"],
}


@pytest.mark.parametrize("handler", KINDS)
async def test_poison(
    database: str,
    begin: Callable[[str, str], Awaitable[Run]],
    size: Callable[..., int],
    handler: str,
) -> None:
    """Poison may be tried for ever, and is failed; what runs beside it finishes.

    What runs in its process is lost with it, but not every time.

    Fails where lost workers are not counted (variant "lost-workers-uncounted"), and where the
    tasks of a lost worker are all due again at once ("lost-in-step").
    """
    run = await begin(handler.replace("_", " "), database)

    def worker() -> Node:
        options = {"max_worker_count": 2}
        return run.worker(
            "quick",
            handler,
            options=options,
            max_lost_workers=BOUND,
            lease=1000,
            retry_interval=1000,
        )

    nodes = [worker(), worker()]

    async def replaced_and_drained() -> bool:
        for place, node in enumerate(nodes):
            if node.process.poll() is not None:
                assert handler == "poison", run.log()
                nodes[place] = worker()
        waiting = "SELECT count(*) FROM rowlock_task WHERE status IN ('pending', 'processing')"
        return await execute(database, waiting) == [(0,)]

    async with TaskQueue(database) as queue:
        for _ in range(size(short=1, ci=17, long=170)):
            poison = []
            for how in KINDS[handler]:
                # What only raises has its own bound.
                tries = BOUND - 1 if how == "memory" else None
                poison += await create_all(
                    queue,
                    run.ledger,
                    f"{how} {run.cycles}",
                    1,
                    handler,
                    payload={"how": how},
                    retry_count=tries,
                )
            others = await create_all(queue, run.ledger, f"other {run.cycles}", OTHERS, "quick")
            await eventually(replaced_and_drained, 60, "drained")
            for task_id in poison:
                task = await queue.get(task_id)
                assert task is not None
                assert task.status == "failed"
                assert run.count("start", task=task_id) <= BOUND
                run.cycles += 1
            for task_id in others:
                task = await queue.get(task_id)
                assert task is not None
                assert task.status == "success", task
    await run.finish()
