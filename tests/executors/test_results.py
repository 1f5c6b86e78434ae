"""What handlers return: models are stored as their JSON, what cannot be stored ends the task."""

from __future__ import annotations

from typing import Any

import pytest

from rowlock import NewTask, TaskQueue, TaskStatus
from rowlock._endings import returned
from rowlock.models import SizeLimits
from tests.client.test_json import same
from tests.support.result_handlers import REFUSED, STORED, made
from tests.worker.test_worker import ended

EXECUTORS: dict[str, dict[str, Any]] = {
    "returns": {},
    "returns_in_thread": {"executor": "thread"},
    "returns_in_process": {"max_worker_count": 1},
}


@pytest.mark.parametrize("handler", EXECUTORS)
async def test_models_and_dataclasses_are_stored_as_their_json(database: str, handler: str) -> None:
    """Fails where only what `json` knows is taken, or where a list of models is not."""
    async with TaskQueue(database) as queue:
        await queue.register_handler(
            "t", "tests.support.result_handlers", handler, options=EXECUTORS[handler]
        )
        await queue.start()
        ids = await queue.create_many(
            NewTask("t", name, retry_count=0, retain_for=-1) for name in STORED
        )
        for task_id, (name, (_, expected)) in zip(ids, STORED.items(), strict=True):
            task = await ended(queue, task_id)
            assert (name, task.status, task.error) == (name, TaskStatus.SUCCESS, None)
            assert same(task.result, expected), name


@pytest.mark.parametrize("handler", EXECUTORS)
async def test_what_cannot_be_stored_is_not_tried_again(database: str, handler: str) -> None:
    """Fails where the attempt fails as any other: the same result would come again and again."""
    async with TaskQueue(database, retry_interval=0) as queue:
        await queue.register_handler(
            "t", "tests.support.result_handlers", handler, options=EXECUTORS[handler]
        )
        await queue.start()
        ids = await queue.create_many(NewTask("t", name, retain_for=-1) for name in REFUSED)
        for task_id, (name, (_, said)) in zip(ids, REFUSED.items(), strict=True):
            task = await ended(queue, task_id)
            assert (name, task.status) == (name, TaskStatus.FAILED)
            assert task.error is not None
            assert task.error.name == "InvalidPayloadError"
            assert task.error.source == f"tests.support.result_handlers.{handler}"
            assert said in task.error.message


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_result_says_where_and_ends_the_task(name: str) -> None:
    ending = returned(made(name), "module.handler", SizeLimits())
    assert (ending.result, ending.retry) == (None, False)
    assert ending.error is not None
    assert len(ending.error.encode()) <= SizeLimits().error_bytes


async def test_a_model_that_exits_takes_no_worker_with_it(database: str) -> None:
    async with TaskQueue(database) as queue:
        await queue.register_handler("t", "tests.support.result_handlers", "exits")
        await queue.start()
        task = await ended(queue, await queue.create("t", retain_for=-1))
        assert task.status is TaskStatus.FAILED
        assert task.error is not None


def test_a_result_that_is_plain_is_what_it_was() -> None:
    value: dict[str, Any] = {"a": [1, None, "x", {"b": 1.5}]}
    assert returned(value, "s", SizeLimits()).result == '{"a":[1,null,"x",{"b":1.5}]}'
    assert returned(None, "s", SizeLimits()).result is None
