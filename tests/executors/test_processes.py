"""Handlers in worker processes: what comes back, what they survive, how they live and end."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from rowlock import (
    HandlerOptions,
    NewTask,
    Task,
    TaskQueue,
    TaskStatus,
)
from rowlock._events import Event, HookFailed
from tests.support.helpers import eventually
from tests.support.process_handlers import CAUSE, RECORD

HANDLERS = "tests.support.process_handlers"
ROOT = Path(__file__).parents[2]
# A process starts in 0.2 s, or in 2 s on a loaded machine.
LONG = 30.0


@asynccontextmanager
async def serving(
    database: str, handler: str = "echo", *, queue_settings: Any = None, **options: Any
) -> AsyncIterator[TaskQueue]:
    """Open a queue that runs the type "t" with a handler."""
    settings = {"retry_interval": 10, "poll_interval": 200, **(queue_settings or {})}
    async with TaskQueue(database, **settings) as queue:
        await queue.register_handler("t", HANDLERS, handler, options=HandlerOptions(**options))
        await queue.start()
        yield queue


async def stored(queue: TaskQueue, task_id: str) -> Task:
    task = await queue.get(task_id)
    assert task is not None
    return task


async def ended(queue: TaskQueue, task_id: str) -> Task:
    async def has_ended() -> bool:
        status = (await stored(queue, task_id)).status
        return status not in (TaskStatus.PENDING, TaskStatus.PROCESSING)

    await eventually(has_ended, timeout=LONG)
    return await stored(queue, task_id)


async def run(
    queue: TaskQueue, payload: Any = None, *, task_type: str = "t", retry_count: int | None = 0
) -> Task:
    """Create a task and wait for its end."""
    return await ended(
        queue, await queue.create(task_type, payload, retry_count=retry_count, retain_for=-1)
    )


async def result_of(queue: TaskQueue, payload: Any = None, *, task_type: str = "t") -> Any:
    # Not the attempt: it also counts claims that were put back while a process took long to start.
    # Without retries, a success is one at the first try.
    task = await run(queue, payload, task_type=task_type)
    assert (task.status, task.error) == ("success", None)
    return task.result


def alive(pid: int) -> bool:
    """Whether a process runs. A zombie does not: who is to reap it is not the question."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")


