"""The other process of `steady`: creates tasks one by one at a given rate."""

from __future__ import annotations

import asyncio
import sys
import time

from benchmarks._process import answer, asked, ready
from benchmarks._worker import handled
from rowlock import TaskQueue

_TICK = 0.01


class _Load:
    created = 0
    stopped = False

    async def run(self, queue: TaskQueue, rate: int) -> None:
        """Create until it is stopped; what was late is made up for."""
        (task_type,) = handled(1)
        began = time.monotonic()
        while not self.stopped:
            due = int((time.monotonic() - began) * rate) - self.created
            await asyncio.gather(*(queue.create(task_type, n) for n in range(due)))
            self.created += due
            await asyncio.sleep(_TICK)


async def _main(url: str, rate: int) -> None:
    load = _Load()
    async with TaskQueue(url) as queue, asyncio.TaskGroup() as group:
        ready()
        async for word in asked():
            if word == "start":
                running = group.create_task(load.run(queue, rate))
            elif word == "stop":
                load.stopped = True
                await running
            answer({"created": load.created})
        load.stopped = True


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2])))
