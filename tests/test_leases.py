"""A worker that cannot extend its leases gives its tasks up before they run out."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import pytest

from rowlock import DatabaseUnavailableError
from rowlock._events import Events
from rowlock._leases import _BACKOFF, _SHORTEST, LeaseThread
from rowlock._pools import Job, Pool
from rowlock._store import Store
from tests.pools import task_row


class Holder:
    """Holds jobs that it claimed one after the other."""

    holder = "h"

    def __init__(self, lease: float) -> None:
        now = time.monotonic()
        pool = cast(Pool, None)
        self.jobs = {Job(task_row(), now - lease * age / 1000, pool) for age in range(0, 900, 5)}

    def leased_before(self, age: float) -> list[Job]:
        limit = time.monotonic() - age
        return [job for job in self.jobs if job.leased_at <= limit]

    def lose(self, job: Job) -> None:
        self.jobs.discard(job)


class GoneStore:
    """Cannot be reached."""

    async def open(self) -> None:
        pass

    async def extend(self, *arguments: Any) -> set[str]:
        raise DatabaseUnavailableError("gone")


@pytest.mark.parametrize("lease", [1.0, 30.0])
async def test_none_is_kept_that_runs_out_before_the_next_try_has_failed(lease: float) -> None:
    """Fails where a job is kept that reaches the limit while the thread backs off."""
    holder = Holder(lease)
    leases = LeaseThread(holder, cast(Store, GoneStore()), Events(), lease)
    with pytest.raises(DatabaseUnavailableError):
        await leases.extend()
    await asyncio.sleep(0)
    oldest = time.monotonic() - min(job.leased_at for job in holder.jobs)
    assert lease * 0.7 < oldest < lease * (1 - _BACKOFF) - _SHORTEST


class KeepingStore:
    """Extends the lease of the last attempt of each task."""

    async def open(self) -> None:
        pass

    async def extend(self, holder: str, attempts: list[tuple[str, int]], lease: int) -> set[str]:
        return {task_id for task_id, attempt in attempts if attempt == 2}


@pytest.mark.parametrize("attempts", [(1, 2), (2, 1)])
async def test_of_two_attempts_of_a_task_the_last_one_is_kept(attempts: tuple[int, int]) -> None:
    """Fails where one is kept because the other is: the answer names the task."""
    holder = Holder(30)
    old = time.monotonic() - 15
    holder.jobs = {Job(task_row(attempt=n), old, cast(Pool, None)) for n in attempts}
    await LeaseThread(holder, cast(Store, KeepingStore()), Events(), 30).extend()
    await asyncio.sleep(0)
    assert [job.row.attempt for job in holder.jobs] == [2]
