"""Whether millions of rows that nobody wants slow down a worker, or a page."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from statistics import median
from typing import Any

from benchmarks._backlog import fill
from benchmarks._databases import fresh, kind
from benchmarks._drain import drain
from benchmarks._report import Report
from rowlock import SortDirection, SortProperty, TaskQueue

_FEW = 5_000
_WALK_LIMIT = 500


def run(server: str, arguments: argparse.Namespace, report: Report) -> bool:
    """Build the backlog, read pages, drain beside it and in a small table in turns, read again."""
    common = {"server": kind(server), "pending": arguments.pending, "retained": arguments.retained}
    with fresh(server) as url:
        taken = asyncio.run(fill(url, pending=arguments.pending, retained=arguments.retained))
        print(
            f"{arguments.pending:,} pending and {arguments.retained:,} retained tasks, "
            f"made in {taken:.0f} s",
            flush=True,
        )
        number = min(arguments.page, (arguments.pending + arguments.retained) // arguments.limit)
        before = asyncio.run(_pages(url, number, arguments.limit, arguments.reads))
        report.table({"benchmark": "backlog, pages", **common}, before)
        print()
        drains = [
            _drains(server, url, tasks, arguments.rounds) for tasks in (_FEW, arguments.tasks)
        ]
        report.table({"benchmark": "backlog, drain", **common}, drains)
        print()
        # PostgreSQL keeps what has run, and what leads to it in the indexes, until a vacuum.
        print("after the drains:")
        after = asyncio.run(_pages(url, number, arguments.limit, arguments.reads))
        report.table({"benchmark": "backlog, pages after the drains", **common}, after)
    print("each task that was drained: success with attempt 1, one call")
    return True


def _drains(server: str, big: str, tasks: int, rounds: int) -> dict[str, Any]:
    alone: list[float] = []
    beside: list[float] = []
    for _ in range(rounds + 1):
        with fresh(server) as small:
            alone.append(tasks / asyncio.run(drain(small, tasks)).seconds)
        beside.append(tasks / asyncio.run(drain(big, tasks)).seconds)
    # The first round is to warm up.
    ratios = [with_it / without for with_it, without in zip(beside, alone, strict=True)][1:]
    return {
        "drained": tasks,
        "small table, tasks/s": round(median(alone[1:])),
        "beside the backlog": round(median(beside[1:])),
        "ratio, median": median(ratios),
        "min": min(ratios),
        "max": max(ratios),
    }


async def _pages(url: str, number: int, limit: int, reads: int) -> list[dict[str, Any]]:
    rows = []
    async with TaskQueue(url) as queue:
        for sort in SortProperty:
            for direction in SortDirection:
                cursor = await _cursor_of(queue, sort, direction, (number - 1) * limit)
                first: list[float] = []
                deep: list[float] = []
                for _ in range(reads):
                    first.append(await _read(queue, sort, direction, None, limit))
                    deep.append(await _read(queue, sort, direction, cursor, limit))
                print(f"{sort} {direction}: read", file=sys.stderr)
                rows.append(
                    {
                        f"page of {limit}": f"{sort} {direction}",
                        "page 1, median ms": median(first),
                        f"page {number:,}": median(deep),
                        "ratio": median(deep) / median(first),
                    }
                )
    return rows


async def _cursor_of(
    queue: TaskQueue, sort: SortProperty, direction: SortDirection, skipped: int
) -> str | None:
    """Return the cursor behind so many tasks: it does not depend on the pages' size."""
    cursor: str | None = None
    while skipped:
        page = await queue.query(
            sort_property=sort,
            sort_direction=direction,
            cursor=cursor,
            limit=min(skipped, _WALK_LIMIT),
        )
        skipped -= len(page.entities)
        cursor = page.cursor
    return cursor


async def _read(
    queue: TaskQueue, sort: SortProperty, direction: SortDirection, cursor: str | None, limit: int
) -> float:
    began = time.perf_counter()
    page = await queue.query(
        sort_property=sort, sort_direction=direction, cursor=cursor, limit=limit
    )
    taken = time.perf_counter() - began
    if len(page.entities) != limit:
        raise SystemExit(f"a page has {len(page.entities)} of {limit} tasks")
    return taken * 1000
