"""`rowlock worker` while it starts: signals, and how it writes its log."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import cycle
from pathlib import Path
from textwrap import indent

import pytest

from rowlock import TaskQueue
from rowlock.cli.log import JsonFormatter
from tests.support.helpers import eventually

HEAD = """
import asyncio, signal, sqlite3, sys, threading, time
from pathlib import Path
from rowlock import TaskQueue

async def filled():
    queue = TaskQueue()
    await queue.register_handler("fails", __name__, "fails", options={"executor": "async"})
    return queue

async def fails():
    raise ValueError("no\\nway")

def slow():
    Path("begun").touch()
    time.sleep(100)

"""

WAITS_IN_C = """
locked = sqlite3.connect("locked")
locked.execute("BEGIN EXCLUSIVE")
Path("begun").touch()
sqlite3.connect("locked", timeout=100).execute("BEGIN EXCLUSIVE")
"""

STARTS = {
    "import": "slow()",
    "import that swallows": """
try:
    slow()
except BaseException:
    pass
queue = asyncio.run(filled())
""",
    "import that swallows and takes its time": """
while True:
    try:
        slow()
    except BaseException:
        pass
""",
    "import that waits in C": WAITS_IN_C,
    "import with a thread": """
threading.Thread(target=slow).start()
slow()
""",
    "function": "queue = slow",
    "function with a loop": """
async def waits():
    Path("begun").touch()
    await asyncio.sleep(100)

def queue():
    asyncio.run(waits())
""",
    "function with uvloop": """
async def waits():
    Path("begun").touch()
    await asyncio.sleep(100)

def queue():
    import uvloop
    uvloop.run(waits())
""",
    "coroutine": """
async def queue():
    Path("begun").touch()
    await asyncio.sleep(100)
""",
    "coroutine that blocks": """
async def queue():
    slow()
""",
    "coroutine that blocks beside a thread": """
async def queue():
    # A thread that blocks none: the kernel gives it the second signal, and `sleep` goes on.
    threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
    slow()
""",
    "coroutine that waits in C": f"""
async def queue():
{indent(WAITS_IN_C, "    ")}
""",
}

# A loop runs and is blocked: the first signal would drain, which waits for the loop.
UNHEARD = [
    "coroutine that blocks",
    "coroutine that blocks beside a thread",
    "coroutine that waits in C",
]


@contextmanager
def worker(folder: Path, source: str, *options: str, **environment: str) -> Iterator[Worker]:
    (folder / "application.py").write_text(HEAD + source)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "rowlock", "worker", "application:queue", *options],
            cwd=folder,
            env=os.environ | environment,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


Worker = subprocess.Popen[bytes]


async def ended(process: Worker) -> int:
    await eventually(lambda: process.poll() is not None, 30, "the worker has ended")
    return process.returncode


@pytest.mark.parametrize(
    ("start", "number"),
    # One by one, in turns: each takes a process that imports all of rowlock.
    list(zip((s for s in STARTS if s not in UNHEARD), cycle([signal.SIGTERM, signal.SIGINT]))),
)
async def test_a_signal_is_heard_before_the_queue_is_open(
    tmp_path: Path, sqlite_url: str, start: str, number: signal.Signals
) -> None:
    """Fails where the signals are installed once the module is imported: its status is -15.

    Fails where nothing but the main thread hears them: what waits in C is there after 30 s. That
    is also what a `time.sleep` does that begins between the signal and its handler.
    """
    if "uvloop" in start:
        pytest.importorskip("uvloop")
    with worker(tmp_path, STARTS[start], ROWLOCK_DATABASE_URL=sqlite_url) as process:
        await eventually((tmp_path / "begun").exists, 30)
        process.send_signal(number)
        assert await ended(process) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("start", ["import that swallows and takes its time", *UNHEARD])
async def test_the_second_signal_is_heard_before_the_queue_is_open(
    tmp_path: Path, sqlite_url: str, start: str, loop: str
) -> None:
    """Fails in the last two where nothing but the main thread hears the signals.

    On uvloop it does where the loop's own descriptor is left as it is.
    """
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    else:
        (tmp_path / "uvloop.py").write_text("raise ImportError")
    with worker(tmp_path, STARTS[start], ROWLOCK_DATABASE_URL=sqlite_url) as process:
        await eventually((tmp_path / "begun").exists, 30)
        # One after the other, and not one that is pending twice.
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        assert await ended(process) == 130


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_fork_has_no_part_in_the_signals(
    tmp_path: Path, sqlite_url: str, loop: str
) -> None:
    """Fails where a fork swallows them, and where those that it gets count for the worker.

    A terminal sends its Ctrl-C to both: that would be two of them.
    """
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    else:
        (tmp_path / "uvloop.py").write_text("raise ImportError")
    source = """
