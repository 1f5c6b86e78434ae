"""How one drain changes with rows retained, types, payloads and workers, and what a task leaves."""

from __future__ import annotations

import argparse
import asyncio
import base64
import random
import sys
from statistics import median
from typing import Any, NamedTuple

from benchmarks._backlog import fill
from benchmarks._databases import SQLITE, fresh, kind, session
from benchmarks._drain import drain
from benchmarks._report import Report
from benchmarks._storage import storage, wal_bytes


class _Case(NamedTuple):
    name: str
    retained: int = 0
    types: int = 1
    payload: int = 100
    workers: int = 1


_BASE = _Case("base: nothing retained, one type, 100 B, one worker")
_CASES = (
    _BASE,
    _Case("100,000 rows retained", retained=100_000),
    _Case("1,000,000 rows retained", retained=1_000_000),
    _Case("10 types", types=10),
    _Case("100 types", types=100),
    _Case("payload of 1 kB", payload=1_000),
    _Case("10 kB", payload=10_000),
    _Case("100 kB", payload=100_000),
)
# On SQLite one process writes at a time.
_WORKERS = (_Case("2 workers", workers=2), _Case("4 workers", workers=4))

_NO_AUTOVACUUM = "ALTER TABLE rowlock_task SET (autovacuum_enabled = false)"
_WRITES = """
    SELECT n_tup_upd + n_tup_del FROM pg_stat_user_tables WHERE relname = 'rowlock_task'
"""


def run(server: str, arguments: argparse.Namespace, report: Report) -> bool:
    """Measure each case in every round, and compare it to the base case of the same round."""
    common = {"server": kind(server), "tasks": arguments.tasks}
    cases = _CASES if server == SQLITE else _CASES + _WORKERS
    rates: dict[_Case, list[float]] = {case: [] for case in cases}
    for number in range(arguments.rounds):
        for case, found in rates.items():
            found.append(_rate(server, case, arguments.tasks))
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
    rows = []
    for case, found in rates.items():
        ratios = [rate / base for rate, base in zip(found, rates[_BASE], strict=True)]
        rows.append(
            {
                "drain": case.name,
                "tasks/s": round(median(found)),
                "ratio to base, median": median(ratios),
                "min": min(ratios),
                "max": max(ratios),
            }
        )
    report.table({"benchmark": "growth", **common}, rows)
    print("each task: success with attempt 1, one call")
    if server != SQLITE:
        left = []
        for retain_for in (0, -1):
            with fresh(server) as url:
                left.append(asyncio.run(_left(url, arguments.tasks, retain_for)))
        print()
        report.table({"benchmark": "growth, what a task leaves", **common}, left)
    return True


def _rate(server: str, case: _Case, tasks: int) -> float:
    with fresh(server) as url:
        if case.retained:
            asyncio.run(fill(url, pending=0, retained=case.retained))
        drained = asyncio.run(
            drain(
                url,
                tasks,
                types=case.types,
                payload=_incompressible(case.payload),
                workers=case.workers,
            )
        )
    return tasks / drained.seconds


def _incompressible(size: int) -> str:
    """Return text whose JSON has the size and that a server cannot store in less."""
    return base64.b64encode(random.randbytes(size))[: size - 2].decode()


async def _left(url: str, tasks: int, retain_for: int) -> dict[str, Any]:
    async with session(url) as ask:
        await ask(_NO_AUTOVACUUM)
        await ask("CHECKPOINT")
        written = await wal_bytes(ask)
        await drain(url, tasks, retain_for=retain_for)
        written = await wal_bytes(ask) - written
        # Each was claimed and finished; the server tells a moment later.
        while (await ask(_WRITES))[0][0] < 2 * tasks:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        found = await storage(url, ask)
    return {
        "created, claimed, finished": f"retain_for={retain_for}",
        "server's WAL bytes / task": written / tasks,
        "dead tuples / task": found["dead tuples"] / tasks,
        "table and indexes, bytes / task": found["table and indexes MiB"] * 2**20 / tasks,
    }
