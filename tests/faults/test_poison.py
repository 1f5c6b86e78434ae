"""Tasks that take their worker down, each time they are tried."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest

from rowlock import TaskQueue
from tests.faults.harness import Node, Run
from tests.faults.producer import create_all
from tests.support.helpers import eventually
from tests.support.stores import execute

BOUND = 4
OTHERS = 10
KINDS = {
    # The worker goes with it, and somebody starts another one.
    "poison": ["exit", "segv", "kill"],
    # A process of its own does. It may ask for more memory than it gets, too.
    "poison_alone": ["exit", "segv", "kill", "memory"],
}


class Workers:
    """Two workers, each of which is replaced when it is brought down."""

    def __init__(self, run: Run, handler: str, **settings: Any) -> None:
        self._run = run
        self._handler = handler
        self._settings = settings
        self._nodes = [self._start(), self._start()]

    def _start(self) -> Node:
        options = {"max_worker_count": 2}
        return self._run.worker("quick", self._handler, options=options, **self._settings)

    async def drained(self) -> bool:
        """Whether nothing is left to do."""
        for place, node in enumerate(self._nodes):
            if node.process.poll() is not None:
                assert self._handler == "poison", self._run.log()
                self._nodes[place] = self._start()
        waiting = "SELECT count(*) FROM rowlock_task WHERE status IN ('pending', 'processing')"
        return await execute(self._run.url, waiting) == [(0,)]


async def check(
    run: Run, queue: TaskQueue, deadly: Iterable[str], others: Iterable[str], bound: int
) -> None:
    """Each of the first has failed at its bound, and all others have finished."""
    for task_id in deadly:
        task = await queue.get(task_id)
        assert task is not None
        assert task.status == "failed"
        assert run.count("start", task=task_id) <= bound
        run.cycles += 1
    for task_id in others:
        task = await queue.get(task_id)
        assert task is not None
        assert task.status == "success", task


@pytest.mark.parametrize("handler", KINDS)
async def test_poison(
    database: str,
    begin: Callable[[str, str], Awaitable[Run]],
    size: Callable[..., int],
    handler: str,
) -> None:
    """Poison may be tried for ever, and is failed; what runs beside it finishes.

    What runs in its process is lost with it, but not in its last try.

    Fails where lost workers are not counted (variant "lost-workers-uncounted").
    """
    run = await begin(handler.replace("_", " "), database)
    workers = Workers(run, handler, max_lost_workers=BOUND, lease=1000, retry_interval=1000)
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
            await eventually(workers.drained, 60, "drained")
            await check(run, queue, poison, others, BOUND)
    await run.finish()


async def test_good_tasks_are_not_failed_with_deadly_ones(
    database: str, begin: Callable[[str, str], Awaitable[Run]], size: Callable[..., int]
) -> None:
    """All come back at the same instant, as close to the deadly ones as before.

    Fails where the last try of a task that has lost its workers is not made alone (variant
    "never-alone").
    """
    bound = 2
    run = await begin("among poison", database)
    workers = Workers(run, "poison", max_lost_workers=bound, lease=3000, retry_interval=0)
    async with TaskQueue(database) as queue:
        for _ in range(size(short=1, ci=5, long=50)):
            deadly = await create_all(
                queue, run.ledger, f"deadly {run.cycles}", 3, "poison", payload={"how": "exit"}
            )
            others = await create_all(
                queue, run.ledger, f"other {run.cycles}", OTHERS, "quick", payload={"seconds": 0.1}
            )
            await eventually(workers.drained, 90, "drained")
            await check(run, queue, deadly, others, bound)
    await run.finish()
