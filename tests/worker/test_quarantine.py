"""The last try of a task that has lost its workers is made alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from rowlock import HandlerOptions, NewTask, SizeLimits, TaskQueue, TaskStatus
from rowlock._executors.handler import Handler
from rowlock._worker import claims as _claims
from rowlock._worker import pool as _pools
from rowlock._worker import quarantine as _quarantine
from rowlock._worker.concurrent_pool import ConcurrentPool
from rowlock._worker.pool import Job, Pool
from rowlock._worker.quarantine import Quarantine
from tests.support import worker_handlers
from tests.support.helpers import eventually
from tests.support.pools import Owner, job_for
from tests.support.stores import execute

HANDLERS = "tests.support.worker_handlers"
BOUND = 3


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No try is long, however busy the machine: the tests that want one say so."""
    monkeypatch.setattr(_quarantine, "_SECONDS", 60.0)


@asynccontextmanager
async def open_queue(database: str, **settings: Any) -> AsyncIterator[TaskQueue]:
    """A queue with handlers of two types, the "gated" one of which waits for the gate."""
    worker_handlers.started.clear()
    worker_handlers.gate = asyncio.Event()
    options = {"max_lost_workers": BOUND, "sweep_interval": 100, **settings}
    async with TaskQueue(database, **options) as queue:
        await queue.register_handler("gated", HANDLERS, "wait_for_gate")
        await queue.register_handler("quick", HANDLERS, "echo")
        yield queue


async def create(queue: TaskQueue, database: str, *, lost: int) -> tuple[str, list[str]]:
    """One task that has lost so many workers, and others."""
    (suspect,) = await queue.create_many([NewTask("gated", retain_for=-1)])
    others = await queue.create_many(NewTask("quick", n, retain_for=-1) for n in range(20))
    others += await queue.create_many(NewTask("gated", n, retain_for=-1) for n in range(5))
    await execute(
        database,
        f"UPDATE rowlock_task SET lost_workers = {lost} WHERE type = 'gated' AND payload IS NULL",
    )
    return suspect, others


def begun() -> set[str]:
    return {task_id for task_id, _ in worker_handlers.started}


async def states(database: str, columns: str) -> list[tuple[Any, ...]]:
    return await execute(
        database, f"SELECT DISTINCT {columns} FROM rowlock_task WHERE payload IS NOT NULL"
    )


async def test_nothing_begins_beside_the_last_try(database: str) -> None:
    """Fails where what was claimed with it, or is claimed while it runs, begins beside it.

    And where the others wait for the next poll when it has ended.
    """
    async with open_queue(database, poll_interval=60_000) as queue:
        suspect, others = await create(queue, database, lost=BOUND - 1)
        await queue.start()
        await eventually(begun)
        assert queue.runtime.worker is not None
        for _ in range(5):
            queue.runtime.worker.claims.hint(None)
            await queue.runtime.worker.claims.claim()
        assert begun() == {suspect}
        assert await states(database, "status, lost_workers") == [("pending", 0)]
        worker_handlers.gate.set()
        await eventually(lambda: len(begun()) == 1 + len(others))

        async def all_done() -> bool:
            return (await queue.counts())[TaskStatus.SUCCESS] == 1 + len(others)

        await eventually(all_done)


async def test_nothing_begins_until_its_outcome_is_written(database: str) -> None:
    """Fails where others begin as soon as its handler has returned: it would be lost with them."""
    async with open_queue(database, poll_interval=60_000, notify=False) as queue:
        suspect, others = await create(queue, database, lost=BOUND - 1)
        store, writing, may_write = queue.runtime.worker_store, asyncio.Event(), asyncio.Event()
        finish = store.attempts.finish

        async def late(*arguments: Any, **options: Any) -> Any:
            writing.set()
            await may_write.wait()
            return await finish(*arguments, **options)

        store.attempts.finish = late  # type: ignore[method-assign]
        worker_handlers.gate.set()
        await queue.start()
        await writing.wait()
        assert queue.runtime.worker is not None
        for _ in range(5):
            queue.runtime.worker.claims.hint(None)
            await queue.runtime.worker.claims.claim()
        assert begun() == {suspect}
        may_write.set()
        await eventually(lambda: len(begun()) == 1 + len(others))


