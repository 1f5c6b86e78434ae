"""Every database operation, once.

An operation is a generator: it yields a statement with its parameters and is sent the rows. It
knows no driver and does not wait, so the same code runs between BEGIN and COMMIT of asyncpg and
in one call inside the thread of an SQLite connection, where a transaction must not span an
`await`.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar, NamedTuple, TypeVar

from rowlock import _cursor
from rowlock._endings import Ending
from rowlock._ids import as_id, id_instant
from rowlock._json import loads
from rowlock._paging import segments
from rowlock._statements import Statement, Statements, TaskRow
from rowlock._tables import REVISION
from rowlock.errors import RowlockError, SchemaError
from rowlock.models import (
    MAX_DURATION_MS,
    SortDirection,
    SortProperty,
    Task,
    TaskError,
    TaskPage,
    TaskProgress,
    TaskStatus,
    clean_text,
)

T = TypeVar("T")
Operation = Generator[tuple[Statement, Mapping[str, Any]], Sequence[Any], T]

Walk = tuple[str | None, TaskStatus | None, SortProperty, SortDirection]

# By so many milliseconds at most the tasks of a lost worker are spread.
_MAX_SPREAD = 60_000

_COMPLETED = (TaskStatus.FAILED, TaskStatus.SUCCESS)
_STATUSES = frozenset(TaskStatus)


class NewRow(NamedTuple):
    """What `create` stores: checked, the payload as JSON text, durations in milliseconds."""

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


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        row: the row as it was claimed.
        ending: how its handler ended.
    """

    row: TaskRow
    ending: Ending

    @property
    def status(self) -> TaskStatus:
        """What the task becomes."""
        if self.ending.cancelled:
            return TaskStatus.CANCELLED
        if self.ending.error is None:
            return TaskStatus.SUCCESS
        return TaskStatus.PENDING if self.retries else TaskStatus.FAILED

    @property
    def retries(self) -> bool:
        """Whether the task goes back to pending."""
        return (
            self.ending.error is not None
            and self.ending.retry
            and not self.ending.cancelled
            and (self.row.retries_remaining is None or self.row.retries_remaining > 0)
        )

    @property
    def drops(self) -> bool:
        """Whether the row is removed at once."""
        return self.row.retain_for == 0 and not self.retries


