"""A queue belongs to the event loop and the process that opened it, and says so elsewhere."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rowlock import (
    EventLoopError,
    NewTask,
    QueueClosedError,
    ScheduledTaskTime,
    TaskQueue,
    TaskScheduler,
)
from tests.support.helpers import eventually

ID = "0" * 32

Call = Callable[[Any], Awaitable[Any]]

QUEUE_CALLS: dict[str, Call] = {
    "open": lambda queue: queue.open(),
    "close": lambda queue: queue.close(),
    "start": lambda queue: queue.start(),
    "stop": lambda queue: queue.stop(),
    "register_handler": lambda queue: queue.register_handler(
        "t", "tests.support.loop_handlers", "quick"
    ),
    "unregister_handler": lambda queue: queue.unregister_handler("t"),
    "create": lambda queue: queue.create("t"),
    "create_many": lambda queue: queue.create_many([NewTask("t")]),
    "get": lambda queue: queue.get(ID),
    "retry": lambda queue: queue.retry(ID),
    "cancel": lambda queue: queue.cancel(ID),
    "remove": lambda queue: queue.remove(ID),
    "query": lambda queue: queue.query(),
    "counts": lambda queue: queue.counts(),
}

SCHEDULER_CALLS: dict[str, Call] = {
    "add_task": lambda scheduler: scheduler.add_task(
        "s", [ScheduledTaskTime(interval_days=1)], task_type="t"
    ),
    "remove_task": lambda scheduler: scheduler.remove_task("s"),
    "tasks_info": lambda scheduler: scheduler.tasks_info(),
    "task_state": lambda scheduler: scheduler.task_state("s"),
    "pause_task": lambda scheduler: scheduler.pause_task("s"),
    "resume_task": lambda scheduler: scheduler.resume_task("s"),
    "trigger_task": lambda scheduler: scheduler.trigger_task("s"),
    "only": lambda scheduler: scheduler.only([], prefix="s"),
}


def public_coroutines(kind: type[object], *others: str) -> set[str]:
    names = {name for name in vars(kind) if not name.startswith("_")}
    return {name for name in names if inspect.iscoroutinefunction(getattr(kind, name))} - {*others}


def test_no_public_coroutine_is_missing_here() -> None:
    assert public_coroutines(TaskQueue) == QUEUE_CALLS.keys()
    # It is the queue that calls these two.
    assert public_coroutines(TaskScheduler, "open", "stop") == SCHEDULER_CALLS.keys()


async def refusals(queue: TaskQueue, scheduler: TaskScheduler) -> dict[str, BaseException | None]:
    found: dict[str, BaseException | None] = {}
    for calls, target in ((QUEUE_CALLS, queue), (SCHEDULER_CALLS, scheduler)):
        for name, call in calls.items():
            try:
                async with asyncio.timeout(5):
                    await call(target)
            except BaseException as error:
                found[name] = error
            else:
                found[name] = None
    return found


async def test_every_coroutine_refuses_another_event_loop(database: str) -> None:
    """Fails on a queue that asks for its loop only where it needs the database."""
    async with TaskQueue(database) as queue:
        scheduler = TaskScheduler(queue)
        await queue.start()
        task_id = await queue.create("other", retain_for=-1)
        found = await asyncio.to_thread(asyncio.run, refusals(queue, scheduler))
        assert {name: type(error) for name, error in found.items()} == dict.fromkeys(
            QUEUE_CALLS | SCHEDULER_CALLS, EventLoopError
        )
        assert "run_coroutine_threadsafe" in str(found["create"])
        with pytest.raises(EventLoopError):
            await asyncio.to_thread(TaskScheduler, queue)
        # Its own loop is not harmed, and nothing was done.
        assert set(queue.runtime.handlers) == set()
        assert await queue.get(task_id) is not None
        assert (await queue.query()).entities[0].id == task_id


async def test_a_queue_that_was_closed_may_be_opened_in_another_event_loop(database: str) -> None:
    queue = TaskQueue(database)

    async def use() -> str:
        async with queue:
            return await queue.create("t")

    async def fail() -> None:
        with pytest.raises(QueueClosedError):
            await queue.create("t")
        await queue.close()
        await queue.stop()

    for _ in range(2):
        assert await asyncio.to_thread(asyncio.run, use())
        await asyncio.to_thread(asyncio.run, fail())
    assert await use()


def run_script(tmp_path: Path, script: str, *arguments: str) -> None:
    path = tmp_path / "script.py"
    path.write_text(script)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", path, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "as expected" in done.stdout


CLOSED_LOOP = """
import asyncio, sys, time
from rowlock._worker.pool import Job
from rowlock import EventLoopError, ScheduledTaskTime, TaskQueue, TaskScheduler

