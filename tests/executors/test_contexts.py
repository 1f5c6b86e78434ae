"""Runs of handlers share no context and no asyncio task; hooks run once where handlers run."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from rowlock import (
    HandlerOptions,
    InvalidArgumentError,
    NewTask,
    ScheduledTaskTime,
    SizeLimits,
    TaskQueue,
    TaskScheduler,
)
from rowlock._executors.handler import Handler
from rowlock._worker.concurrent_pool import ConcurrentPool
from tests.executors.test_processes import ended
from tests.support import context_handlers
from tests.support.helpers import eventually
from tests.support.pools import Owner, job_for

HANDLERS = "tests.support.context_handlers"
EXECUTORS = ["async", "thread", "process"]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    context_handlers.tasks.clear()
    context_handlers.hooks.clear()


async def register(queue: TaskQueue, method: str, **options: Any) -> None:
    await queue.register_handler("t", HANDLERS, method, options=HandlerOptions(**options))


async def result(queue: TaskQueue, payload: Any = None) -> Any:
    task = await ended(queue, await queue.create("t", payload, retry_count=0, retain_for=-1))
    assert task.error is None
    return task.result


@pytest.mark.parametrize(
    ("method", "executor"),
    [("swap_async", "async"), ("swap", "thread"), ("swap", "process"), ("swap_async", "process")],
)
@pytest.mark.parametrize("hook", ["set_service", "set_service_async"])
async def test_no_run_sees_what_another_one_has_set(
    sqlite_url: str, method: str, executor: str, hook: str
) -> None:
    """Fails where runs share a context, or where what the hook has set is lost with its own."""
    async with TaskQueue(sqlite_url) as queue:
        await register(queue, method, executor=executor, max_worker_count=1, initialise_method=hook)
        await queue.start()
        found = [await result(queue, name) for name in ("a", "b", "c")]
    assert found == [[None, "from the hook"]] * 3
    assert context_handlers.tenant.get() is None


async def test_handlers_find_the_context_of_who_started_the_queue(sqlite_url: str) -> None:
    """Also those that are registered later, from a context that is not theirs."""
    async with TaskQueue(sqlite_url) as queue:
        token = context_handlers.tenant.set("application")
        await queue.start()
        context_handlers.tenant.set("request")
        await register(queue, "swap_async")
        assert await result(queue, "x") == ["application", None]
        context_handlers.tenant.reset(token)


async def test_each_run_has_an_asyncio_task_of_its_own(database: str) -> None:
    """Fails where what is scoped to the current task, as a session, is shared."""
    async with TaskQueue(database) as queue:
        await register(queue, "note_task", max_worker_count=3)
        await queue.start()
        await queue.create_many(NewTask("t", 0) for _ in range(50))
        await eventually(lambda: len(context_handlers.tasks) == 50, timeout=30)
    assert len(set(context_handlers.tasks)) == 50
    assert {task.get_name() for task in context_handlers.tasks if task} == {"rowlock t"}


async def test_what_a_run_has_made_is_gone_with_it(sqlite_url: str) -> None:
    """Fails where the context of a run leads back to its task: only a collection ends those."""
    async with TaskQueue(sqlite_url) as queue:
        await register(queue, "note_task")
        await queue.start()
        gc.collect()
        gc.disable()
        try:
            await queue.create_many(NewTask("t", 0) for _ in range(50))
            await eventually(lambda: len(context_handlers.tasks) == 50, timeout=30)
            runs = weakref.WeakSet(context_handlers.tasks)
            context_handlers.tasks.clear()
            await eventually(lambda: not runs, timeout=10)
        finally:
            gc.enable()


async def test_no_more_run_at_once_than_may(sqlite_url: str) -> None:
    async with TaskQueue(sqlite_url) as queue:
        await register(queue, "note_task", max_worker_count=3)
        await queue.start()
        await queue.create_many(NewTask("t", 0.02) for _ in range(20))
        most = 0

        def all_begun() -> bool:
            nonlocal most
            running = [task for task in context_handlers.tasks if task and not task.done()]
            most = max(most, len(running))
            return len(context_handlers.tasks) == 20

        await eventually(all_begun, timeout=30)
    assert 1 <= most <= 3


async def test_hooks_run_once_for_all_async_handlers_of_a_type(database: str) -> None:
    """Fails where each place has a worker, or where the hooks are not run again after a rest."""
    async with TaskQueue(database) as queue:
        await register(
            queue,
            "note_task",
            max_worker_count=20,
            idle_shutdown_timeout=300,
            initialise_method="initialise",
            shutdown_method="shutdown",
        )
        await queue.start()
        for turn in (1, 2):
            await queue.create_many(NewTask("t", 0.05) for _ in range(20))
            await eventually(lambda: len(context_handlers.tasks) == 20 * turn, timeout=30)  # noqa: B023
            await eventually(lambda: context_handlers.hooks[-1] == "shutdown", timeout=30)
    hooks = context_handlers.hooks
    # On a slow machine there may be a rest amid the tasks.
    assert hooks == ["initialise", "shutdown"] * (len(hooks) // 2)
    assert 2 <= len(hooks) // 2 < 10


async def test_a_hook_that_fails_is_not_tried_once_for_each_place(sqlite_url: str) -> None:
    """Fails where all places of the type start, and fail, at once."""
    async with TaskQueue(sqlite_url, poll_interval=100) as queue:
        await register(queue, "note_task", initialise_method="initialise_fails_first")
        await queue.start()
        ids = await queue.create_many(NewTask("t", 0, retry_count=0, retain_for=-1) for _ in "12")
        for task_id in ids:
            assert (await ended(queue, task_id)).result == "done"
    assert context_handlers.hooks == ["initialise"] * 2


# One pool.


def make_pool(method: str, **options: Any) -> tuple[ConcurrentPool, Owner]:
    owner = Owner()
    handler = Handler.resolve("t", HANDLERS, method, HandlerOptions(**options))
    return ConcurrentPool(handler, SizeLimits(), owner), owner


async def test_who_is_cancelled_before_the_first_step_has_ended() -> None:
    """Fails where only the handler's own code tells that it has: its lease is extended for ever."""
    pool, owner = make_pool("note_task")
    pool.submit(job_for(pool, payload="0"))
    await eventually(lambda: owner.endings)
    loop = asyncio.get_running_loop()
    jobs = [job_for(pool, payload="30") for _ in range(3)]
    for job in jobs:
        pool.submit(job)

    def cancel_all() -> None:
        for task in asyncio.all_tasks():
            if task.get_name() == "rowlock t" and task not in pool._workers:
                task.cancel()

    loop.call_soon(cancel_all)  # after they are started, and before any of them runs
    await eventually(lambda: len(owner.endings) == 4)
    assert {job for job, _ in owner.endings[1:]} == set(jobs)
    assert all("CancelledError" in str(ending.error) for _, ending in owner.endings[1:])
    assert pool.running == set()
    await pool.close()


