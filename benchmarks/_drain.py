"""One drain by workers in processes of their own, with a check of what came of each task."""

from __future__ import annotations

import asyncio
import time
from asyncio.subprocess import Process
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from itertools import islice
from typing import NamedTuple

from benchmarks import _linux
from benchmarks._databases import SQLITE, session
from benchmarks._process import ask, other
from benchmarks._worker import handled
from rowlock import NewTask, TaskQueue

_TIMEOUT = 900
_CHUNK = 500

# New ids are above all that were there before, so these see nothing of a backlog.
_UNFINISHED = "SELECT 1 FROM rowlock_task WHERE status = 'processing' LIMIT 1"
_ENDS = (
    "SELECT status, attempt, count(*) FROM rowlock_task WHERE id >= '{}' GROUP BY status, attempt"
)
_LAST = {
    True: "SELECT max(date_modified) / 1e6 FROM rowlock_task WHERE id >= '{}'",
    False: "SELECT EXTRACT(EPOCH FROM max(date_modified))::float8 FROM rowlock_task"
    " WHERE id >= '{}'",
}


class Drained(NamedTuple):
    """What a drain took.

    Attributes:
        seconds: from the start of the workers to the last outcome that they wrote.
        peak: the most memory that one of them had, in MiB.
    """

    seconds: float
    peak: float


async def drain(
    url: str,
    tasks: int,
    *,
    types: int = 1,
    payload: str = "x" * 98,
    workers: int = 1,
    retain_for: int = -1,
) -> Drained:
    """Create tasks, then start workers, and wait until they have finished each task once.

    Args:
        url: the database, in which nothing else is due for the types that are handled.
        tasks: how many.
        types: over how many types they are spread, all of which each worker handles.
        payload: of each.
        workers: how many processes.
        retain_for: -1 or 0. What is dropped leaves no instant of its end: `seconds` is then
            that at which it was noticed.
    """
    first = await _create(url, tasks, types, payload, retain_for)
    async with AsyncExitStack() as stack:
        ask_database = await stack.enter_async_context(session(url))
        processes = [
            await stack.enter_async_context(worker(url, types=types)) for _ in range(workers)
        ]
        began = time.time()
        await asyncio.gather(*(ask(process, "start") for process in processes))
        async with asyncio.timeout(_TIMEOUT):
            while (calls := await _calls(processes)) < tasks:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            # All handlers have run; the last outcomes are still to be written.
            while await ask_database(_UNFINISHED):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        ended = time.time()
        ends = await ask_database(_ENDS.format(first))
        if calls != tasks or ends != ([("success", 1, tasks)] if retain_for else []):
            raise SystemExit(f"{tasks:,} tasks made {calls:,} calls and ended as {ends}")
        if retain_for:
            ((ended,),) = await ask_database(_LAST[url.startswith(SQLITE)].format(first))
        peak = max(_linux.memory(process.pid, "VmHWM") for process in processes)
    return Drained(ended - began, peak)


def worker(
    url: str, *, types: int = 1, watched: str = "nothing"
) -> AbstractAsyncContextManager[Process]:
    """Run a worker that waits for the word `start`; see `_worker`."""
    return other("_worker", url, str(types), watched)


async def _create(url: str, tasks: int, types: int, payload: str, retain_for: int) -> str:
    names = handled(types)
    new = (NewTask(names[n % types], payload, retain_for=retain_for) for n in range(tasks))
    async with TaskQueue(url) as queue:
        first, *_ = await queue.create_many(islice(new, _CHUNK))
        while await queue.create_many(islice(new, _CHUNK)):
            pass
    return first


async def _calls(processes: list[Process]) -> int:
    found = await asyncio.gather(*(ask(process, "figures") for process in processes))
    return sum(figures["calls"] for figures in found)
