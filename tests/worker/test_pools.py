"""The pool of a type, with a worker that does as the test says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from rowlock import HandlerOptions, SizeLimits
from rowlock._endings import CANCELLED, NOTHING, HandlerResult
from rowlock._executors.base import Executor
from rowlock._executors.context import Link
from rowlock._executors.handler import Handler
from rowlock._rows import HeldRow, TaskRow
from rowlock._worker import slot_pool as _slots
from rowlock._worker.pool import Job, Pool
from rowlock._worker.slot_pool import SlotPool
from tests.support.helpers import eventually
from tests.support.pools import Owner, job_for

Run = Callable[["Scripted"], HandlerResult | None]


class Scripted(Executor):
    """Runs what the test gives, and counts its starts."""

    starts = 0
    fails_to_start = False
    run_one: Run
    used = False
    one_task_only = False

    @property
    def needs_replacement(self) -> bool:
        return self.used and self.one_task_only

    async def start(self) -> None:
        type(self).starts += 1
        if self.fails_to_start:
            raise RuntimeError("no start")

    async def run(self, row: HeldRow, link: Link) -> HandlerResult | None:
        self.used = True
        return type(self).run_one(self)

    async def stop(self) -> None:
        pass


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> type[Scripted]:
    class Mine(Scripted):
        run_one = staticmethod(lambda self: NOTHING)

    monkeypatch.setitem(_slots._EXECUTORS, "process", Mine)
    return Mine


def make_pool(**options: Any) -> tuple[SlotPool, Owner]:
    owner = Owner()
    handler = Handler.resolve(
        "t",
        "math",
        "sqrt",
        HandlerOptions(executor="process", **{"max_worker_count": 1, **options}),
    )
    return SlotPool(handler, SizeLimits(), owner), owner


def submit(pool: Pool) -> Job:
    job = job_for(pool)
    pool.submit(job)
    return job


async def test_a_worn_worker_that_ends_asks_for_more(scripted: type[Scripted]) -> None:
    """Fails where its place stays empty until the next poll."""
    scripted.one_task_only = True
    pool, owner = make_pool()
    submit(pool)
    await eventually(lambda: owner.endings and not pool._workers)
    assert owner.refills == 2  # as it took the job, and as it ended
    submit(pool)
    await eventually(lambda: len(owner.endings) == 2 and not pool._workers)
    assert scripted.starts == 2


async def test_workers_start_one_at_a_time(
    scripted: type[Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where each job that waits starts one."""
    ready = asyncio.Event()

    async def start(self: Scripted) -> None:
        scripted.starts += 1
        await ready.wait()

    monkeypatch.setattr(scripted, "start", start)
    pool, owner = make_pool(max_worker_count=4)
    for _ in range(10):
        submit(pool)
    assert pool.room() == 0
    await eventually(lambda: scripted.starts)
    assert len(pool._workers) == 1
    ready.set()
    await eventually(lambda: len(owner.endings) == 10)
    await pool.close()


async def test_a_worker_that_never_starts_is_tried_more_and_more_seldom(
    scripted: type[Scripted],
) -> None:
    """Fails where the back-off overflows, and with it the hot loop begins that it prevents."""
    scripted.fails_to_start = True
    pool, owner = make_pool()
    pool._breaks = 5000
    job = submit(pool)
    await eventually(lambda: not pool._workers)
    assert [str(error) for error in owner.failures] == ["no start"]
    assert owner.given_back == [job]
    assert pool.room() == 0
    submit(pool)
    await asyncio.sleep(0)
    assert scripted.starts == 1


async def test_what_a_worker_could_not_begin_goes_back(scripted: type[Scripted]) -> None:
    scripted.run_one = staticmethod(lambda self: None)
    pool, owner = make_pool()
    job = submit(pool)
    await eventually(lambda: owner.given_back)
    assert (owner.given_back, owner.endings) == ([job], [])
    await pool.close()