class Operations(ABC):
    """The operations, with what the two databases say differently left open.

    Instants called `now` are `datetime | None`; None is the clock that the database goes by.
    """

    sql: ClassVar[Statements]
    # With 0 a retry comes exactly after its interval.
    spread = 1.0

    def __init__(self, *, retry_interval: int, max_lost_workers: int) -> None:
        self._retry_interval = retry_interval
        self.max_lost_workers = max_lost_workers

    @abstractmethod
    def instant(self, now: datetime | None) -> Any:
        """Return the parameter `now`."""

    @abstractmethod
    def to_time(self, value: datetime) -> Any:
        """Return an instant as the driver takes it."""

    @abstractmethod
    def from_time(self, value: Any) -> datetime:
        """Return an instant that came from the driver."""

    @abstractmethod
    def _rows(self, rows: Sequence[Any]) -> list[TaskRow]:
        """Return driver rows of all columns."""

    @abstractmethod
    def to_id(self, value: Any) -> str:
        """Return an id that came from the driver."""

    @abstractmethod
    def batch(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the parameters of a batch."""

    def to_task(self, row: TaskRow) -> Task:
        """Return a row as the public model.

        Raises:
            RowlockError: if it holds what rowlock never writes.
        """
        try:
            return self._read(row)
        except Exception as error:
            raise _unreadable(row, error) from error

    def _read(self, row: TaskRow) -> Task:
        status = TaskStatus(row.status)
        modified = self.from_time(row.date_modified)
        return Task(
            id=row.id,
            type=row.type,
            thread_id=row.thread_id,
            retry_interval=row.retry_interval,
            retries_remaining=row.retries_remaining,
            date_created=self.from_time(row.date_created),
            date_modified=modified,
            date_completed=modified if status in _COMPLETED else None,
            date_cancelled=modified if status is TaskStatus.CANCELLED else None,
            date_retain_until=(
                None if row.date_retain_until is None else self.from_time(row.date_retain_until)
            ),
            status=status,
            payload=loads(row.payload),
            result=loads(row.result),
            error=None if row.error is None else TaskError.model_validate_json(row.error),
            attempt=row.attempt,
            priority=row.priority,
            run_at=self.from_time(row.run_at),
            key=row.key,
            progress=None if row.progress is None else TaskProgress(**loads(row.progress)),
            schedule_id=row.schedule_id,
            scheduled_for=(
                None if row.scheduled_for is None else self.from_time(row.scheduled_for)
            ),
        )

    def _verify(self) -> Operation[None]:
        try:
            rows = yield self.sql.revision, {}
        except SchemaError:
            rows = []
        found = rows[0][0] if rows else None
        if found is None:
            raise no_schema()
        if found < REVISION:
            raise SchemaError(
                f"the rowlock schema is at revision {found}, {REVISION} is needed: "
                "run `rowlock db upgrade`"
            )

    def _insert_parameters(self, row: NewRow) -> dict[str, Any]:
        return {
            "id": row.id,
            "type": row.type,
            "priority": row.priority,
            "retries_remaining": row.retries_remaining,
            "retry_interval": row.retry_interval,
            "retain_for": row.retain_for,
            "date_created": self.to_time(id_instant(row.id)),
            "key": row.key,
            "payload": row.payload,
            "run_at": None if row.run_at is None else self.to_time(row.run_at),
            "delay": row.delay,
        }

    def _insert_batch(self, rows: Sequence[NewRow], now: datetime | None) -> Operation[None]:
        batch = [
            {**self._insert_parameters(row), "schedule_id": None, "scheduled_for": None}
            for row in rows
        ]
        yield self.sql.insert_batch, {"now": self.instant(now), **self.batch(batch)}

    def _insert_each(self, rows: Sequence[NewRow], now: datetime | None) -> Operation[list[str]]:
        ids: dict[str, str] = {}
        # In the order of keys, or two callers with the same keys wait for each other.
        for row in sorted(rows, key=lambda row: row.key or ""):
            ids[row.id] = yield from self._insert(row, now)
        return [ids[row.id] for row in rows]

    def _insert(self, row: NewRow, now: datetime | None, *, tell: bool = False) -> Operation[str]:
        parameters = {**self._insert_parameters(row), "now": self.instant(now)}
        if row.key is None:
            yield self.sql.insert_telling if tell else self.sql.insert, parameters
            return row.id
        rows = yield self.sql.insert_keyed, parameters
        return self.to_id(rows[0][0])

    def _get(self, task_id: str) -> Operation[Task | None]:
        rows = yield self.sql.get, {"id": task_id}
        return self._only(rows)

    def _counts(self, task_type: str | None) -> Operation[dict[TaskStatus, int]]:
        if task_type is None:
            rows = yield self.sql.counts, {}
        else:
            rows = yield self.sql.counts_of_type, {"type": task_type}
        # Another status is none that rowlock has written.
        return {TaskStatus(status): count for status, count in rows if status in _STATUSES}

    def _retry(self, task_id: str, now: datetime | None) -> Operation[Task | None]:
        parameters = {"id": task_id, "now": self.instant(now)}
        rows = yield self.sql.retry_waiting, parameters
        if not rows:
            rows = yield self.sql.retry_ended, parameters
        return self._only(rows)

    def _cancel(self, task_id: str, now: datetime | None, running: bool) -> Operation[Task | None]:
        parameters = {"id": task_id, "now": self.instant(now)}
        # Asked about a running task, a second look: it may be pending again by then.
        for _ in range(2):
            rows = yield self.sql.cancel_keep, parameters
            if rows:
                return self._only(rows)
            rows = yield self.sql.cancel_drop, parameters
            if rows:
                ((row, instant),) = self._deleted(rows)
                return self.to_task(
                    row._replace(status=TaskStatus.CANCELLED.value, date_modified=instant)
                )
            if not running:
                return None
            rows = yield self.sql.ask_cancel, parameters
            if rows:
                return self._only(rows)
        return None

    def _remove(self, task_id: str) -> Operation[bool]:
        rows = yield self.sql.remove, {"id": task_id}
        return bool(rows)

    def _page(self, walk: Walk, cursor: _cursor.Position | None, limit: int) -> Operation[TaskPage]:
        task_type, task_status, sort, direction = walk
        parts = segments(sort, task_status, direction, typed=task_type is not None)
        tasks: list[Task] = []
        first = 0 if cursor is None else cursor.segment
        for number, part in enumerate(parts[first:], first):
            after = part.start(number, direction)
            if cursor is not None and number == first:
                after = cursor
            value = part.value(after)
            parameters = {
                "type": task_type,
                "value": self.to_time(value) if isinstance(value, datetime) else value,
                "id": after.id,
                # One more than the page holds tells whether there is another page.
                "limit": limit - len(tasks) + 1,
            }
            order = ("id",) if part.order is None else (part.order, "id")
            statement = self.sql.page(order, part.statuses, task_type is not None, direction)
            for row in self._rows((yield statement, parameters)):
                if len(tasks) == limit:
                    return TaskPage(entities=tasks, cursor=_cursor.encode(after, walk))
                if as_id(row.id) is None:
                    raise _unreadable(row, ValueError("no id"))
                task = self.to_task(row)
                tasks.append(task)
                after = part.position(number, task)
        return TaskPage(entities=tasks)

    def _finish(
        self, holder: str, outcomes: Sequence[Outcome], rows: bool, now: datetime | None
    ) -> Operation[dict[str, Task | None]]:
        common = {"holder": holder, "now": self.instant(now)}
        done: dict[str, Task | None] = {}
        # The order of ids is the order of locks, the same in every statement of every worker.
        ordered = sorted(map(self._bounded, outcomes), key=lambda outcome: outcome.row.id)
        kept: list[Outcome] = []
        dropped: dict[str, Outcome] = {}
        failed: list[Outcome] = []
        for o in ordered:
            if o.drops:
                dropped[o.row.id] = o
            elif o.status is TaskStatus.SUCCESS:
                kept.append(o)
            else:
                failed.append(o)
        if kept:
            batch = self.batch(
                [
                    {"id": o.row.id, "attempt": o.row.attempt, "result": o.ending.result}
                    for o in kept
                ]
            )
            if rows:
                found = yield self.sql.succeed_row, {**common, **batch}
                done.update((row.id, self._task_if_readable(row)) for row in self._rows(found))
            else:
                found = yield self.sql.succeed, {**common, **batch}
                done.update((self.to_id(row[0]), None) for row in found)
        if dropped:
            batch = self.batch(
                [{"id": o.row.id, "attempt": o.row.attempt} for o in dropped.values()]
            )
            if rows:
                found = yield self.sql.drop_row, {**common, **batch}
                done.update(self._dropped(dropped, found))
            else:
                found = yield self.sql.drop, {**common, **batch}
                done.update((self.to_id(row[0]), None) for row in found)
        # Last: each statement may commit by itself, and a task that is pending again may be
        # claimed before the end of this is told to anybody.
        if failed:
            batch = self.batch([self._failure(o) for o in failed])
            found = yield self.sql.fail, {**common, **batch}
            done.update((yield from self._ended(found)))
        return done

    def _ended(self, found: Sequence[Any]) -> Operation[dict[str, Task | None]]:
        rows = self._rows(found)
        for row in rows:
            if row.status == TaskStatus.CANCELLED and row.retain_for == 0:
                yield self.sql.drop_cancelled, {"id": row.id}
        return {row.id: self._task_if_readable(row) for row in rows}

    def _task_if_readable(self, row: TaskRow) -> Task | None:
        # One row that rowlock has not written must not undo what was written of the others.
        try:
            return self.to_task(row)
        except RowlockError:
            return None

    def _dropped(
        self, outcomes: Mapping[str, Outcome], found: Sequence[Any]
    ) -> dict[str, Task | None]:
        return {
            row.id: self._task_if_readable(_end(row, outcomes[row.id], instant))
            for row, instant in self._deleted(found)
        }

    def _deleted(self, found: Sequence[Any]) -> Iterator[tuple[TaskRow, Any]]:
        """The rows as they were, each with the instant."""
        for *columns, instant in found:
            (row,) = self._rows([columns])
            yield row, instant

    def _bounded(self, outcome: Outcome) -> Outcome:
        if not outcome.ending.lost or outcome.row.lost_workers + 1 < self.max_lost_workers:
            return outcome
        return replace(outcome, ending=replace(outcome.ending, retry=False))

    def _failure(self, outcome: Outcome) -> dict[str, Any]:
        return {
            "id": outcome.row.id,
            "attempt": outcome.row.attempt,
            "error": outcome.ending.error,
            "retry": outcome.retries,
            "lost": int(outcome.ending.lost),
            "wait": self._wait(outcome),
        }

    def _wait(self, outcome: Outcome) -> int:
        row = outcome.row
        interval = row.retry_interval
        if interval is None:
            interval = self._retry_interval
        elif not isinstance(interval, int) or not 0 <= interval <= MAX_DURATION_MS:
            # Not of rowlock: an instant that no date can hold would fail its whole batch.
            interval = MAX_DURATION_MS
        # What failed together, as when a service is away, is not tried again together. What was
        # lost together even less, and less each time: one of them may be what brings its worker
        # down, and would take the others with it to the bound.
        spread = interval / 10
        if outcome.ending.lost:
            spread = min(max(interval, interval * (row.lost_workers + 1)), _MAX_SPREAD)
        return interval + int(spread * self.spread * random.random())  # noqa: S311

    def _progress(self, holder: str, reports: Mapping[tuple[str, int], str]) -> Operation[None]:
        batch = self.batch(
            [
                {"id": task_id, "attempt": attempt, "progress": text}
                for (task_id, attempt), text in sorted(reports.items())
            ]
        )
        yield self.sql.progress, {"holder": holder, **batch}

    def _asked(self, holder: str, attempts: Sequence[tuple[str, int]]) -> Operation[set[str]]:
        rows = yield self.sql.asked, {"holder": holder, **self._attempts(attempts)}
        return {self.to_id(row[0]) for row in rows}

    def _extend(
        self,
        holder: str,
        attempts: Sequence[tuple[str, int]],
        lease: int,
        now: datetime | None,
    ) -> Operation[set[str]]:
        rows = yield (
            self.sql.extend,
            {
                "holder": holder,
                "lease": lease,
                "now": self.instant(now),
                **self._attempts(attempts),
            },
        )
        return {self.to_id(row[0]) for row in rows}

    def _release(
        self, holder: str, attempts: Sequence[tuple[str, int]], now: datetime | None
    ) -> Operation[list[Task]]:
        rows = yield (
            self.sql.release,
            {"holder": holder, "now": self.instant(now), **self._attempts(attempts)},
        )
        return _tasks((yield from self._ended(rows)))

    def _attempts(self, attempts: Sequence[tuple[str, int]]) -> dict[str, Any]:
        return self.batch(
            [{"id": task_id, "attempt": attempt} for task_id, attempt in sorted(attempts)]
        )

    def _sweep(self, limit: int, now: datetime | None) -> Operation[tuple[int, list[Task]]]:
        instant = self.instant(now)
        raw = yield self.sql.expired, {"limit": limit, "now": instant}
        lost = sorted(self._rows(raw), key=lambda row: str(row.id))
        outcomes = [outcome for row in lost if (outcome := self._lost_if_readable(row))]
        changed: dict[str, Task | None] = {}
        dropped = {o.row.id: o for o in outcomes if o.drops}
        if dropped:
            batch = self.batch(
                [
                    {"id": o.row.id, "attempt": o.row.attempt, "holder": o.row.thread_id}
                    for o in dropped.values()
                ]
            )
            found = yield self.sql.drop_expired, {"now": instant, **batch}
            changed.update(self._dropped(dropped, found))
        kept = [o for o in outcomes if not o.drops]
        if kept:
            found = yield (
                self.sql.fail_expired,
                {
                    "now": instant,
                    **self.batch([{**self._failure(o), "holder": o.row.thread_id} for o in kept]),
                },
            )
            changed.update((yield from self._ended(found)))
        return len(outcomes), _tasks(changed)

    def _lost_if_readable(self, row: TaskRow) -> Outcome | None:
        # SQLite stores anything in any column.
        try:
            outcome = self._lost(row)
            return outcome if outcome.status and isinstance(row.id, str) else None
        except TypeError:
            return None

    def _lost(self, row: TaskRow) -> Outcome:
        count = row.lost_workers + 1
        error = TaskError(
            name="LeaseLostError",
            message=(
                f"worker {clean_text(row.thread_id, 255)} was lost while it held "
                f"attempt {row.attempt} (lost worker {count} of {self.max_lost_workers})"
            ),
            source="rowlock",
        )
        ending = Ending(
            error=error.model_dump_json(by_alias=True),
            lost=True,
            cancelled=row.cancel_requested is not None,
        )
        return self._bounded(Outcome(row, ending))

    def _forget(self, limit: int, now: datetime | None) -> Operation[int]:
        rows = yield self.sql.forget, {"limit": limit, "now": self.instant(now)}
        return len(rows)

    def _only(self, rows: Sequence[Any]) -> Task | None:
        return self.to_task(self._rows(rows)[0]) if rows else None


def _end(row: TaskRow, outcome: Outcome, instant: Any) -> TaskRow:
    status, error = outcome.status, outcome.ending.error
    if status is TaskStatus.FAILED and row.cancel_requested is not None:
        status = TaskStatus.CANCELLED
    if status is TaskStatus.CANCELLED:
        error = error or row.error  # what an earlier attempt left stays
    return row._replace(
        status=status.value,
        result=outcome.ending.result,
        error=error,
        date_modified=instant,
    )


def _unreadable(row: TaskRow, error: Exception) -> RowlockError:
    return RowlockError(f"task {str(row.id)[:64]!r} cannot be read: {type(error).__name__}")


def _tasks(changed: Mapping[str, Task | None]) -> list[Task]:
    return [task for task in changed.values() if task is not None]


def no_schema() -> SchemaError:
    """Return the error of a database without rowlock's tables."""
    return SchemaError("the database has no rowlock schema: run `rowlock db upgrade`")