async def test_what_a_handler_returns_counts_though_it_has_cancelled_its_task() -> None:
    """Fails where the outcome is taken from the asyncio task, which is cancelled as it returns."""
    pool, owner = make_pool("cancels_itself_and_returns", max_worker_count=1)
    for count in (1, 2):
        pool.submit(job_for(pool))
        await eventually(lambda: len(owner.endings) == count)  # noqa: B023
    assert [ending.result for _, ending in owner.endings] == ['"returned"'] * 2
    await pool.close()


async def test_the_application_makes_the_tasks_if_it_wants_to() -> None:
    """Fails where tools that trace asyncio tasks see none of the handlers."""
    made: list[str] = []
    loop = asyncio.get_running_loop()

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        made.append(coroutine.__qualname__)
        return asyncio.Task(coroutine, loop=loop, **options)

    pool, owner = make_pool("note_task")
    loop.set_task_factory(factory)
    try:
        pool.submit(job_for(pool, payload="0"))
        await eventually(lambda: owner.endings)
    finally:
        loop.set_task_factory(None)
    await pool.close()
    assert any("_run" in name for name in made)


async def test_a_pool_that_is_given_a_job_while_it_shuts_down() -> None:
    """Fails where the job waits for a worker that has gone."""
    pool, owner = make_pool("note_task", idle_shutdown_timeout=0, shutdown_method="shutdown")
    for count in range(1, 6):
        pool.submit(job_for(pool, payload="0"))
        await eventually(lambda: len(owner.endings) == count)  # noqa: B023
    await pool.close()
    assert (owner.failures, owner.given_back) == ([], [])