import os

def forks():
    child = os.fork()
    if child == 0:
        time.sleep(20)
        os._exit(1)
    for _ in range(2):
        os.kill(child, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

async def filled():
    queue = TaskQueue()
    await queue.register_handler("forks", __name__, "forks", options={"executor": "thread"})
    return queue

queue = asyncio.run(filled())
"""
    async with TaskQueue(sqlite_url) as queue:
        with worker(tmp_path, source, ROWLOCK_DATABASE_URL=sqlite_url) as process:
            task_id = await queue.create("forks", retain_for=-1)

            async def has_ended() -> bool:
                task = await queue.get(task_id)
                return task is not None and task.status == "success"

            await eventually(has_ended, 60)
            task = await queue.get(task_id)
            assert task is not None
            assert task.result == -signal.SIGTERM
            process.send_signal(signal.SIGTERM)
            assert await ended(process) == 0


async def test_a_module_that_handles_signals_itself_is_overruled(
    tmp_path: Path, sqlite_url: str
) -> None:
    source = """
queue = asyncio.run(filled())
signal.signal(signal.SIGTERM, signal.SIG_IGN)
"""
    with worker(tmp_path, source, ROWLOCK_DATABASE_URL=sqlite_url) as process:
        await eventually(lambda: "task types" in (tmp_path / "log").read_text(), 30)
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0


@pytest.mark.parametrize("by", ["option", "variable"])
async def test_the_log_as_json(tmp_path: Path, sqlite_url: str, by: str) -> None:
    source = "queue = asyncio.run(filled())"
    options = ("--log-format", "json") if by == "option" else ()
    environment = {"ROWLOCK_DATABASE_URL": sqlite_url}
    if by == "variable":
        environment |= {"ROWLOCK_LOG_FORMAT": "json", "ROWLOCK_LOG_LEVEL": "debug"}
    async with TaskQueue(sqlite_url) as queue:
        with worker(tmp_path, source, *options, **environment) as process:
            task_id = await queue.create("fails", retry_count=0, retain_for=-1)

            async def has_failed() -> bool:
                task = await queue.get(task_id)
                return task is not None and task.status == "failed"

            await eventually(has_failed, 30)
            process.send_signal(signal.SIGTERM)
            assert await ended(process) == 0
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert lines
    for line in lines:
        assert {"time", "level", "logger", "message"} <= line.keys()
        assert line["time"].endswith("Z")
        assert len(line["time"]) == len("2026-03-09T10:30:00.000Z")
    assert any(line["level"] == "DEBUG" for line in lines) == (by == "variable")


def test_a_record_as_json() -> None:
    """Fails if a field, the exception or its stack is left out, or breaks the line."""
    try:
        raise ValueError("no\nway")
    except ValueError as error:
        raised = error
    record = logging.LogRecord(
        "rowlock.task", logging.ERROR, "x.py", 1, "task %(task_id)s: \udcff\n", None, None
    )
    record.args = {"task_id": "a"}
    record.exc_info = (ValueError, raised, raised.__traceback__)
    record.__dict__.update(task_id="a", task_type="t", attempt=2, worker=None)
    text = JsonFormatter().format(record)
    assert "\n" not in text
    text.encode("ascii")
    line = json.loads(text)
    assert datetime.fromisoformat(line.pop("time")).timestamp() == pytest.approx(
        record.created, abs=0.001
    )
    assert line.pop("exception").endswith("ValueError: no\nway")
    assert line == {
        "level": "ERROR",
        "logger": "rowlock.task",
        "message": "task a: \udcff\n",
        "task_id": "a",
        "task_type": "t",
        "attempt": 2,
    }
    record.exc_info = record.exc_text = None
    record.__dict__.update(attempt=object())
    assert "<object" in json.loads(JsonFormatter().format(record))["attempt"]
