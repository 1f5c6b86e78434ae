"""The rows of tasks, as they are stored and as they come back."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, NamedTuple

KEEP_IF_FAILED: Final = -2
"""`retain_for` where none was given: removed at the end, but a failed task is kept for a while."""

MOST_ATTEMPTS: Final = 20
"""So many attempts that were no success are kept with a task."""


class NewRow(NamedTuple):
    """A task to insert: checked, the payload as JSON text, durations in milliseconds.

    A field up to `run_at` is stored as it is, in the column of its name; see `_store.new_rows`.
    """

    id: str
    type: str
    payload: str | None = None
    retries_remaining: int | None = None
    retry_interval: int | None = None
    retain_for: int = KEEP_IF_FAILED
    priority: int = 0
    key: str | None = None

    run_at: datetime | None = None
    # After `now`, where there is no `run_at`.
    delay: int = 0
    # Of a task that a scheduled task creates.
    schedule_id: str | None = None
    scheduled_for: datetime | None = None
    # Whether it is an error that a task has the key.
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
