from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest

from rowlock import TaskQueue, TaskStatus
from tests.support.helpers import eventually

APPLICATION = """
import asyncio
from pathlib import Path
from rowlock import ScheduledTaskTime, TaskQueue, TaskScheduler

async def quick(payload):
    return payload

async def waits(payload):
    Path("begun").touch()
    await asyncio.Event().wait()

async def finishes(payload):
    Path("begun").touch()
    while not Path("go").exists():
        await asyncio.sleep(0.01)
    return "finished"

def blocks(payload):
    import threading
    Path("begun").touch()
    threading.Event().wait()

async def stubborn(payload):
    Path("begun").touch()
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

async def filled():
    queue = TaskQueue()
    for name in ("quick", "waits", "finishes", "blocks", "stubborn"):
        await queue.register_handler(name, __name__, name)
    return queue

def by_function():
    return asyncio.run(filled())

async def clock():
    queue = TaskQueue()
    times = [ScheduledTaskTime(interval_seconds=1)]
    await TaskScheduler(queue).add_task("s", times, task_type="scheduled", retain_for=-1)
    return queue

def clock_by_function():
    return asyncio.run(clock())

async def opened_clock():
    queue = TaskQueue()
    await queue.open()
    scheduler = TaskScheduler(queue)
    times = [ScheduledTaskTime(interval_seconds=1)]
    await scheduler.add_task("s", times, lambda: Path("called").touch())
    return queue

queue = by_function()
empty = TaskQueue()
number = 3

def broken():
    raise OSError("the\\nvault is shut")

def wrong():
    return 3
"""

ROWLOCK = [sys.executable, "-m", "rowlock"]


@pytest.fixture
def application(tmp_path: Path) -> Path:
    folder = tmp_path / "application"
    folder.mkdir()
    (folder / "application.py").write_text(APPLICATION)
    return folder


def run(
    *arguments: str, folder: Path | None = None, database: str = "", timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ROWLOCK, *arguments],
        cwd=folder,
        env=os.environ | {"ROWLOCK_DATABASE_URL": database},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@contextmanager
def started(
    folder: Path, database: str, target: str = "application:queue"
) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*ROWLOCK, "worker", target],
            cwd=folder,
            env=os.environ | {"ROWLOCK_DATABASE_URL": database},
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def ended(process: subprocess.Popen[bytes], timeout: float = 30) -> int:
    await eventually(lambda: process.poll() is not None, timeout, "the worker has ended")
    return process.returncode


async def logged(folder: Path, text: str) -> None:
    await eventually(lambda: text in (folder / "log").read_text(), 30, f"{text!r} is in the log")


def is_one_line(answer: subprocess.CompletedProcess[str], *parts: str) -> bool:
    assert answer.returncode == 1, answer
    assert answer.stderr.startswith("Error: "), answer.stderr
    assert answer.stderr.count("\n") == 1, answer.stderr
    for part in parts:
        assert part in answer.stderr
    return True


def test_help_names_every_command() -> None:
    answer = run("--help")
    assert answer.returncode == 0
    assert all(name in answer.stdout for name in ("worker", "demo", "db", "--version"))


def test_help_of_the_worker_documents_the_exit_codes() -> None:
    answer = run("worker", "--help")
    assert answer.returncode == 0
    assert all(f"- {code}:" in answer.stdout for code in (0, 1, 2, 130))


def test_version() -> None:
    assert run("--version").stdout == f"rowlock {version('rowlock')}\n"


def test_wrong_usage_is_exit_code_2() -> None:
    assert run("worker").returncode == 2
    assert run("worker", "a:b", "--log-level", "loud").returncode == 2


def test_db_is_mounted(tmp_path: Path) -> None:
    answer = run("db", "upgrade", "--database", f"sqlite:///{tmp_path / 'new.db'}")
    assert (answer.returncode, answer.stdout.endswith("(head)\n")) == (0, True)


@pytest.mark.parametrize(
    ("target", "part"),
    [
        ("application", "expected is package.module:name"),
        ("application:", "expected is package.module:name"),
        ("nowhere:queue", "No module named 'nowhere'"),
        ("application:nothing", "no attribute 'nothing'"),
        ("application:number", "neither a TaskQueue nor a function"),
        ("application:wrong", "returned an object of type int"),
        ("application:broken", "raised OSError: the vault is shut"),
        ("application:waits", "raised TypeError"),
        ("application:empty", "no handler is registered"),
    ],
)
def test_a_bad_target_is_one_line(
    application: Path, sqlite_url: str, target: str, part: str
) -> None:
    answer = run("worker", target, folder=application, database=sqlite_url)
    assert is_one_line(answer, part)


def test_a_missing_schema_is_one_line_that_names_the_command(
    application: Path, database_url: str
) -> None:
    answer = run("worker", "application:queue", folder=application, database=database_url)
    assert is_one_line(answer, "rowlock db upgrade")


