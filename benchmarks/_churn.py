"""The other process of `walk`: creates, finishes, cancels, retries and removes the whole time."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
from collections import deque

from benchmarks._process import ready, until_stdin_ends
from rowlock import NewTask, TaskQueue

TYPE = "churn"
_CREATED = 40
_KEPT = 1000


async def _main(url: str, victims: list[str]) -> None:
    random.shuffle(victims)
    counts = {"created": 0, "removed": 0, "retried": 0, "cancelled": 0}
    created: deque[str] = deque()
    numbers = itertools.count()
    async with TaskQueue(url) as queue:
        await queue.register_handler(TYPE, "benchmarks.handlers", "every_fifth_fails")
        await queue.start()
        ending = asyncio.create_task(until_stdin_ends())
        first = True
        while not ending.done():
            tasks = [
                NewTask(TYPE, next(numbers), retry_count=0, retain_for=-1) for _ in range(_CREATED)
            ]
            ids = await queue.create_many(tasks)
            created.extend(ids)
            counts["created"] += len(ids)
            gone = [created.popleft() for _ in range(max(0, len(created) - _KEPT))]
            if victims:
                gone.append(victims.pop())
            for task_id in gone:
                counts["removed"] += await queue.remove(task_id)
            # Those of `walk` as well as its own.
            for task_id in random.sample(victims, min(8, len(victims))):
                counts["retried"] += await queue.retry(task_id)
            for task_id in [*random.sample(victims, min(8, len(victims))), *ids[-2:]]:
                counts["cancelled"] += await queue.cancel(task_id)
            if first:
                ready()
                first = False
            await asyncio.sleep(0.005)
        print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    with open(sys.argv[2]) as file:
        asyncio.run(_main(sys.argv[1], json.load(file)))
