"""What once made a worker lose, keep or delay a task. Each fails on the code before its repair."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from rowlock import (
    DatabaseUnavailableError,
    HandlerOptions,
    NewTask,
    SizeLimits,
    Task,
    TaskQueue,
    TaskStatus,
)
from rowlock._executors.handler import Handler
from rowlock._store.attempts import Attempts
from rowlock._store.sqlite import database as _sqlite
from rowlock._store.sqlite import driver as _driver
from rowlock._worker.slot_pool import SlotPool
from tests.support import worker_handlers
from tests.support.helpers import eventually
from tests.support.pools import Owner, job_for
from tests.support.stores import new_row, open_store, success
from tests.worker.test_worker import HANDLERS, ended, open_queue


@pytest.mark.parametrize("handler", ["cancel_itself", "hostile_result", "hostile_error"])
async def test_no_end_of_a_handler_leaves_its_task_processing(database: str, handler: str) -> None:
    """Fails where the slot dies with its job held: its lease is extended for ever."""
    async with open_queue(database) as queue:
        options = HandlerOptions(max_worker_count=1)
        await queue.register_handler("bad", HANDLERS, handler, options=options)
        await queue.start()
        for _ in range(2):
            task_id = await queue.create("bad", retry_count=0, retain_for=-1)
            assert (await ended(queue, task_id)).status == "failed"


async def test_only_a_handler_error_ends_the_tries(database: str) -> None:
    async with open_queue(database) as queue:
        await queue.register_handler("t", HANDLERS, "foreign_error")
        await queue.start()
        task = await ended(queue, await queue.create("t", retry_count=1, retain_for=-1))
    assert task.attempt == 2


async def test_callbacks_keep_their_order_when_retries_are_immediate(database: str) -> None:
    """Fails where a task is pending again before the rest of its batch is written."""
    seen: dict[str, list[tuple[int, str]]] = {}

    def changed(task: Task) -> None:
        seen.setdefault(task.id, []).append((task.attempt, task.status))

    async with open_queue(database, retry_interval=0, lease=30_000) as queue:
        await queue.register_handler("fail", HANDLERS, "fail", changed)
        await queue.register_handler("echo", HANDLERS, "echo", changed)
        await queue.start()
        await queue.create_many(
            NewTask(("fail", "echo")[n % 2], n, retry_count=3, retain_for=0) for n in range(400)
        )

        async def none_left() -> bool:
            return not any((await queue.counts()).values())

        await eventually(none_left, timeout=30)
        await eventually(lambda: sum(map(len, seen.values())) == 200 * 8 + 200 * 2)
    for changes in seen.values():
        assert changes == sorted(changes, key=lambda c: (c[0], c[1] != "processing"))


async def test_two_attempts_of_one_task_in_one_batch(database: str) -> None:
    """Fails where the worker hands the store both at once, and the stale one hides the other."""
    worker_handlers.gates.update({1: asyncio.Event(), 2: asyncio.Event()})
    async with open_queue(database, lease=60_000) as queue, open_store(database) as store:
        await queue.start()
        worker = queue.runtime.worker
        assert worker is not None
        await store.tasks.insert(new_row(type="t", retain_for=0, run_at=None))
        (first,) = await store.database.claim(worker.holder, {"t": 1}, 1000)
        await store.attempts.release(worker.holder, [(first.id, 1)])
        (second,) = await store.database.claim(worker.holder, {"t": 1}, 60_000)
        worker.finishes._outcomes += [success(second, "2"), success(first, "1")]
        await worker.finishes.finish()
        await worker.finishes.finish()
        assert await queue.get(first.id) is None


async def test_a_damaged_row_stops_nobody_else(database: str) -> None:
    """Fails where one row that cannot be read keeps the others of its claim from running."""
    seen: list[Task] = []
    async with open_queue(database) as queue, open_store(database) as store:
        await queue.register_handler("t", HANDLERS, "echo", seen.append)
        bad = await queue.create("t", "bad", retain_for=-1)
        good = await queue.create("t", "good", retain_for=-1)
        await spoil(store, bad, "error = '{\"foo\": 1}'")
        await queue.start()
        assert (await ended(queue, good)).result == "good"
        assert (await ended(queue, bad)).result == "bad"


async def test_the_last_attempt_number_stops_nobody_else(database: str) -> None:
    async with open_queue(database) as queue, open_store(database) as store:
        await queue.register_handler("t", HANDLERS, "echo")
        await spoil(store, await queue.create("t", "bad"), "attempt = 2147483647")
        good = await queue.create("t", "good", retain_for=-1)
        await queue.start()
        assert (await ended(queue, good)).result == "good"


async def spoil(store: Any, task_id: str, change: str) -> None:
    from sqlalchemy import text

    async with store.database._engine.begin() as connection:
        done = await connection.execute(
            text(f"UPDATE rowlock_task SET {change} WHERE CAST(id AS TEXT) IN (:id, :dashed)"),
            {"id": task_id, "dashed": dashed(task_id)},
        )
        assert done.rowcount == 1


def dashed(task_id: str) -> str:
    import uuid

    return str(uuid.UUID(task_id))


async def test_a_pool_takes_no_more_than_it_can_begin(database: str) -> None:
    """Fails where a task that has not begun waits behind one that runs, with a worker idle."""
    options = HandlerOptions(max_worker_count=1)
    async with open_queue(database) as queue, TaskQueue(database) as other:
        await queue.create_many(NewTask("t", 20.0) for _ in range(2))
        for each in (queue, other):
            await each.register_handler("t", HANDLERS, "sleep_seconds", options=options)
            await each.start()
        await eventually(lambda: len(worker_handlers.started) == 2, timeout=5)
        await asyncio.gather(*(each.stop() for each in (queue, other)), *hurried(queue, other))


def hurried(*queues: TaskQueue) -> list[Any]:
    async def again(queue: TaskQueue) -> None:
        await eventually(lambda: queue.runtime.worker is None or queue.runtime.worker.stopping)
        await queue.stop()

    return [again(queue) for queue in queues]


async def test_what_waits_behind_slow_tasks_is_put_back(database: str) -> None:
    """Fails where a prefetch made for quick tasks is kept while slow ones run."""
    options = HandlerOptions(max_worker_count=2)
    async with open_queue(database) as queue, TaskQueue(database) as other:
        await queue.register_handler("t", HANDLERS, "sleep_seconds", options=options)
        await queue.start()
        await queue.create_many(NewTask("t", 0) for _ in range(500))
        await eventually(lambda: len(worker_handlers.started) == 500)
        worker_handlers.started.clear()
        await queue.create_many(NewTask("t", 20.0 if n < 2 else 0, priority=-n) for n in range(40))
        await eventually(lambda: len(worker_handlers.started) >= 2)
        await other.register_handler("t", HANDLERS, "sleep_seconds", options=options)
        await other.start()
        await eventually(lambda: len(worker_handlers.started) == 40, timeout=10)
        await asyncio.gather(*(each.stop() for each in (queue, other)), *hurried(queue, other))


async def test_what_waits_behind_a_slow_task_is_not_kept_from_others(database: str) -> None:
    """Fails where the tasks of one place keep those behind the other one from going back, or
    where nobody looks before the next poll."""
    options = HandlerOptions(max_worker_count=2)
    settings: dict[str, Any] = {"poll_interval": 3_600_000}
    async with open_queue(database, **settings) as queue, open_queue(database) as other:
        await queue.register_handler("t", HANDLERS, "sleep_seconds", options=options)
        await queue.start()
        await queue.create_many(NewTask("t", 0) for _ in range(500))
        await eventually(lambda: len(worker_handlers.started) == 500, timeout=30)
        await eventually(lambda: not queue.runtime.worker.held.jobs, timeout=30)  # type: ignore[union-attr]
        await queue.create_many(
            NewTask("t", 60.0 if n == 0 else 0.9, priority=-n) for n in range(60)
        )
        await eventually(lambda: len(worker_handlers.started) >= 503, timeout=30)
        await other.register_handler("u", HANDLERS, "sleep_seconds", options=options)
        await other.start()
        worker = queue.runtime.worker
        assert worker is not None
        # It keeps what runs, and no more than begins in a second.
        await eventually(lambda: len(worker.held.jobs) <= 4, timeout=10)
        await asyncio.gather(*(each.stop() for each in (queue, other)), *hurried(queue, other))


async def test_a_delayed_task_is_not_late_by_the_poll_interval(database: str) -> None:
    """Fails where an empty claim sleeps without asking when the next task is due."""
    async with open_queue(database, poll_interval=3_600_000) as queue:
        await queue.register_handler("t", HANDLERS, "echo")
        await queue.start()
        task = await ended(queue, await queue.create("t", 1, delay=200, retain_for=-1))
        assert task.result == 1


async def test_a_slow_start_of_one_worker_keeps_none_waiting(sqlite_url: str) -> None:
    """Fails where nobody else is woken while a new slot runs its `initialise_method`."""
    worker_handlers.starting = 0
    options = HandlerOptions(max_worker_count=2, initialise_method="slow_second_start")
    async with open_queue(sqlite_url, stop_timeout=50) as queue:
        await queue.register_handler("t", HANDLERS, "echo", options=options)
        await queue.start()
        await ended(queue, await queue.create("t", 1, retain_for=-1))
        await queue.create_many(NewTask("t", n) for n in range(10))
        await eventually(lambda: worker_handlers.starting == 2 or len(worker_handlers.started) > 10)
        for n in range(3):
            await ended(queue, await queue.create("t", n, retain_for=-1))


async def test_a_start_that_exits_costs_no_task(sqlite_url: str) -> None:
    options = HandlerOptions(initialise_method="exit_at_start")
    async with open_queue(sqlite_url) as queue:
        await queue.register_handler("t", HANDLERS, "echo", options=options)
        await queue.start()
        task_id = await queue.create("t", retry_count=0, retain_for=-1)

        async def put_back() -> bool:
            task = await queue.get(task_id)
            return task is not None and task.attempt > 0 and task.status is TaskStatus.PENDING

        await eventually(put_back)


async def test_a_slot_that_is_woken_as_its_time_runs_out() -> None:
    """Fails where the pool goes on believing that a slot is about to wake."""
    handler = Handler.resolve(
        "t",
        HANDLERS,
        "in_thread",
        HandlerOptions(executor="thread", max_worker_count=1, idle_shutdown_timeout=200),
    )
    owner = Owner()
    pool = SlotPool(handler, SizeLimits(), owner)
    pool.submit(job_for(pool))
    await eventually(lambda: len(owner.endings) == 1 and len(pool._idle) == 1)

    def wake_and_take_away() -> None:
        pool.submit(job_for(pool))
        pool.take_waiting()

    # Both are due when the loop goes on: first this, then the slot's idle timer, and only then
    # the slot.
    asyncio.get_running_loop().call_later(0.001, wake_and_take_away)
    time.sleep(0.3)
    await eventually(lambda: not pool._workers)
    pool.submit(job_for(pool))
    await eventually(lambda: len(owner.endings) == 2, timeout=2)
    await pool.close()
    assert (owner.given_back, owner.failures) == ([], [])


async def test_a_claim_that_nobody_waits_for_takes_nothing(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where a cancelled claim goes on in the connection's thread once the lock is free."""
    begun = threading.Event()
    run_write = _driver.run_write

    def note(*arguments: Any) -> Any:
        begun.set()
        return run_write(*arguments)

    async with open_store(sqlite_url) as store, open_store(sqlite_url) as other:
        task_id = await store.tasks.insert(new_row(type="t", run_at=None))
        async with other.database._engine.connect() as blocking:
            await blocking.exec_driver_sql("BEGIN IMMEDIATE")
            monkeypatch.setattr(_sqlite, "run_write", note)
            claiming = asyncio.create_task(store.database.claim("h", {"t": 1}, 1000))
            await eventually(begun.is_set)
            claiming.cancel()
            await asyncio.wait({claiming})
            await blocking.rollback()
        await store.tasks.insert(new_row(type="other"))  # behind the claim, in the same thread
        task = await store.tasks.get(task_id)
        assert task is not None
        assert task.status is TaskStatus.PENDING