class Record:
    """What handlers and hooks have written: lines of two words, the second mostly a pid."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def words(self, first: str) -> Counter[str]:
        return Counter(self._after(first))

    def pids(self, first: str) -> list[int]:
        return [int(pid) for pid in self._after(first)]

    def _after(self, first: str) -> list[str]:
        lines = [line.split() for line in self.path.read_text().splitlines()]
        return [line[1] for line in lines if line[0] == first]


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Record]:
    """The file that handlers write to; what they have left behind is killed at the end."""
    result = Record(tmp_path / "record")
    monkeypatch.setenv(RECORD, str(result.path))
    yield result
    for pid in [*result.pids("child"), *result.pids("grandchild")]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def hook_failures(queue: TaskQueue) -> Iterator[list[HookFailed]]:
    seen: list[HookFailed] = []

    def note(event: Event) -> None:
        if isinstance(event, HookFailed):
            seen.append(event)

    queue.runtime.events.subscribe(note)
    yield seen


# What crosses the border.


async def test_what_handlers_get_and_return(database: str) -> None:
    handlers = {
        "tâche": ("about", HANDLERS),
        "async": ("async_about", HANDLERS),
        "root": ("sqrt", "math"),
    }
    async with serving(database) as queue:
        options = HandlerOptions(executor="process", max_worker_count=1)
        for task_type, (method, module) in handlers.items():
            await queue.register_handler(task_type, module, method, options=options)
        for payload in (None, "x" * 200 * 1024, {"ž 🐎": ["\u2028", 1.5, True, None, {}]}):
            assert await result_of(queue, payload) == payload
        for task_type in ("tâche", "async"):
            task = await run(queue, {"a": 1}, task_type=task_type)
            assert task.result == [task.id, task_type, task.attempt, {"a": 1}]
            task = await run(queue, None, task_type=task_type)
            assert task.result == [task.id, task_type, task.attempt, None]
        assert await result_of(queue, 2, task_type="root") == math.sqrt(2)


@pytest.mark.parametrize("handler", ["pid", "async_pid"])
async def test_handlers_run_in_one_other_process(sqlite_url: str, handler: str) -> None:
    async with serving(sqlite_url, handler, executor="process", max_worker_count=1) as queue:
        pids = {await result_of(queue) for _ in range(3)}
    assert len(pids) == 1
    assert os.getpid() not in pids
    assert not alive(pids.pop())


async def test_attempts_are_counted_in_the_process(database: str) -> None:
    async with serving(database, "fail", max_worker_count=1) as queue:
        # The process is there from now on, and no claim is put back until it has started.
        assert await result_of(queue, "good") is None
        task = await run(queue, "again", retry_count=2)
        assert (task.status, task.attempt, task.retries_remaining) == ("failed", 3, 0)
        assert task.error is not None
        assert (task.error.name, task.error.message) == ("ValueError", "wrong: ž")
        assert task.error.source == f"{HANDLERS}.fail"
        assert task.error.stack is not None
        assert "process_handlers.py" in task.error.stack

        task = await run(queue, "final", retry_count=2)
        assert (task.status, task.attempt) == ("failed", 1)
        assert task.error is not None
        assert (task.error.name, task.error.properties) == ("HandlerError", {"a": [1, "ž"]})


async def test_a_result_that_is_not_json_fails_the_attempt(database: str) -> None:
    async with serving(database, "not_json", max_worker_count=1) as queue:
        for kind in ("bytes", "nul", "nan", "object"):
            task = await run(queue, kind)
            assert task.status == "failed"
            assert task.error is not None
            assert task.error.name == "InvalidPayloadError"


# Handlers that take their process down.

POISON = {
    "exit": ("WorkerProcessError", "exited with status 3"),
    "segv": ("WorkerProcessError", "SIGSEGV"),
    "kill": ("WorkerProcessError", "SIGKILL"),
    "memory": ("MemoryError", ""),
}


@pytest.mark.slow
async def test_poison_fails_only_itself(database: str, record: Record) -> None:
    """Fails where the end of a process takes along another attempt, is not counted as one, or
    leaves its slot empty."""
    kinds = list(POISON)
    tasks: list[NewTask] = []
    for n in range(550):
        payload = kinds[n // 11 % 4] if n % 11 == 5 else n
        tasks.append(NewTask("t", payload, retry_count=1, retain_for=-1))
    async with serving(database, "poison", max_worker_count=3) as queue:
        ids = await queue.create_many(tasks)

        async def all_ended() -> bool:
            counts = await queue.counts()
            return counts[TaskStatus.SUCCESS] + counts[TaskStatus.FAILED] == len(ids)

        await eventually(all_ended, timeout=110)
        runs = record.words("run")
        for task_id, new in zip(ids, tasks, strict=True):
            task = await stored(queue, task_id)
            if isinstance(new.payload, int):
                assert (task.status, task.result) == ("success", new.payload)
                assert runs[task_id] == 1
                continue
            assert task.status == "failed"
            assert runs[task_id] == 2
            assert task.error is not None
            name, message = POISON[new.payload]
            assert task.error.name == name
            assert message in task.error.message


async def test_poison_with_unlimited_retries_ends(database: str, record: Record) -> None:
    """Fails where only the sweeper counts lost workers: it would kill processes for ever."""
    settings = {"max_lost_workers": 3}
    async with serving(database, "poison", queue_settings=settings, max_worker_count=1) as queue:
        task = await run(queue, "kill", retry_count=None)
    assert task.status == "failed"
    assert record.words("run") == {task.id: 3}
    assert task.error is not None
    assert "SIGKILL" in task.error.message


# Handlers that do to their worker what they can.

FAILS = {
    "exit": "SystemExit",
    "interrupt": "KeyboardInterrupt",
    "base": "ForeignBaseError",
    "no class": "NoClassError",
    "fds": "WorkerProcessError",
}
SURVIVES = ["stdin", "stdout", "fd 1", "chdir", "thread", "child", "forked sleeper", "fork"]
SURVIVES += ["fork raises", "signals", "interrupts itself"]


ENDED = {"success", "failed", "cancelled"}


async def check_hostile(queue: TaskQueue, kind: str, result: object) -> None:
    """A task does its worst, and the next one, in the one worker, knows nothing of it."""
    seen: list[tuple[str, str]] = []
    handler = queue.runtime.handlers["t"]
    module, _, method = handler.source.rpartition(".")
    await queue.register_handler(
        "t",
        module,
        method,
        lambda task: seen.append((task.id, task.status)),
        handler.options,
    )
    task = await run(queue, kind)
    if kind in FAILS:
        assert task.error is not None
        assert (task.status, task.error.name) == ("failed", FAILS[kind])
    else:
        assert (task.status, task.result) == ("success", kind)
    good = await run(queue, "good")
    assert (good.status, good.result) == ("success", result)
    await eventually(lambda: (good.id, "success") in seen)
    ends = [status for task_id, status in seen if task_id == task.id and status in ENDED]
    assert ends == [task.status]


@pytest.mark.parametrize("kind", [*SURVIVES, *FAILS])
async def test_a_hostile_handler_hurts_no_other(sqlite_url: str, record: Record, kind: str) -> None:
    async with serving(sqlite_url, "hostile", max_worker_count=1) as queue:
        with hook_failures(queue) as failures:
            await check_hostile(queue, kind, os.getcwd())
        closing = time.monotonic()
    # Nobody waits for what it has left behind, which sleeps for 60 s, and nobody is killed for it.
    assert time.monotonic() - closing < 20
    assert failures == []
    if kind == "fork":
        assert len(set(record.pids("returns"))) == 2


@pytest.mark.parametrize(
    ("handler", "executor"),
    [("hostile", "thread"), ("async_hostile", "async"), ("async_hostile", "process")],
)
@pytest.mark.parametrize("kind", ["exit", "interrupt", "base", "print"])
async def test_an_exit_fails_only_its_attempt(
    sqlite_url: str, handler: str, executor: str, kind: str
) -> None:
    """Fails where what is no Exception leaves the thread, the loop or the process."""
    async with serving(sqlite_url, handler, executor=executor, max_worker_count=1) as queue:
        await check_hostile(queue, kind, os.getcwd())


@pytest.mark.parametrize(
    ("handler", "executor"),
    [("hostile", "process"), ("hostile", "thread"), ("async_hostile", "async")],
)
async def test_what_handlers_print_goes_where_the_parent_prints(
    sqlite_url: str, handler: str, executor: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Fails where the process has its standard output for messages, or holds the text back."""
    async with serving(sqlite_url, handler, executor=executor, max_worker_count=1) as queue:
        for _ in range(2):
            assert await result_of(queue, "print") == "print"
        assert capfd.readouterr().out == "printed by a handler\n" * 2


