"""Somebody cancels the library's asyncio tasks: it says so and goes on, and nobody is stranded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from rowlock import DatabaseUnavailableError, ScheduledTaskTime, TaskQueue, TaskScheduler
from rowlock._background import Background
from rowlock._client.group_commit import Inserts
from rowlock._events import Event, LoopCancelled, LoopFailed
from rowlock._loop import Loop
from tests.support.helpers import eventually
from tests.support.stores import new_row, open_store

LOOPS = {"claim", "finish", "progress", "cancel", "sweeper", "watch", "hints", "scheduler"}


def cancel_all() -> None:
    mine = asyncio.current_task()
    for task in asyncio.all_tasks():
        if task is not mine:
            task.cancel()


async def succeeded(queue: TaskQueue, task_id: str) -> bool:
    task = await queue.get(task_id)
    return task is not None and task.status == "success"


async def test_every_loop_goes_on(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """Fails if a task that was cancelled is not followed by another one."""
    called: list[int] = []
    async with TaskQueue(database, poll_interval=50, sweep_interval=50) as queue:
        scheduler = TaskScheduler(queue)
        await queue.register_handler("quick", "tests.support.loop_handlers", "quick")
        await queue.start()
        # Begun, and in the second one not.
        cancel_all()
        await asyncio.sleep(0)
        cancel_all()
        await eventually(lambda: told(caplog) == LOOPS)
        assert all(record.levelno == logging.WARNING for record in caplog.records)
        task_id = await queue.create("quick", retain_for=-1)
        await eventually(lambda: succeeded(queue, task_id))
        time = ScheduledTaskTime(next_trigger_time=1)
        await scheduler.add_task("s", [time], lambda: called.append(1))
        await eventually(lambda: called)
        lost = new_row(type="lost", run_at=None)
        async with open_store(database) as store:
            await store.tasks.insert(lost)
            assert await store.database.claim("gone", {"lost": 1}, 1)
            await eventually(lambda: is_pending(queue, lost.id))
        async with asyncio.timeout(10):
            await queue.stop()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("rowlock")]


def told(caplog: pytest.LogCaptureFixture) -> set[object]:
    arguments = [r.args for r in caplog.records if "was cancelled" in r.getMessage()]
    return {values["loop"] for values in arguments if isinstance(values, dict)}


async def is_pending(queue: TaskQueue, task_id: str) -> bool:
    task = await queue.get(task_id)
    return task is not None and task.status == "pending"


async def test_a_handler_that_cancels_everything(database: str) -> None:
    async with TaskQueue(database) as queue:
        await queue.register_handler("cancel", "tests.support.loop_handlers", "cancel_all")
        await queue.register_handler("quick", "tests.support.loop_handlers", "quick")
        await queue.start()
        task_id = await queue.create("cancel", retain_for=-1, retry_count=0)
        await eventually(lambda: succeeded(queue, task_id))
        other = await queue.create("quick", retain_for=-1)
        await eventually(lambda: succeeded(queue, other))


@pytest.mark.parametrize("how", ["stop", "close"])
async def test_a_stop_goes_on_to_its_end(database: str, how: str) -> None:
    """Fails if who waits for it is told of a cancellation, or it is never finished."""
    queue = TaskQueue(database)
    await queue.open()
    TaskScheduler(queue)
    await queue.start()
    stopping = asyncio.create_task(getattr(queue, how)())
    for _ in range(20):
        for task in asyncio.all_tasks():
            if task not in (asyncio.current_task(), stopping):
                task.cancel()
        await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await stopping
    assert queue.runtime.worker is None
    async with asyncio.timeout(20):
        await queue.close()
    assert queue.runtime._opened is None
    async with queue:
        await queue.create("t")


async def test_a_group_of_creates_is_cancelled(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if its callers, or those who come after them, wait for ever."""
    async with open_store(database) as store:
        inserts = Inserts(store)
        insert, together = store.tasks.insert, store.tasks.insert_group
        gate, under_way = asyncio.Event(), asyncio.Event()

        async def held(row: Any, **options: Any) -> str:
            await gate.wait()
            return await insert(row, **options)

        async def hung(rows: Any, *arguments: Any) -> None:
            under_way.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(store.tasks, "insert", held)
        monkeypatch.setattr(store.tasks, "insert_group", hung)
        callers = [asyncio.create_task(inserts.insert(new_row())) for _ in range(4)]
        await eventually(lambda: len(inserts._waiting) == 3)
        gate.set()
        await under_way.wait()
        monkeypatch.setattr(store.tasks, "insert_group", together)
        late = asyncio.create_task(inserts.insert(new_row()))
        await eventually(lambda: inserts._waiting)
        cancel_named("rowlock inserts")
        async with asyncio.timeout(10):
            outcomes = await asyncio.gather(*callers, late, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [
            str,
            *[DatabaseUnavailableError] * 3,
            str,
        ]
        assert "cancelled" in str(outcomes[1])
        # Before its first step, too.
        monkeypatch.setattr("rowlock._client.group_commit.Background", cancelled_at_once)
        gate.clear()
        callers = [asyncio.create_task(inserts.insert(new_row())) for _ in range(4)]
        await eventually(lambda: len(inserts._waiting) == 3)
        gate.set()
        async with asyncio.timeout(10):
            await asyncio.gather(*callers)
            await inserts.insert(new_row())


def cancelled_at_once(work: Callable[[], Coroutine[Any, Any, None]], name: str) -> Background:
    background = Background(work, name)
    background._task.cancel()
    return background


def cancel_named(name: str) -> None:
    for task in asyncio.all_tasks():
        if task.get_name() == name:
            task.cancel()


async def test_what_a_pass_waited_for_was_cancelled() -> None:
    """Fails if that ends the loop, which nobody has cancelled."""
    events: list[Event] = []
    passes = 0

    async def run_pass() -> float:
        nonlocal passes
        passes += 1
        if passes == 1:
            waiting = asyncio.ensure_future(asyncio.Event().wait())
            asyncio.get_running_loop().call_soon(waiting.cancel)
            await waiting
        if passes == 2:
            raise BaseExceptionGroup("odd", [GeneratorExit()])
        return 0.001

    loop = Loop("t", run_pass, events.append)
    loop.start()
    await eventually(lambda: passes > 4)
    assert [type(event) for event in events[:2]] == [LoopFailed, LoopFailed]
    await loop.end(1)


async def test_a_loop_that_is_ended_ends() -> None:
    events: list[Event] = []
    begun = asyncio.Event()

    async def hang() -> float:
        begun.set()
        await asyncio.Event().wait()
        return 0.0

    loop = Loop("t", hang, events.append)
    await loop.end(0)
    loop = Loop("t", hang, events.append)
    loop.start()
    await begun.wait()
    await loop.end(0.01)
    await loop.end(0.01)
    assert events == []
    cancelled = Loop("t", hang, events.append)
    cancelled.start()
    cancel_named("rowlock t")
    await eventually(lambda: events)
    assert events == [LoopCancelled("t")]
    await cancelled.end(0.01)


def test_the_end_of_the_event_loop_is_the_end() -> None:
    """Fails if the task that `asyncio.run` cancels at its end is followed by another one."""
    events: list[Event] = []
    passes = 0

    async def run_pass() -> float:
        nonlocal passes
        passes += 1
        return 3600.0

    async def leave_running() -> None:
        loop = Loop("t", run_pass, events.append)
        loop.start()
        await eventually(lambda: passes)

    asyncio.run(leave_running())
    assert (passes, events) == (1, [])
