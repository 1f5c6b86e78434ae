"""What the generated examples found. Each fails on the code before its repair."""

from __future__ import annotations

from enum import Enum

import asyncpg

from rowlock import TaskQueue
from rowlock._endings import HandlerResult
from rowlock._store.ends import AttemptOutcome
from rowlock._store.postgres.driver import as_array
from tests.support.stores import at, failure, insert_and_claim, open_store, success
from tests.worker.test_worker import ended


async def test_a_row_that_is_removed_is_told_with_its_last_progress(database: str) -> None:
    """Fails where what was claimed is told: the callback sees the progress of then."""
    async with open_store(database) as store:
        row = await insert_and_claim(store, retain_for=0, retries_remaining=0)
        await store.attempts.progress("worker", {(row.id, row.attempt): '{"value":1}'})
        (task,) = (
            (await store.attempts.finish("worker", [success(row)], now=at(1))).tasks
        ).values()
        assert task is not None
        assert task.progress is not None
        assert task.progress.value == 1


async def test_a_cancelled_task_that_is_removed_is_told_with_its_error(database: str) -> None:
    """As one that is kept: the error of its earlier attempt stays."""
    async with open_store(database) as store:
        row = await insert_and_claim(store, retain_for=0, retry_interval=0)
        await store.attempts.finish("worker", [failure(row)], now=at(1))
        (again,) = await store.database.claim("worker", {"t": 1}, 1000, at(1))
        await store.tasks.cancel(row.id, at(2), running=True)
        outcome = AttemptOutcome(again, HandlerResult(cancelled=True))
        (task,) = ((await store.attempts.finish("worker", [outcome], now=at(3))).tasks).values()
        assert task is not None
        assert (task.status, task.error is None) == ("cancelled", False)


class Kind(str, Enum):  # noqa: UP042 - its str() is "Kind.RESIZE"
    RESIZE = "resize"


async def test_a_member_of_an_enumeration_is_the_text_that_it_is(database: str) -> None:
    """Fails where the `str()` of a task type is stored: its tasks are never claimed."""
    async with TaskQueue(database) as queue:
        await queue.register_handler(Kind.RESIZE, "tests.support.worker_handlers", "echo")
        await queue.start()
        task_id = await queue.create(Kind.RESIZE, 1, key=Kind.RESIZE, retain_for=-1)
        task = await ended(queue, task_id)
        assert (task.type, task.key, task.result) == ("resize", "resize", 1)
        assert (await queue.counts(Kind.RESIZE))[task.status] == 1
        assert (await queue.query(Kind.RESIZE)).entities == [task]


async def test_arrays_arrive_as_they_are(postgres_url: str) -> None:
    """Fails where an item is not quoted, is quoted twice, or is stored by its `str()`."""
    items = ["", " ", "a,b", "{}", '"', "\\", '\\"', "NULL", "x\ny", "'", None, Kind.RESIZE]
    connection = await asyncpg.connect(postgres_url)
    try:
        statement = "SELECT CAST(CAST($1 AS text) AS text[])"
        assert await connection.fetchval(statement, as_array(items)) == items
    finally:
        await connection.close()