def test_a_server_that_is_down_is_one_line(application: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"postgresql://nobody@127.0.0.1:{closed.getsockname()[1]}/nothing"
        answer = run("worker", "application:queue", folder=application, database=url)
    assert is_one_line(answer)


def test_a_damaged_file_is_one_line(application: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.db"
    path.write_bytes(b"no database at all" * 1000)
    answer = run("worker", "application:queue", folder=application, database=f"sqlite:///{path}")
    assert is_one_line(answer)


def test_a_read_only_database_is_one_line(application: Path, sqlite_url: str) -> None:
    # By SQLite's own means: the permissions of a file do not bind root.
    path = sqlite_url.removeprefix("sqlite:///")
    url = f"sqlite:///file:{path}?mode=ro&immutable=1&uri=true"
    answer = run("worker", "application:queue", folder=application, database=url)
    assert is_one_line(answer)


@pytest.mark.parametrize(
    "target", ["application:queue", "application:by_function", "application:filled"]
)
async def test_one_signal_drains(application: Path, sqlite_url: str, target: str) -> None:
    async with TaskQueue(sqlite_url) as queue:
        with started(application, sqlite_url, target) as process:
            task_id = await queue.create("quick", 7, retain_for=-1)
            await eventually(lambda: is_in(queue, task_id, TaskStatus.SUCCESS), 30)
            process.send_signal(signal.SIGTERM)
            assert await ended(process) == 0


@pytest.mark.parametrize("target", ["clock", "clock_by_function"])
async def test_a_queue_with_schedules_and_no_handlers_runs(
    application: Path, database: str, target: str
) -> None:
    """Fails if handlers are asked for, or if a factory cannot add what is written at the open."""
    async with TaskQueue(database) as queue:
        with started(application, database, f"application:{target}") as process:
            await logged(application, "no handlers: it triggers scheduled tasks")

            async def triggered() -> bool:
                return (await queue.counts("scheduled"))[TaskStatus.PENDING] >= 2

            await eventually(triggered, 30)
            process.send_signal(signal.SIGTERM)
            assert await ended(process) == 0


async def test_a_factory_may_open_its_queue(application: Path, sqlite_url: str) -> None:
    with started(application, sqlite_url, "application:opened_clock") as process:
        await eventually((application / "called").exists, 30)
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0


def test_a_schedule_that_cannot_be_written_is_one_line(
    application: Path, database_url: str
) -> None:
    answer = run("worker", "application:clock", folder=application, database=database_url)
    assert is_one_line(answer, "rowlock db upgrade")


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest, application: Path) -> str:
    """The worker runs on this loop."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    else:
        (application / "uvloop.py").write_text("raise ImportError('hidden by the test')")
    return str(request.param)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_what_runs_finishes_and_the_rest_waits(
    application: Path, database: str, loop: str, number: signal.Signals
) -> None:
    async with TaskQueue(database) as queue:
        with started(application, database) as process:
            await logged(application, f" on {loop}, task types")
            running = await queue.create("finishes", retain_for=-1)
            await eventually((application / "begun").exists, 30)
            process.send_signal(number)
            await logged(application, "draining")
            later = await queue.create("quick", retain_for=-1)
            (application / "go").touch()
            assert await ended(process) == 0
        task = await queue.get(running)
        assert task is not None
        assert (task.status, task.result) == (TaskStatus.SUCCESS, "finished")
        assert await is_in(queue, later, TaskStatus.PENDING)


@pytest.mark.usefixtures("loop")
@pytest.mark.parametrize("task_type", ["waits", "blocks"])
async def test_a_second_signal_puts_back_what_runs(
    application: Path, database: str, task_type: str
) -> None:
    await put_back_by_a_second_signal(application, database, task_type)


async def test_a_second_signal_ends_a_handler_that_swallows_its_cancellation(
    application: Path, sqlite_url: str
) -> None:
    await put_back_by_a_second_signal(application, sqlite_url, "stubborn")


async def put_back_by_a_second_signal(application: Path, database: str, task_type: str) -> None:
    async with TaskQueue(database) as queue:
        with started(application, database) as process:
            task_id = await queue.create(task_type, retry_count=2, retain_for=-1)
            await eventually((application / "begun").exists, 30)
            process.send_signal(signal.SIGTERM)
            await logged(application, "draining")
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            assert await ended(process) == 130
        task = await queue.get(task_id)
        assert task is not None
        assert (task.status, task.thread_id) == (TaskStatus.PENDING, "0")
        assert (task.retries_remaining, task.error) == (2, None)


@pytest.mark.usefixtures("loop")
async def test_a_signal_while_it_starts_ends_it(application: Path) -> None:
    # A server that takes connections and never answers.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        url = f"postgresql://nobody@127.0.0.1:{silent.getsockname()[1]}/nothing?ssl=disable"
        with started(application, url) as process:
            connection, _ = await asyncio.to_thread(silent.accept)
            with connection:
                process.send_signal(signal.SIGTERM)
                assert await ended(process) == 0


async def is_in(queue: TaskQueue, task_id: str, status: TaskStatus) -> bool:
    task = await queue.get(task_id)
    return task is not None and task.status is status
