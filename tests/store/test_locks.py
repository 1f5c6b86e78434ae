"""Rows that somebody else has locked on PostgreSQL: they are late, and nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from rowlock import (
    NewTask,
    ScheduledTaskTime,
    Task,
    TaskQueue,
    TaskScheduler,
    TaskStatus,
    current_task,
)
from rowlock._endings import CANCELLED
from rowlock._rows import TaskRow
from rowlock._store.database import Operation, T
from rowlock._store.ends import AttemptOutcome
from rowlock._store.postgres.database import PostgresDatabase
from rowlock._store.store import Store
from tests.support.helpers import eventually
from tests.support.stores import (
    LEASE,
    START,
    at,
    existing,
    failure,
    new_row,
    open_store,
    operation,
    success,
)

runs: list[str] = []


async def waits(payload: float) -> None:
    runs.append(current_task().id)
    await asyncio.sleep(payload)


async def reports(payload: float) -> None:
    current_task().progress({"half": True})
    await waits(payload)


@pytest.fixture(autouse=True)
def _no_runs() -> None:
    runs.clear()


@asynccontextmanager
async def locked(url: str, *ids: str) -> AsyncIterator[None]:
    """Rows that a stranger has locked."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute(
                "SELECT 1 FROM rowlock_task WHERE id = ANY($1) FOR UPDATE", list(ids)
            )
            yield
    finally:
        await connection.close()


@asynccontextmanager
async def worker_store(url: str) -> AsyncIterator[Store]:
    """The store of a worker, which waits for a lock no longer than 50 ms."""
    async with open_store(url) as store:
        assert isinstance(store.database, PostgresDatabase)
        other = store.sibling(50)
        other.ends.spread = 0.0
        try:
            yield other
        finally:
            await other.database.close()


async def claim(store: Store, count: int, **values: int) -> list[TaskRow]:
    await store.tasks.insert_many([new_row(**values) for _ in range(count)], START)
    return await store.database.claim("w", {"t": count}, LEASE, START)


def keys(rows: Iterable[TaskRow]) -> list[tuple[str, int]]:
    return [(row.id, row.attempt) for row in rows]


# What a worker says about attempts, in the store.


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("what", ["extend", "release", "progress"])
async def test_the_others_of_a_batch_are_written(postgres_url: str, what: str, wait: bool) -> None:
    """Fails where the statement fails as a whole, and where what is locked is taken for lost."""
    async with worker_store(postgres_url) as store:
        rows = await claim(store, 3)
        (gone, first, *_) = rows
        await store.tasks.remove(gone.id)
        async with locked(postgres_url, first.id):
            if what == "extend":
                done, left = await store.attempts.extend("w", keys(rows), LEASE, at(5), wait=wait)
            elif what == "release":
                tasks, left = await store.attempts.release("w", keys(rows), at(5), wait=wait)
                done = {task.id for task in tasks}
            else:
                reports = dict.fromkeys(keys(rows), '{"value":1}')
                left = await store.attempts.progress("w", reports, wait=wait)
                progress = [(await existing(store, row.id)).progress for row in rows[1:]]
                done = {row.id for row, said in zip(rows[1:], progress, strict=True) if said}
        assert left == {first.id}
        assert done == {row.id for row in rows[2:]}


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("rows", [True, False])
async def test_outcomes_of_each_kind_pass_by_a_locked_row(
    postgres_url: str, rows: bool, wait: bool
) -> None:
    async with worker_store(postgres_url) as store:
        kept, dropped = await claim(store, 6), await claim(store, 2, retain_for=0)
        makes: list[Callable[[TaskRow], AttemptOutcome]] = [
            success,
            success,
            failure,
            failure,
            failure,
        ]
        outcomes = [make(row) for make, row in zip(makes, kept, strict=False)]
        outcomes += [AttemptOutcome(kept[5], CANCELLED), success(dropped[0]), success(dropped[1])]
        stuck = {kept[0].id, kept[2].id, dropped[0].id}
        async with locked(postgres_url, *stuck):
            done = await store.attempts.finish("w", outcomes, rows=rows, wait=wait, now=at(5))
        assert done.locked == stuck
        assert done.tasks.keys() == {o.row.id for o in outcomes} - stuck
        later = [o for o in outcomes if o.row.id in stuck]
        assert (await store.attempts.finish("w", later, now=at(6))).tasks.keys() == stuck


