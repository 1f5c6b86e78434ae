"""What scenarios share: nodes to start and to hurt, the ledger, and the end of a run."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.faults import history
from tests.faults.checker import Figures, check
from tests.faults.handlers import gate
from tests.faults.ledger import Ledger
from tests.faults.nursery import Forked, Nursery
from tests.support.helpers import eventually
from tests.support.stores import execute, is_writable

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0


class Node:
    """A process that a scenario started."""

    def __init__(self, run: Run, process: subprocess.Popen[bytes] | Forked) -> None:
        self._run = run
        self.process = process
        self.pid = process.pid

    async def ready(self) -> None:
        """Wait until it has started."""

        def is_ready() -> bool:
            assert self.process.poll() is None, self._run.log()
            return self._run.count("ready", process=self.pid) > 0

        await eventually(is_ready, PATIENCE, "ready")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it as kill -9 does, and wait for that."""
        self.process.kill()
        self.process.wait()

    async def stop(self) -> None:
        """Stop it as SIGSTOP does, but not while it keeps all others from an SQLite database."""
        while True:
            self.signal(signal.SIGSTOP)
            if is_writable(self._run.url):
                return
            self.go_on()
            await asyncio.sleep(0)

    def go_on(self) -> None:
        self.signal(signal.SIGCONT)

    async def ended(self, code: int = 0) -> None:
        """Wait until it has ended by itself, with this code."""
        await eventually(lambda: self.process.poll() is not None, PATIENCE, "ended")
        assert self.process.returncode == code, self._run.log()


