"""Queues in processes that are stopped and killed: what they did is what the model allows."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rowlock import NewTask, TaskQueue
from rowlock.models import TaskStatus
from tests.model.node import MAX_LOST, SETTINGS
from tests.model.protocol import Rules
from tests.model.recorder import read, record
from tests.model.replay import replay
from tests.model.storm import meddle
from tests.support.helpers import eventually
from tests.support.stores import is_writable

SEED = 5
NODES = 3
# Kills, and as many stops.
SIZES = {"short": 2, "ci": 20, "long": 200}
# So many more, at most, until somebody who was stopped has been refused something.
MORE = 20

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@dataclass
class Nodes:
    """Processes that work on one database, and their records.

    Attributes:
        running: the processes.
        files: all the records.
        current: of each process its record.
    """

    database: str
    directory: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    current: list[Path] = field(default_factory=list)

    def launch(self, place: int) -> None:
        file = self.directory / f"record-{len(self.files)}"
        self.files.append(file)
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.model.node", self.database, str(file)],
                cwd=Path(__file__).parent.parent.parent,
                stderr=log,
            )
        self.running[place : place + 1] = [process]
        self.current[place : place + 1] = [file]

    def kill(self, place: int) -> None:
        self.running[place].kill()
        self.running[place].wait()

    async def all_claim(self) -> None:
        """Wait until each has claimed."""
        await eventually(
            lambda: all(file.exists() and b'"claim"' in file.read_bytes() for file in self.current),
            timeout=60,
        )

    def stops(self, place: int, when: Callable[[Path], object]) -> bool:
        """Stop a process; let it go on if its record is not as wanted."""
        process = self.running[place]
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        if when(self.current[place]):
            return True
        process.send_signal(signal.SIGCONT)
        return False

    def may_lose(self, file: Path) -> bool:
        """It holds attempts, and others can take them over."""
        return bool(held(file)) and is_writable(self.database)


def waits(file: Path) -> bool:
    """It waits for the answer to a call."""
    return any("ended" not in call for call in read([file]))


def held(file: Path) -> set[tuple[str, int]]:
    """The attempts that it has claimed and not finished."""
    claimed: set[tuple[str, int]] = set()
    for call in read([file]):
        if call["name"] == "claim":
            claimed.update((row[0], row[1]) for row in call.get("rows", ()))
        elif call["name"] in ("finish", "release"):
            claimed.difference_update((task_id, n) for task_id, n, _ in call["attempts"])
    return claimed


@contextmanager
def launched(nodes: Nodes) -> Iterator[Nodes]:
    try:
        for place in range(NODES):
            nodes.launch(place)
        yield nodes
    finally:
        for process in nodes.running:
            process.kill()
            process.wait()


def refused(files: Sequence[Path]) -> bool:
    """Somebody has asked to write what was no longer its own."""
    for call in read(files):
        if "ended" in call and call["name"] in ("extend", "finish"):
            accepted = call["kept" if call["name"] == "extend" else "done"]
            known = {*accepted, *call["left"]}
            if any(task_id not in known for task_id, _, _ in call["attempts"]):
                return True
    return False


async def disturb(queue: TaskQueue, nodes: Nodes, count: int, luck: random.Random) -> None:
    """Kill some in the midst of a call, and stop some until they have lost what they hold.

    On a slow machine these may give it up before they have asked, or be killed, each time.
    """
    faults = ["kill", "stop"] * count
    luck.shuffle(faults)
    for fault in faults:
        await make(fault, queue, nodes, luck)
    for _ in range(MORE):
        if refused(nodes.files):
            break
        await make("stop", queue, nodes, luck)


async def make(fault: str, queue: TaskQueue, nodes: Nodes, luck: random.Random) -> None:
    place = luck.randrange(NODES)
    if fault == "kill":
        await eventually(partial(nodes.stops, place, waits), timeout=60)
        nodes.kill(place)
        nodes.launch(place)
    else:
        await eventually(partial(nodes.stops, place, nodes.may_lose), timeout=60)
        for task_id, attempt in held(nodes.current[place]):
            await eventually(partial(moved_on, queue, task_id, attempt), timeout=60)
        nodes.running[place].send_signal(signal.SIGCONT)
    await nodes.all_claim()


async def moved_on(queue: TaskQueue, task_id: str, attempt: int) -> bool:
    task = await queue.get(task_id)
    return task is None or task.attempt > attempt or task.status is not TaskStatus.PROCESSING


async def produce(queue: TaskQueue, ids: list[str], luck: random.Random) -> None:
    """Create tasks by the one, by the many, and with keys that come again."""
    while True:
        tasks = [
            NewTask(
                "t",
                luck.uniform(0, 0.3),
                retry_count=luck.choice((None, 2)),
                retain_for=luck.choice((-1, 0, 500)),
                key=luck.choice((None, None, f"key {luck.randrange(20)}")),
            )
            for _ in range(4)
        ]
        if luck.random() < 0.5:
            ids += await queue.create_many(tasks)
        else:
            ids += await asyncio.gather(
                *(queue.create("t", task.payload, retain_for=-1, key=task.key) for task in tasks)
            )
        await asyncio.sleep(luck.uniform(0, 0.3))


async def use(queue: TaskQueue, ids: Sequence[str], luck: random.Random) -> None:
    """What else clients do."""
    while True:
        await asyncio.sleep(luck.uniform(0, 0.05))
        await meddle(queue, luck.choice(ids[-50:]), luck)


@contextmanager
def besides(*work: Coroutine[Any, Any, None]) -> Iterator[None]:
    running = [asyncio.ensure_future(each) for each in work]
    try:
        yield
        assert not any(each.done() for each in running)
    finally:
        for each in running:
            each.cancel()


async def test_what_processes_do_is_what_the_model_allows(
    database: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Fails where the fence does not look at the lease, and mostly where not at the attempt.

    Without the attempt it needs a worker that lost a task and claimed it again itself.
    """
    luck = random.Random(SEED)
    began = time.monotonic()
    client = tmp_path / "record-client"
    async with TaskQueue(database, **SETTINGS) as queue:
        record(client, queue._store, queue.runtime.worker_store)
        ids = [await queue.create("t", 0.1, retain_for=0)]
        with launched(Nodes(database, tmp_path)) as nodes:
            with besides(produce(queue, ids, luck), use(queue, ids, luck)):
                await nodes.all_claim()
                size = SIZES[pytestconfig.getoption("faults", "short")]
                await disturb(queue, nodes, size, luck)

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
    assert report.events["extend refused"] + report.events["finish refused"]
    assert report.unanswered
