"""The server ends every connection to the database, again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.faults.harness import Run
from tests.support.stores import execute

GAP = 0.3
_TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


async def test_every_backend_terminated(
    postgres_url: str,
    begin: Callable[[str, str], Awaitable[Run]],
    size: Callable[..., int],
) -> None:
    """No worker ends, those that listen and those that are idle included.

    Fails where a loop ends with the first error of a pass.
    """
    run = await begin("backends terminated", postgres_url)
    workers = [run.worker("quick", options={"max_worker_count": 4}) for _ in range(2)]
    producer = run.producer("quick", payload={"seconds": 0.02}, gap=0.02, keyed=True)
    await run.ready()
    terminated = 0
    for _ in range(size(short=10, ci=300)):
        terminated += len(await execute(run.url, _TERMINATE))
        run.cycles += 1
        # The interval is the fault's; nothing is waited for.
        await asyncio.sleep(GAP)
        assert all(node.process.poll() is None for node in [*workers, producer]), run.log()
    assert terminated > run.cycles
    producer.kill()
    await run.finish()
    assert run.count("acknowledged") > 0