async def test_a_defect_of_an_executor_ends_the_attempt(scripted: type[Scripted]) -> None:
    """Fails where the job is forgotten: its lease is extended for ever."""

    def fail(self: Scripted) -> HandlerResult:
        raise AssertionError("a defect")

    scripted.run_one = staticmethod(fail)
    pool, owner = make_pool()
    submit(pool)
    await eventually(lambda: owner.failures and not pool._workers)
    ((_, ending),) = owner.endings
    assert "a defect" in str(ending.error)


async def test_an_idle_worker_that_somebody_cancels_takes_no_job_with_it(
    scripted: type[Scripted],
) -> None:
    """Fails where the job that it was woken for waits for ever, or the pool is one place short."""
    pool, owner = make_pool()
    submit(pool)
    await eventually(lambda: owner.endings and pool._idle)
    for count in (2, 3):
        (worker,) = pool._workers
        worker.cancel()
        submit(pool)  # it is woken and cancelled at once
        await eventually(lambda: len(owner.endings) == count)  # noqa: B023
        await eventually(lambda: pool._idle)
        assert [type(error) for error in owner.failures] == [asyncio.CancelledError] * (count - 1)
    await pool.close()


async def test_close_does_not_wait_for_a_worker_that_still_starts(
    scripted: type[Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(self: Scripted) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(scripted, "start", never)
    pool, owner = make_pool()
    submit(pool)
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await pool.close()
    assert owner.failures == []


async def test_what_nobody_wants_any_more_does_not_begin(scripted: type[Scripted]) -> None:
    """Fails where a job that was lost or cancelled before it came to its pool runs."""
    pool, owner = make_pool()
    lost, cancelled = job_for(pool), job_for(pool)
    pool.discard(lost)
    pool.cancel(cancelled)
    for job in (lost, cancelled):
        pool.submit(job)
    assert owner.endings == [(cancelled, CANCELLED)]
    assert pool.take_waiting() == []


# What waits for too long.


async def waiting_pool(
    scripted: type[Scripted], monkeypatch: pytest.MonkeyPatch, *, waiting: int, age: float
) -> SlotPool:
    """A pool whose one worker runs a job, before others that wait for `age` seconds."""
    gate = asyncio.Event()

    async def run(self: Scripted, row: TaskRow, link: Link) -> HandlerResult | None:
        await gate.wait()
        return NOTHING

    monkeypatch.setattr(scripted, "run", run)
    pool, _ = make_pool()
    submit(pool)
    await eventually(lambda: pool.running)
    for _ in range(waiting):
        job = job_for(pool)
        job.claimed_at -= age
        pool.submit(job)
    return pool


async def test_what_exceeds_a_second_of_beginnings_goes_back(
    scripted: type[Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where it waits as long as any job of the type begins now and then."""
    pool = await waiting_pool(scripted, monkeypatch, waiting=10, age=5)
    waiting = list(pool._waiting)
    pool._begun, pool._counted_from = 7, time.monotonic() - 2.0
    pool._seconds = 0.001
    assert pool.take_stalled() == waiting[:2:-1]  # three a second; the first ones stay
    assert pool.take_stalled() == []
    # No more is claimed than so few can begin.
    assert pool._prefetch(1) == 0
    pool.abort()
    await pool.close()


async def test_what_waits_while_the_process_stood_still_stays(
    scripted: type[Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where what could not begin, since nothing here ran, is taken for what will not."""
    pool = await waiting_pool(scripted, monkeypatch, waiting=3, age=0)
    waiting = list(pool._waiting)
    pool._moved_at -= 5
    assert pool.take_stalled() == []
    # None has begun since that look.
    assert pool.take_stalled() == waiting
    pool.abort()
    await pool.close()


@pytest.mark.parametrize(("begun", "age"), [(50, 5.0), (6, 0.5)])
async def test_what_will_soon_begin_or_has_just_come_stays(
    scripted: type[Scripted], monkeypatch: pytest.MonkeyPatch, begun: int, age: float
) -> None:
    """Fails where a pool that was idle, and now has many at once, gives back what it claimed."""
    pool = await waiting_pool(scripted, monkeypatch, waiting=10, age=age)
    pool._begun, pool._counted_from = begun, time.monotonic() - 2.0
    assert pool.take_stalled() == []
    pool.abort()
    await pool.close()
