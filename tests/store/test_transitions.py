"""The table of transitions against what the operations do, on both databases."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from rowlock._rows import TaskRow
from rowlock._store.store import Store
from rowlock.models import TRANSITIONS, TaskStatus
from tests.support.stores import (
    LEASE,
    at,
    claim_one,
    existing,
    failure,
    new_row,
    open_store,
    stored,
    success,
)

LATE = at(10_000_000)

Bring = Callable[[Store, int | None], Awaitable[str]]
Act = Callable[[Store, str], Awaitable[object]]


async def _row(store: Store, task_id: str) -> TaskRow:
    """The row as a worker would know it that holds, or held, the newest attempt."""
    task = await existing(store, task_id)
    return TaskRow(
        id=task.id,
        type=task.type,
        attempt=task.attempt,
        payload=None,
        retries_remaining=task.retries_remaining,
        retain_for=60_000,
        schedule_id=None,
        scheduled_for=None,
        status="processing",
        thread_id="worker",
        retry_interval=None,
        lost_workers=0,
        date_created=None,
        date_modified=None,
        date_retain_until=None,
        priority=0,
        run_at=None,
        key=None,
        result=None,
        error=None,
        progress=None,
        cancel_requested=None,
        date_started=None,
        attempts=None,
    )


async def _claim(store: Store, task_id: str) -> object:
    return await store.database.claim("worker", {"t": 9}, LEASE, at(20_000_000))


async def _succeed(store: Store, task_id: str) -> object:
    return await store.attempts.finish("worker", [success(await _row(store, task_id))], now=LATE)


async def _fail(store: Store, task_id: str) -> object:
    return await store.attempts.finish("worker", [failure(await _row(store, task_id))], now=LATE)


async def _fail_at_last(store: Store, task_id: str) -> object:
    outcome = failure(await _row(store, task_id), retry=False)
    return await store.attempts.finish("worker", [outcome], now=LATE)


async def _extend(store: Store, task_id: str) -> object:
    attempt = (await existing(store, task_id)).attempt
    return await store.attempts.extend("worker", [(task_id, attempt)], LEASE, LATE)


async def _release(store: Store, task_id: str) -> object:
    attempt = (await existing(store, task_id)).attempt
    return await store.attempts.release("worker", [(task_id, attempt)], LATE)


async def _cancel(store: Store, task_id: str) -> object:
    return await store.tasks.cancel(task_id, LATE)


async def _ask_and_release(store: Store, task_id: str) -> object:
    asked = await store.tasks.cancel(task_id, LATE, running=True)
    return await _release(store, task_id) or asked


async def _ask_and_fail(store: Store, task_id: str) -> object:
    asked = await store.tasks.cancel(task_id, LATE, running=True)
    return await _fail(store, task_id) or asked


async def _ask_and_sweep(store: Store, task_id: str) -> object:
    asked = await store.tasks.cancel(task_id, LATE, running=True)
    return await _sweep(store, task_id) or asked


async def _retry(store: Store, task_id: str) -> object:
    return await store.tasks.retry(task_id, LATE)


async def _sweep(store: Store, task_id: str) -> object:
    return (await store.sweep.leases(9, at(40_000_000)))[1]


async def _forget(store: Store, task_id: str) -> object:
    return await store.sweep.retention(9, at(40_000_000))


async def _remove(store: Store, task_id: str) -> object:
    return await store.tasks.remove(task_id)


# The number of retries left decides what a failure and a lost worker lead to.


async def _pending(store: Store, retries: int | None) -> str:
    return await store.tasks.insert(new_row(retries_remaining=retries, retain_for=60_000), at(0))


async def _waiting(store: Store, retries: int | None) -> str:
    task_id = await _pending(store, None if retries is None else retries + 1)
    await claim_one(store)
    await _fail(store, task_id)
    return task_id


async def _processing(store: Store, retries: int | None) -> str:
    task_id = await _pending(store, retries)
    await claim_one(store)
    return task_id


async def _success(store: Store, retries: int | None) -> str:
    task_id = await _processing(store, retries)
    await _succeed(store, task_id)
    return task_id


async def _failed(store: Store, retries: int | None) -> str:
    task_id = await _processing(store, retries)
    await _fail_at_last(store, task_id)
    return task_id


async def _cancelled(store: Store, retries: int | None) -> str:
    task_id = await _pending(store, retries)
    await _cancel(store, task_id)
    return task_id


BRING: dict[Bring, TaskStatus] = {
    _pending: TaskStatus.PENDING,
    _waiting: TaskStatus.PENDING,
    _processing: TaskStatus.PROCESSING,
    _success: TaskStatus.SUCCESS,
    _failed: TaskStatus.FAILED,
    _cancelled: TaskStatus.CANCELLED,
}
ACTS: list[Act] = [
    _claim,
    _succeed,
    _fail,
    _fail_at_last,
    _extend,
    _release,
    _cancel,
    _ask_and_release,
    _ask_and_fail,
    _ask_and_sweep,
    _retry,
    _sweep,
    _forget,
    _remove,
]
# Which removal comes from where: retention never takes what has not ended.
REMOVES = {(_forget, _success), (_forget, _failed), (_forget, _cancelled)}


async def test_the_operations_are_the_table_of_transitions(database: str) -> None:
    """Fails where any operation writes over a status that the table does not let it leave."""
    seen: set[tuple[TaskStatus, TaskStatus]] = set()
    async with open_store(database, max_lost_workers=100) as store:
        for bring, before in BRING.items():
            for act in ACTS:
                for retries in (None, 0, 1):
                    case = f"{act.__name__} on {bring.__name__}, retries {retries}"
                    task_id = await bring(store, retries)
                    was = await existing(store, task_id)
                    assert was.status is before, case
                    rows = await stored(database)
                    answer = await act(store, task_id)
                    after = await store.tasks.get(task_id)
                    if after is None:
                        assert act is _remove or (act, bring) in REMOVES, case
                        continue
                    assert act is not _remove, case
                    assert (act, bring) not in REMOVES, case
                    if after.status is not before:
                        assert answer, case
                        seen.add((before, after.status))
                    elif not answer:
                        # What is refused leaves no trace.
                        assert await stored(database) == rows, case
                    await store.tasks.remove(task_id)
    allowed = {(source, target) for source, targets in TRANSITIONS.items() for target in targets}
    assert seen == allowed


def test_the_table_covers_every_status() -> None:
    assert set(TRANSITIONS) == set(TaskStatus)


@pytest.mark.parametrize("bring", [_success, _failed, _cancelled])
async def test_a_terminal_status_has_its_date_and_no_other(database: str, bring: Bring) -> None:
    async with open_store(database) as store:
        task = await existing(store, await bring(store, 0))
        assert (task.date_completed is not None) == (bring is not _cancelled)
        assert (task.date_cancelled is not None) == (bring is _cancelled)
        assert task.date_retain_until is not None
