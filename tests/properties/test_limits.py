"""Just at a limit and one over it, on both databases; and settings at their ends."""

from __future__ import annotations

from typing import Any

import pytest

from rowlock import HandlerOptions, InvalidPayloadError, NewTask, SizeLimits, TaskQueue
from rowlock.models import MAX_DURATION_MS
from tests.support.helpers import eventually
from tests.worker.test_worker import ended

MODULE = "tests.properties.error_handlers"
# Of text in quotes, and of the object around a progress.
QUOTES = len('""')
AROUND = len('{"value":""}')


async def run(queue: TaskQueue, handler: str, payload: Any) -> Any:
    await queue.register_handler(handler, MODULE, handler)
    await queue.start()
    return await ended(queue, await queue.create(handler, payload, retry_count=0, retain_for=-1))


async def test_payload(database: str) -> None:
    async with TaskQueue(database, limits=SizeLimits(payload_bytes=100, depth=3)) as queue:
        taken: list[Any] = ["x" * (100 - QUOTES), "é" * ((100 - QUOTES) // 2), [[[1]]]]
        refused: list[Any] = ["x" * (101 - QUOTES), "é" * (100 // 2), [[[[1]]]]]
        for value in taken:
            task = await queue.get(await queue.create("t", value))
            assert task is not None
            assert task.payload == value
        for value in refused:
            with pytest.raises(InvalidPayloadError):
                await queue.create("t", value)
            with pytest.raises(InvalidPayloadError):
                await queue.create_many([NewTask("t"), NewTask("t", value)])
        assert sum((await queue.counts()).values()) == 3


async def test_result(database: str) -> None:
    async with TaskQueue(database, limits=SizeLimits(result_bytes=100, depth=3)) as queue:
        assert (await run(queue, "gives", 100 - QUOTES)).result == "x" * 98
        assert (await run(queue, "gives_deep", 3)).result == [[[1]]]
        for handler, number in (("gives", 101 - QUOTES), ("gives_deep", 4)):
            task = await run(queue, handler, number)
            assert (task.status, task.result) == ("failed", None)
            assert task.error.name == "InvalidPayloadError"


async def test_progress(database: str) -> None:
    async with TaskQueue(database, limits=SizeLimits(progress_bytes=100)) as queue:
        task = await run(queue, "says", 100 - AROUND)
        assert (task.result, task.progress.value) == ("said", "x" * (100 - AROUND))
        task = await run(queue, "says", 101 - AROUND)
        assert (task.result, task.progress) == ("InvalidPayloadError", None)


async def test_error(database: str) -> None:
    """What is over the limit is cut and says so, and never takes more."""
    async with TaskQueue(database, limits=SizeLimits(error_bytes=1024)) as queue:
        for size in (10, 500, 1000, 1024, 1025, 100_000):
            task = await run(queue, "fails_long", size)
            assert task.status == "failed"
            message = task.error.message
            assert ("cut" in message) == (message != "x" * size)
            assert len(task.error.model_dump_json(by_alias=True).encode()) <= 1024


@pytest.mark.parametrize("length", [1, 255])
async def test_name(database: str, length: int) -> None:
    async with TaskQueue(database, limits=SizeLimits(name_length=length)) as queue:
        for name in ("x" * length, "\U0001f600" * length):
            task = await queue.get(await queue.create(name, key=name))
            assert task is not None
            assert (task.type, task.key) == (name, name)
        with pytest.raises(ValueError, match="task_type"):
            await queue.create("x" * (length + 1))
        with pytest.raises(ValueError, match="key"):
            await queue.create("x", key="x" * (length + 1))


@pytest.mark.parametrize("end", ["shortest", "longest"])
async def test_settings_at_their_ends(database: str, end: str) -> None:
    """Fails where a duration of a hundred years is over what a timer or a date takes."""
    most = MAX_DURATION_MS
    durations: dict[str, Any] = {
        "shortest": {"lease": 1000, "sweep_interval": 50, "poll_interval": 50, "stop_timeout": 0},
        "longest": {
            "lease": most,
            "sweep_interval": most,
            "poll_interval": most,
            "stop_timeout": most,
            "retry_interval": most,
        },
    }[end]
    options = {
        "shortest": HandlerOptions(idle_shutdown_timeout=0, cancel_timeout=0),
        "longest": HandlerOptions(idle_shutdown_timeout=most, timeout=most, cancel_timeout=most),
    }[end]
    async with TaskQueue(database, **durations) as queue:
        for handler in ("gives", "raises"):
            await queue.register_handler(handler, MODULE, handler, options=options)
        await queue.start()
        task = await ended(queue, await queue.create("gives", 1, retain_for=most))
        assert (task.status, task.result) == ("success", "x")
        failing = await queue.create("raises", "BaseException", retry_count=1, retry_interval=most)

        async def waits() -> bool:
            found = await queue.get(failing)
            return found is not None and found.error is not None

        await eventually(waits)
        assert await queue.retry(failing)
