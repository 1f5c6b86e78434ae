"""What the generated examples found. Each fails on the code before its repair."""

from __future__ import annotations

from rowlock._endings import Ending
from rowlock._operations import Outcome
from tests.stores import at, failure, insert_and_claim, open_store, success


async def test_a_row_that_is_removed_is_told_with_its_last_progress(database: str) -> None:
    """Fails where what was claimed is told: the callback sees the progress of then."""
    async with open_store(database) as store:
        row = await insert_and_claim(store, retain_for=0, retries_remaining=0)
        await store.progress("worker", {(row.id, row.attempt): '{"value":1}'})
        (task,) = (await store.finish("worker", [success(row)], now=at(1))).values()
        assert task is not None
        assert task.progress is not None
        assert task.progress.value == 1


async def test_a_cancelled_task_that_is_removed_is_told_with_its_error(database: str) -> None:
    """As one that is kept: the error of its earlier attempt stays."""
    async with open_store(database) as store:
        row = await insert_and_claim(store, retain_for=0, retry_interval=0)
        await store.finish("worker", [failure(row)], now=at(1))
        (again,) = await store.claim("worker", {"t": 1}, 1000, at(1))
        await store.cancel(row.id, at(2), running=True)
        outcome = Outcome(again, Ending(cancelled=True))
        (task,) = (await store.finish("worker", [outcome], now=at(3))).values()
        assert task is not None
        assert (task.status, task.error is None) == ("cancelled", False)
