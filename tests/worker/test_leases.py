"""A worker that cannot extend its leases gives its tasks up before they run out."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from typing import Any, Self, cast

import pytest

from rowlock import DatabaseUnavailableError, SchemaError, TaskQueue
from rowlock._batch_size import StatementTooSlowError
from rowlock._events import Events
from rowlock._ids import new_id
from rowlock._store.attempts import Attempts
from rowlock._store.store import Store
from rowlock._worker.held import Held
from rowlock._worker.leases import _BACKOFF, _SHORTEST, LeaseThread, lock_timeout
from rowlock._worker.pool import Job, Pool
from tests.support.helpers import eventually
from tests.support.pools import task_row
from tests.support.stores import execute


class FakePool:
    def discard(self, job: Job) -> None:
        pass


def held(*ages: float) -> Held:
    """Tasks that were claimed so many seconds ago."""
    now = time.monotonic()
    return hold(Job(task_row(id=new_id()), now - age, cast(Pool, FakePool())) for age in ages)


def hold(jobs: Iterable[Job]) -> Held:
    found = Held("h", cast(Attempts, None), Events(), 1000)
    found.jobs.update((job.key, job) for job in jobs)
    return found


class FakeStore:
    """Is its own database, and has its own attempts."""

    keeps_trying = False

    @property
    def database(self) -> Self:
        return self

    attempts = database


class GoneStore(FakeStore):
    """Cannot be reached."""

    async def extend(self, *arguments: Any, **options: Any) -> tuple[set[str], set[str]]:
        raise DatabaseUnavailableError("gone")


@pytest.mark.parametrize("lease", [1.0, 30.0])
async def test_none_is_kept_that_runs_out_before_the_next_try_has_failed(lease: float) -> None:
    """Fails where a job is kept that reaches the limit while the thread backs off."""
    holder = held(*(lease * age / 1000 for age in range(0, 900, 5)))
    leases = LeaseThread(holder, cast(Store, GoneStore()), Events(), lease)
    with pytest.raises(DatabaseUnavailableError):
        await leases.extend()
    await asyncio.sleep(0)
    oldest = time.monotonic() - min(job.leased_at for job in holder.jobs.values())
    assert lease * 0.7 < oldest < lease * (1 - _BACKOFF) - _SHORTEST


class KeepingStore(FakeStore):
    """Extends the lease of the last attempt of each task."""

    async def extend(
        self, holder: str, attempts: list[tuple[str, int]], lease: int, *, wait: bool
    ) -> tuple[set[str], set[str]]:
        return {task_id for task_id, attempt in attempts if attempt == 2}, set()


@pytest.mark.parametrize("attempts", [(1, 2), (2, 1)])
async def test_of_two_attempts_of_a_task_the_last_one_is_kept(attempts: tuple[int, int]) -> None:
    """Fails where one is kept because the other is: the answer names the task."""
    old = time.monotonic() - 15
    holder = hold(Job(task_row(attempt=n), old, cast(Pool, FakePool())) for n in attempts)
    await LeaseThread(holder, cast(Store, KeepingStore()), Events(), 30).extend()
    await asyncio.sleep(0)
    assert [job.row.attempt for job in holder.jobs.values()] == [2]


class LockedStore(FakeStore):
    """Somebody has locked all rows."""

    def __init__(self) -> None:
        self.waits: list[bool] = []

    async def extend(
        self, holder: str, attempts: list[tuple[str, int]], lease: int, *, wait: bool
    ) -> tuple[set[str], set[str]]:
        self.waits.append(wait)
        return set(), {task_id for task_id, _ in attempts}


async def test_what_somebody_has_locked_is_not_lost() -> None:
    """Nobody can take it. Fails where what was not extended is lost.

    Fails where it is not waited for, so that it is free for a moment and its lease has run out;
    and where others wait with it.
    """
    holder, store = held(*[0.5] * 5), LockedStore()
    leases = LeaseThread(holder, cast(Store, store), Events(), 1.0)
    for _ in range(3):
        assert await leases.extend() == 0
        await asyncio.sleep(0)
    assert len(holder.jobs) == 5
    assert store.waits == [True, True, True]
    holder.jobs.update(held(0.5).jobs)
    for _ in range(2):
        await leases.extend()
    assert store.waits[3:] == [False, True]


class SlowStore(FakeStore):
    """Takes no more than ten attempts in one statement."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def extend(
        self, holder: str, attempts: list[tuple[str, int]], lease: int, *, wait: bool
    ) -> tuple[set[str], set[str]]:
        self.sizes.append(len(attempts))
        if len(attempts) > 10:
            raise StatementTooSlowError("slow")
        return {task_id for task_id, _ in attempts}, set()


async def test_what_is_too_slow_in_one_statement_is_extended_in_several() -> None:
    """Fails where the same statement is sent again."""
    holder, store = held(*[15.0] * 100), SlowStore()
    leases = LeaseThread(holder, cast(Store, store), Events(), 30)
    for _ in range(10):
        with suppress(StatementTooSlowError):
            await leases.extend()
            break
    await asyncio.sleep(0)
    assert len(holder.jobs) == 100
    assert all(time.monotonic() - job.leased_at < 10 for job in holder.jobs.values())
    assert store.sizes[0] == 100
    assert store.sizes[-1] <= 10


