"""What a worker costs that has nothing to do: statements, CPU, memory, and time to import."""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

from benchmarks import _linux
from benchmarks._counting import transactions_of
from benchmarks._databases import fresh, kind, session
from benchmarks._drain import drain, worker
from benchmarks._imports import SQLALCHEMY, import_seconds
from benchmarks._process import ask, other
from benchmarks._report import Report

# What its start leaves behind, such as the first passes of its loops, is no cost of waiting.
_SETTLED = 3.0
_DRIVERS = {"postgresql": "asyncpg", "sqlite": "aiosqlite"}


def run(server: str, arguments: argparse.Namespace, report: Report) -> bool:
    """Watch an idle worker, then look at memory, then import."""
    common = {"server": kind(server)}
    with fresh(server) as url:
        idle = asyncio.run(_idle(url, arguments.seconds))
    report.table({"benchmark": "cost, idle", **common}, [idle])

    with fresh(server) as url:
        memory = asyncio.run(_memory(url, arguments.tasks))
    print()
    report.table(
        {"benchmark": "cost, memory", **common},
        [{"resident": name, "MiB": found} for name, found in memory.items()],
    )

    seconds = import_seconds(arguments.rounds)
    print()
    report.table(
        {"benchmark": "cost, import", **common},
        [
            {
                "statement": name,
                "median ms": taken * 1000,
                "time / the first": taken / seconds[SQLALCHEMY],
            }
            for name, taken in seconds.items()
        ],
    )
    return True


async def _idle(url: str, seconds: float) -> dict[str, Any]:
    async with session(url) as ask_database, worker(url, watched="statements") as process:
        await ask(process, "start")
        await asyncio.sleep(_SETTLED)
        before = await ask(process, "figures")
        transactions = await transactions_of(url, ask_database)
        began, cpu = time.monotonic(), _linux.cpu_seconds(process.pid)
        await asyncio.sleep(seconds)
        cpu = _linux.cpu_seconds(process.pid) - cpu
        taken = time.monotonic() - began
        after = await ask(process, "figures")
        transactions = await transactions_of(url, ask_database) - transactions
    minutes = taken / 60
    return {
        "an idle worker, watched s": taken,
        "statements/min": (after["queue"] - before["queue"]) / minutes,
        "looks at the file/min": (after["file"] - before["file"]) / minutes,
        "server's transactions/min": transactions / minutes,
        "CPU %": 100 * cpu / taken,
    }


async def _memory(url: str, tasks: int) -> dict[str, float]:
    driver = _DRIVERS[kind(url)]
    async with other("_reference", "sqlalchemy.ext.asyncio", driver) as process:
        reference = _linux.memory(process.pid)
    async with worker(url) as process:
        await ask(process, "start")
        await asyncio.sleep(_SETTLED)
        idle = _linux.memory(process.pid)
    drained = await drain(url, tasks)
    return {
        f"Python with sqlalchemy.ext.asyncio and {driver}": reference,
        "an idle worker": idle,
        f"a worker that drains {tasks:,} tasks, peak": drained.peak,
    }
