"""The rows of tasks, as they are stored and as they come back."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, NamedTuple

KEEP_IF_FAILED: Final = -2
"""`retain_for` where none was given: removed at the end, but a failed task is kept for a while."""

MOST_ATTEMPTS: Final = 20
"""So many attempts that were no success are kept with a task."""


class NewRow(NamedTuple):
    """What `create` stores: checked, the payload as JSON text, durations in milliseconds.

    With `refuses` a task that has its key is an error.
    """

    id: str
    type: str
    payload: str | None
    retries_remaining: int | None
    retry_interval: int | None
    retain_for: int
    priority: int
    run_at: datetime | None
    delay: int
    key: str | None
    refuses: bool = False


class ClaimedRow(NamedTuple):
    """What it takes to run a task: half as much to send and to read as a whole row.

    As it comes from the driver, but for the id, which is always 32 hex digits.
    """

    id: str
    type: str
    attempt: int
    payload: str | None
    retries_remaining: int | None
    retain_for: int
    retry_interval: int | None
    lost_workers: int
    priority: int
    run_at: Any
    progress: str | None
    schedule_id: str | None
    scheduled_for: Any


class TaskRow(NamedTuple):
    """A whole row, which begins as a `ClaimedRow` does."""

    id: str
    type: str
    attempt: int
    payload: str | None
    retries_remaining: int | None
    retain_for: int
    retry_interval: int | None
    lost_workers: int
    priority: int
    run_at: Any
    progress: str | None
    schedule_id: str | None
    scheduled_for: Any
    status: Any
    thread_id: Any
    date_created: Any
    date_modified: Any
    date_retain_until: Any
    key: str | None
    result: str | None
    error: str | None
    cancel_requested: Any
    date_started: Any
    attempts: str | None


HeldRow = ClaimedRow | TaskRow
"""The row of a task that a worker holds: whole where somebody wants to see the task."""
