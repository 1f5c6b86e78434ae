"""The last try of a task that has lost its workers: nothing else begins beside it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Container, Iterable
from math import inf

from rowlock._worker.pool import Job

# What brings its worker down mostly does so at once; and others wait meanwhile.
_SECONDS = 5.0
# Where one comes there are often more: a claim takes one row of a type for so many seconds after
# it, or most would be put back.
_ONE_BY_ONE = 1.0
# So often is a task alone in a worker, which may fail to start at first. What ends by itself, and
# is tried again as often as it may, would else keep all others waiting.
_CHANCES = 3
_MOST_KNOWN = 10_000


class Quarantine:
    """Gives the worker to one job at a time, for a while.

    The task may be what brought its workers down: what began beside it would be lost with it. Or
    it is a good one that was lost with others, and would be with what began beside it, for the
    last time.

    Args:
        max_lost_workers: with so many lost workers a task ends as failed.
        held: the keys of what the worker holds. What ran alone has ended when it is not in it: an
            outcome that was not written would be lost, too.
    """

    def __init__(self, max_lost_workers: int, held: Container[tuple[str, int]]) -> None:
        # Of one that never lost a worker nothing is known.
        self._last_try = max(1, max_lost_workers - 1)
        self._held = held
        self._job: Job | None = None
        self._until = inf
        self._one_by_one_until = 0.0
        self._chances: dict[str, int] = {}

    def hold_back(self, rows: int) -> tuple[int, float]:
        """Return how many of `rows` rows of each type may be claimed, and when to look again.

        Returns:
            0 and the seconds, at most, for which a job is alone; else 1 or `rows`, and 0.
        """
        if (seconds := self._seconds_left()) > 0:
            return 0, seconds
        return (1 if time.monotonic() < self._one_by_one_until else rows), 0.0

    async def admit(
        self, jobs: list[Job], clear_for: Callable[[Job], Awaitable[bool]]
    ) -> list[Job]:
        """Return which of the claimed jobs may begin: all of them, or one that is to be alone.

        Args:
            jobs: of one claim.
            clear_for: puts back all that has not begun but for one job, and returns whether that
                is done. If it is not, none begins.
        """
        alone = self._choose(jobs)
        if alone is None:
            return jobs
        if not await clear_for(alone):
            return []
        self._begin(alone)
        return [alone]

    def ended(self) -> bool:
        """Whether the job that was alone has ended since the last call, or was put back."""
        if self._job is None or self._job.key in self._held:
            return False
        self._end()
        return True

    def _choose(self, jobs: Iterable[Job]) -> Job | None:
        for job in jobs:
            lost = job.row.lost_workers
            if not isinstance(lost, int) or lost < self._last_try:  # SQLite stores anything
                continue
            if self._chances.get(job.row.id, _CHANCES):
                return job
        return None

    def _begin(self, job: Job) -> None:
        self._job = job
        self._until = inf
        left = self._chances.pop(job.row.id, _CHANCES)
        if len(self._chances) >= _MOST_KNOWN:
            del self._chances[next(iter(self._chances))]
        self._chances[job.row.id] = left - 1

    def _seconds_left(self) -> float:
        job = self._job
        if job is None or self.ended():
            return 0.0
        if self._until == inf:
            if not job.begun and not job.over:
                return _SECONDS  # it has not begun; its pool gives it back if that takes long
            self._until = time.monotonic() + _SECONDS
        left = self._until - time.monotonic()
        if left <= 0:
            self._end()
        return left

    def _end(self) -> None:
        self._job = None
        self._one_by_one_until = time.monotonic() + _ONE_BY_ONE
