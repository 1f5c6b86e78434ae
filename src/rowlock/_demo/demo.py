"""The command `rowlock demo`: the main job on real files, with a worker that is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer
from rich.console import Console

from rowlock._demo.files import File, Verdict, check, directly, find_files
from rowlock._demo.handlers import SETTINGS, TYPE_VARIABLE
from rowlock._demo.report import Kill, Run, display, report
from rowlock._store.url import DATABASE_VARIABLE
from rowlock.errors import InvalidArgumentError, RowlockError
from rowlock.models import NewTask, Task, TaskStatus
from rowlock.queue import TaskQueue

_POLL = 0.01
# What a paused worker has sent to PostgreSQL takes effect all the same.
_SETTLE = 0.05
_START_TIMEOUT = 30.0
_STALL_TIMEOUT = 60.0
_END_TIMEOUT = 5.0
_BATCH = 2000
_PAGE = 500
_AT_ONCE = 20
_INTERRUPTED = 130
_ENDED = (TaskStatus.SUCCESS, TaskStatus.FAILED, TaskStatus.CANCELLED)
_NOT_STANDARD = frozenset({"site-packages", "dist-packages"})


class DemoError(RowlockError):
    """The demo did not do what it shows."""


def demo(
    folder: Annotated[
        Path | None,
        typer.Argument(
            exists=True,
            file_okay=False,
            help="Each regular file in it and below is a task. "
            "[default: the standard library of this Python]",
            show_default=False,
        ),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            help="A database to use instead of a temporary SQLite file. Its schema is upgraded; "
            "the tasks have a type of their own and are removed at the end.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=2, max=64, help="How many processes.")] = 3,
) -> None:
    """Measure the files of a folder with three workers, one of which is killed half-way.

    Each file's size, number of lines and SHA-256 are a task. At the end every result is compared
    with one that is computed directly, without the queue.

    Exit codes:

    - 0: every file has one result, and it is right.

    - 1: something is missing or different, or the demo could not run.

    - 130: interrupted.
    """
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    try:
        with _termination_interrupts():
            verdict = _demo(console, folder, database, workers)
    except KeyboardInterrupt:
        typer.echo("interrupted; the workers are ended", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    if verdict.problems:
        raise typer.Exit(1)


def _demo(console: Console, folder: Path | None, database: str | None, workers: int) -> Verdict:
    left_out = _NOT_STANDARD if folder is None else frozenset()
    folder = Path(folder or sysconfig.get_path("stdlib")).resolve()
    files, skipped = find_files(folder, left_out)
    if not files:
        raise InvalidArgumentError(f"folder: {folder} holds no file that can be read")
    console.print(f"{len(files):,} files of {folder}", markup=False)
    if skipped:
        console.print(f"{skipped:,} more cannot be read, or their names stored: left out")
    with tempfile.TemporaryDirectory(prefix="rowlock-demo-") as scratch:
        url = database or f"sqlite:///{Path(scratch, 'demo.db').as_posix()}"
        _upgrade(url)
        stage = _Stage(console, url, Path(scratch), workers, shared=database is not None)
        run = asyncio.run(stage.play(files))
        verdict = check({file.path: directly(file) for file in files}, run.tasks)
    report(console, folder, run, verdict)
    return verdict


def _upgrade(database: str) -> None:
    from rowlock import schema

    schema.upgrade(database)


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    # Only an interrupt unwinds the stack, and with it ends the workers and removes the files.
    # A shell without job control has it ignored in what it starts in the background.
    handlers: dict[int, Any] = {signal.SIGINT: signal.default_int_handler}
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            handlers[getattr(signal, name)] = lambda *_: signal.raise_signal(signal.SIGINT)
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# The run.


@dataclass(slots=True)
class _Process:
    number: int
    popen: subprocess.Popen[bytes]
    log: Path

    def is_ready(self) -> bool:
        return b"started in process" in self.log.read_bytes()

    def last_line(self) -> str:
        lines = self.log.read_text(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it wrote nothing")


@contextmanager
def _processes(count: int, scratch: Path, environment: dict[str, str]) -> Iterator[list[_Process]]:
    command = [sys.executable, "-m", "rowlock", "worker", "rowlock._demo.handlers:queue"]
    processes: list[_Process] = []
    try:
        for number in range(1, count + 1):
            path = scratch / f"worker-{number}.log"
            with path.open("wb") as log:
                popen = subprocess.Popen(  # noqa: S603 - every part of it is ours
                    command,
                    # A pipe that nobody writes to: its end tells them that the demo is gone.
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env=os.environ | environment,
                )
            processes.append(_Process(number, popen, path))
        yield processes
    finally:
        _end([process.popen for process in processes])


def _end(popens: list[subprocess.Popen[bytes]]) -> None:
    for popen in popens:
        popen.terminate()
    deadline = time.monotonic() + _END_TIMEOUT
    try:
        for popen in popens:
            with suppress(subprocess.TimeoutExpired):
                popen.wait(max(0.0, deadline - time.monotonic()))
    finally:
        for popen in popens:
            popen.kill()
            popen.wait()
            if popen.stdin is not None:
                popen.stdin.close()


@contextmanager
def _paused(processes: list[_Process]) -> Iterator[None]:
    # What they hold must still be held when one of them is killed. Windows cannot pause.
    if not hasattr(signal, "SIGSTOP"):
        yield
        return
    try:
        for process in processes:
            process.popen.send_signal(signal.SIGSTOP)
        yield
    finally:
        for process in processes:
            process.popen.send_signal(signal.SIGCONT)


class _Stage:
    """Where the run takes place.

    Args:
        console: where it is shown.
        database: a URL; its schema is current.
        scratch: a folder for the logs of the workers.
        workers: how many.
        shared: the database outlives the run, so the tasks have to be removed.
    """

    def __init__(
        self, console: Console, database: str, scratch: Path, workers: int, *, shared: bool
    ) -> None:
        self._console = console
        self._database = database
        self._scratch = scratch
        self._workers = workers
        self._shared = shared
        self._type = f"demo-{uuid4().hex}"
        self._began = 0.0

    async def play(self, files: Sequence[File]) -> Run:
        """Run a task for each file, and kill a worker half-way."""
        async with TaskQueue(self._database, **SETTINGS) as queue:
            try:
                environment = {DATABASE_VARIABLE: self._database, TYPE_VARIABLE: self._type}
                with _processes(self._workers, self._scratch, environment) as processes:
                    await self._ready(processes)
                    return await self._run(queue, processes, files)
            finally:
                if self._shared:
                    await self._remove(queue)

    async def _ready(self, processes: list[_Process]) -> None:
        # All at once at the start line, or the first to start may do everything.
        deadline = time.monotonic() + _START_TIMEOUT
        while not all(process.is_ready() for process in processes):
            _all_alive(processes)
            if time.monotonic() > deadline:
                raise DemoError(f"the workers did not start within {_START_TIMEOUT:g} s")
            await asyncio.sleep(_POLL)
        pids = ", ".join(str(process.popen.pid) for process in processes)
        self._console.print(f"{len(processes)} workers are ready: processes {pids}")

    async def _run(self, queue: TaskQueue, processes: list[_Process], files: Sequence[File]) -> Run:
        run = Run()
        self._began = progressed = time.monotonic()
        for start in range(0, len(files), _BATCH):
            await queue.create_many(
                NewTask(
                    self._type,
                    {"path": file.path},
                    retry_count=3,
                    retry_interval=100,
                    retain_for=-1,
                )
                for file in files[start : start + _BATCH]
            )
        done = 0
        with display(self._console, len(files)) as show:
            while done < len(files):
                before, done = done, await self._done(queue)
                show(done)
                if done != before:
                    progressed = time.monotonic()
                if run.kill is None and len(files) <= 2 * done < 2 * len(files):
                    run.kill = await self._kill_busiest(queue, processes)
                _all_alive(processes, run.kill)
                if time.monotonic() - progressed > _STALL_TIMEOUT:
                    raise DemoError(f"no task has ended for {_STALL_TIMEOUT:g} s")
                await asyncio.sleep(_POLL)
        run.seconds = time.monotonic() - self._began
        run.tasks = await self._tasks(queue)
        return run

    async def _kill_busiest(self, queue: TaskQueue, processes: list[_Process]) -> Kill | None:
        with _paused(processes):
            await asyncio.sleep(_SETTLE)
            done = await self._done(queue)
            held = defaultdict(set)
            for task in await self._tasks(queue, TaskStatus.PROCESSING):
                held[_process_of(task)].add(task.id)
            if not held:
                return None
            victim = max(processes, key=lambda process: len(held[process.popen.pid]))
            victim.popen.kill()
            victim.popen.wait()
        seconds = time.monotonic() - self._began
        pid = victim.popen.pid
        self._console.print(
            f"worker {victim.number} (process {pid}) killed after {seconds:.2f} s, "
            f"when {done:,} tasks were done; it held {len(held[pid]):,}"
        )
        return Kill(victim.number, pid, seconds, done, held[pid])

    async def _done(self, queue: TaskQueue) -> int:
        counts = await queue.counts(self._type)
        return sum(counts[status] for status in _ENDED)

    async def _tasks(self, queue: TaskQueue, status: TaskStatus | None = None) -> list[Task]:
        tasks: list[Task] = []
        cursor = None
        while True:
            page = await queue.query(self._type, status, cursor=cursor, limit=_PAGE)
            tasks.extend(page.entities)
            cursor = page.cursor
            if cursor is None:
                return tasks

    async def _remove(self, queue: TaskQueue) -> None:
        tasks = await self._tasks(queue)
        for start in range(0, len(tasks), _AT_ONCE):
            await asyncio.gather(
                *(queue.remove(task.id) for task in tasks[start : start + _AT_ONCE])
            )


def _all_alive(processes: list[_Process], kill: Kill | None = None) -> None:
    for process in processes:
        code = process.popen.poll()
        if code is not None and (kill is None or process.popen.pid != kill.process):
            raise DemoError(
                f"worker {process.number} ended with exit code {code}: {process.last_line()}"
            )


def _process_of(task: Task) -> int:
    return int(task.thread_id.rsplit(":", 2)[1])


# What is shown.