async def test_a_worker_that_was_stopped_past_its_lease_tries_for_longer_than_a_moment() -> None:
    """Fails where what is left of the lease, which is nothing, is all the time that it has."""
    holder = held(5, 5, 5)
    allowed: list[float] = []

    class TellingStore(FakeStore):
        async def extend(
            self, holder: str, attempts: list[tuple[str, int]], lease: int, *, wait: bool
        ) -> tuple[set[str], set[str]]:
            task = asyncio.current_task()
            assert task is not None
            began = time.monotonic()
            try:
                await asyncio.sleep(10)
            finally:
                allowed.append(time.monotonic() - began)
            raise AssertionError

    leases = LeaseThread(holder, cast(Store, TellingStore()), Events(), 1.0)
    with pytest.raises(TimeoutError):
        await leases.extend()
    assert allowed[0] > 0.3


@pytest.mark.parametrize("lease", [1.0, 1.5, 30.0, 3600.0])
def test_a_locked_row_costs_the_others_a_part_of_their_lease_at_most(lease: float) -> None:
    """Fails where the timeout is more than that, or 0, which would be none."""
    assert 1 <= lock_timeout(lease) <= min(1000, lease * 1000 / 10)


# A worker's own sweeper.


async def waits(payload: float) -> None:
    await asyncio.sleep(payload)


async def test_a_workers_own_sweeper_spares_what_it_holds(database: str) -> None:
    """As after a pause, or where the clock was set: its lease has run out, and nobody took it.

    Fails where the sweeper takes it for lost.
    """
    async with TaskQueue(database, sweep_interval=50, stop_timeout=100) as queue:
        await queue.register_handler("t", __name__, "waits")
        await queue.start()
        task_id = await queue.create("t", 60, retain_for=-1)

        async def runs() -> bool:
            task = await queue.get(task_id)
            return task is not None and task.status == "processing"

        await eventually(runs)
        ago = "1" if database.startswith("sqlite") else "now() - interval '1 hour'"
        expired = f"UPDATE rowlock_task SET lease_until = {ago}"
        await execute(database, f"{expired} {RETURNING[database.split(':')[0]]}")
        later = "1000000" if database.startswith("sqlite") else "now()"

        async def extended() -> bool:
            found = await execute(
                database, f"SELECT 1 FROM rowlock_task WHERE lease_until > {later}"
            )
            return bool(found)

        await eventually(extended)
        task = await queue.get(task_id)
        assert task is not None
        assert (task.status, task.attempt) == ("processing", 1)


async def test_what_a_worker_has_lost_its_own_sweeper_takes(database: str) -> None:
    """Fails where a process never sweeps what it has claimed: it may be the only one."""
    async with TaskQueue(database, sweep_interval=50, retry_interval=0, stop_timeout=100) as queue:
        await queue.register_handler("t", __name__, "waits")
        await queue.start()
        assert queue.runtime.worker is not None
        task_id = await queue.create("t", 60, retain_for=-1)
        worker = queue.runtime.worker
        await eventually(lambda: worker.held.jobs)
        (job,) = worker.held.jobs.values()
        worker.held.lose(job)
        ago = "1" if database.startswith("sqlite") else "now() - interval '1 hour'"
        expired = f"UPDATE rowlock_task SET lease_until = {ago}"
        await execute(database, f"{expired} {RETURNING[database.split(':')[0]]}")

        async def again() -> bool:
            task = await queue.get(task_id)
            return task is not None and task.attempt == 2

        await eventually(again)


# asyncpg's `fetch` wants rows; SQLite's `execute` takes either.
RETURNING = {"sqlite": "", "postgresql": "RETURNING id"}


async def test_a_worker_that_cannot_have_a_connection_for_its_leases_does_not_start(
    postgres_url: str,
) -> None:
    """Fails where it is opened at the first extension, when tasks run that would be lost."""
    async with TaskQueue(postgres_url) as queue:
        await queue.register_handler("t", __name__, "waits")
        await execute(
            postgres_url,
            "ALTER ROLE postgres IN DATABASE "
            f"{postgres_url.rpartition('/')[2]} SET search_path = nowhere",
        )
        with pytest.raises(SchemaError):
            await queue.start()
        assert queue.runtime.worker is None


async def test_a_worker_on_sqlite_keeps_its_tasks_while_another_program_has_the_lock(
    sqlite_url: str,
) -> None:
    """Whoever has the lock keeps all others from taking them, too.

    Fails where they are given up at nine tenths of the lease.
    """
    async with TaskQueue(sqlite_url, lease=1000, sweep_interval=100, stop_timeout=100) as queue:
        await queue.register_handler("t", __name__, "waits")
        await queue.start()
        assert queue.runtime.worker is not None
        worker = queue.runtime.worker
        task_id = await queue.create("t", 60, retain_for=-1)
        await eventually(lambda: worker.held.jobs)
        (job,) = worker.held.jobs.values()
        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as other:
            other.isolation_level = None
            other.execute("BEGIN IMMEDIATE")
            await eventually(lambda: time.monotonic() - job.leased_at > 2.5, timeout=20)
            other.execute("ROLLBACK")
        await eventually(lambda: time.monotonic() - job.leased_at < 1)
        task = await queue.get(task_id)
        assert task is not None
        assert (task.status, task.attempt) == ("processing", 1)
        assert worker.held.jobs
