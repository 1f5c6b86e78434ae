"""What tests of one pool use: a row to run, and an owner that notes what the pool tells it."""

from __future__ import annotations

import time
from typing import Any

from rowlock._endings import HandlerResult
from rowlock._rows import TaskRow
from rowlock._worker import pool as _pool
from rowlock._worker.pool import Job, Pool


def task_row(**given: Any) -> TaskRow:
    """A claimed row of type "t"; what is not given is None."""
    values = {**dict.fromkeys(TaskRow._fields), "id": "0" * 32, "type": "t", "attempt": 1}
    return TaskRow(**{**values, **given})


def job_for(pool: Pool, **given: Any) -> Job:
    """A job that was claimed now."""
    return Job(task_row(**given), time.monotonic(), pool)


class Owner(_pool.Owner):
    """Notes what a pool tells its worker."""

    def __init__(self) -> None:
        self.endings: list[tuple[Job, HandlerResult]] = []
        self.given_back: list[Job] = []
        self.failures: list[BaseException] = []
        self.refills = 0
        super().__init__(
            finished=lambda job, ending: self.endings.append((job, ending)),
            progressed=lambda job: None,
            refill=self._refilled,
            give_back=self.given_back.extend,
            hook_failed=lambda task_type, error: self.failures.append(error),
        )

    def _refilled(self, task_type: str) -> None:
        self.refills += 1
