"""Every public coroutine is cancelled at each of its suspensions, as `asyncio.timeout` may do.

Afterwards no connection is left in a transaction or out of its pool, none is open that nobody
owns, and the queue still works.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any

from sqlalchemy.pool import QueuePool

from rowlock import NewTask, ScheduledTaskTime, TaskQueue, TaskScheduler
from rowlock._store.postgres.database import PostgresDatabase
from rowlock._store.sqlite.database import SqliteDatabase
from rowlock._store.store import Store
from tests.support.helpers import eventually
from tests.support.stores import execute

HANDLERS = "tests.support.worker_handlers"
DAILY = [ScheduledTaskTime(interval_days=1)]
HOURLY = [ScheduledTaskTime(interval_hours=1)]

Call = Callable[[], Coroutine[Any, Any, Any]]


class Counted:
    """Awaits a coroutine, counts its suspensions, and cancels its task at the n-th."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], n: int) -> None:
        self._coroutine = coroutine
        self._n = n
        self.suspensions = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        resume: Callable[[Any], Any] = self._coroutine.send
        value: Any = None
        while True:
            try:
                future = resume(value)
            except StopIteration as stop:
                return stop.value
            self.suspensions += 1
            if self.suspensions == self._n and (task := asyncio.current_task()) is not None:
                task.cancel()
            try:
                value = yield future
                resume = self._coroutine.send
            except BaseException as error:
                value, resume = error, self._coroutine.throw


async def cancelled_at(call: Call, n: int) -> bool:
    """Cancel a call at its n-th suspension; return whether it has so many."""

    async def run() -> bool:
        counted = Counted(call(), n)
        with suppress(asyncio.CancelledError):
            await counted
        return counted.suspensions >= n

    return await asyncio.create_task(run())


async def connections(url: str, condition: str = "true") -> int:
    ((found,),) = await execute(
        url,
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        f" AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND {condition}",
    )
    return int(found)


def threads() -> int:
    """How many threads there are beside those of the loop's executor, which live as long as it."""
    return sum(not thread.name.startswith("asyncio") for thread in threading.enumerate())


async def assert_no_more_threads(count: int, message: str) -> None:
    await eventually(lambda: threads() <= count, message=message)


async def assert_whole(queue: TaskQueue, url: str) -> None:
    """No transaction is open, every connection is in its place, and the queue works."""
    store = queue._store

    async def is_whole() -> bool:
        if isinstance(store.database, SqliteDatabase):
            assert store.database._writer is not None
            pool = store.database._engine.pool
            assert isinstance(pool, QueuePool)
            driver = (await store.database._writer.get_raw_connection()).driver_connection
            assert driver is not None
            return pool.checkedout() == 2 and not driver._conn.in_transaction
        assert isinstance(store.database, PostgresDatabase)
        lent = store.database._connections
        return lent._open == len(lent._idle) and await connections(url, "state <> 'idle'") == 0

    await eventually(is_whole, message="whole")
    assert await queue.get(await queue.create("after", retain_for=-1)) is not None


async def assert_closed(queue: TaskQueue, url: str) -> None:
    """Close a queue; none of its connections may be open."""
    await queue.close()

    async def is_closed() -> bool:
        return url.startswith("sqlite") or await connections(url) == 0

    await eventually(is_closed, message="closed")


async def disconnect(store: Store) -> None:
    """Close the connections that it keeps, on PostgreSQL, where it opens them as it needs them."""
    if isinstance(store.database, PostgresDatabase):
        while store.database._connections._idle:
            await store.database._connections.discard(store.database._connections._idle.pop())


async def cancel_everywhere(
    url: str, prepare: Callable[[TaskQueue], Coroutine[Any, Any, Call]]
) -> int:
    """Cancel a call at each of its suspensions; return how many it has.

    Then again with a connection that has to be opened first.
    """
    queue = TaskQueue(url, notify=False)
    suspensions = 0
    for fresh in (False, True):
        n, more = 0, True
        while more:
            n += 1
            await queue.open()
            call = await prepare(queue)
            if fresh:
                await disconnect(queue._store)
            more = await cancelled_at(call, n)
            await assert_whole(queue, url)
            await assert_closed(queue, url)
        suspensions += n - 1
    return suspensions


async def waiting_task(queue: TaskQueue) -> str:
    return await queue.create("t", delay=3_600_000, retain_for=-1)


async def create(queue: TaskQueue) -> Call:
    return lambda: queue.create("t", {"a": 1})


async def create_keyed(queue: TaskQueue) -> Call:
    return lambda: queue.create("t", {"a": 1}, key="k")