async def test_keys_in_opposite_orders_do_not_deadlock(database: str) -> None:
    """Fails on PostgreSQL where each caller locks the keys in its own order."""
    async with TaskQueue(database) as queue, TaskQueue(database) as other:
        await queue.create_many(NewTask("t", key=f"{n:03}") for n in range(100))
        for _ in range(3):
            keys = [f"{n:03}" for n in range(100)]
            ids, reverse = await asyncio.gather(
                queue.create_many([NewTask("t", key=key) for key in keys]),
                other.create_many([NewTask("t", key=key) for key in reversed(keys)]),
            )
            assert ids == reverse[::-1]


async def test_close_may_be_called_twice_at_once(database: str) -> None:
    queue = TaskQueue(database)
    await queue.open()
    await queue.start()
    await asyncio.gather(queue.close(), queue.close())


@pytest.mark.parametrize("written", [True, False])
async def test_an_answer_that_does_not_come_is_no_failure(
    database: str, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    """Fails where an outcome whose answer was lost is stored as a failure instead."""
    async with open_queue(database, retry_interval=0) as queue:
        lost: list[str] = []
        finish = Attempts.finish

        async def cut_off(self: Attempts, *args: Any, **options: Any) -> Any:
            if lost:
                return await finish(self, *args, **options)
            if written:
                await finish(self, *args, **options)
            lost.append("the answer")
            raise DatabaseUnavailableError("the connection was lost")

        monkeypatch.setattr(Attempts, "finish", cut_off)
        await queue.register_handler("t", HANDLERS, "echo")
        await queue.start()
        task = await ended(queue, await queue.create("t", 1, retain_for=-1))
        # The answer to the second try is to have come before the worker stops.
        worker = queue.runtime.worker
        assert worker is not None
        await eventually(lambda: worker.finishes.is_idle)
        assert await queue.get(task.id) == task
    assert (task.status, task.result, task.attempt) == ("success", 1, 1)
    assert lost
