"""Rows that a hostile user of the database has written: the worker lives, and others' tasks end."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from rowlock import NewTask, RowlockError, ScheduledTaskTime, TaskQueue, TaskScheduler, TaskStatus
from tests.support import worker_handlers
from tests.support.helpers import eventually
from tests.support.stores import at, execute, new_row, open_store
from tests.worker.test_worker import HANDLERS, open_queue

DEEP = "[" * 5000 + "]" * 5000
HUGE = "x" * 1_000_000
# A module that nobody imports by accident.
MODULE = "antigravity"

DAMAGES = [
    "status = 'unknown'",
    "status = ''",
    "status = 'Success'",
    f"type = '{MODULE}'",
    "attempt = 2147483647",
    "attempt = -2147483648",
    "priority = 2147483647",
    "priority = -2147483648",
    "retries_remaining = -2147483648",
    "retry_interval = 9223372036854775807",
    "retry_interval = -9223372036854775808",
    "retain_for = 9223372036854775807",
    "retain_for = -9223372036854775808",
    "lost_workers = 2147483647",
    "lost_workers = -2147483648",
    "lease_until = NULL",
    "thread_id = ''",
    f"thread_id = '{HUGE}'",
    f"payload = '{DEEP}'",
    f"payload = '\"{HUGE}\"'",
    """payload = '"\\u0000"' """,
    """payload = '"\\ud800"' """,
    "payload = '1e999'",
    f"""payload = '{{"module": "{MODULE}", "py/object": "{MODULE}.geohash"}}'""",
    f"result = '{DEEP}'",
    """result = '"\\ud800"' """,
    "error = '[]'",
    "error = 'null'",
    """error = '{"name": 5}'""",
    """error = '{"name": "x", "message": "y", "unknown": 1}'""",
    f"error = '{DEEP}'",
    "progress = '[1]'",
    "progress = '5'",
    """progress = '{"unknown": 1}'""",
    f"progress = '{DEEP}'",
]
# PostgreSQL would not store these.
SQLITE_DAMAGES = [
    "status = x'ff'",
    "attempt = 9223372036854775807",
    "attempt = 'x'",
    "priority = 'x'",
    "priority = 9223372036854775807",
    "retries_remaining = 'x'",
    "retry_interval = 'x'",
    "retain_for = 'x'",
    "lost_workers = 'x'",
    "run_at = 'x'",
    "run_at = 1e300",
    "date_modified = 'x'",
    "date_modified = 9223372036854775807",
    "date_created = 9223372036854775807",
    "date_retain_until = 'x'",
    "lease_until = 'x'",
    "cancel_requested = 'x'",
    "thread_id = x'ff'",
    "thread_id = CAST(x'61ff' AS TEXT)",
    "payload = 'no JSON'",
    "payload = ''",
    "payload = x'ff00'",
    "payload = CAST(x'22ff22' AS TEXT)",
    "payload = '{\"a\":NaN}'",
    "result = 'no JSON'",
    "error = 'no JSON'",
    "progress = 'no JSON'",
    "id = 'no id'",
    "id = ''",
    "id = '00000000000000000000000000000000' || id",
    "id = upper(id)",
    "id = CAST(id AS BLOB)",
]


def damages(database: str) -> list[str]:
    return DAMAGES + SQLITE_DAMAGES if database.startswith("sqlite") else DAMAGES


async def spoil(database: str, ids: list[str]) -> None:
    updates = [
        f"UPDATE rowlock_task SET {damage} WHERE id = '{task_id}'"
        for task_id, damage in zip(ids, damages(database), strict=True)
    ]
    if database.startswith("sqlite"):
        with closing(sqlite3.connect(database.removeprefix("sqlite:///"), timeout=10)) as driver:
            driver.executescript(";".join(updates))
        return
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(";".join(updates))
    finally:
        await connection.close()


async def answers(queue: TaskQueue, ids: list[str]) -> None:
    """Whatever is asked, the answer is one, or an error of rowlock's."""
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda task_id=task_id: queue.get(task_id)  # type: ignore[misc]
        for task_id in ids
    ]
    for sort in ("dateCreated", "dateModified", "dateCompleted", "status"):
        calls += [
            lambda s=sort, d=direction: walked(queue, s, d)  # type: ignore[misc]
            for direction in ("asc", "desc")
        ]
    calls += [queue.counts, lambda: queue.counts("t")]
    for call in calls:
        with suppress(RowlockError):
            await call()
    counts = await queue.counts()
    assert set(counts) == set(TaskStatus)


async def walked(queue: TaskQueue, sort: str, direction: str) -> None:
    cursor = None
    for _ in range(500):
        page = await queue.query(
            sort_property=sort, sort_direction=direction, cursor=cursor, limit=1
        )
        cursor = page.cursor
        if cursor is None:
            return
    raise AssertionError("the walk does not end")


async def others_end(queue: TaskQueue, good: list[str]) -> None:
    async def all_ended() -> bool:
        return all([await has_ended(queue, task_id) for task_id in good])

    await eventually(all_ended, timeout=30, message="the others have ended")


async def has_ended(queue: TaskQueue, task_id: str) -> bool:
    task = await queue.get(task_id)
    assert task is not None
    return task.status is TaskStatus.SUCCESS


def ignore(task: object) -> None:
    """Be told of every change, so that every row is read."""