async def test_what_is_locked_and_no_longer_held_is_refused(postgres_url: str) -> None:
    """Fails where each locked row is taken for one that is held, and is tried for ever."""
    async with worker_store(postgres_url) as store:
        (row,) = await claim(store, 1)
        await store.attempts.release("w", keys([row]), START)
        async with locked(postgres_url, row.id):
            assert await store.attempts.extend("w", keys([row]), LEASE, START) == (set(), set())


async def test_a_sweep_passes_by_what_is_locked_as_it_writes(
    postgres_url: str,
) -> None:
    async with worker_store(postgres_url) as store:
        rows = await claim(store, 3)
        sweep = operation(store.sweep.leases, 9, at(LEASE))
        found = await store.database.autocommit(one(sweep))
        assert len(found) == 3
        async with locked(postgres_url, rows[0].id):
            swept = await store.database.autocommit(rest(sweep, found))
        assert {task.id for task in swept.changed} == {row.id for row in rows[1:]}


def one(steps: Operation[Any]) -> Operation[Sequence[Any]]:
    """The first statement."""
    rows = yield next(steps)
    return rows


def rest(steps: Operation[T], rows: Sequence[Any]) -> Operation[T]:
    """What follows it."""
    try:
        step = steps.send(rows)
        while True:
            try:
                rows = yield step
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(rows)
    except StopIteration as stop:
        result: T = stop.value
        return result


# A worker.


async def test_a_locked_row_keeps_a_worker_from_nothing(postgres_url: str) -> None:
    """Extends, finishes and claims go on, and the locked task ends in its first attempt.

    Fails where any statement of the worker waits for the row: the leases of all are lost then.
    """
    async with (
        TaskQueue(postgres_url, lease=1500, sweep_interval=200) as worker,
        TaskQueue(postgres_url) as other,
    ):
        await worker.register_handler("waits", __name__, "waits")
        await worker.start()
        first = await other.create("waits", 1, retain_for=-1)
        long = [await other.create("waits", 4, retain_for=-1) for _ in range(3)]
        await eventually(lambda: len(runs) == 4)
        async with locked(postgres_url, first):
            quick = [await other.create("waits", 0, retain_for=-1) for _ in range(50)]

            async def ended() -> bool:
                return (await other.counts())[TaskStatus.SUCCESS] == 53

            await eventually(ended, timeout=15)
            task = await existing_in(other, first)
            assert (task.status, task.attempt) == ("processing", 1)

        async def over() -> bool:
            return (await existing_in(other, first)).status == "success"

        await eventually(over)
        tasks = [await existing_in(other, task_id) for task_id in [first, *long, *quick]]
    assert {(task.status.value, task.attempt) for task in tasks} == {("success", 1)}
    assert len(runs) == 54


async def existing_in(queue: TaskQueue, task_id: str) -> Task:
    task = await queue.get(task_id)
    assert task is not None
    return task


async def test_a_stop_puts_back_all_but_a_locked_row(postgres_url: str) -> None:
    async with (
        TaskQueue(postgres_url, stop_timeout=100) as worker,
        TaskQueue(postgres_url) as other,
    ):
        await worker.register_handler("waits", __name__, "waits")
        await worker.start()
        ids = [await other.create("waits", 60, retry_count=0, retain_for=-1) for _ in range(4)]
        await eventually(lambda: len(runs) == 4)
        async with locked(postgres_url, ids[1]):
            await worker.stop()
            tasks = [await existing_in(other, task_id) for task_id in ids]
    statuses = [task.status.value for task in tasks]
    assert statuses == ["pending", "processing", "pending", "pending"]
    assert [len(task.attempts) for task in tasks] == [1, 0, 1, 1]


