"""The queue as a dict of rows: what each operation has to answer, in plain Python."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from rowlock._ids import id_instant
from rowlock._rows import NewRow
from rowlock.models import Task, TaskError, TaskProgress, TaskStatus

RETRY_INTERVAL = 5000
MAX_LOST_WORKERS = 3

Attempt = tuple[str, int]


def after(now: datetime, milliseconds: int) -> datetime:
    return now + timedelta(milliseconds=milliseconds)


@dataclass(frozen=True)
class Row:
    """Every column of a task."""

    id: str
    type: str
    priority: int
    run_at: datetime
    retries_remaining: int | None
    retry_interval: int | None
    retain_for: int
    key: str | None
    payload: str | None
    date_modified: datetime
    status: TaskStatus = TaskStatus.PENDING
    attempt: int = 0
    thread_id: str = "0"
    lease_until: datetime | None = None
    lost_workers: int = 0
    date_retain_until: datetime | None = None
    result: str | None = None
    error: str | None = None
    progress: str | None = None
    cancel_requested: datetime | None = None
    date_started: datetime | None = None

    def has(self, task_type: str, key: str) -> bool:
        """Whether no other task of the type can have the key."""
        ended = self.status in (TaskStatus.FAILED, TaskStatus.CANCELLED)
        return (self.type, self.key) == (task_type, key) and not ended

    @property
    def task(self) -> Task:
        modified = self.date_modified
        completed = self.status in (TaskStatus.SUCCESS, TaskStatus.FAILED)
        return Task(
            id=self.id,
            type=self.type,
            thread_id=self.thread_id,
            retry_interval=self.retry_interval,
            retries_remaining=self.retries_remaining,
            date_created=id_instant(self.id),
            date_modified=modified,
            date_started=self.date_started,
            date_completed=modified if completed else None,
            date_cancelled=modified if self.status is TaskStatus.CANCELLED else None,
            date_retain_until=self.date_retain_until,
            status=self.status,
            payload=_loads(self.payload),
            result=_loads(self.result),
            error=None if self.error is None else TaskError(**_loads(self.error)),
            attempt=self.attempt,
            priority=self.priority,
            run_at=self.run_at,
            key=self.key,
            progress=None if self.progress is None else TaskProgress(**_loads(self.progress)),
        )


@dataclass(frozen=True)
class End:
    """How an attempt ended: success with a result, failure with an error, or cancelled."""

    attempt: Attempt
    result: str | None = None
    error: str | None = None
    retry: bool = True
    cancelled: bool = False


class Model:
    """What two databases and their drivers have to agree with."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def insert(self, new: NewRow, now: datetime) -> str:
        for row in self.rows.values():
            if new.key is not None and row.has(new.type, new.key):
                return row.id
        self.rows[new.id] = Row(
            id=new.id,
            type=new.type,
            priority=new.priority,
            run_at=after(now, new.delay) if new.run_at is None else new.run_at,
            retries_remaining=new.retries_remaining,
            retry_interval=new.retry_interval,
            retain_for=new.retain_for,
            key=new.key,
            payload=new.payload,
            date_modified=now,
        )
        return new.id

    def claim(self, holder: str, rooms: Mapping[str, int], lease: int, now: datetime) -> list[Task]:
        chosen: list[Row] = []
        for task_type, room in rooms.items():
            due = [row for row in self._pending(task_type) if row.run_at <= now]
            chosen += sorted(due, key=_urgency)[:room]
        claimed = [
            self._put(
                row,
                now,
                status=TaskStatus.PROCESSING,
                attempt=row.attempt + 1,
                thread_id=holder,
                lease_until=after(now, lease),
                date_started=now,
            )
            for row in chosen
        ]
        return [row.task for row in sorted(claimed, key=_urgency)]

    def next_due(self, types: Iterable[str], now: datetime) -> float | None:
        waits = [(row.run_at - now).total_seconds() for t in types for row in self._pending(t)]
        return max(0.0, min(waits)) if waits else None

    def finish(self, holder: str, ends: Iterable[End], now: datetime) -> dict[str, Task]:
        done: dict[str, Task] = {}
        for end in ends:
            row = self._held(holder, end.attempt)
            if row is None:
                continue
            if end.cancelled:
                row = self._end(row, TaskStatus.CANCELLED, now)
            elif end.error is None:
                row = self._end(row, TaskStatus.SUCCESS, now, result=end.result, error=None)
            else:
                row = self._fail(row, now, end.error, retry=end.retry, lost=False)
            done[row.id] = row.task
        return done

    def extend(
        self, holder: str, attempts: Iterable[Attempt], lease: int, now: datetime
    ) -> set[str]:
        held = self._all_held(holder, attempts)
        for row in held:
            self.rows[row.id] = replace(row, lease_until=after(now, lease))
        return {row.id for row in held}

    def release(self, holder: str, attempts: Iterable[Attempt], now: datetime) -> list[Task]:
        changed = []
        for row in self._all_held(holder, attempts):
            if row.cancel_requested is not None:
                row = self._end(row, TaskStatus.CANCELLED, now)
            else:
                row = self._put_back(row, now)
            changed.append(row.task)
        return changed

    def sweep(self, now: datetime) -> tuple[int, list[Task]]:
        lost = [
            row
            for row in sorted(self.rows.values(), key=lambda row: row.id)
            if row.lease_until is not None and row.lease_until <= now
        ]
        changed = []
        for row in lost:
            count = row.lost_workers + 1
            message = (
                f"worker {row.thread_id} was lost while it held attempt {row.attempt} "
                f"(lost worker {count} of {MAX_LOST_WORKERS})"
            )
            error = {"name": "LeaseLostError", "message": message, "source": "rowlock"}
            again = count < MAX_LOST_WORKERS
            changed.append(self._fail(row, now, json.dumps(error), retry=again, lost=True).task)
        return len(lost), changed

    def forget(self, now: datetime) -> int:
        past = [
            row.id
            for row in self.rows.values()
            if row.date_retain_until is not None and row.date_retain_until <= now
        ]
        for task_id in past:
            del self.rows[task_id]
        return len(past)

    def cancel(self, task_id: str, now: datetime, *, running: bool) -> Task | None:
        row = self.rows.get(task_id)
        if row is not None and row.status is TaskStatus.PENDING:
            return self._end(row, TaskStatus.CANCELLED, now).task
        if row is not None and row.status is TaskStatus.PROCESSING and running:
            self.rows[task_id] = row = replace(row, cancel_requested=row.cancel_requested or now)
            return row.task
        return None

    def retry(self, task_id: str, now: datetime) -> Task | str | None:
        """Retry a task; or return the id of the one that has got its key."""
        row = self.rows.get(task_id)
        if row is None:
            return None
        if row.status is TaskStatus.PENDING and row.run_at > now:
            return self._put(row, now, run_at=now).task
        if row.status in (TaskStatus.FAILED, TaskStatus.CANCELLED):
            for other in self.rows.values():
                if row.key is not None and other.has(row.type, row.key):
                    return other.id
            return self._put_back(row, now, run_at=now, lost_workers=0).task
        return None

    def remove(self, task_id: str) -> bool:
        return self.rows.pop(task_id, None) is not None

    def progress(self, holder: str, reports: Mapping[Attempt, str]) -> None:
        for row in self._all_held(holder, reports):
            self.rows[row.id] = replace(row, progress=reports[row.id, row.attempt])

    def asked(self, holder: str, attempts: Iterable[Attempt]) -> set[str]:
        held = self._all_held(holder, attempts)
        return {row.id for row in held if row.cancel_requested is not None}

    def get(self, task_id: str) -> Task | None:
        row = self.rows.get(task_id)
        return None if row is None else row.task

    def select(self, task_type: str | None, status: TaskStatus | None) -> list[Task]:
        return [
            row.task
            for row in self.rows.values()
            if task_type in (None, row.type) and status in (None, row.status)
        ]

    def _pending(self, task_type: str) -> list[Row]:
        return [
            row
            for row in self.rows.values()
            if row.status is TaskStatus.PENDING and row.type == task_type
        ]

    def _held(self, holder: str, attempt: Attempt) -> Row | None:
        task_id, number = attempt
        row = self.rows.get(task_id)
        if row is None or row.status is not TaskStatus.PROCESSING:
            return None
        return row if (row.attempt, row.thread_id) == (number, holder) else None

    def _all_held(self, holder: str, attempts: Iterable[Attempt]) -> Sequence[Row]:
        return [row for a in sorted(attempts) if (row := self._held(holder, a)) is not None]

    def _put(self, row: Row, now: datetime, **changes: Any) -> Row:
        self.rows[row.id] = row = replace(row, date_modified=now, **changes)
        return row

    def _put_back(self, row: Row, now: datetime, **changes: Any) -> Row:
        return self._put(
            row,
            now,
            status=TaskStatus.PENDING,
            thread_id="0",
            lease_until=None,
            cancel_requested=None,
            date_retain_until=None,
            **changes,
        )

    def _end(self, row: Row, status: TaskStatus, now: datetime, **changes: Any) -> Row:
        row = self._put(
            row,
            now,
            status=status,
            lease_until=None,
            cancel_requested=None,
            date_retain_until=after(now, row.retain_for) if row.retain_for > 0 else None,
            **changes,
        )
        if row.retain_for == 0:
            del self.rows[row.id]
        return row

    def _fail(self, row: Row, now: datetime, error: str, *, retry: bool, lost: bool) -> Row:
        said = {"error": error, "lost_workers": row.lost_workers + lost}
        if row.cancel_requested is not None:
            return self._end(row, TaskStatus.CANCELLED, now, **said)
        if not retry or row.retries_remaining == 0:
            return self._end(row, TaskStatus.FAILED, now, **said)
        left = None if row.retries_remaining is None else row.retries_remaining - 1
        interval = RETRY_INTERVAL if row.retry_interval is None else row.retry_interval
        return self._put_back(row, now, run_at=after(now, interval), retries_remaining=left, **said)


def _urgency(row: Row) -> tuple[int, datetime, str]:
    return -row.priority, row.run_at, row.id


def _loads(text: str | None) -> Any:
    return None if text is None else json.loads(text)
