"""Worker processes: what one more of them brings, and a no-op against the standard library."""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, wait
from statistics import median

from benchmarks import handlers
from benchmarks._databases import fresh, kind
from benchmarks._report import Report
from rowlock import HandlerOptions, NewTask, SizeLimits, TaskQueue, TaskStatus
from rowlock._endings import HandlerResult
from rowlock._executors.handler import Handler
from rowlock._rows import TaskRow
from rowlock._worker.pool import Job, Owner
from rowlock._worker.slot_pool import SlotPool

_PAYLOAD = '{"padding":"' + "x" * 86 + '"}'


def run(server: str, arguments: argparse.Namespace, report: Report) -> bool:
    """Run both, round by round; report ratios of medians."""
    _digests(server, arguments, report)
    _overhead(arguments, report)
    return True


# SHA-256 of 5 MB, through the whole queue.


def _digests(server: str, arguments: argparse.Namespace, report: Report) -> None:
    tasks, counts = arguments.digests, (1, arguments.workers)
    seconds: dict[int, list[float]] = {workers: [] for workers in counts}
    pauses: dict[int, float] = dict.fromkeys(counts, 0.0)
    for _ in range(arguments.rounds):
        for workers in counts:
            with fresh(server) as url:
                taken, pause = asyncio.run(_digest(url, tasks, workers))
            seconds[workers].append(taken)
            pauses[workers] = max(pauses[workers], pause)
    report.table(
        {"benchmark": "processes", "server": kind(server)},
        [
            {
                f"{tasks} times SHA-256 of 5 MB": f"{workers} process(es)",
                "median s": median(taken),
                "speed / 1 process": median(seconds[1]) / median(taken),
                "longest pause of the loop, ms": pauses[workers] * 1000,
            }
            for workers, taken in seconds.items()
        ],
    )


async def _digest(url: str, tasks: int, workers: int) -> tuple[float, float]:
    async with TaskQueue(url) as queue:
        await queue.register_handler(
            "digest", handlers.__name__, "digest", options=HandlerOptions(max_worker_count=workers)
        )
        pulse = asyncio.create_task(_longest_pause())
        await queue.start()
        # The processes are started, which is not what is timed.
        await queue.create_many(NewTask("digest", 200) for _ in range(workers * 4))
        await _until_empty(queue)
        began = time.perf_counter()
        await queue.create_many(NewTask("digest", 5, retain_for=-1) for _ in range(tasks))
        await _until_empty(queue)
        taken = time.perf_counter() - began
        pulse.cancel()
        counts = await queue.counts()
        if counts[TaskStatus.SUCCESS] != tasks:
            raise SystemExit(f"the run is wrong: {counts}")
        return taken, await pulse


async def _until_empty(queue: TaskQueue) -> None:
    while True:
        counts = await queue.counts()
        if not counts[TaskStatus.PENDING] and not counts[TaskStatus.PROCESSING]:
            return
        await asyncio.sleep(0.02)


async def _longest_pause() -> float:
    longest = 0.0
    last = time.perf_counter()
    try:
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest = max(longest, now - last)
            last = now
    except asyncio.CancelledError:
        return longest


# A no-op, with no database.


def _overhead(arguments: argparse.Namespace, report: Report) -> None:
    ours, theirs = [], []
    with ProcessPoolExecutor(
        arguments.workers, mp_context=multiprocessing.get_context("spawn")
    ) as executor:
        _standard(executor, arguments.tasks)  # starts its processes
        for _ in range(arguments.rounds):
            ours.append(asyncio.run(_rowlock(arguments.tasks, arguments.workers)))
            theirs.append(_standard(executor, arguments.tasks))
    report.table(
        {"benchmark": "processes", "tasks": arguments.tasks, "workers": arguments.workers},
        [
            {
                "no-op, tasks/s (medians)": "rowlock",
                "rate": median(ours),
                "ratio": median(ours) / median(theirs),
            },
            {
                "no-op, tasks/s (medians)": "ProcessPoolExecutor",
                "rate": median(theirs),
                "ratio": 1.0,
            },
        ],
    )


def _standard(executor: ProcessPoolExecutor, tasks: int) -> float:
    payload = {"padding": "x" * 86}
    began = time.perf_counter()
    wait([executor.submit(handlers.nothing_at_all, payload) for _ in range(tasks)])
    return tasks / (time.perf_counter() - began)


async def _rowlock(tasks: int, workers: int) -> float:
    drained = _Drain(workers)
    await drained.drain(workers * 500)  # starts the processes, and measures how long a task takes
    began = time.perf_counter()
    await drained.drain(tasks)
    rate = tasks / (time.perf_counter() - began)
    await drained.pool.close()
    return rate


class _Drain:
    """What the worker is to a pool, with a counter in the place of the database."""

    def __init__(self, workers: int) -> None:
        handler = Handler.resolve(
            "t",
            handlers.__name__,
            "nothing_at_all",
            HandlerOptions(executor="process", max_worker_count=workers),
        )
        owner = Owner(
            finished=self._finished,
            progressed=lambda job: None,
            refill=self._refill,
            give_back=_refuse,
            hook_failed=_refuse,
        )
        self.pool = SlotPool(handler, SizeLimits(), owner)
        self._left = self._open = 0
        self._done = asyncio.Event()

    async def drain(self, tasks: int) -> None:
        self._left = self._open = tasks
        self._done.clear()
        self._refill("t")
        await self._done.wait()

    def _refill(self, task_type: str) -> None:
        for _ in range(min(self._left, self.pool.room())):
            self._left -= 1
            self.pool.submit(Job(_ROW, time.monotonic(), self.pool))

    def _finished(self, job: Job, ending: HandlerResult) -> None:
        assert ending.error is None, ending
        self._open -= 1
        if not self._open:
            self._done.set()


def _refuse(*arguments: object) -> None:
    raise AssertionError(arguments)


_ROW = TaskRow(
    **{
        **dict.fromkeys(TaskRow._fields),
        "id": "0" * 32,
        "type": "t",
        "attempt": 1,
        "payload": _PAYLOAD,
    }  # type: ignore[arg-type]
)
