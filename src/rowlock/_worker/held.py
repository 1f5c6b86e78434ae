"""What this process holds, shared by the loops of the worker and the thread that extends leases."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from math import inf

from rowlock._events import AttemptLost, Events
from rowlock._store.attempts import Attempts
from rowlock._worker.pool import Job


class Held:
    """The attempts that this process holds, and how those ended that it held before.

    Args:
        holder: the name of this start of this process.
        attempts: their operations.
        events: where lost attempts are emitted.
        lease: in milliseconds.

    Attributes:
        jobs: by id and attempt; a job stays until its outcome is written or it is put back, and
            its lease is extended until then.
        unwanted: the jobs that are to be put back.
        claiming_since: `time.monotonic()` when the claim under way began; infinite without one.
        ends: how many attempts ended in which way.
    """

    def __init__(self, holder: str, attempts: Attempts, events: Events, lease: int) -> None:
        self.holder = holder
        self.lease = lease
        self.jobs: dict[tuple[str, int], Job] = {}
        self.unwanted: dict[tuple[str, int], Job] = {}
        self.claiming_since = inf
        self.ends: Counter[str] = Counter()
        self._attempts = attempts
        self._events = events

    def holds(self, key: tuple[str, int]) -> bool:
        """Whether this process goes on with an attempt."""
        return key in self.jobs

    async def extend(self, keys: Iterable[tuple[str, int]]) -> None:
        """Extend leases; what is refused is lost."""
        jobs = [self.jobs[key] for key in keys if key in self.jobs]
        began = time.monotonic()
        kept, locked = await self._attempts.extend(
            self.holder, [job.key for job in jobs], self.lease
        )
        for job in jobs:
            if job.row.id in kept:
                job.leased_at = began
            elif job.row.id not in locked:
                self.lose(job)

    def leased_before(self, age: float) -> list[Job]:
        """Return the jobs whose lease is older than `age` seconds. Called by the lease thread."""
        limit = time.monotonic() - age
        return [job for job in list(self.jobs.values()) if job.leased_at <= limit]

    def lose(self, job: Job) -> None:
        """An attempt no longer holds its task: drop it, unless it has ended meanwhile."""
        key = job.key
        if job.over or key not in self.jobs or key in self.unwanted:
            return
        del self.jobs[key]
        self.count_lost(key)
        job.pool.discard(job)

    def count_lost(self, key: tuple[str, int]) -> None:
        """Count and emit an attempt that no longer held its task."""
        self.ends["lost"] += 1
        self._events.emit(AttemptLost(*key))