queue = TaskQueue(sys.argv[1], lease=1000, sweep_interval=100, retry_interval=60_000)
scheduler = TaskScheduler(queue)
called = []

async def first():
    await queue.open()
    await queue.start()
    task_id = await queue.create("waits", retain_for=-1)
    (row,) = await queue._store.database.claim(queue.runtime.worker.holder, {"waits": 1}, 1000)
    job = Job(row, time.monotonic(), None)
    queue.runtime.worker.held.jobs[job.key] = job
    return task_id

async def refused(how):
    try:
        await how
    except EventLoopError as error:
        assert "open()" in str(error)
    else:
        raise AssertionError(how)

async def second(task_id):
    await refused(queue.create("t"))
    await refused(queue.stop())
    await refused(queue.start())
    await queue.open()
    await queue.register_handler(
        "quick", "tests.support.loop_handlers", "quick", options={"idle_shutdown_timeout": 100}
    )
    await queue.start()
    other = await queue.create("quick", retain_for=-1)
    while (await queue.get(other)).status != "success":
        await asyncio.sleep(0.01)
    # Nobody extends the lease of what the first one left.
    while (await queue.get(task_id)).status != "pending":
        await asyncio.sleep(0.01)
    await scheduler.add_task(
        "s", [ScheduledTaskTime(interval_days=1)], lambda: called.append(1)
    )
    assert await scheduler.trigger_task("s")
    while not called:
        await asyncio.sleep(0.01)
    # Left behind once more.

async def third():
    await queue.close()
    async with queue:
        await queue.create("t")

asyncio.run(second(asyncio.run(first())))
asyncio.run(third())
print("as expected")
"""


def test_a_queue_whose_loop_was_closed_is_opened_anew(database: str, tmp_path: Path) -> None:
    """Fails where the thread that extends leases goes on after the end of the event loop."""
    run_script(tmp_path, CLOSED_LOOP, database)


FORK = """
import asyncio, gc, os, sys
from rowlock import EventLoopError, TaskQueue
from rowlock.schema import upgrade

queue = TaskQueue(sys.argv[1])
loop = asyncio.new_event_loop()
if sys.argv[2] == "uvloop":
    import uvloop
    loop = uvloop.new_event_loop()

async def begin():
    await queue.open()
    await queue.start()
    return await queue.create("t")

async def refused(how):
    try:
        await how
    except EventLoopError as error:
        assert "fork" in str(error)
    else:
        raise AssertionError(how)

async def in_the_child():
    for how in (queue.create("t"), queue.start(), queue.stop(), queue.close()):
        await refused(how)
    its_own = queue
    if sys.argv[1].startswith("sqlite"):
        await refused(queue.open())
        await refused(TaskQueue(sys.argv[1]).open())
        await asyncio.to_thread(upgrade, sys.argv[1] + str(os.getpid()))
        its_own = TaskQueue(sys.argv[1] + str(os.getpid()))
    await its_own.open()
    await its_own.start()
    task_id = await its_own.create("t", retain_for=-1)
    assert (await its_own.get(task_id)).id == task_id
    await its_own.close()

loop.run_until_complete(begin())
for _ in range(3):
    if not os.fork():
        try:
            asyncio.run(in_the_child())
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        # To its very end, as a worker of gunicorn does.
        queue = None
        gc.collect()
        sys.exit(0)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0

async def go_on():
    async with asyncio.timeout(10):
        for _ in range(30):
            await asyncio.gather(*(queue.create("t") for _ in range(10)))
        await asyncio.to_thread(int)
    async with asyncio.timeout(4):
        await queue.close()

loop.run_until_complete(go_on())
print("as expected")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_a_fork_is_refused_and_harms_nothing(database: str, tmp_path: Path, kind: str) -> None:
    """Fails where the fork collects what it has of its parent's connections and loops.

    Now and then where it opens a SQLite file that its parent has open, and finds locks that
    nobody can free; and always where that is refused for each other file, too.
    """
    if kind == "uvloop":
        pytest.importorskip("uvloop")
    run_script(tmp_path, FORK, database, kind)