async def test_what_waits_in_the_process_is_put_back_before(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where it would be lost with the last try although it has not begun."""
    monkeypatch.setattr(_pools, "_STALLED", 60.0)
    monkeypatch.setattr(Pool, "_prefetch", lambda pool, workers: 10)
    options = HandlerOptions(max_worker_count=2)
    async with open_queue(database, stop_timeout=0) as queue:
        await queue.register_handler("slow", HANDLERS, "sleep_seconds", options=options)
        await queue.start()
        suspect = await queue.create("suspect")
        await execute(
            database,
            f"UPDATE rowlock_task SET lost_workers = {BOUND - 1} WHERE type = 'suspect'",
        )
        await queue.create_many(NewTask("slow", 60) for _ in range(12))
        await eventually(lambda: len(begun()) == 2)

        async def all_claimed() -> bool:
            return await processing(database) == 12

        await eventually(all_claimed)
        await queue.register_handler("suspect", HANDLERS, "wait_for_gate")
        await eventually(lambda: suspect in begun())
        assert await processing(database) == 3


async def processing(database: str) -> int:
    ((count,),) = await execute(
        database, "SELECT count(*) FROM rowlock_task WHERE status = 'processing'"
    )
    return int(count)


async def test_others_begin_when_it_takes_long(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where it keeps its worker to itself for as long as it runs."""
    monkeypatch.setattr(_quarantine, "_SECONDS", 0.3)
    async with open_queue(database) as queue:
        suspect, others = await create(queue, database, lost=BOUND - 1)
        await queue.start()
        await eventually(lambda: begun() == {suspect, *others})
        task = await queue.get(suspect)
        assert task is not None
        assert (task.status, task.attempt) == ("processing", 1)
        worker_handlers.gate.set()


async def test_earlier_tries_are_made_beside_others(database: str) -> None:
    async with open_queue(database) as queue:
        suspect, others = await create(queue, database, lost=BOUND - 2)
        await queue.start()
        await eventually(lambda: begun() == {suspect, *others})
        worker_handlers.gate.set()


async def test_two_last_tries_come_one_after_the_other(database: str) -> None:
    """Fails where one that was claimed with another waits for it in the same process, or a poll."""
    async with open_queue(database, poll_interval=60_000, notify=False) as queue:
        await queue.create_many(NewTask("gated", n, retain_for=-1) for n in range(2))
        await execute(database, f"UPDATE rowlock_task SET lost_workers = {BOUND - 1}")
        await queue.start()
        await eventually(begun)
        await eventually(lambda: _waits(database))
        worker_handlers.gate.set()
        await eventually(lambda: len(begun()) == 2)


async def _waits(database: str) -> bool:
    found = await execute(database, "SELECT status FROM rowlock_task ORDER BY status")
    return found == [("pending",), ("processing",)]


@pytest.mark.parametrize("seconds", [0, 0.2])
async def test_what_fails_again_and_again_lets_others_begin(
    database: str, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """Fails where all tries of what fails by itself are made alone."""
    monkeypatch.setattr(_quarantine, "_SECONDS", 0.1)
    async with open_queue(database, retry_interval=0) as queue:
        options = HandlerOptions(timeout=1 + int(seconds * 1000))
        await queue.register_handler("failing", HANDLERS, "sleep_long", options=options)
        await queue.create_many(NewTask("failing", retain_for=-1) for _ in range(3))
        await execute(database, f"UPDATE rowlock_task SET lost_workers = {BOUND - 1}")
        others = await queue.create_many(NewTask("quick", n, retain_for=-1) for n in range(20))
        await queue.start()
        await eventually(lambda: begun() == set(others))


@pytest.mark.parametrize("how", ["fails once", "takes long"])
async def test_a_try_that_has_not_begun_is_still_alone(
    database: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Fails where its time passes, or its only chance, while its worker starts."""
    monkeypatch.setattr(_quarantine, "_SECONDS", 0.2)
    starts = 0

    async def start() -> None:
        nonlocal starts
        starts += 1
        if how == "takes long":
            await asyncio.sleep(0.5)
        elif starts == 1:
            raise RuntimeError("no start")
        monkeypatch.setattr(_quarantine, "_SECONDS", 60.0)

    monkeypatch.setattr(worker_handlers, "start", start, raising=False)
    options = HandlerOptions(initialise_method="start", max_worker_count=1)
    async with open_queue(database) as queue:
        await queue.register_handler("slow", HANDLERS, "wait_for_gate", options=options)
        suspect = await queue.create("slow", retain_for=-1)
        await execute(database, f"UPDATE rowlock_task SET lost_workers = {BOUND - 1}")
        await queue.start()
        await eventually(lambda: suspect in begun())
        others = await queue.create_many(NewTask("quick", n, retain_for=-1) for n in range(5))
        assert queue.runtime.worker is not None
        for _ in range(5):
            queue.runtime.worker.claims.hint(None)
            await queue.runtime.worker.claims.claim()
        assert begun() == {suspect}
        worker_handlers.gate.set()
        await eventually(lambda: begun() == {suspect, *others})


async def test_a_pile_of_last_tries_is_not_put_back_again_and_again(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where each claim takes all that is due, to put back all but one."""
    monkeypatch.setattr(_quarantine, "_ONE_BY_ONE", 60.0)
    async with open_queue(database) as queue:
        await queue.create_many(NewTask("quick", n, retain_for=-1) for n in range(30))
        await execute(database, f"UPDATE rowlock_task SET lost_workers = {BOUND - 1}")
        await queue.start()
        await eventually(lambda: len(begun()) == 30)
    ((claims,),) = await execute(database, "SELECT sum(attempt) FROM rowlock_task")
    assert claims == 30 + 29  # those of the first claim are claimed twice, but for one


@pytest.mark.parametrize("failing", [RuntimeError("no"), asyncio.CancelledError()])
async def test_what_could_not_be_put_back_is_held(
    database: str, failing: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where its lease runs out meanwhile: one more lost worker, which ends it.

    And where something begins or is claimed before it has been put back.
    """
    monkeypatch.setattr(_claims, "_LOOK_AGAIN", 0.1)
    async with open_queue(database) as queue:
        await queue.create_many(NewTask("quick", n, retain_for=-1) for n in range(5))
        await execute(database, f"UPDATE rowlock_task SET lost_workers = {BOUND - 1}")
        release, claim = (
            queue.runtime.worker_store.attempts.release,
            queue.runtime.worker_store.database._claim,
        )
        claims = 0
        seen: list[tuple[int, int, int]] = []

        async def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal claims
            claims += 1
            return await claim(*arguments, **options)

        async def fail_at_first(*arguments: Any, **options: Any) -> Any:
            assert queue.runtime.worker is not None
            seen.append((claims, len(queue.runtime.worker.held.jobs), len(begun())))
            if len(seen) <= 3:
                raise failing
            return await release(*arguments, **options)

        monkeypatch.setattr(queue.runtime.worker_store.database, "_claim", counted)
        monkeypatch.setattr(queue.runtime.worker_store.attempts, "release", fail_at_first)
        await queue.start()
        if isinstance(failing, asyncio.CancelledError):
            await eventually(lambda: seen)
            seen.extend(seen * 2)
            await queue.stop()
            await queue.start()
        await eventually(lambda: len(begun()) == 5)
        first = seen[0][0]
        assert seen[:4] == [(first, 5, 0)] * 4
    assert await states(database, "status, lost_workers") == [("success", BOUND - 1)]


async def test_what_is_being_put_back_is_no_lost_attempt(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Fails where an extension that comes after the release is taken for a lost lease."""
    async with open_queue(database) as queue:
        suspect, _ = await create(queue, database, lost=BOUND - 1)
        release = queue.runtime.worker_store.attempts.release

        async def refused_meanwhile(
            holder: str, attempts: list[tuple[str, int]], **options: Any
        ) -> Any:
            released = await release(holder, attempts, **options)
            assert queue.runtime.worker is not None
            for attempt in attempts:
                queue.runtime.worker.held.lose(queue.runtime.worker.held.jobs[attempt])
            return released

        monkeypatch.setattr(queue.runtime.worker_store.attempts, "release", refused_meanwhile)
        await queue.start()
        await eventually(lambda: suspect in begun())
        worker_handlers.gate.set()
    assert not caplog.records


@pytest.mark.parametrize(
    ("bound", "lost", "executor", "alone"),
    [
        (1, 0, "async", False),
        (2, 0, "async", False),
        (2, 1, "async", True),
        (2, 1, "thread", True),
        (2, 5, "async", True),
        (2, "no number", "async", False),
    ],
)
async def test_who_is_alone(
    bound: int, lost: Any, executor: Literal["async", "thread"], alone: bool
) -> None:
    name = "echo" if executor == "async" else "in_thread"
    handler = Handler.resolve("t", HANDLERS, name, HandlerOptions(executor=executor))
    pool = ConcurrentPool(handler, SizeLimits(), Owner())
    other, job = job_for(pool, lost_workers=0), job_for(pool, lost_workers=lost)
    held = {job.key: job}
    quarantine = Quarantine(bound, held)

    async def cleared(job: Job) -> bool:
        return True

    assert await quarantine.admit([other, job], cleared) == ([job] if alone else [other, job])
    rows, seconds = quarantine.hold_back(100)
    assert (rows, seconds > 0) == ((0, True) if alone else (100, False))
    held.clear()
    assert quarantine.ended() == alone
    assert quarantine.hold_back(100) == (1 if alone else 100, 0.0)


async def test_where_all_run_in_processes_nobody_is_alone(database: str, tmp_path: Path) -> None:
    """Fails where others wait for what harms nobody but its own process."""
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    async with TaskQueue(database, max_lost_workers=BOUND) as queue:
        options = HandlerOptions(executor="process", max_worker_count=2)
        await queue.register_handler("t", "tests.support.process_handlers", "meet", options=options)
        await queue.create_many(
            NewTask("t", files, retain_for=-1) for files in ([here, there], [there, here])
        )
        await execute(database, f"UPDATE rowlock_task SET lost_workers = {BOUND - 1}")
        await queue.start()

        async def have_met() -> bool:
            return (await queue.counts())[TaskStatus.SUCCESS] == 2

        await eventually(have_met, timeout=50)
