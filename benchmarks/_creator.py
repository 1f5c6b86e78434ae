"""The other process of `latency`: creates tasks for a worker elsewhere."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time

from benchmarks._process import ready, until_stdin_ends
from rowlock import TaskQueue

TYPE = "arrive"
WARM_UP = 10


async def create(queue: TaskQueue, times: int) -> list[float]:
    """Create tasks at irregular intervals; return how long each call took."""
    taken = []
    for _ in range(WARM_UP + times):
        await asyncio.sleep(random.uniform(0.015, 0.045))
        called = time.monotonic()
        await queue.create(TYPE, called)
        taken.append(time.monotonic() - called)
    return taken[WARM_UP:]


async def _main(url: str, times: int) -> None:
    async with TaskQueue(url) as queue:
        ready()
        taken = await create(queue, times)
        print(json.dumps(taken), flush=True)
        await until_stdin_ends()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2])))
