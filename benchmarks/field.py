"""rowlock, the bare driver and other task queues: the same modes, interleaved, side by side.

Each measurement has a fresh database, and processes of its own. Every handler is an async no-op
that counts, every payload 100 bytes of JSON. A drain is timed from when all workers are ready to
when every task has run once and the database says that it is finished; its middle, without what
workers need to start and what the last ones take, from when a tenth has run to nine tenths.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple
from urllib.parse import urlsplit

from benchmarks._databases import SQLITE, fetch, session
from benchmarks._report import Report
from benchmarks.peers.__main__ import WARM_UP, load
from benchmarks.peers._marks import Marks
from benchmarks.peers._peer import POSTGRESQL, Peer
from tests.support import postgres_server as _postgres_server

MODULES = {
    POSTGRESQL: (
        "rowlock_postgresql",
        "bare_postgresql",
        "pgqueuer",
        "procrastinate",
        "chancy",
        "dbos",
        "awa",
    ),
    SQLITE: ("rowlock_sqlite", "bare_sqlite", "litequeue", "huey", "persist_queue"),
}
CREATES = {"create-single": 2000, "create-concurrent": 4000, "create-bulk": 20_000}
DRAINS = {"drain-1": 1, "drain-2": 2, "drain-4": 4}
DEEP = "deep"
LATENCY = "latency"
MODES = (*CREATES, *DRAINS, DEEP, LATENCY)

# So many that the start of the workers is a small part of a drain.
TASKS = 150_000
_BACKLOG = 200_000
_FIRST = 5000
_ARRIVALS = 200
# A measurement of a slow queue is to take about so many seconds.
_SECONDS = 3
_TIMEOUT = 60
_ROOT = Path(__file__).parents[1]


class Entrant(NamedTuple):
    """A queue that is installed, and the name of its module."""

    module: str
    peer: Peer


# Results: of a mode, of a queue, what each round measured.
Results = dict[str, dict[str, list[dict[str, float]]]]


def run(server: str, arguments: argparse.Namespace, report: Report) -> bool:
    """Measure every mode with every queue in each round."""
    kind = SQLITE if server == SQLITE else POSTGRESQL
    entrants = _entrants(kind, arguments.peers)
    modes = [mode for mode in MODES if not arguments.modes or mode in arguments.modes]
    results: Results = {mode: {} for mode in modes}
    with ExitStack() as stack:
        databases = stack.enter_context(_databases(server, statistics=not arguments.no_statistics))
        for number in range(arguments.rounds):
            for mode in modes:
                # Nobody is always the first one.
                turn = number % len(entrants)
                for entrant in entrants[turn:] + entrants[:turn]:
                    if mode in entrant.peer.leaves_out:
                        continue
                    found = _measure(databases, entrant, mode, arguments.tasks)
                    results[mode].setdefault(entrant.peer.name, []).append(found)
                    shown = ", ".join(f"{name} {value:,.2f}" for name, value in found.items())
                    print(f"{number + 1}: {mode}, {entrant.peer.name}: {shown}", file=sys.stderr)
    _show(kind, [entrant.peer for entrant in entrants], results, report)
    return True


def _entrants(kind: str, wanted: list[str] | None) -> list[Entrant]:
    entrants = []
    for module in MODULES[kind]:
        if wanted and module not in wanted and module.rpartition("_")[0] not in wanted:
            continue
        try:
            peer = load(module)
        except ImportError as error:
            print(f"{module} is left out: {error}")
            continue
        entrants.append(Entrant(module, peer))
        versions = ", ".join(
            f"{name} {importlib.metadata.version(name)}" for name in peer.distributions
        )
        print(f"{peer.name} ({versions}): finished rows {peer.rows}; {peer.settings}")
    return entrants


def _measure(databases: _Databases, entrant: Entrant, mode: str, tasks: int) -> dict[str, float]:
    peer = entrant.peer
    if mode in CREATES:
        return _create(databases, entrant, mode, CREATES[mode] * tasks // TASKS)
    if mode == LATENCY:
        return _latency(databases, entrant)
    if mode == DEEP:
        return _deep(databases, entrant, _BACKLOG * tasks // TASKS)
    tasks = min(tasks, peer.rate * _SECONDS)
    return _drain(databases, entrant, DRAINS[mode], tasks)


def _create(databases: _Databases, entrant: Entrant, mode: str, tasks: int) -> dict[str, float]:
    with databases.fresh(entrant) as url:
        seconds = float(_child(entrant, url, "create", mode, str(tasks)))
        ((unfinished, _),) = asyncio.run(fetch(url, entrant.peer.counts))
    if unfinished != tasks + WARM_UP:
        raise SystemExit(f"{entrant.peer.name}: {mode} of {tasks}: there are {unfinished}")
    return {"per s": tasks / seconds}


def _drain(databases: _Databases, entrant: Entrant, workers: int, tasks: int) -> dict[str, float]:
    peer = entrant.peer
    with databases.fresh(entrant, tasks) as url, _marks(tasks) as (marks, file):
        with _working(entrant, url, file, workers) as began:
            middle = -_until(marks, tasks // 10)
            middle += _until(marks, tasks - tasks // 10)
            _until(marks, tasks)
            # All handlers have run; the last outcomes are still to be written.
            seconds = asyncio.run(_until_finished(url, peer.counts)) - began
        ((_, finished),) = asyncio.run(fetch(url, peer.counts))
    if marks.runs() != b"\x01" * tasks or finished not in (None, tasks):
        raise SystemExit(f"{peer.name}: {finished} of {tasks} finished, {marks.total()} runs")
    return {"per s": tasks / seconds, "middle per s": (tasks - 2 * (tasks // 10)) / middle}


async def _until_finished(url: str, counts: str) -> float:
    """Return the instant of the question that had the answer: to count takes a while."""
    async with session(url) as ask:
        while True:
            asked = time.perf_counter()
            if not (await ask(counts))[0][0]:
                return asked
            await asyncio.sleep(0.003)


def _deep(databases: _Databases, entrant: Entrant, tasks: int) -> dict[str, float]:
    """Kill the worker when it has run the first ones; what it has finished by then counts."""
    peer = entrant.peer
    first = min(_FIRST, peer.rate * _SECONDS)
    with databases.fresh(entrant, tasks) as url, _marks(tasks) as (marks, file):
        with _working(entrant, url, file, 1) as began:
            with suppress(TimeoutError):  # what it has finished by then counts all the same
                _until(marks, first)
            seconds = time.perf_counter() - began
        ((unfinished, finished),) = asyncio.run(fetch(url, peer.counts))
    if max(marks.runs()) > 1:
        raise SystemExit(f"{peer.name}: a task ran twice")
    return {"per s": (tasks - unfinished if finished is None else finished) / seconds}


def _latency(databases: _Databases, entrant: Entrant) -> dict[str, float]:
    tasks = WARM_UP + _ARRIVALS
    with databases.fresh(entrant) as url, _marks(tasks) as (marks, file):
        with _working(entrant, url, file, 1):
            time.sleep(1)  # until it is idle
            _child(entrant, url, "arrive", str(tasks))
            _until(marks, tasks)
        found = [seconds * 1000 for seconds in marks.latencies()[WARM_UP:]]
    if marks.runs() != b"\x01" * tasks:
        raise SystemExit(f"{entrant.peer.name}: {marks.total()} runs of {tasks} tasks")
    return {
        "median ms": median(found),
        "p99 ms": quantiles(found, n=100, method="inclusive")[98],
    }


# Processes.


def _command(entrant: Entrant, url: str, *words: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.peers", entrant.module, url, *words]


def _child(entrant: Entrant, url: str, *words: str) -> str:
    command = _command(entrant, url, *words)
    done = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


@contextmanager
def _working(entrant: Entrant, url: str, file: Path, workers: int) -> Iterator[float]:
    """Start workers; yield the instant at which all, being ready, are told to go. Kill them."""
    processes = [
        subprocess.Popen(
            _command(entrant, url, "work", str(file), str(place)),
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            # Some start processes of their own, which are killed with them.
            start_new_session=True,
        )
        for place in range(workers)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            if (line := process.stdout.readline()) != "ready\n":
                raise SystemExit(f"a worker of {entrant.module} did not start: {line!r}")
        began = time.perf_counter()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
        yield began
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()


@contextmanager
def _marks(tasks: int) -> Iterator[tuple[Marks, Path]]:
    with tempfile.TemporaryDirectory(prefix="rowlock-") as directory:
        file = Path(directory) / "marks"
        yield Marks(file, tasks), file


def _until(marks: Marks, tasks: int) -> float:
    end = time.monotonic() + _TIMEOUT
    while marks.total() < tasks:
        if time.monotonic() > end:
            raise TimeoutError(f"after {_TIMEOUT} s {marks.total()} of {tasks} tasks had run")
        time.sleep(0.002)
    return time.perf_counter()


# Databases.


class _Databases:
    """Each backlog is made once and copied for each measurement."""

    def __init__(self, server: str, directory: Path, *, statistics: bool) -> None:
        self._server = server
        self._statistics = statistics
        self._directory = directory
        self._templates: dict[tuple[str, int], str] = {}

    @contextmanager
    def fresh(self, entrant: Entrant, tasks: int = 0) -> Iterator[str]:
        """Yield the URL of a new database with so many tasks."""
        key = (entrant.module, tasks)
        if key not in self._templates:
            self._templates[key] = self._make(entrant, tasks)
        if self._server != SQLITE:
            with _postgres_server.temporary_database(self._server, self._templates[key]) as url:
                # So that no measurement pays for what the one before has written.
                asyncio.run(fetch(self._server, "CHECKPOINT"))
                yield url
            return
        with tempfile.TemporaryDirectory(prefix="rowlock-") as directory:
            copied = shutil.copytree(self._templates[key], Path(directory) / "copy")
            subprocess.run(["sync"], check=True)
            yield f"sqlite:///{copied / 'tasks.db'}"

    def close(self) -> None:
        """Remove them."""
        if self._server != SQLITE:
            for name in self._templates.values():
                asyncio.run(fetch(self._server, f"DROP DATABASE {name} WITH (FORCE)"))

    def _make(self, entrant: Entrant, tasks: int) -> str:
        name = f"rl_{secrets.token_hex(8)}"
        if self._server == SQLITE:
            directory = self._directory / name
            directory.mkdir()
            url, made = f"sqlite:///{directory / 'tasks.db'}", str(directory)
        else:
            asyncio.run(fetch(self._server, f"CREATE DATABASE {name}"))
            url, made = urlsplit(self._server)._replace(path=f"/{name}").geturl(), name
        _child(entrant, url, "install")
        if tasks:
            _child(entrant, url, "fill", str(tasks))
        # What autovacuum does with a backlog within a minute, or not at all.
        analyze = "ANALYZE" if self._statistics else ""
        asyncio.run(fetch(url, "VACUUM" if self._server == SQLITE else f"VACUUM {analyze}"))
        return made


@contextmanager
def _databases(server: str, *, statistics: bool = True) -> Iterator[_Databases]:
    with tempfile.TemporaryDirectory(prefix="rowlock-") as directory:
        databases = _Databases(server, Path(directory), statistics=statistics)
        try:
            yield databases
        finally:
            databases.close()


# The table.


def _show(kind: str, peers: list[Peer], results: Results, report: Report) -> None:
    names = [peer.name for peer in peers]
    rows = []
    for mode, of in results.items():
        measures = next(iter(of.values()))[0] if of else {}
        for measure in measures:
            medians = {name: median(r[measure] for r in rounds) for name, rounds in of.items()}
            ours = medians.get("rowlock")
            others = [m for name, m in medians.items() if name not in ("rowlock", "bare")]
            best = (max if measure.endswith("per s") else min)(others, default=None)
            bare = medians.get("bare")
            rows.append(
                {
                    "mode": f"{mode}, {measure}",
                    **{name: _rounded(medians.get(name)) for name in names},
                    "rowlock / best peer": ours / best if ours and best else "",
                    "rowlock / bare": ours / bare if ours and bare else "",
                }
            )
    report.table({"benchmark": "field", "server": kind}, rows)
    report.results.append(
        {
            "benchmark": "field",
            "server": kind,
            "versions": {
                name: importlib.metadata.version(name)
                for peer in peers
                for name in peer.distributions
            },
            "settings": {peer.name: f"rows {peer.rows}; {peer.settings}" for peer in peers},
            "rounds": results,
        }
    )


def _rounded(value: float | None) -> float | int | str:
    if value is None:
        return ""
    return round(value) if value >= 100 else value
