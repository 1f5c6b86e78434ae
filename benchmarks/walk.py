"""Whether a page walk misses or repeats a task while others change, and if it slows down."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks._churn import TYPE
from benchmarks._databases import fetch, fresh, kind
from benchmarks._process import other
from benchmarks._report import Report
from rowlock import NewTask, SortDirection, SortProperty, TaskQueue, TaskStatus

_SNAPSHOT = "SELECT id, status, date_modified, attempt FROM rowlock_task"
_EDGE = 5

_COMPLETED = ("failed", "success")
_PROCESSING = "processing"


class Seen(NamedTuple):
    """A row in a snapshot."""

    status: str
    modified: Any
    attempt: int


def run(server: str, arguments: argparse.Namespace, report: Report) -> bool:
    """Walk on each sort in each direction."""
    with fresh(server) as url:
        rows, churned = asyncio.run(_walks(url, arguments.tasks, arguments.limit))
    report.table({"benchmark": "walk", "server": kind(server)}, rows)
    print("meanwhile: " + ", ".join(f"{count:,} {name}" for name, count in churned.items()))
    return not any(row["missed"] or row["doubled"] for row in rows)


async def _walks(url: str, tasks: int, limit: int) -> tuple[list[dict[str, Any]], dict[str, int]]:
    async with TaskQueue(url) as queue:
        victims = await _fill(queue, tasks)
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "victims"
            file.write_text(json.dumps(victims))
            async with other("_churn", url, str(file)) as process:
                rows = [
                    await _walk(queue, url, sort, direction, limit)
                    for sort in SortProperty
                    for direction in SortDirection
                ]
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.close()
                churned = json.loads(await process.stdout.readline())
    return rows, churned


async def _fill(queue: TaskQueue, tasks: int) -> list[str]:
    """Make tasks of every status that lasts; return those that may be changed."""
    done = [NewTask(TYPE, n, retry_count=0, retain_for=-1) for n in range(tasks * 6 // 10)]
    late = [NewTask("late", n, retain_for=-1, delay=86_400_000) for n in range(tasks - len(done))]
    mixed = done + late
    random.shuffle(mixed)
    ids = await queue.create_many(mixed)
    await queue.register_handler(TYPE, "benchmarks.handlers", "every_fifth_fails")
    await queue.start()
    for task_id in [i for i, task in zip(ids, mixed, strict=True) if task.task_type == "late"][
        :500
    ]:
        await queue.cancel(task_id)
    async with asyncio.timeout(120):
        while True:
            counts = await queue.counts(TYPE)
            if counts[TaskStatus.SUCCESS] + counts[TaskStatus.FAILED] == len(done):
                break
            await asyncio.sleep(0.05)
    await queue.stop()
    await queue.unregister_handler(TYPE)
    return random.sample(ids, len(ids) // 5)


async def _walk(
    queue: TaskQueue, url: str, sort: SortProperty, direction: SortDirection, limit: int
) -> dict[str, Any]:
    before = await _snapshot(url)
    seen: Counter[str] = Counter()
    seconds: list[float] = []
    cursor: str | None = None
    while True:
        began = time.perf_counter()
        page = await queue.query(
            sort_property=sort, sort_direction=direction, cursor=cursor, limit=limit
        )
        seconds.append(time.perf_counter() - began)
        seen.update(task.id for task in page.entities)
        cursor = page.cursor
        if cursor is None:
            break
    after = await _snapshot(url)
    stable = [i for i, row in before.items() if i in after and _is_stable(sort, row, after[i])]
    print(f"{sort} {direction}: {sum(seconds):.1f} s", file=sys.stderr)
    first, last = median(seconds[:_EDGE]) * 1000, median(seconds[-_EDGE:]) * 1000
    return {
        "walk": f"{sort} {direction}",
        "pages": len(seconds),
        "rows": seen.total(),
        "stable": len(stable),
        "changed or gone": len(before) - len(stable),
        "new": len(after.keys() - before.keys()),
        "missed": sum(seen[task_id] == 0 for task_id in stable),
        "doubled": sum(seen[task_id] > 1 for task_id in stable),
        "first ms": first,
        "last ms": last,
        "last / first": last / first,
    }


async def _snapshot(url: str) -> dict[str, Seen]:
    rows = await fetch(url, _SNAPSHOT)
    return {str(getattr(row[0], "hex", row[0])): Seen(*row[1:]) for row in rows}


def _is_stable(sort: SortProperty, before: Seen, after: Seen) -> bool:
    """Tell whether the sort value was the same at every instant between two snapshots."""
    match sort:
        case SortProperty.DATE_CREATED:
            return True
        case SortProperty.DATE_COMPLETED if not {before.status, after.status} & set(_COMPLETED):
            # No value at either end. One between them would have taken an attempt.
            if before.status == _PROCESSING:
                return after.status == _PROCESSING and after.attempt == before.attempt
            return after.attempt == before.attempt + (after.status == _PROCESSING)
        case _:
            # A status may have changed and changed back, but not without a trace here.
            return (before.status, before.modified) == (after.status, after.modified)
