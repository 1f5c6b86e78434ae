"""Hosts whose clocks are wrong work for one database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from rowlock import TaskQueue
from tests.faults.harness import Run
from tests.faults.producer import create, create_all
from tests.scheduling.test_schedule_storm import faketime

OFFSETS = ("+2h", "-25h")
DELAY = 500
# Longer than a lease: it is extended, and looked at by every sweeper.
LONG = 2.0
LEASE = 3000


async def test_clock_skew(
    postgres_url: str,
    begin: Callable[[str, str], Awaitable[Run]],
    size: Callable[..., int],
) -> None:
    """The database's clock decides what is due and whose lease has run out.

    Fails where a worker goes by its own (variant "own-clock").
    """
    run = await begin("clock skew", postgres_url)
    skewed = [
        {"LD_PRELOAD": faketime(), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        for offset in OFFSETS
    ]
    for environment in ({}, *skewed):
        run.worker("quick", environment=environment, options={"max_worker_count": 8})
    producers = [run.producer("quick", environment=each, gap=0.1) for each in skewed]
    await run.ready()
    delayed: dict[str, str] = {}
    async with TaskQueue(run.url) as queue:
        for cycle in range(size(short=1, ci=20)):
            tasks = []
            for number in range(6):
                key, seconds = f"{cycle}-{number}", {"seconds": LONG}
                delay = DELAY * (number % 2)
                task_id = await create(
                    queue, run.ledger, key, "quick", delay=delay, payload=None if delay else seconds
                )
                assert task_id is not None
                tasks.append(task_id)
                if delay:
                    delayed[key] = task_id
            for task_id in tasks:
                await run.recorded(1, "end", task=task_id)
            run.cycles += 1
    for producer in producers:
        producer.kill()
    await run.finish()
    asked = {record["key"]: record["at"] for record in run.ledger.records("asked")}
    started = {record["task"]: record["at"] for record in run.ledger.records("start")}
    assert all(started[task_id] - asked[key] >= DELAY / 1000 for key, task_id in delayed.items())
    # Nobody took a task from a worker that lives.
    assert run.count("start") == run.count("start", attempt=1)
    assert {record["process"] for record in run.ledger.records("start")} == {
        node.pid for node in run.nodes if node not in producers
    }


async def test_clock_steps(
    sqlite_url: str,
    begin: Callable[[str, str], Awaitable[Run]],
    size: Callable[..., int],
    tmp_path: Path,
) -> None:
    """The clock of the host is set, forward and back by an hour: what runs keeps its attempt.

    On SQLite it is the only clock. Fails where a sweeper takes at once what another process holds
    (variant "sudden").
    """
    run = await begin("clock steps", sqlite_url)
    clock = tmp_path / "clock"
    clock.write_text("+0")
    environment = {
        "LD_PRELOAD": faketime(),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    for _ in range(2):
        run.worker("gated", environment=environment, lease=LEASE, options={"max_worker_count": 3})
    await run.ready()
    async with TaskQueue(run.url) as queue:
        for cycle in range(size(short=2, ci=20)):
            ids = await create_all(queue, run.ledger, f"{cycle}", 6, "gated")
            for task_id in ids:
                await run.recorded(1, "start", task=task_id)
            clock.write_text(("+1h", "+0")[cycle % 2])
            # Each has swept some times, and extended.
            await asyncio.sleep(1.5 * LEASE / 1000)
            for task_id in ids:
                run.open_gate(task_id, 1)
            await run.drained()
            run.cycles += 1
    await run.finish()
    assert run.count("start") == run.count("start", attempt=1)
    assert {record["process"] for record in run.ledger.records("start")} == {
        node.pid for node in run.nodes
    }