async def create_together(queue: TaskQueue) -> Call:
    async def many() -> None:
        await asyncio.gather(*(queue.create("t", n) for n in range(5)))

    return many


async def create_many(queue: TaskQueue) -> Call:
    return lambda: queue.create_many(NewTask("t", n) for n in range(20))


async def create_many_keyed(queue: TaskQueue) -> Call:
    return lambda: queue.create_many(NewTask("t", n, key=f"m{n % 3}") for n in range(5))


async def get(queue: TaskQueue) -> Call:
    task_id = await waiting_task(queue)
    return lambda: queue.get(task_id)


async def retry(queue: TaskQueue) -> Call:
    task_id = await waiting_task(queue)
    await queue.cancel(task_id)
    return lambda: queue.retry(task_id)


async def cancel(queue: TaskQueue) -> Call:
    task_id = await waiting_task(queue)
    return lambda: queue.cancel(task_id, running=True)


async def remove(queue: TaskQueue) -> Call:
    task_id = await waiting_task(queue)
    return lambda: queue.remove(task_id)


async def query(queue: TaskQueue) -> Call:
    await queue.create_many(NewTask("t", n, retain_for=-1) for n in range(3))
    return lambda: queue.query("t", limit=2)


async def counts(queue: TaskQueue) -> Call:
    return queue.counts


async def add_task(queue: TaskQueue) -> Call:
    scheduler = TaskScheduler(queue)
    # Other times each time, so that it writes.
    await scheduler.add_task("s", DAILY, task_type="t")
    return lambda: scheduler.add_task("s", HOURLY, task_type="t")


async def tasks_info(queue: TaskQueue) -> Call:
    await add_task(queue)
    return TaskScheduler(queue).tasks_info


async def task_state(queue: TaskQueue) -> Call:
    await add_task(queue)
    return lambda: TaskScheduler(queue).task_state("s")


async def pause_task(queue: TaskQueue) -> Call:
    await add_task(queue)
    await TaskScheduler(queue).resume_task("s")
    return lambda: TaskScheduler(queue).pause_task("s")


async def resume_task(queue: TaskQueue) -> Call:
    await add_task(queue)
    await TaskScheduler(queue).pause_task("s")
    return lambda: TaskScheduler(queue).resume_task("s")


async def trigger_task(queue: TaskQueue) -> Call:
    await add_task(queue)
    return lambda: TaskScheduler(queue).trigger_task("s")


async def remove_task(queue: TaskQueue) -> Call:
    await add_task(queue)
    return lambda: TaskScheduler(queue).remove_task("s")


CALLS = [
    create, create_keyed, create_together, create_many, create_many_keyed, get, retry, cancel,
    remove, query, counts, add_task, tasks_info, task_state, pause_task, resume_task, trigger_task,
    remove_task,
]  # fmt: skip


async def test_cancelled_at_every_suspension(database: str, size: Callable[..., int]) -> None:
    """Fails where a session that is cancelled gives its connection back to the pool."""
    for prepare in CALLS[:: size(short=3, ci=1)]:
        suspensions = await cancel_everywhere(database, prepare)
        print(f"cancellation of {prepare.__name__}: {suspensions} suspensions")
        assert suspensions > 0


async def test_opening_is_cancelled(database: str) -> None:
    """Fails where what `open` has connected stays connected when it is cancelled."""
    await assert_all_closed(database, lambda queue: queue.open(), started=False)


async def test_closing_is_cancelled(database: str) -> None:
    """Fails where a `close` that is cancelled leaves connections for ever."""
    await assert_all_closed(database, lambda queue: queue.close(), started=True)


async def test_stopping_is_cancelled(database: str) -> None:
    """Fails where a worker is forgotten although its `stop` was cancelled."""
    await assert_all_closed(database, lambda queue: queue.stop(), started=True)


async def assert_all_closed(
    url: str, call: Callable[[TaskQueue], Coroutine[Any, Any, Any]], *, started: bool
) -> None:
    """Cancel a call at each suspension; after one more `close` nothing may be open."""
    n, more = 0, True
    while more:
        n += 1
        before = threads()
        queue = TaskQueue(url, stop_timeout=100)
        if started:
            await queue.open()
            await queue.register_handler("t", HANDLERS, "echo")
            await queue.start()
        more = await cancelled_at(lambda queue=queue: call(queue), n)  # type: ignore[misc]
        await assert_closed(queue, url)
        await assert_no_more_threads(before, f"threads, cancelled at {n}")
    print(f"{n - 1} suspensions")