# The life of a pool.


@pytest.mark.parametrize("prefix", ["", "async_"])
async def test_a_pool_starts_what_it_needs_and_ends_it(
    sqlite_url: str, record: Record, prefix: str
) -> None:
    """Fails where a worker ends without its hook, is left behind, or cannot be started again."""
    async with serving(
        sqlite_url,
        "pid",
        max_worker_count=4,
        # Longer than any claim takes: a worker that runs out of work meanwhile ends, and is
        # started again.
        idle_shutdown_timeout=2000,
        initialise_method=f"{prefix}initialise",
        shutdown_method=f"{prefix}shutdown",
    ) as queue:
        await queue.create_many(NewTask("t", retain_for=-1) for _ in range(1000))

        async def all_done() -> bool:
            return (await queue.counts())[TaskStatus.SUCCESS] == 1000

        await eventually(all_done, timeout=60)

        def all_ended() -> bool:
            started = record.pids("initialise")
            return sorted(started) == sorted(record.pids("shutdown")) and not any(
                alive(pid) for pid in started
            )

        await eventually(all_ended, timeout=LONG)
        started = record.pids("initialise")
        assert 1 <= len(started) <= 4
        assert await result_of(queue) not in started
    assert Counter(record.pids("initialise")) == Counter(record.pids("shutdown"))


