"""State change callbacks: how many run and wait, what is dropped, what cannot be lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import pytest

from rowlock import Task, TaskQueue, TaskStatus
from rowlock._client import callbacks as module
from rowlock._client.callbacks import Callbacks
from rowlock._events import (
    CallbackFailed,
    CallbacksBehind,
    CallbacksDropped,
    Event,
    Events,
    TaskChanged,
)
from rowlock._ids import new_id
from tests.support.helpers import eventually

NOW = datetime(2027, 3, 9, tzinfo=UTC)


def changed(task_id: str, attempt: int = 0) -> TaskChanged:
    return TaskChanged(
        Task(
            id=task_id,
            type="t",
            thread_id="0",
            date_created=NOW,
            date_modified=NOW,
            status=TaskStatus.PENDING,
            attempt=attempt,
            priority=0,
            run_at=NOW,
        )
    )


def callbacks(callback: Callable[[Task], Any]) -> tuple[Events, Callbacks, list[Event]]:
    events = Events()
    seen: list[Event] = []
    made = Callbacks(events, lambda task_type: callback)
    events.subscribe(lambda event: None if isinstance(event, TaskChanged) else seen.append(event))
    return events, made, seen


class Gate:
    """A callback that waits, and notes whom it was called for."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.running = self.most = 0
        self.calls: list[tuple[str, int]] = []

    async def __call__(self, task: Task) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        await self.open.wait()
        self.running -= 1
        self.calls.append((task.id, task.attempt))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RUNNING", 3)
    monkeypatch.setattr(module, "WAITING", 10)


@pytest.mark.usefixtures("small")
async def test_so_many_run_and_so_many_wait() -> None:
    """Fails if each change has a task of its own, or waits, without a bound."""
    gate = Gate()
    events, made, seen = callbacks(gate)
    ids = [new_id() for _ in range(20)]
    for task_id in ids:
        events.emit(changed(task_id, 1))
        events.emit(changed(task_id, 2))
        await asyncio.sleep(0)
    assert made._waiting == 10
    assert seen == [CallbacksBehind(10)]
    gate.open.set()
    await made.drain(10)
    assert gate.most == 3
    assert seen == [CallbacksBehind(10), CallbacksDropped(40 - 3 - 10)]
    # The oldest were dropped, and of one task the last are told, in their order.
    told = [task_id for task_id, _ in gate.calls]
    assert set(told) == {*ids[:3], *ids[-4:]} | set(told[3:])
    assert gate.calls[-2:] == [(ids[-1], 1), (ids[-1], 2)]
    assert (made._waiting, made._chains, made._running) == (0, {}, {})
    # A second spell is told, too.
    gate.open.clear()
    for task_id in ids:
        events.emit(changed(task_id))
    assert seen[2:] == [CallbacksBehind(10)]
    gate.open.set()
    await made.drain(10)
    assert seen[3:] == [CallbacksDropped(20 - 10)] or seen[3:] == [CallbacksDropped(7)]


@pytest.mark.usefixtures("small")
async def test_one_task_with_more_changes_than_may_wait() -> None:
    gate = Gate()
    events, made, seen = callbacks(gate)
    task_id = new_id()
    for attempt in range(30):
        events.emit(changed(task_id, attempt))
        await asyncio.sleep(0)
    gate.open.set()
    await made.drain(10)
    assert gate.calls == [(task_id, attempt) for attempt in (0, *range(20, 30))]
    assert seen == [CallbacksBehind(10), CallbacksDropped(19)]


async def test_callbacks_that_hang_hold_a_bounded_number(database: str) -> None:
    """Fails if what hangs grows with the number of changes."""

    async def hang(task: Task) -> None:
        await asyncio.Event().wait()

    queue = TaskQueue(database, stop_timeout=0)
    await queue.open()
    await queue.register_handler("quick", "tests.support.loop_handlers", "quick", hang)
    before = len(asyncio.all_tasks())
    for _ in range(module.RUNNING + module.WAITING + 500):
        queue.runtime.events.emit(TaskChanged(changed_of_type("quick")))
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) - before == module.RUNNING
    assert module.WAITING - module.RUNNING <= queue.runtime._callbacks._waiting <= module.WAITING
    async with asyncio.timeout(30):
        await queue.close()


def changed_of_type(task_type: str) -> Task:
    task: Task = changed(new_id()).task
    return task.model_copy(update={"type": task_type})


async def test_a_callback_that_is_cancelled_takes_no_other_change_along() -> None:
    """Fails if the changes of the task that wait are lost with it, or those that come later."""
    gate = Gate()
    events, made, seen = callbacks(gate)
    one, other = new_id(), new_id()
    for task_id in (one, other):
        for attempt in range(3):
            events.emit(changed(task_id, attempt))
    cancel()  # not begun
    await eventually(lambda: gate.running == 2)
    cancel()
    await eventually(lambda: len(seen) == 2)
    assert {type(event) for event in seen} == {CallbackFailed}
    gate.open.set()
    events.emit(changed(one, 3))
    await made.drain(10)
    assert [attempt for task_id, attempt in gate.calls if task_id == one] == [1, 2, 3]
    assert [attempt for task_id, attempt in gate.calls if task_id == other] == [1, 2]


def cancel() -> None:
    for task in asyncio.all_tasks():
        if task.get_name() == "rowlock callback":
            task.cancel()


async def test_those_that_hang_are_given_up_at_the_end_and_counted() -> None:
    swallowed = asyncio.Event()

    async def stubborn(task: Task) -> None:
        while not swallowed.is_set():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed.set()

    events, made, seen = callbacks(stubborn)
    task_id = new_id()
    for attempt in range(3):
        events.emit(changed(task_id, attempt))
    await asyncio.sleep(0)
    await made.drain(0.01)
    assert seen == [CallbacksDropped(2)]
    # What comes later does not meet what was given up.
    events.emit(changed(task_id, 3))
    await swallowed.wait()
    await made.drain(10)
    assert (made._waiting, made._chains, made._running) == (0, {}, {})


async def test_each_task_has_a_context_of_its_own() -> None:
    left: ContextVar[str] = ContextVar("left", default="")
    found: list[str] = []

    def leave(task: Task) -> None:
        found.append(left.get())
        left.set(task.id)

    events, made, _ = callbacks(leave)
    for _ in range(5):
        events.emit(changed(new_id()))
    await made.drain(10)
    assert found == [""] * 5
