"""Hostile exceptions through a worker: each ends its own attempt, in words that can be stored."""

from __future__ import annotations

import json

import pytest

from rowlock import NewTask, SizeLimits, TaskError, TaskQueue, TaskStatus
from rowlock._endings import raised
from tests.client import test_models
from tests.properties.error_handlers import HOSTILE
from tests.worker.test_worker import ended

MODULE = "tests.properties.error_handlers"


def described(error: BaseException) -> str:
    text = None
    try:
        text = raised(error, "module.handler", SizeLimits()).error
    except BaseException as escaped:
        del escaped  # which pytest could not show either
    assert text is not None
    return text


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_described_within_the_limit(name: str) -> None:
    """Fails where anything of the exception is asked for with its own methods, uncaught."""
    try:
        error = HOSTILE[name]()
    except RecursionError as deep:
        error = deep
    text = described(error)
    assert len(text.encode("utf-8")) <= SizeLimits().error_bytes
    json.loads(text)
    assert "\\u0000" not in text
    stored = TaskError.model_validate_json(text)
    assert (stored.name != "", stored.source) == (True, "module.handler")


def test_large_properties_are_left_out_before_they_are_encoded() -> None:
    """Fails where they are encoded to be measured: a million took a minute, in the loop."""
    stored = TaskError.model_validate_json(described(HOSTILE["many properties"]()))
    assert stored.message == "x"
    assert stored.properties == {"cut": "the properties take more than 16,384 characters"}


@pytest.mark.parametrize(
    ("handler", "options"),
    [
        ("raises", {"max_worker_count": 2}),
        ("raises_within_a_timeout", {"timeout": 60_000}),
        ("raises_in_thread", {"executor": "thread", "max_worker_count": 2}),
        ("raises_in_process", {"max_worker_count": 1}),
    ],
)
async def test_every_task_fails_by_itself(
    database: str, handler: str, options: dict[str, object]
) -> None:
    """Fails where describing the exception raises: its slot or thread ends with its task held,
    whose lease is extended for ever."""
    names = [*HOSTILE, *(set(test_models.HOSTILE) - set(HOSTILE))]
    async with TaskQueue(database) as queue:
        await queue.register_handler(handler, MODULE, handler, options=options)
        await queue.start()
        ids = await queue.create_many(
            NewTask(handler, name, retry_count=0, retain_for=-1) for name in names
        )
        for name, task_id in zip(names, ids, strict=True):
            task = await ended(queue, task_id)
            assert (name, task.status) == (name, TaskStatus.FAILED)
            # Not the attempt: a busy machine puts back what has not begun. Lost, it would say so.
            assert task.error is not None
            assert task.error.source == f"{MODULE}.{handler}"
            assert len(task.error.model_dump_json().encode()) <= 2 * SizeLimits().error_bytes