@pytest.mark.parametrize("watched", [True, False])
async def test_before_they_are_claimed(database: str, watched: bool) -> None:
    """Fails where a row that cannot be read fails the claim or the finish of its neighbours."""
    async with open_queue(database, sweep_interval=50, poll_interval=50) as queue:
        number = len(damages(database))
        bad = await queue.create_many(NewTask("t", n, retain_for=-1) for n in range(number))
        good = await queue.create_many(NewTask("t", n, retain_for=-1) for n in range(20))
        await spoil(database, bad)
        await answers(queue, bad)
        await queue.register_handler("t", HANDLERS, "echo", ignore if watched else None)
        await queue.start()
        await others_end(queue, good)
        await others_end(queue, [await queue.create("t", 1, retain_for=-1)])
        await answers(queue, bad)
        for task_id in bad:
            with suppress(RowlockError):
                await queue.cancel(task_id, running=True)
            await queue.remove(task_id)
    assert MODULE not in sys.modules


async def test_while_their_handlers_run(database: str) -> None:
    """Fails where a row that cannot be read fails the finish of the batch that it is in."""
    async with open_queue(database, sweep_interval=50, lease=60_000) as queue:
        number = len(damages(database))
        bad = await queue.create_many(NewTask("t", n, retain_for=-1) for n in range(number))
        good = await queue.create_many(NewTask("t", n, retain_for=-1) for n in range(20))
        await queue.register_handler(
            "t", HANDLERS, "wait_for_gate", ignore, {"max_worker_count": 200}
        )
        await queue.start()
        await eventually(lambda: len(worker_handlers.started) == number + 20, timeout=30)
        await spoil(database, bad)
        worker_handlers.gate.set()
        await others_end(queue, good)
        await answers(queue, bad)


@pytest.mark.parametrize(("retain_for", "retries"), [(0, None), (-1, None), (-1, 0)])
async def test_when_their_worker_is_lost(
    database: str, retain_for: int, retries: int | None
) -> None:
    """Fails where one row that cannot be read, or whose numbers have no room left, stops the
    sweeper: no task of a lost worker comes back any more."""
    past = datetime.now(UTC) - timedelta(hours=1)
    number = len(damages(database))
    async with open_store(database) as store:
        bad = [
            new_row(retain_for=retain_for, retries_remaining=retries, run_at=past)
            for _ in range(number)
        ]
        good = [new_row(run_at=past, retry_interval=0) for _ in range(20)]
        # Those that nobody can sweep come first and last.
        for row in bad[::2] + good + bad[1::2]:
            await store.tasks.insert(row, past)
        claimed = await store.database.claim("dead", {"t": 1000}, 1000, past)
        assert len(claimed) == number + 20
    bad_ids = [row.id for row in bad]
    await spoil(database, bad_ids)
    async with open_queue(database, sweep_interval=50, poll_interval=50) as queue:
        await queue.register_handler("t", HANDLERS, "echo", ignore)
        await queue.start()
        await others_end(queue, [row.id for row in good])
        await answers(queue, bad_ids)


async def test_after_they_have_ended(database: str) -> None:
    """Fails where retention stops at one of them."""
    async with open_queue(database, sweep_interval=50) as queue:
        number = len(damages(database))
        bad = await queue.create_many(NewTask("t", n, retain_for=3_600_000) for n in range(number))
        good = await queue.create_many(NewTask("t", n, retain_for=1) for n in range(20))
        for task_id in (*bad, *good):
            assert await queue.cancel(task_id)
        await spoil(database, bad)
        await answers(queue, bad)
        for task_id in bad:
            with suppress(RowlockError):
                await queue.retry(task_id)
        await queue.start()

        async def forgotten() -> bool:
            return not any([await queue.get(task_id) for task_id in good])

        await eventually(forgotten, message="retention goes on")


@pytest.mark.parametrize("error", ["[]", "null", '{"name":5}', DEEP], ids=lambda text: text[:9])
async def test_the_state_of_a_schedule_with_a_foreign_error(database: str, error: str) -> None:
    """Fails where it is read as one of rowlock's: nobody can look at the schedule any more."""
    async with TaskQueue(database) as queue:
        scheduler = TaskScheduler(queue)
        await scheduler.add_task("s", [ScheduledTaskTime(interval_days=1)], task_type="t")
        await execute(database, f"UPDATE rowlock_scheduled_task SET last_error = '{error}'")
        state = await scheduler.task_state("s")
        assert state is not None
        assert (state.id, state.last_error) == ("s", None)


async def test_a_foreign_progress_holds_no_checkpoint(database: str) -> None:
    """Fails where every report of a handler raises on it."""
    async with open_queue(database) as queue:
        task_id = await queue.create("t", 1, retain_for=-1)
        await execute(database, "UPDATE rowlock_task SET progress = '[1]'")
        await queue.register_handler("t", "tests.properties.error_handlers", "says")
        await queue.start()

        async def one_success() -> bool:
            return (await queue.counts())[TaskStatus.SUCCESS] == 1

        await eventually(one_success)
        task = await queue.get(task_id)
        assert task is not None
        assert task.progress is not None
        assert task.result == "said"


async def test_the_next_due_of_the_others_is_known(sqlite_url: str) -> None:
    """Fails where anything is taken for an instant: nobody who only polls finds work any more."""
    async with open_store(sqlite_url) as store:
        await store.tasks.insert(new_row(type="bad"))
        await execute(sqlite_url, "UPDATE rowlock_task SET run_at = 'x'")
        await store.tasks.insert(new_row(type="good", run_at=at(2000)))
        assert await store.database.next_due(["bad", "good"], at(0)) == 2
        assert await store.database.next_due(["bad"], at(0)) is None