# What a handler is told of its schedule.


@pytest.mark.parametrize("executor", EXECUTORS)
async def test_a_handler_knows_the_schedule_of_its_task(database: str, executor: str) -> None:
    """Fails where a claim does not bring it, or where it does not cross into a process."""
    method = "scheduled_async" if executor == "async" else "scheduled"
    async with TaskQueue(database) as queue:
        scheduler = TaskScheduler(queue)
        await register(queue, method, executor=executor)
        await scheduler.add_task(
            "hourly",
            [ScheduledTaskTime(interval_hours=1)],
            task_type="t",
            payload=None,
            retain_for=-1,
        )
        await queue.start()
        assert await result(queue) == [None, None]
        await scheduler.trigger_task("hourly")

        async def triggered() -> Any:
            page = await queue.query(task_type="t", task_status="success")
            return [task for task in page.entities if task.schedule_id == "hourly"]

        await eventually(triggered, timeout=30)
        (task,) = await triggered()
    schedule_id, instant = task.result
    assert schedule_id == "hourly"
    assert datetime.fromisoformat(instant) == task.scheduled_for


# What can be called with the payload, and what it returns.


@pytest.mark.parametrize(
    "method",
    ["two", "keyword", "keyword_with_default", "keywords", "two_async", "needs_more"],
)
async def test_what_the_payload_alone_does_not_fit_is_refused(sqlite_url: str, method: str) -> None:
    async with TaskQueue(sqlite_url) as queue:
        with pytest.raises(InvalidArgumentError, match=rf"^method: .{method}\(") as refused:
            await register(queue, method)
        assert "payload" in str(refused.value)
        assert queue.runtime.handlers == {}


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("with_default", [5, 5]),
        ("many", [5]),
        ("nothing", "nothing"),
        ("nothing_decorated", "nothing"),
        ("none_left", None),
        ("given_a_session", [5, "session"]),
    ],
)
async def test_what_fits_is_called(sqlite_url: str, method: str, expected: Any) -> None:
    async with TaskQueue(sqlite_url) as queue:
        await register(queue, method, executor="thread")
        await queue.start()
        assert await result(queue, 5) == expected


AWAITED = ["partial", "partial_of_object", "an_object", "method", "decorated", "decorated_async"]


@pytest.mark.parametrize(
    ("method", "executor"),
    [
        *((method, "async") for method in AWAITED),
        *((method, "process") for method in [*AWAITED, "a_lambda", "awaitable"]),
        *((method, "thread") for method in ["decorated", "decorated_async", "a_lambda"]),
        ("awaitable", "thread"),
    ],
)
async def test_what_can_be_awaited_is(sqlite_url: str, method: str, executor: str) -> None:
    """Fails where only an `async def` is, and what others return is "not JSON"."""
    async with TaskQueue(sqlite_url) as queue:
        await register(queue, method, executor=executor)
        await queue.start()
        assert await result(queue, 5) == [5]


@pytest.mark.parametrize("method", ["partial", "partial_of_object", "an_object", "method"])
async def test_what_is_async_for_certain_runs_in_the_loop(sqlite_url: str, method: str) -> None:
    async with TaskQueue(sqlite_url) as queue:
        await register(queue, method)
        assert queue.runtime.handlers["t"].executor == "async"
        with pytest.raises(InvalidArgumentError, match="executor"):
            await register(queue, method, executor="thread")
        with pytest.raises(InvalidArgumentError, match="executor"):
            await register(queue, "a_lambda", executor="async")
