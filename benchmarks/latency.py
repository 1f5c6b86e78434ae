"""How long it takes from the call of `create` to the first line of the handler, when idle."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

from benchmarks._creator import TYPE, WARM_UP, create
from benchmarks._databases import fresh, kind
from benchmarks._figures import milliseconds
from benchmarks._process import other
from benchmarks._report import Report
from benchmarks.handlers import Calls
from rowlock import TaskQueue


def run(server: str, arguments: argparse.Namespace, report: Report) -> bool:
    """Measure with the creator in this process, and in another."""
    rows = []
    for name, apart in (("the same process", False), ("another process", True)):
        with fresh(server) as url:
            rows.append({"created by": name, **asyncio.run(_measure(url, arguments.times, apart))})
    report.table({"benchmark": "latency", "server": kind(server)}, rows)
    return True


async def _measure(url: str, times: int, apart: bool) -> dict[str, Any]:
    Calls.latencies.clear()
    async with TaskQueue(url) as queue:
        await queue.register_handler(TYPE, "benchmarks.handlers", "arrive")
        await queue.start()
        if apart:
            async with other("_creator", url, str(times)) as process:
                assert process.stdout is not None
                taken = json.loads(await process.stdout.readline())
                await _arrived(times)
        else:
            taken = await create(queue, times)
            await _arrived(times)
    found = Calls.latencies[WARM_UP:]
    return {
        "times": len(found),
        **milliseconds(found),
        **{f"create itself, {name}": value for name, value in milliseconds(taken).items()},
    }


async def _arrived(times: int) -> None:
    async with asyncio.timeout(30):
        while len(Calls.latencies) < WARM_UP + times:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