FORKS_BESIDE_WRITES = """
import asyncio, os, sys, threading
from rowlock import TaskQueue
from rowlock.schema import upgrade

loop = asyncio.new_event_loop()
queue = TaskQueue(sys.argv[1])

async def write():
    await queue.open()
    while not ended.is_set():
        await asyncio.gather(*(queue.create("t") for _ in range(5)))
        begun.set()
    await queue.close()

async def in_the_child():
    own = sys.argv[1] + str(os.getpid())
    upgrade(own)
    async with TaskQueue(own) as queue:
        await queue.create("t")

begun, ended = threading.Event(), threading.Event()
writer = threading.Thread(target=loop.run_until_complete, args=(write(),))
writer.start()
begun.wait()
for _ in range(15):
    if not os.fork():
        asyncio.run(in_the_child())
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
ended.set()
writer.join()
print("as expected")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_fork_beside_writes_can_use_sqlite(sqlite_url: str, tmp_path: Path) -> None:
    """Hangs where a fork does not wait until no thread is in SQLite."""
    run_script(tmp_path, FORKS_BESIDE_WRITES, sqlite_url)


COMPILES_BESIDE_A_FORK = """
import os, threading, time
from rowlock._store.postgres.dialect import DIALECT
from rowlock._store.sql import Statement
from rowlock._store.tasks import TaskStatements

begun, go_on = threading.Event(), threading.Event()

class Slow:
    def compile(self, dialect):
        begun.set()
        go_on.wait()

threading.Thread(target=lambda: Statement(DIALECT._dialect, Slow()).sql, daemon=True).start()
begun.wait()
child = os.fork()
if not child:
    TaskStatements.of(DIALECT).get.sql
    os._exit(0)
deadline = time.monotonic() + 20
while os.waitpid(child, os.WNOHANG) == (0, 0):
    if time.monotonic() > deadline:
        os.kill(child, 9)
        raise SystemExit("the fork waits for what no thread of it holds")
    time.sleep(0.01)
go_on.set()
print("as expected")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_fork_while_a_statement_is_compiled(tmp_path: Path) -> None:
    """Fails with `functools.cached_property` on Python 3.11, which holds a lock meanwhile."""
    run_script(tmp_path, COMPILES_BESIDE_A_FORK)


# Opening, starting, stopping and closing at the same time, or from within.