async def test_progress_of_a_locked_row_is_written_before_its_outcome(postgres_url: str) -> None:
    """Fails where it is dropped, or comes after the outcome and is refused."""
    async with TaskQueue(postgres_url) as worker, TaskQueue(postgres_url) as other:
        await worker.register_handler("t", __name__, "reports")
        task_id = await other.create("t", 0.2, retain_for=-1, delay=200)
        beside = await other.create("t", 0, retain_for=-1, delay=200)
        await worker.start()
        await eventually(lambda: len(runs) == 2)
        async with locked(postgres_url, task_id):

            async def done() -> bool:
                return (await existing_in(other, beside)).status == "success"

            await eventually(done)

        async def over() -> bool:
            return (await existing_in(other, task_id)).status == "success"

        await eventually(over)
        for name in (task_id, beside):
            progress = (await existing_in(other, name)).progress
            assert progress is not None
            assert progress.value == {"half": True}


async def test_creates_that_wait_take_nothing_from_a_worker(postgres_url: str) -> None:
    """Fails where claims and finishes take their connections from where clients take theirs."""
    async with TaskQueue(postgres_url) as queue, TaskQueue(postgres_url) as other:
        await queue.register_handler("waits", __name__, "waits")
        await queue.start()
        connection = await asyncpg.connect(postgres_url)
        try:
            async with connection.transaction():
                (task_id,) = await other.create_many([NewTask("waits", 0, key="first")])
                await connection.execute(
                    "INSERT INTO rowlock_task (id, type, status, priority, run_at, attempt,"
                    " thread_id, lost_workers, retain_for, date_created, date_modified, key)"
                    " SELECT gen_random_uuid(), 'waits', 'pending', 0, now(), 0, '0', 0, -1,"
                    " now(), now(), 'k'"
                )
                waiting = [
                    asyncio.create_task(queue.create("waits", 0, key="k")) for _ in range(30)
                ]
                await eventually(lambda: runs)
                ids = [await other.create("waits", 0, retain_for=-1) for _ in range(20)]

                async def done() -> bool:
                    return (await other.counts())[TaskStatus.SUCCESS] == 20

                await eventually(done)
                assert ids
                assert task_id in runs
            assert len(set(await asyncio.gather(*waiting))) == 1
        finally:
            await connection.close()


async def test_a_locked_schedule_keeps_no_other_from_triggering(postgres_url: str) -> None:
    """How its last call ended is stored later. Fails where each pass begins with that."""
    calls: list[str] = []

    def note(name: str) -> Callable[[], None]:
        return lambda: calls.append(name)

    async with TaskQueue(postgres_url) as queue:
        scheduler = TaskScheduler(queue)
        gate = asyncio.Event()

        async def held() -> None:
            calls.append("held")
            await gate.wait()

        await scheduler.add_task("held", [ScheduledTaskTime(next_trigger_time=1)], held)
        await queue.start()
        await eventually(lambda: calls == ["held"])
        connection = await asyncpg.connect(postgres_url)
        try:
            async with connection.transaction():
                await connection.execute("SELECT 1 FROM rowlock_scheduled_task FOR UPDATE")
                gate.set()
                for number in range(3):
                    times = [ScheduledTaskTime(next_trigger_time=1)]
                    await scheduler.add_task(f"free {number}", times, note(f"free {number}"))
                await eventually(lambda: len(calls) == 4)
        finally:
            await connection.close()

        async def stored() -> bool:
            state = await scheduler.task_state("held")
            return state is not None and state.last_outcome == "success"

        await eventually(stored, timeout=20)
