"""The network is gone for longer than a lease, or for the connections that listen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import ExitStack

import pytest

from rowlock import TaskQueue
from rowlock._store.database import HintKind
from tests.faults.harness import PATIENCE, Run
from tests.faults.ledger import Record
from tests.faults.producer import create
from tests.faults.proxy import Proxy, proxied
from tests.support.helpers import eventually

Begin = Callable[[str, str], Awaitable[Run]]
Size = Callable[..., int]

LEASE = 2000
TASKS = 4
HEARD = {HintKind.WORK, HintKind.CANCEL}
DIRECTIONS = {"up": ("up",), "down": ("down",), "both": ("up", "down")}

# A connection that hears nothing is asked every 10 seconds, and has 4 to answer.
REPLACED_WITHIN = 15.0


@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_network_gone(postgres_url: str, begin: Begin, size: Size, direction: str) -> None:
    """A worker that is cut off ends its handlers before another worker begins the next attempts.

    Fails where leases that cannot be extended are kept (variant "keep-leases").
    """
    run = await begin(f"network gone: {direction}", postgres_url)
    with ExitStack() as stack:
        proxies: dict[int, Proxy] = {}
        for _ in range(2):
            proxy, url = stack.enter_context(proxied(run.url))
            node = run.worker("gated", url=url, lease=LEASE, options={"max_worker_count": TASKS})
            proxies[node.pid] = proxy
        await run.ready()
        async with TaskQueue(run.url) as queue:
            for cycle in range(size(short=1, ci=20)):
                tasks = await started(run, queue, cycle)
                cut_off = run.random.choice(sorted({begun["process"] for begun in tasks.values()}))
                proxies[cut_off].silence(*DIRECTIONS[direction])
                for task_id, begun in tasks.items():
                    if begun["process"] == cut_off:
                        await taken_over(run, task_id, cut_off)
                    run.open_gate(task_id, 1)
                await run.drained()
                proxies[cut_off].heal()
                run.cycles += 1
        await run.finish()


async def started(run: Run, queue: TaskQueue, cycle: int) -> dict[str, Record]:
    """Create tasks one after the other, so that their leases run out so; return their starts."""
    found: dict[str, Record] = {}
    for number in range(TASKS):
        task_id = await create(queue, run.ledger, f"{cycle}-{number}", "gated")
        assert task_id is not None
        await run.recorded(1, "start", task=task_id, attempt=1)
        (found[task_id],) = find(run, "start", task_id, 1)
    return found


async def taken_over(run: Run, task_id: str, cut_off: int) -> None:
    """Wait until the task's other worker runs it; the first must have given it up before."""
    await run.recorded(1, "start", task=task_id, attempt=2)
    (again,) = find(run, "start", task_id, 2)
    assert again["process"] != cut_off
    (given_up,) = find(run, "lost", task_id, 1)
    assert given_up["process"] == cut_off
    assert given_up["at"] < again["at"]
    run.open_gate(task_id, 2)
    await run.recorded(1, "end", task=task_id, attempt=2)
    assert not find(run, "end", task_id, 1)


def find(run: Run, event: str, task_id: str, attempt: int) -> list[Record]:
    return [
        record
        for record in run.ledger.records(event)
        if (record["task"], record["attempt"]) == (task_id, attempt)
    ]


async def test_deaf_listen(postgres_url: str, begin: Begin, size: Size) -> None:
    """Both directions of the listening connections are swallowed, and nobody is told.

    Fails where they are not asked whether they are alive (variant "trust-listener"), and where
    nobody polls.
    """
    run = await begin("deaf LISTEN", postgres_url)
    with proxied(run.url) as (proxy, url):
        workers = size(short=1, ci=4)
        for _ in range(workers):
            run.worker("quick", url=url)
        await run.ready()
        async with TaskQueue(run.url) as queue:
            for cycle in range(size(short=1, ci=5)):
                await eventually(lambda: hearing(proxy) == workers, PATIENCE, "listening")
                run.cycles += proxy.deafen()
                await create(queue, run.ledger, f"{cycle}", "quick")
                await run.drained()
                assert hearing(proxy) < workers
                await eventually(lambda: hearing(proxy) == workers, REPLACED_WITHIN, "replaced")
        await run.finish()


def hearing(proxy: Proxy) -> int:
    """How many connections listen to all that a worker hears, and hear."""
    return sum(link.heard == len(HEARD) and not link.silenced for link in list(proxy.links))
