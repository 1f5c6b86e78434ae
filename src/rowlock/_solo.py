"""The last try of a task that has lost its workers: nothing else begins beside it."""

from __future__ import annotations

import time
from collections.abc import Container, Iterable

from rowlock._pools import Job


class Solo:
    """Gives a worker to one job at a time, for a while.

    The task may be what brought its workers down. What begins beside it is then lost with it, and
    a good task that was lost with others so often that it would end as failed is lost with none.

    Attributes:
        job: the one that has the worker, or had it last.
    """

    def __init__(self, seconds: float, max_lost_workers: int) -> None:
        self._seconds = seconds
        # Of one that never lost a worker nothing is known.
        self._last_try = max(1, max_lost_workers - 1)
        self.job: Job | None = None

    def choose(self, jobs: Iterable[Job]) -> Job | None:
        """Return the job that is to be alone, if one is; it has the worker from now on."""
        for job in jobs:
            lost = job.row.lost_workers
            if not isinstance(lost, int) or lost < self._last_try:  # SQLite stores anything
                continue
            # What fails in a process of its own brings down nothing else.
            if job.pool.handler.executor != "process":
                self.job = job
                return job
        return None

    def left(self, held: Container[tuple[str, int]]) -> float:
        """Return for how many seconds nothing else may begin.

        Args:
            held: what the worker holds. An outcome that was not written would be lost, too.
        """
        job = self.job
        if job is None or job.key not in held:
            self.job = None
            return 0.0
        return max(0.0, job.claimed_at + self._seconds - time.monotonic())
