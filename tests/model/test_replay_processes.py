"""Queues in processes that are stopped and killed: what they did is what the model allows."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from rowlock import NewTask, TaskQueue
from rowlock.models import TaskStatus
from tests.helpers import eventually
from tests.model.node import LEASE, MAX_LOST, SETTINGS
from tests.model.protocol import Rules
from tests.model.recorder import read, record
from tests.model.replay import replay

SEED = 5
NODES = 3
KILLS = 4
STOPS = 3
TASKS = 150


@dataclass
class Nodes:
    """Processes that work on one database, and their records."""

    database: str
    directory: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    def launch(self) -> None:
        file = self.directory / f"record-{len(self.files)}"
        self.files.append(file)
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.model.node", self.database, str(file)],
                cwd=Path(__file__).parent.parent.parent,
                stderr=log,
            )
        self.running.append(process)

    async def all_claim(self) -> None:
        """Wait until each that runs has claimed."""
        files = self.files[-len(self.running) :]
        await eventually(
            lambda: all(file.exists() and b'"claim"' in file.read_bytes() for file in files),
            timeout=60,
        )


@contextmanager
def launched(nodes: Nodes) -> Iterator[Nodes]:
    try:
        for _ in range(NODES):
            nodes.launch()
        yield nodes
    finally:
        for process in nodes.running:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


async def disturb(nodes: Nodes, luck: random.Random) -> None:
    """Stop some past their leases, and kill some, while they have work."""
    faults = ["kill"] * KILLS + ["stop"] * STOPS
    luck.shuffle(faults)
    for fault in faults:
        await asyncio.sleep(luck.uniform(0, 0.3))
        process = luck.choice(nodes.running)
        if fault == "kill":
            nodes.running.remove(process)
            process.kill()
            process.wait()
            nodes.launch()
        else:
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(1.5 * LEASE / 1000)
            process.send_signal(signal.SIGCONT)
        await nodes.all_claim()


async def use(queue: TaskQueue, ids: Sequence[str], luck: random.Random) -> None:
    """What clients do meanwhile."""
    while True:
        await asyncio.sleep(luck.uniform(0, 0.05))
        task_id = luck.choice(ids)
        match luck.choice(("get", "get", "cancel", "ask", "retry", "remove")):
            case "get":
                await queue.get(task_id)
            case "cancel":
                await queue.cancel(task_id)
            case "ask":
                await queue.cancel(task_id, running=True)
            case "retry":
                await queue.retry(task_id)
            case "remove":
                await queue.remove(task_id)


async def test_what_processes_do_is_what_the_model_allows(database: str, tmp_path: Path) -> None:
    """Fails where a fence lacks the attempt, the holder or the lease."""
    luck = random.Random(SEED)
    began = time.monotonic()
    client = tmp_path / "record-client"
    async with TaskQueue(database, **SETTINGS) as queue:
        record(queue._store, client)
        tasks = [
            NewTask(
                "t",
                luck.uniform(0, 0.4),
                retry_count=luck.choice((None, 2)),
                retain_for=luck.choice((-1, 0, 500)),
            )
            for _ in range(TASKS)
        ]
        ids = await queue.create_many(tasks[: TASKS // 2])
        ids += await asyncio.gather(
            *(
                queue.create("t", task.payload, key=f"key {n % 20}", retain_for=-1)
                for n, task in enumerate(tasks[TASKS // 2 :])
            )
        )
        with launched(Nodes(database, tmp_path)) as nodes:
            using = asyncio.create_task(use(queue, ids, luck))
            await nodes.all_claim()
            await disturb(nodes, luck)
            using.cancel()
            with suppress(asyncio.CancelledError):
                await using

            async def drained() -> bool:
                counts = await queue.counts()
                return not counts[TaskStatus.PENDING] + counts[TaskStatus.PROCESSING]

            await eventually(drained, timeout=60)
            for process in nodes.running:
                process.terminate()
            for process in nodes.running:
                await asyncio.to_thread(process.wait)
        for task_id in ids:
            await queue.get(task_id)
    report = replay(read([client, *nodes.files]), Rules(max_lost=MAX_LOST))
    print(report, f"{time.monotonic() - began:.1f} s")
    assert not report.deviations, report.deviations[0]
    assert report.events["sweep"]
    assert report.unanswered