async def test_one_task_at_a_time_needs_one_process(sqlite_url: str) -> None:
    """Fails where each task starts a process until there are `max_worker_count`."""
    async with serving(sqlite_url, "pid", max_worker_count=4) as queue:
        assert len({await result_of(queue) for _ in range(8)}) == 1


async def test_a_worker_is_replaced_after_so_many_tasks(sqlite_url: str, record: Record) -> None:
    async with serving(
        sqlite_url,
        "pid",
        max_worker_count=1,
        max_tasks_per_worker=3,
        initialise_method="initialise",
        shutdown_method="shutdown",
    ) as queue:
        pids = [await result_of(queue) for _ in range(9)]
        assert [pids.count(pid) for pid in pids] == [3] * 9
    assert record.pids("initialise") == record.pids("shutdown") == pids[::3]


async def test_a_worker_with_too_much_memory_is_replaced(sqlite_url: str) -> None:
    async with serving(sqlite_url, "hold", max_worker_count=1, max_memory=200 << 20) as queue:
        small = [await result_of(queue, 1) for _ in range(3)]
        large = await result_of(queue, 250)
        after = await result_of(queue, 1)
    assert {*small, large} == {large}
    assert after != large


# Hooks that fail.


@pytest.mark.slow
@pytest.mark.parametrize("hook", ["initialise_needs_cause", "initialise_exits"])
async def test_a_worker_that_cannot_start_costs_no_try(
    database: str, record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    """Fails where the task is failed, is kept from other workers, or starts one process after
    the other."""
    cause = tmp_path / "cause"
    monkeypatch.setenv(CAUSE, str(cause))
    async with serving(database, max_worker_count=2, initialise_method=hook) as queue:
        times: list[float] = []
        queue.runtime.events.subscribe(
            lambda event: times.append(time.monotonic()) if isinstance(event, HookFailed) else None
        )
        with hook_failures(queue) as failures:
            task_id = await queue.create("t", 1, retry_count=2, retain_for=-1)
            await eventually(lambda: failures, timeout=LONG)

            async def is_back() -> bool:
                task = await stored(queue, task_id)
                return (task.status, task.retries_remaining) == ("pending", 2)

            await eventually(is_back, timeout=LONG)
            await eventually(lambda: len(failures) >= 3, timeout=LONG)
        # However slow the machine is: after each failure a wait, twice as long each time.
        first, second, third = times[:3]
        assert second - first >= 1
        assert third - second >= 2
        assert len(record.pids("initialise")) <= len(failures) + 1
        assert {failure.task_type for failure in failures} == {"t"}
        text = str(failures[0].exc_info)
        assert "the cause is still there" in text or "exited with status 1" in text
        cause.touch()
        task = await ended(queue, task_id)
        assert (task.status, task.result, task.retries_remaining) == ("success", 1, 2)


async def test_a_shutdown_method_that_raises_is_reported(sqlite_url: str, record: Record) -> None:
    async with serving(
        sqlite_url, max_worker_count=1, idle_shutdown_timeout=0, shutdown_method="shutdown_raises"
    ) as queue:
        with hook_failures(queue) as failures:
            for n in (1, 2):
                assert await result_of(queue, n) == n
                await eventually(lambda n=n: len(failures) == n, timeout=LONG)  # type: ignore[misc]
    assert "no shutdown" in str(failures[0].exc_info)
    assert len(set(record.pids("shutdown"))) == 2
    assert not any(alive(pid) for pid in record.pids("shutdown"))


# Ends that nobody asked for.


async def test_the_death_of_an_idle_worker_costs_no_try(database: str) -> None:
    """Fails where a dead worker is given a task."""
    async with serving(database, "pid", max_worker_count=1) as queue:
        for _ in range(2):
            pid = await result_of(queue)
            os.kill(pid, signal.SIGKILL)
            # Until it is reaped: the main thread alone may be a zombie, and another one still
            # hold the pipes.
            await eventually(
                lambda pid=pid: not Path(f"/proc/{pid}").exists(),  # type: ignore[misc]
                timeout=LONG,
            )
            assert await result_of(queue) != pid


async def test_a_task_that_its_worker_never_read_costs_no_try(sqlite_url: str) -> None:
    """What a worker that dies while it is idle was sent in its last moment, without the race."""
    async with serving(sqlite_url, "pid", max_worker_count=1) as queue:
        pid = await result_of(queue)
        os.kill(pid, signal.SIGSTOP)
        task_id = await queue.create("t", retry_count=0, retain_for=-1)

        worker = queue.runtime.worker
        assert worker is not None
        await eventually(lambda: worker.pools.by_type["t"].running, timeout=LONG)
        os.kill(pid, signal.SIGKILL)
        assert (await ended(queue, task_id)).status == "success"


PARENT = """
import asyncio, sys
from rowlock import NewTask, TaskQueue

async def main():
    async with TaskQueue(sys.argv[1]) as queue:
        options = {"max_worker_count": 3}
        module = "tests.support.process_handlers"
        await queue.register_handler("t", module, "occupy", options=options)
        await queue.start()
        await queue.create_many(NewTask("t", kind) for kind in ("sleep", "spin", "idle"))
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_no_worker_outlives_its_parent(sqlite_url: str, record: Record) -> None:
    """Fails where only the worker itself looks for its parent: one that holds the interpreter's
    lock in a handler goes on."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, sqlite_url], cwd=ROOT)
    pids: list[int] = []
    try:

        def all_begun() -> bool:
            pids[:] = [pid for kind in ("sleep", "spin", "idle") for pid in record.pids(kind)]
            return len(pids) == 3

        await eventually(all_begun, timeout=LONG)
        assert len(set(pids)) == 3
        assert all(alive(pid) for pid in pids)
        parent.kill()
        parent.wait()
        await eventually(lambda: not any(alive(pid) for pid in pids), timeout=2)
    finally:
        parent.kill()
        parent.wait()
        for pid in filter(alive, pids):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a process that adopts orphans")
@pytest.mark.parametrize("end", ["parent", "worker", "timeout"])
async def test_what_a_handler_has_started_ends_with_it(
    sqlite_url: str, record: Record, tmp_path: Path, end: str
) -> None:
    """Fails where only the worker process ends, or what has left its session goes on."""
    options = {"max_worker_count": 1, "timeout": 3000 if end == "timeout" else None}
    program = PARENT.replace('{"max_worker_count": 3}', repr(options)).replace(
        '("sleep", "spin", "idle")', '("family",)'
    )
    parent = subprocess.Popen([sys.executable, "-c", program, sqlite_url], cwd=ROOT)
    kinds = ("family", "member", "leaver", "orphan")
    pids: list[int] = []
    try:

        def all_begun() -> bool:
            pids[:] = [pid for kind in kinds for pid in record.pids(kind)][:4]
            return len(pids) == 4

        await eventually(all_begun, timeout=LONG)
        if end == "parent":
            parent.kill()
        elif end == "worker":
            os.kill(record.pids("family")[0], signal.SIGKILL)
        await eventually(lambda: not any(alive(pid) for pid in pids), timeout=LONG)
    finally:
        parent.kill()
        parent.wait()
        for pid in filter(alive, [pid for kind in kinds for pid in record.pids(kind)]):
            os.kill(pid, signal.SIGKILL)


async def test_stop_ends_what_still_runs(database: str, record: Record) -> None:
    async with serving(
        database, "occupy", queue_settings={"stop_timeout": 0}, max_worker_count=2
    ) as queue:
        ids = [await queue.create("t", kind, retry_count=1) for kind in ("child", "spin")]
        await eventually(lambda: record.pids("grandchild") and record.pids("spin"), timeout=LONG)
        await queue.stop()
        for task_id in ids:
            task = await stored(queue, task_id)
            assert (task.status, task.retries_remaining, task.thread_id) == ("pending", 1, "0")
        pids = [*record.pids("child"), *record.pids("grandchild"), *record.pids("spin")]
        await eventually(lambda: not any(alive(pid) for pid in pids), timeout=LONG)


async def test_a_handler_that_runs_too_long_is_killed(database: str, record: Record) -> None:
    """Fails where its process goes on, where its own children do, or where the next task gets
    the killed process."""
    # Long enough for the handler to start its child, however slow the machine is.
    async with serving(database, "occupy", max_worker_count=1, timeout=3000) as queue:
        first = await result_of(queue, "quick")
        task = await run(queue, "child")
        assert task.status == "failed"
        assert task.error is not None
        assert task.error.name == "TimeoutError"
        assert task.error.source == f"{HANDLERS}.occupy"
        assert record.pids("child") == [first]
        assert await result_of(queue, "quick") != first
        killed = [first, *record.pids("grandchild")]
        assert len(killed) == 2
        await eventually(lambda: not any(alive(pid) for pid in killed), timeout=LONG)


# Handlers of the program itself.

PROGRAM = """
import asyncio, os, sys
from rowlock import TaskQueue
from rowlock._events import HookFailed

with open(os.environ["ROWLOCK_TEST_RECORD"], "a") as file:
    file.write(f"program {os.getpid()}\\n")

def handler(payload):
    return payload + 1

async def main():
    database = DATABASE
    async with TaskQueue(database, poll_interval=100) as queue:
        failed = []
        queue.runtime.events.subscribe(
            lambda e: failed.append(e) if isinstance(e, HookFailed) else None
        )
        options = {"max_worker_count": 2}
        await queue.register_handler("t", __name__, "handler", options=options)
        await queue.start()
        task_id = await queue.create("t", 41, retry_count=0, retain_for=-1)
        status = "pending"
        while not failed and status in ("pending", "processing"):
            await asyncio.sleep(0.01)
            status = (await queue.get(task_id)).status
    async with queue:
        print((await queue.get(task_id)).model_dump_json())

GUARD:
    asyncio.run(main())
"""
GUARDED = 'if __name__ == "__main__"'
FROM_ARGUMENT = "sys.argv[1]"


def run_program(
    arguments: list[str], database: str, directory: Path, *, guard: str, source: str
) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.replace("GUARD", guard).replace("DATABASE", source)
    for path in ("script.py", "package/module.py", "package/__main__.py"):
        (directory / path).parent.mkdir(exist_ok=True)
        (directory / path).write_text(program)
    return subprocess.run(
        [sys.executable, *arguments, database],
        cwd=directory,
        env={**os.environ, "DATABASE_OF_TEST": database},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments", [["script.py"], ["-m", "package.module"], ["-m", "package"], ["package"]]
)
def test_a_handler_of_the_program_itself(
    sqlite_url: str, record: Record, tmp_path: Path, arguments: list[str]
) -> None:
    """Fails where the worker process does not know what `__main__` is in its parent."""
    done = run_program(arguments, sqlite_url, tmp_path, guard=GUARDED, source=FROM_ARGUMENT)
    assert done.returncode == 0, done.stderr
    task = json.loads(done.stdout)
    assert (task["status"], task.get("result")) == ("success", 42), done.stderr
    assert len(record.pids("program")) == 2


@pytest.mark.parametrize("arguments", [["script.py"], ["-m", "package.module"]])
@pytest.mark.parametrize(
    "source",
    [
        'os.environ["DATABASE_OF_TEST"]',
        FROM_ARGUMENT,
    ],
)
def test_a_program_without_a_guard_starts_no_queue_in_its_workers(
    sqlite_url: str, record: Record, tmp_path: Path, arguments: list[str], source: str
) -> None:
    """Fails where each process starts more: the test would find many, or never end."""
    done = run_program(arguments, sqlite_url, tmp_path, guard="if True", source=source)
    assert done.returncode == 0, done.stderr
    assert 'if __name__ == "__main__"' in done.stderr
    task = json.loads(done.stdout)
    assert (task["status"], task.get("retries_remaining")) == ("pending", 0)
    # The program, and a worker process or two that could not start.
    assert 2 <= len(record.pids("program")) <= 3


def test_a_program_without_a_file_can_have_no_handler(sqlite_url: str) -> None:
    program = (
        "import asyncio, sys\n"
        "from rowlock import InvalidArgumentError, TaskQueue\n"
        "def handler(): pass\n"
        "try:\n"
        "    asyncio.run(TaskQueue(sys.argv[1]).register_handler('t', '__main__', 'handler'))\n"
        "except InvalidArgumentError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, sqlite_url], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("module:")
