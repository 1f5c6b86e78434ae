"""Whatever a handler is given, returns, raises or reports: the same answer on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowlock import InvalidArgumentError, NewTask, Task, TaskQueue, TaskStatus
from tests.client.test_json import same
from tests.properties import value_handlers
from tests.properties.sizes import size, tried
from tests.properties.values import Make, judged, texts
from tests.support.helpers import eventually

BATCH = 20
HANDLERS = ("returns", "returns_in_thread", "raises", "raises_with_properties", "reports")


async def open_queue(stack: AsyncExitStack, url: str) -> TaskQueue:
    queue = await stack.enter_async_context(TaskQueue(url))
    for handler in HANDLERS:
        await queue.register_handler(
            handler,
            "tests.properties.value_handlers",
            handler,
            options={"executor": "thread" if handler == "returns_in_thread" else None},
        )
    await queue.start()
    return queue


async def run_all(queue: TaskQueue, number: int) -> dict[tuple[str, int], Task]:
    """Run every handler on every value; return how each task ended."""
    places = [(handler, n) for handler in HANDLERS for n in range(number)]
    ids = await queue.create_many(
        NewTask(handler, n, retry_count=0, retain_for=-1) for handler, n in places
    )

    async def none_left() -> bool:
        counts = await queue.counts()
        return not counts[TaskStatus.PENDING] and not counts[TaskStatus.PROCESSING]

    await eventually(none_left, timeout=60, message="all have ended")
    ended = {}
    for place, task_id in zip(places, ids, strict=True):
        task = await queue.get(task_id)
        assert task is not None
        ended[place] = task
        await queue.remove(task_id)
    return ended


async def created(queue: TaskQueue, **arguments: Any) -> object:
    """What a task holds that is created with the arguments, or why there is none."""
    try:
        task_id = await queue.create("idle", **arguments)
    except InvalidArgumentError as error:
        return type(error), str(error)
    task = await queue.get(task_id)
    assert task is not None
    await queue.remove(task_id)
    return repr(task.payload), task.key


def shown(task: Task) -> object:
    """All that the databases might tell differently; `repr` tells -0.0 from 0.0 and 1 from True.

    Not the attempt: on a busy machine a task that did not begin soon is put back.
    """
    return task.status, repr(task.result), repr(task.error), repr(task.progress)


def judge(ended: dict[tuple[str, int], Task], values: Sequence[tuple[Make, bool | None]]) -> None:
    for (handler, number), task in ended.items():
        make, storable = values[number]
        if handler.startswith("raises"):
            assert task.status is TaskStatus.FAILED
            assert task.error is not None
        elif handler == "reports":
            assert task.status is TaskStatus.SUCCESS
        elif storable is not None:
            assert (task.status is TaskStatus.SUCCESS) == storable, (handler, make)
            assert (task.error is None) == storable
        if handler.startswith("returns") and storable:
            assert same(task.result, make())


@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
def test_any_value_has_the_same_answer_and_its_task_ends(
    pytestconfig: pytest.Config, sqlite_url: str, postgres_url: str
) -> None:
    """Fails where NUL is only looked for with the methods of a hostile class, where an error of
    the encoder is not taken for a refusal, and where a key is the `str()` of what was given."""
    examples = size(pytestconfig, short=100, ci=2000, long=20_000)
    tasks = 0
    stack = AsyncExitStack()
    with asyncio.Runner() as runner:

        async def open_both() -> list[TaskQueue]:
            return [await open_queue(stack, url) for url in (sqlite_url, postgres_url)]

        queues = runner.run(open_both())

        async def check(values: list[tuple[Make, bool | None]], names: list[Any]) -> int:
            value_handlers.values[:] = [make for make, _ in values]
            value_handlers.texts[:] = names
            sqlite, postgresql = [await run_all(queue, len(values)) for queue in queues]
            for place, task in sqlite.items():
                assert shown(task) == shown(postgresql[place]), place
            judge(sqlite, values)
            for (make, storable), name in zip(values, names, strict=True):
                one, other = [await created(queue, payload=make()) for queue in queues]
                assert one == other
                if storable is not None:
                    assert (isinstance(one, tuple) and isinstance(one[0], str)) == storable
                one, other = [await created(queue, key=name) for queue in queues]
                assert one == other
                if isinstance(one, tuple) and isinstance(one[0], str):
                    assert one[1] == name
            return len(sqlite) + len(postgresql)

        @tried(max(1, examples // BATCH))
        @given(
            st.lists(judged, min_size=BATCH, max_size=BATCH),
            st.lists(texts, min_size=BATCH, max_size=BATCH),
        )
        def batches(values: list[tuple[Make, bool | None]], names: list[Any]) -> None:
            nonlocal tasks
            tasks += runner.run(check(values, names))

        try:
            batches()
        finally:
            runner.run(stack.aclose())
    print(f"values: {examples} generated, {tasks} tasks on SQLite and PostgreSQL, none left")
