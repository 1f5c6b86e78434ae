"""The last try of a task that has lost its workers: nothing else begins beside it."""

from __future__ import annotations

import time
from collections.abc import Container, Iterable

from rowlock._pools import Job

Held = Container[tuple[str, int]]

# What brings its worker down mostly does so at once; and others wait meanwhile.
_SECONDS = 5.0
# Where one comes there are often more: a claim takes few for so long, or most would be put back.
_WARY = 1.0
_MOST_KNOWN = 10_000


class Solo:
    """Gives a worker to one job at a time, for a while.

    The task may be what brought its workers down. What begins beside it is then lost with it, and
    a good task that was lost with others so often that it would end as failed is lost with none.

    Attributes:
        job: the one that has the worker, or had it last.
    """

    def __init__(self, max_lost_workers: int) -> None:
        # Of one that never lost a worker nothing is known.
        self._last_try = max(1, max_lost_workers - 1)
        self.job: Job | None = None
        self._until = 0.0
        self._wary_until = 0.0
        # Once is enough: what fails and is tried again, as often as it may, would else keep all
        # others waiting.
        self._were_alone: dict[str, None] = {}

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
            if job.row.id not in self._were_alone:
                self._wary_until = time.monotonic() + _WARY
                return job
        return None

    def begin(self, job: Job) -> None:
        """Let a job have the worker from now on."""
        self.job = job
        self._until = time.monotonic() + _SECONDS
        if len(self._were_alone) >= _MOST_KNOWN:
            del self._were_alone[next(iter(self._were_alone))]
        self._were_alone[job.row.id] = None

    def left(self, held: Held) -> float:
        """Return for how many seconds nothing else may begin.

        Args:
            held: what the worker holds. An outcome that was not written would be lost, too.
        """
        if self.job is None or self.job.key not in held:
            self.job = None
            return 0.0
        return max(0.0, self._until - time.monotonic())

    def ended(self, held: Held) -> bool:
        """Whether the job that had the worker has ended since."""
        if self.job is None or self.job.key in held:
            return False
        self.job = None
        return True
