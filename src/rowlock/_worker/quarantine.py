"""The last try of a task that has lost its workers: nothing else begins beside it."""

from __future__ import annotations

import time
from collections.abc import Container, Iterable
from math import inf

from rowlock._worker.pool import Job

Held = Container[tuple[str, int]]

# What brings its worker down mostly does so at once; and others wait meanwhile.
_SECONDS = 5.0
# Where one comes there are often more: a claim takes few for so long, or most would be put back.
_WARY = 1.0
# So often is a task alone in a worker, which may fail to start at first. What ends by itself, and
# is tried again as often as it may, would else keep all others waiting.
_CHANCES = 3
_MOST_KNOWN = 10_000


class Quarantine:
    """Gives a worker to one job at a time, for a while.

    The task may be what brought its workers down: what began beside it would be lost with it. Or
    it is a good one that was lost with others, and would be with what began beside it, for the
    last time.
    """

    def __init__(self, max_lost_workers: int) -> None:
        # Of one that never lost a worker nothing is known.
        self._last_try = max(1, max_lost_workers - 1)
        self._job: Job | None = None
        self._until = inf
        self._wary_until = 0.0
        self._chances: dict[str, int] = {}

    @property
    def wary(self) -> bool:
        """Whether the next claim is likely to find one more that is to be alone."""
        return time.monotonic() < self._wary_until

    def choose(self, jobs: Iterable[Job]) -> Job | None:
        """Return the first job that is to be alone."""
        for job in jobs:
            lost = job.row.lost_workers
            if not isinstance(lost, int) or lost < self._last_try:  # SQLite stores anything
                continue
            if self._chances.get(job.row.id, _CHANCES):
                return job
        return None

    def begin(self, job: Job) -> None:
        """Let a job have the worker from now on."""
        self._job = job
        self._until = inf
        left = self._chances.pop(job.row.id, _CHANCES)
        if len(self._chances) >= _MOST_KNOWN:
            del self._chances[next(iter(self._chances))]
        self._chances[job.row.id] = left - 1

    def left(self, held: Held) -> float:
        """Return for how many seconds, at most, nothing else may begin.

        Args:
            held: what the worker holds. An outcome that was not written would be lost, too.
        """
        job = self._job
        if job is None or self.ended(held):
            return 0.0
        if self._until == inf:
            if not job.begun and not job.over:
                return _SECONDS  # it has not begun; its pool gives it back if that takes long
            self._until = time.monotonic() + _SECONDS
        left = self._until - time.monotonic()
        if left <= 0:
            self._end()
        return max(0.0, left)

    def ended(self, held: Held) -> bool:
        """Whether the job that had the worker has ended since, or was put back."""
        if self._job is None or self._job.key in held:
            return False
        self._end()
        return True

    def _end(self) -> None:
        self._job = None
        self._wary_until = time.monotonic() + _WARY