class Run:
    """One run of a scenario on one database.

    Attributes:
        ledger: what all its processes append to.
        random: decides what chance decides; the seed is printed.
        cycles: how often the fault was made; the scenario counts.
    """

    def __init__(self, name: str, url: str, directory: Path, seed: int, nursery: Nursery) -> None:
        self.name = name
        self.url = url
        self.directory = directory
        self.nursery = nursery
        self.random = random.Random(seed)
        self.ledger = Ledger(directory / "ledger")
        self.nodes: list[Node] = []
        self.cycles = 0
        self.line = f"{name}: did not come to its end"
        print(f"{name}: seed {seed}")

    # Nodes.

    def worker(
        self,
        *types: str,
        url: str | None = None,
        options: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        crash: str | None = None,
        stalled_leases: bool = False,
        **settings: Any,
    ) -> Node:
        """Start a worker.

        Args:
            types: names of handlers in `tests.faults.handlers`.
            url: by default the run's.
            options: of the handlers.
            environment: what it has beside this process's.
            crash: a point of `tests.faults.crash` at which it ends itself.
            stalled_leases: whether it extends no leases.
            settings: of its queue, over `node.SETTINGS`.
        """
        arguments = ["--settings", json.dumps(settings), "--options", json.dumps(options or {})]
        arguments += ["--crash", crash] if crash else []
        arguments += ["--stalled-leases"] if stalled_leases else []
        return self.start("node", *types, *arguments, url=url, environment=environment)

    def producer(
        self,
        *types: str,
        url: str | None = None,
        count: int | None = None,
        keyed: bool = False,
        gap: float = 0.01,
        payload: Mapping[str, Any] | None = None,
        name: str | None = None,
        environment: Mapping[str, str] | None = None,
        crash: str | None = None,
    ) -> Node:
        """Start a producer; the arguments are those of `tests.faults.producer`."""
        arguments = ["--gap", str(gap), "--payload", json.dumps(payload or {})]
        arguments += [] if count is None else ["--count", str(count)]
        arguments += ["--keyed"] if keyed else []
        # Not by its process: of thousands two may have the same number.
        arguments += ["--name", name or f"producer-{len(self.nodes)}"]
        arguments += ["--crash", crash] if crash else []
        return self.start("producer", *types, *arguments, url=url, environment=environment)

    def start(
        self,
        module: str,
        *arguments: str,
        url: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Node:
        """Start a module of this package with the URL, the ledger and more arguments.

        What has an environment of its own is a program of its own; all else is forked.
        """
        name = f"tests.faults.{module}"
        arguments = (url or self.url, str(self.ledger.path), *arguments)
        process: subprocess.Popen[bytes] | Forked
        if environment is None:
            process = self.nursery.start(name, arguments, self.directory / "log")
        else:
            with (self.directory / "log").open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", name, *arguments],
                    cwd=ROOT,
                    env={**os.environ, **environment},
                    stderr=log,
                )
        node = Node(self, process)
        self.nodes.append(node)
        return node

    async def ready(self) -> None:
        """Wait until every node that runs is ready."""
        for node in self.nodes:
            if node.process.poll() is None:
                await node.ready()

    def end_nodes(self) -> None:
        """Kill what is left."""
        for node in self.nodes:
            node.kill()

    # What scenarios wait for.

    async def recorded(
        self, count: int, event: str, *, patience: float = PATIENCE, **fields: Any
    ) -> None:
        """Wait until the ledger has so many records of the event with these fields."""
        await eventually(
            lambda: self.count(event, **fields) >= count, patience, f"{event} {fields}"
        )

    def count(self, event: str, **fields: Any) -> int:
        """How many records of the event have these fields."""
        records = self.ledger.records(event)
        return sum(fields.items() <= each.items() for each in records) if fields else len(records)

    def holder(self, task_id: str, attempt: int) -> Node:
        """The node in which an attempt was started."""
        (pid,) = {
            record["process"]
            for record in self.ledger.records("start")
            if (record["task"], record["attempt"]) == (task_id, attempt)
        }
        (node,) = (node for node in self.nodes if node.pid == pid)
        return node

    def open_gate(self, task_id: str, attempt: int) -> None:
        """Let a handler that waits for its gate go on."""
        gate(self.directory, task_id, attempt).touch()

    async def drained(self, patience: float = PATIENCE) -> None:
        """Wait until no task is pending or processing."""
        waiting = "SELECT count(*) FROM rowlock_task WHERE status IN ('pending', 'processing')"

        async def nothing_left() -> bool:
            ((count,),) = await execute(self.url, waiting)
            return bool(count == 0)

        await eventually(nothing_left, patience, "drained")

    async def finish(self, patience: float = PATIENCE) -> Figures:
        """Drain after the last fault, end the nodes, check and print the line.

        Raises:
            AssertionError: if anything is lost, doubled, accepted though stale, or else wrong.
        """
        began = time.monotonic()
        late = None
        try:
            await self.drained(patience)
        except AssertionError as error:
            late = error
        drain = time.monotonic() - began
        for node in self.nodes:
            if node.process.poll() is None:
                node.signal(signal.SIGTERM)
        for node in self.nodes:
            await eventually(lambda node=node: node.process.poll() is not None, PATIENCE)  # type: ignore[misc]
        figures = await self.figures()
        figures.drain = drain
        if late is not None:
            figures.problems.append(str(late))
        self.report(figures)
        assert (figures.lost, figures.doubled, figures.accepted) == (0, 0, 0), self._wrong(figures)
        assert not figures.problems, self._wrong(figures)
        return figures

    def blank(self) -> Figures:
        """The figures of a run without its history."""
        return Figures(self.name, self.url.partition(":")[0], self.cycles)

    async def figures(self) -> Figures:
        """Check what there is so far."""
        figures = self.blank()
        check(figures, self.ledger.records(), await history.read(self.url))
        return figures

    def report(self, figures: Figures) -> None:
        """Print the line."""
        self.line = figures.line()
        print(self.line)

    def _wrong(self, figures: Figures) -> str:
        return "\n".join([figures.line(), *figures.problems[:20], self.log()])

    def log(self) -> str:
        return (self.directory / "log").read_text()[-5000:]


@contextmanager
def running(name: str, url: str, directory: Path, seed: int, nursery: Nursery) -> Iterator[Run]:
    """A run whose nodes end with it."""
    run = Run(name, url, directory, seed, nursery)
    try:
        yield run
    finally:
        run.end_nodes()
        run.ledger.close()