async def test_of_two_that_open_at_once_the_second_waits(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if both connect, and the connections of the first are never closed."""
    from rowlock._client import runtime as module
    from rowlock._store.open import database_of as make

    stores: list[object] = []

    def counted(*arguments: Any, **settings: Any) -> Any:
        stores.append(make(*arguments, **settings))
        return stores[-1]

    monkeypatch.setattr(module, "database_of", counted)
    queue = TaskQueue(database)
    await asyncio.gather(queue.open(), queue.open(), queue.open())
    assert len(stores) == 1
    await asyncio.gather(queue.close(), queue.close())
    with pytest.raises(QueueClosedError):
        await queue.create("t")
    await asyncio.gather(queue.open(), queue.close())
    with pytest.raises(QueueClosedError):
        await queue.create("t")
    await asyncio.gather(queue.open(), queue.close(), queue.open())
    await queue.create("t")
    await queue.close()


async def test_an_open_that_failed_is_left_to_the_next(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = TaskQueue(database)
    with monkeypatch.context() as patch:
        begun = asyncio.Event()

        async def hang(self: object) -> None:
            begun.set()
            await asyncio.Event().wait()

        patch.setattr("rowlock._store.sqlite.database.SqliteDatabase.open", hang)
        patch.setattr("rowlock._store.postgres.database.PostgresDatabase.open", hang)
        first, second = asyncio.create_task(queue.open()), asyncio.create_task(queue.open())
        await begun.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await second
    await queue.create("t")
    await queue.close()


async def test_a_start_during_a_stop_waits_for_it(database: str) -> None:
    """Fails if it returns at once, since the queue is still started, and is not for long."""
    async with TaskQueue(database) as queue:
        await queue.register_handler("quick", "tests.support.loop_handlers", "quick")
        await queue.start()
        first = queue.runtime.worker
        stopping = asyncio.create_task(queue.stop())
        await eventually(lambda: first is not None and first.stopping)
        await asyncio.gather(queue.start(), queue.start())
        assert stopping.done()
        assert queue.runtime.worker not in (None, first)
        task_id = await queue.create("quick", retain_for=-1)
        await eventually(lambda: succeeded(queue, task_id))


async def succeeded(queue: TaskQueue, task_id: str) -> bool:
    task = await queue.get(task_id)
    return task is not None and task.status == "success"


async def test_a_scheduler_made_while_the_queue_stops_waits_for_the_next_start(
    database: str,
) -> None:
    """Fails if it begins, and fails for ever once the queue is closed."""
    queue = TaskQueue(database)
    await queue.open()
    await queue.start()
    worker = queue.runtime.worker
    stopping = asyncio.create_task(queue.stop())
    await eventually(lambda: worker is not None and worker.stopping)
    scheduler = TaskScheduler(queue)
    called: list[int] = []
    await scheduler.add_task("s", [ScheduledTaskTime(interval_days=1)], lambda: called.append(1))
    await stopping
    with pytest.raises(QueueClosedError, match="not started"):
        await scheduler.trigger_task("s")
    await queue.start()
    assert await scheduler.trigger_task("s")
    await eventually(lambda: called)
    await queue.close()


@pytest.mark.parametrize("how", ["close", "stop", "start", "open"])
async def test_a_callback_may_close_the_queue(database: str, how: str) -> None:
    """Fails if `close` waits for a callback that calls it, until both are given up."""
    queue = TaskQueue(database, stop_timeout=60_000)
    together = asyncio.Barrier(3)
    calls: list[asyncio.Task[Any]] = []

    async def changed(task: Any) -> None:
        if task.status == "success":
            await together.wait()
            # In a task of its own, as `asyncio.wait_for` did.
            calls.append(asyncio.ensure_future(QUEUE_CALLS[how](queue)))
            await calls[-1]
            await asyncio.sleep(0)

    await queue.open()
    await queue.register_handler("quick", "tests.support.loop_handlers", "quick", changed)
    await queue.start()
    await queue.create_many([NewTask("quick")] * 3)
    await eventually(lambda: len(calls) == 3 and all(call.done() for call in calls))
    assert [call.exception() for call in calls] == [None] * 3
    assert (queue.runtime._opened is None) == (how == "close")
    assert (queue.runtime.worker is None) == (how in ("close", "stop"))
    await queue.close()


@pytest.mark.parametrize(("how", "error"), [("start", True), ("open", True), ("stop", False)])
async def test_a_callback_that_a_close_waits_for(database: str, how: str, error: bool) -> None:
    """Fails if the two wait for each other."""
    queue = TaskQueue(database, stop_timeout=60_000)
    raised: list[object] = []

    async def changed(task: Any) -> None:
        if task.status == "success":
            begun.set()
            await eventually(lambda: queue.runtime._closing and queue.runtime.worker is None)
            try:
                await QUEUE_CALLS[how](queue)
            except QueueClosedError as closed:
                raised.append(closed)

    begun = asyncio.Event()
    await queue.open()
    await queue.register_handler("quick", "tests.support.loop_handlers", "quick", changed)
    await queue.start()
    await queue.create("quick")
    await begun.wait()
    await queue.close()
    assert bool(raised) == error


@pytest.mark.parametrize("how", ["stop", "close"])
async def test_what_a_stop_would_wait_for_cannot_call_it(database: str, how: str) -> None:
    """Fails if it waits for itself until `stop_timeout`, and its task is then put back."""
    from tests.support import loop_handlers

    loop_handlers.answers.clear()
    loop_handlers.after.clear()
    async with TaskQueue(database, stop_timeout=60_000) as queue:
        loop_handlers.queue = queue
        await queue.register_handler("stop", "tests.support.loop_handlers", "stop")
        await queue.register_handler("beside", "tests.support.loop_handlers", "stop_beside")
        scheduler = TaskScheduler(queue)

        async def function() -> None:
            await loop_handlers.stop(how)

        await scheduler.add_task("s", [ScheduledTaskTime(interval_days=1)], function)
        await queue.start()
        await queue.create("stop", how)
        await scheduler.trigger_task("s")
        await eventually(lambda: len(loop_handlers.answers) == 2)
        for answer in loop_handlers.answers:
            assert f"create_task(queue.{how}())" in str(answer)
        task_id = await queue.create("beside", retain_for=-1)
        await eventually(lambda: loop_handlers.after)
        await loop_handlers.after[0]
        assert await succeeded(queue, task_id)


async def test_a_handler_may_stop_another_queue(database: str) -> None:
    from tests.support import loop_handlers

    loop_handlers.answers.clear()
    async with TaskQueue(database) as queue, TaskQueue(database) as other:
        loop_handlers.queue = other
        await queue.register_handler("stop", "tests.support.loop_handlers", "stop")
        await queue.start()
        await other.start()
        await queue.create("stop", "stop")
        await eventually(lambda: loop_handlers.answers)
        assert loop_handlers.answers == [None]
        assert other.runtime.worker is None


async def test_async_with_is_not_entered_twice(database: str) -> None:
    """Fails if the inner block closes the queue of the outer one."""
    queue = TaskQueue(database)
    await queue.open()
    async with queue:
        with pytest.raises(Exception, match="async with"):
            async with queue:
                raise AssertionError("entered")
        await queue.create("t")
    async with queue:
        await queue.create("t")
