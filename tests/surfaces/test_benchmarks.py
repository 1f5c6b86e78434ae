"""What the benchmarks put in the place of the library's own methods still fits it."""

from __future__ import annotations

from benchmarks._counting import claims_timed
from rowlock import TaskQueue
from tests.support import worker_handlers
from tests.support.helpers import eventually


async def test_claims_are_timed(database: str) -> None:
    """Fails where a worker gives a claim what the benchmark does not pass on."""
    worker_handlers.started.clear()
    with claims_timed() as taken:
        async with TaskQueue(database) as queue:
            await queue.register_handler("quick", "tests.support.worker_handlers", "echo")
            await queue.start()
            await queue.create("quick")
            await eventually(lambda: worker_handlers.started)
        assert taken
