"""How long one worker takes for many tasks that do nothing, next to the bare driver."""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import sqlite3
import time
from statistics import median

import asyncpg

from benchmarks import _bare
from benchmarks._databases import SQLITE, fetch, fresh, kind, session
from benchmarks._report import Report
from benchmarks.handlers import Calls
from rowlock import NewTask, TaskQueue
from rowlock._store.sqlite.database import SqliteDatabase

_TYPE = "nothing"
_PAYLOAD = "x" * 98  # and two quotes
_PENDING = "SELECT 1 FROM rowlock_task WHERE status IN ('pending', 'processing') LIMIT 1"
_ENDS = "SELECT status, attempt, count(*) FROM rowlock_task GROUP BY status, attempt"

# The name, whether it is rowlock, whether rows are kept. In the order of each round.
_VARIANTS = (
    ("bare, UPDATE", False, True),
    ("rowlock, retain_for=-1", True, True),
    ("bare, DELETE", False, False),
    ("rowlock, retain_for=0", True, False),
)


def run(server: str, arguments: argparse.Namespace, report: Report) -> bool:
    """Drain in every way, round after round, and compare the medians."""
    tasks: int = arguments.tasks
    if arguments.profile:
        for keep in (True, False):
            _profile(server, tasks, keep)
        return True
    seconds: dict[str, list[float]] = {name: [] for name, _, _ in _VARIANTS}
    for number in range(arguments.rounds + 1):
        for name, is_rowlock, keep in _VARIANTS:
            with fresh(server) as url:
                taken = asyncio.run(_measure(url, tasks, is_rowlock=is_rowlock, keep=keep))
            if number:
                seconds[name].append(taken)
    medians = {name: median(taken) for name, taken in seconds.items()}
    updating, _, deleting, _ = medians.values()
    report.table(
        {"benchmark": "drain", "server": kind(server)},
        [
            {
                "variant": name,
                "median s": medians[name],
                "min s": min(seconds[name]),
                "max s": max(seconds[name]),
                "tasks/s": round(tasks / medians[name]),
                "speed / bare UPDATE": updating / medians[name],
                "speed / bare DELETE": deleting / medians[name],
            }
            for name in medians
        ],
    )
    print(f"after each drain: {tasks:,} tasks success with attempt 1, or none left where dropped")
    return True


async def _measure(
    url: str, tasks: int, *, is_rowlock: bool, keep: bool, profile: cProfile.Profile | None = None
) -> float:
    async with TaskQueue(url) as queue:
        retain_for = -1 if keep else 0
        await queue.create_many(
            NewTask(_TYPE, _PAYLOAD, retain_for=retain_for) for _ in range(tasks)
        )
        if is_rowlock:
            await queue.register_handler(_TYPE, "benchmarks.handlers", "nothing")
            taken = await _rowlock(queue, url, tasks, profile)
        elif url.startswith(SQLITE):
            synchronous = await _synchronous(queue)
            began = time.perf_counter()
            _bare.on_sqlite(url, _TYPE, synchronous, keep=keep)
            taken = time.perf_counter() - began
        else:
            connection = await asyncpg.connect(url)
            began = time.perf_counter()
            await _bare.on_postgresql(connection, _TYPE, keep=keep)
            taken = time.perf_counter() - began
            await connection.close()
    ends = await fetch(url, _ENDS)
    if ends != ([("success", 1, tasks)] if keep else []):
        raise SystemExit(f"the drain is wrong: {ends}")
    return taken


async def _rowlock(
    queue: TaskQueue, url: str, tasks: int, profile: cProfile.Profile | None
) -> float:
    Calls.count = 0
    async with session(url) as ask:
        if profile is not None:
            profile.enable()
        began = time.perf_counter()
        await queue.start()
        # An event would be one more thing for the handler to do.
        while Calls.count < tasks:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        # All handlers have run; the last outcomes are still to be written.
        while await ask(_PENDING):  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        taken = time.perf_counter() - began
        if profile is not None:
            profile.disable()
    await queue.stop()
    if Calls.count != tasks:
        raise SystemExit(f"{tasks} tasks made {Calls.count} calls")
    return taken


async def _synchronous(queue: TaskQueue) -> int:
    """Return how durable rowlock's own connection is, for the bare one to be the same."""
    store = queue._store
    assert isinstance(store.database, SqliteDatabase)

    def ask(driver: sqlite3.Connection) -> int:
        (level,) = driver.execute("PRAGMA synchronous").fetchone()
        return int(level)

    return int(await store.database._in_thread(store.database._writer, ask))


def _profile(server: str, tasks: int, keep: bool) -> None:
    profile = cProfile.Profile()
    with fresh(server) as url:
        asyncio.run(_measure(url, tasks, is_rowlock=True, keep=keep, profile=profile))
    print(f"retain_for={-1 if keep else 0}, the main thread:")
    pstats.Stats(profile).sort_stats("tottime").print_stats(30)
