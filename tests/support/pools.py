"""What tests of one pool use: a row to run, and an owner that notes what the pool tells it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from rowlock._endings import HandlerResult
from rowlock._rows import TaskRow
from rowlock._worker.pool import Job, Pool


def task_row(**given: Any) -> TaskRow:
    """A claimed row of type "t"; what is not given is None."""
    values = {**dict.fromkeys(TaskRow._fields), "id": "0" * 32, "type": "t", "attempt": 1}
    return TaskRow(**{**values, **given})


def job_for(pool: Pool, **given: Any) -> Job:
    """A job that was claimed now."""
    return Job(task_row(**given), time.monotonic(), pool)


class Owner:
    """Notes what a pool tells its worker."""

    def __init__(self) -> None:
        self.endings: list[tuple[Job, HandlerResult]] = []
        self.given_back: list[Job] = []
        self.failures: list[BaseException] = []
        self.refills = 0

    def finished(self, job: Job, ending: HandlerResult) -> None:
        self.endings.append((job, ending))

    def progressed(self, job: Job) -> None:
        pass

    def refill(self, task_type: str) -> None:
        self.refills += 1

    def give_back(self, jobs: Iterable[Job]) -> None:
        self.given_back.extend(jobs)

    def hook_failed(self, task_type: str, error: BaseException) -> None:
        self.failures.append(error)
