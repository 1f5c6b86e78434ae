"""Claims under a steady load, while an open transaction keeps every dead row in its place.

Without one (`--no-transaction`) it tells what of this is the load itself.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

from benchmarks._databases import SQLITE, fresh, kind, session
from benchmarks._drain import worker
from benchmarks._process import ask, other
from benchmarks._report import Report
from benchmarks._storage import storage, wal_bytes

_MINUTE = 60.0
_CATCH_UP = 600
_ROWS = "SELECT count(*) FROM rowlock_task"
_BEGIN = {True: "BEGIN", False: "BEGIN ISOLATION LEVEL REPEATABLE READ"}


def run(server: str, arguments: argparse.Namespace, report: Report) -> bool:
    """Report minute by minute, then the whole."""
    held: bool = not arguments.no_transaction
    common = {"server": kind(server), "rate": arguments.rate, "transaction": held}
    with fresh(server) as url:
        minutes, whole = asyncio.run(_steady(url, arguments.minutes, arguments.rate, held))
    report.table({"benchmark": "steady, minutes", **common}, minutes)
    print()
    report.table({"benchmark": "steady", **common}, [whole])
    print("each task: one call, and its row is gone")
    return True


async def _steady(
    url: str, minutes: int, rate: int, held: bool
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    async with (
        session(url) as ask_database,
        session(url) as ask_held,
        other("_load", url, str(rate)) as creator,
        worker(url, watched="claims") as consumer,
    ):
        if held:
            await ask_held(_BEGIN[url.startswith(SQLITE)])
            await ask_held(_ROWS)
        written = 0 if url.startswith(SQLITE) else await wal_bytes(ask_database)
        began = time.monotonic()
        await ask(consumer, "start")
        await ask(creator, "start")
        for minute in range(1, minutes + 1):
            await asyncio.sleep(began + minute * _MINUTE - time.monotonic())
            figures = await ask(consumer, "figures")
            finished = figures.pop("calls")
            rows.append(
                {
                    "minute": minute,
                    **figures,
                    "p95 / first": figures["p95 ms"] / (rows[0] if rows else figures)["p95 ms"],
                    **await ask(creator, "figures"),
                    "finished": finished,
                    **await storage(url, ask_database),
                }
            )
        created = (await ask(creator, "stop"))["created"]
        async with asyncio.timeout(_CATCH_UP):
            while (calls := (await ask(consumer, "figures"))["calls"]) < created:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            while await ask_database(_ROWS) != [(0,)]:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        if calls != created:
            raise SystemExit(f"{created:,} tasks made {calls:,} calls")
        whole = {
            "claim, p95 of the last minute / first": rows[-1]["p95 / first"],
            "created": created,
            "finished": calls,
            **await storage(url, ask_database),
        }
        if not url.startswith(SQLITE):
            whole["server's WAL bytes / task"] = (await wal_bytes(ask_database) - written) / created
            whole["dead tuples / task"] = whole["dead tuples"] / created
    return rows, whole
