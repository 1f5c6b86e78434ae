"""Every database operation, once.

An operation is a generator: it yields a statement with its parameters and is sent the rows. It
knows no driver and does not wait, so the same code runs between BEGIN and COMMIT of asyncpg and
in one call inside the thread of an SQLite connection, where a transaction must not span an
`await`.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from operator import attrgetter
from typing import Any, ClassVar, NamedTuple, TypeVar

from sqlalchemy import URL

from rowlock._batch_size import StatementTooSlowError
from rowlock._endings import HandlerResult, brief
from rowlock._ids import as_id, id_instant
from rowlock._json import loads
from rowlock._store import cursor as _cursor
from rowlock._store.paging import segments
from rowlock._store.statements import KEEP_IF_FAILED, MOST_ATTEMPTS, Statement, Statements, TaskRow
from rowlock._store.tables import REVISION
from rowlock._store.url import upgrade_command
from rowlock.errors import (
    DatabaseUnavailableError,
    DuplicateKeyError,
    RowlockError,
    SchemaError,
)
from rowlock.models import (
    MAX_DURATION_MS,
    SortDirection,
    SortProperty,
    Task,
    TaskAttempt,
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

# So many tasks with keys go in one statement.
_KEYED_BATCH = 1000

_COMPLETED = (TaskStatus.FAILED, TaskStatus.SUCCESS)
_RETRIED = (TaskStatus.FAILED, TaskStatus.CANCELLED)
_STATUSES = frozenset(TaskStatus)


class NoTableError(Exception):
    """A table of rowlock's is not there; thrown into the operation that has asked for it."""


class RowsLockedError(DatabaseUnavailableError):
    """Somebody else has a lock on a row, and has had it for longer than may be waited for.

    Thrown into the operation that has yielded the statement, none of which was done.
    """


class KeyTakenError(RowlockError):
    """Another task has got the key meanwhile; thrown as `RowsLockedError` is."""


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


@dataclass(frozen=True, slots=True)
class AttemptOutcome:
    """How an attempt ended.

    Attributes:
        row: the row as it was claimed.
        ending: how its handler ended.
    """

    row: TaskRow
    ending: HandlerResult

    @property
    def succeeds(self) -> bool:
        """Whether the task becomes a success."""
        return self.ending.error is None and not self.ending.cancelled

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
        if self.row.retain_for == KEEP_IF_FAILED:
            return self.ending.error is None or self.ending.cancelled
        return self.row.retain_for == 0 and not self.retries

    @property
    def name(self) -> str:
        """What the attempt is kept as, if it was no success."""
        if self.ending.lost:
            return "lost"
        if self.ending.cancelled:
            return "cancelled"
        return "timeout" if self.ending.late else "failed"


class Finished(NamedTuple):
    """What became of outcomes. One that is in neither was refused: its attempt had moved on.

    Attributes:
        tasks: of each that was stored its task, None where nobody asked for it.
        locked: the ids of those that were not stored, because somebody else has locked the row.
        unsent: the ids of those whose statement was too slow, and was undone.
    """

    tasks: dict[str, Task | None]
    locked: set[str]
    unsent: set[str]


class Swept(NamedTuple):
    """What a pass over expired leases has done.

    Attributes:
        found: how many had expired, but for those that cannot be read.
        changed: the tasks put back or ended.
        spared: the ids and attempts of those that their holder, who asks, goes on with.
    """

    found: int
    changed: list[Task]
    spared: list[tuple[str, int]]


Holds = Callable[[tuple[str, int]], bool]


class Operations(ABC):
    """The operations, with what the two databases say differently left open.

    Instants called `now` are `datetime | None`; None is the clock that the database goes by.
    """

    sql: ClassVar[Statements]
    # With 0 a retry comes exactly after its interval.
    spread = 1.0
    # Of the database, as it was given: for the command that an error names.
    url: URL

    def __init__(self, *, retry_interval: int, max_lost_workers: int, keep_failed: int) -> None:
        self._retry_interval = retry_interval
        self.max_lost_workers = max_lost_workers
        self._keep_failed = keep_failed

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
    def from_json_time(self, value: Any) -> datetime:
        """Return an instant that the database has put into a JSON text."""

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
            date_started=None if row.date_started is None else self.from_time(row.date_started),
            attempts=[self._read_attempt(entry) for entry in loads(row.attempts) or []],
        )

    def _read_attempt(self, entry: dict[str, Any]) -> TaskAttempt:
        started = entry["started"]
        return TaskAttempt(
            **{
                **entry,
                "started": None if started is None else self.from_json_time(started),
                "ended": self.from_json_time(entry["ended"]),
            }
        )

    def _verify(self) -> Operation[str]:
        try:
            rows = yield self.sql.revision, {}
        except NoTableError:
            rows = []
        found = rows[0][0] if rows else None
        if found is None:
            raise no_schema(self.url)
        if found < REVISION:
            raise SchemaError(
                f"the rowlock schema is at revision {found}, {REVISION} is needed: "
                f"run {upgrade_command(self.url)}"
            )
        return str(found)

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

    def _new_batch(self, rows: Sequence[NewRow]) -> dict[str, Any]:
        return self.batch(
            [
                {**self._insert_parameters(row), "schedule_id": None, "scheduled_for": None}
                for row in rows
            ]
        )

    def _insert_batch(self, rows: Sequence[NewRow], now: datetime | None) -> Operation[None]:
        yield self.sql.insert_batch, {"now": self.instant(now), **self._new_batch(rows)}

    def _insert_each(self, rows: Sequence[NewRow], now: datetime | None) -> Operation[list[str]]:
        ids: dict[str, str] = {}
        # In the order of keys, or two callers with the same keys wait for each other.
        ordered = sorted(rows, key=lambda row: (row.type, row.key or ""))
        for place in range(0, len(ordered), _KEYED_BATCH):
            ids.update((yield from self._insert_keyed(ordered[place : place + _KEYED_BATCH], now)))
        return [ids[row.id] for row in rows]

    def _insert_keyed(
        self, rows: Sequence[NewRow], now: datetime | None
    ) -> Operation[dict[str, str]]:
        """Store tasks; return of each the id, or that of the task that has its key."""
        ids: dict[str, str] = {}
        # Who has a key may be gone by the time of the look at it.
        while left := [row for row in rows if row.id not in ids]:
            inserted = yield (
                self.sql.insert_batch_keyed,
                {"now": self.instant(now), **self._new_batch(left)},
            )
            ids.update((new, new) for new in (self.to_id(row[0]) for row in inserted))
            if taken := [row for row in left if row.id not in ids]:
                keys = [{"id": row.id, "type": row.type, "key": row.key} for row in taken]
                found = yield self.sql.with_keys, self.batch(keys)
                holders = {self.to_id(new): self.to_id(holder) for new, holder in found}
                for row in taken:
                    if row.refuses and row.id in holders:
                        raise _key_taken(row.type, row.key, holders[row.id])
                ids.update(holders)
        return ids

    def _insert(self, row: NewRow, now: datetime | None, *, notify: bool = False) -> Operation[str]:
        parameters = {**self._insert_parameters(row), "now": self.instant(now)}
        if row.key is None:
            yield self.sql.insert_and_notify if notify else self.sql.insert, parameters
            return row.id
        # Who has the key may be gone by the time of the look at it.
        while not (yield self.sql.insert_keyed, parameters):
            holder = yield from self._with_key(row.type, row.key)
            if holder is not None:
                if row.refuses:
                    raise _key_taken(row.type, row.key, holder)
                return holder
        return row.id

    def _with_key(self, task_type: str, key: str) -> Operation[str | None]:
        rows = yield self.sql.with_key, {"type": task_type, "key": key}
        return self.to_id(rows[0][0]) if rows else None

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
        if not rows:
            rows = yield self.sql.get, {"id": task_id}
            row = self._rows(rows)[0] if rows else None
            if row is None or row.status not in _RETRIED or row.key is None:
                return None
            holder = yield from self._with_key(row.type, row.key)
            if holder is None:
                return None
            raise _key_taken(row.type, row.key, holder)
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
            rows = yield self.sql.request_cancel, parameters
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

    def _past_locks(
        self, statement: Statement, parameters: Mapping[str, Any], wait: bool
    ) -> Operation[tuple[Sequence[Any], bool]]:
        """Send a statement on a batch; return its rows, and whether it was on all of the batch.

        A lock on one row delays that row and nothing else.

        Args:
            statement: what is done to them.
            parameters: of the batch.
            wait: for a lock, for as long as the connection does; else what is locked is left out.
        """
        assert statement.skipping is not None  # noqa: S101
        if wait:
            with suppress(RowsLockedError):
                return (yield statement, parameters), True
        return (yield statement.skipping(), parameters), False

    def _on_held(
        self, statement: Statement, parameters: Mapping[str, Any], wait: bool
    ) -> Operation[tuple[Sequence[Any], set[str]]]:
        """The same of attempts that a holder has; return the ids of what was left out instead."""
        rows, complete = yield from self._past_locks(statement, parameters, wait)
        if complete:
            return rows, set()
        held = yield self.sql.held, parameters
        locked = {self.to_id(row[0]) for row in held} - {self.to_id(row[0]) for row in rows}
        return rows, locked

    def _finish(
        self,
        holder: str,
        outcomes: Sequence[AttemptOutcome],
        rows: bool,
        now: datetime | None,
        wait: bool = True,
    ) -> Operation[Finished]:
        common = {"holder": holder, "now": self.instant(now)}
        done: dict[str, Task | None] = {}
        locked: set[str] = set()
        # The order of ids is the order of locks, the same in every statement of every worker.
        ordered = sorted(map(self._bounded, outcomes), key=attrgetter("row.id"))
        kept: list[AttemptOutcome] = []
        dropped: dict[str, AttemptOutcome] = {}
        failed: list[AttemptOutcome] = []
        for o in ordered:
            if o.drops:
                dropped[o.row.id] = o
            elif o.succeeds:
                kept.append(o)
            else:
                failed.append(o)
        unsent: set[str] = set()

        def on(
            statement: Statement, group: Sequence[AttemptOutcome], batch: Mapping[str, Any]
        ) -> Operation[Sequence[Any]]:
            try:
                found, waiting = yield from self._on_held(statement, {**common, **batch}, wait)
            except StatementTooSlowError:
                # What was stored before stays stored.
                unsent.update(o.row.id for o in group)
                return []
            locked.update(waiting)
            return found

        if kept:
            batch = self.batch(
                [
                    {"id": o.row.id, "attempt": o.row.attempt, "result": o.ending.result}
                    for o in kept
                ]
            )
            if rows:
                found = yield from on(self.sql.succeed_row, kept, batch)
                done.update((row.id, self._task_if_readable(row)) for row in self._rows(found))
            else:
                found = yield from on(self.sql.succeed, kept, batch)
                done.update((self.to_id(row[0]), None) for row in found)
        if dropped:
            batch = self.batch(
                [{"id": o.row.id, "attempt": o.row.attempt} for o in dropped.values()]
            )
            if rows:
                found = yield from on(self.sql.drop_row, list(dropped.values()), batch)
                done.update(self._dropped(dropped, found))
            else:
                found = yield from on(self.sql.drop, list(dropped.values()), batch)
                done.update((self.to_id(row[0]), None) for row in found)
        # Last: each statement may commit by itself, and a task that is pending again may be
        # claimed before the end of this is told to anybody.
        if failed:
            batch = self.batch([self._failure(o) for o in failed])
            batch["keep_failed"] = self._kept_failed
            found = yield from on(self.sql.fail, failed, batch)
            done.update((yield from self._ended(found)))
        return Finished(done, locked, unsent)

    @property
    def _kept_failed(self) -> int | None:
        return None if self._keep_failed < 0 else self._keep_failed

    def _ended(self, found: Sequence[Any]) -> Operation[dict[str, Task | None]]:
        rows = self._rows(found)
        for row in rows:
            if row.status == TaskStatus.CANCELLED and row.retain_for in (0, KEEP_IF_FAILED):
                # If somebody has locked it, the next retention pass removes it.
                with suppress(RowsLockedError):
                    yield self.sql.drop_cancelled, {"id": row.id}
        return {row.id: self._task_if_readable(row) for row in rows}

    def _task_if_readable(self, row: TaskRow) -> Task | None:
        # One row that rowlock has not written must not undo what was written of the others.
        try:
            return self.to_task(row)
        except RowlockError:
            return None

    def _dropped(
        self, outcomes: Mapping[str, AttemptOutcome], found: Sequence[Any]
    ) -> dict[str, Task | None]:
        return {
            row.id: self._ended_if_readable(row, outcomes[row.id], instant)
            for row, instant in self._deleted(found)
        }

    def _ended_if_readable(
        self, row: TaskRow, outcome: AttemptOutcome, instant: Any
    ) -> Task | None:
        task = self._task_if_readable(_end(row, outcome, instant))
        if task is None or task.status is TaskStatus.SUCCESS:
            return task
        last = TaskAttempt(
            attempt=task.attempt,
            worker=task.thread_id,
            started=task.date_started,
            ended=task.date_modified,
            outcome=outcome.name,
            error=None if outcome.ending.error is None else task.error,
        )
        return task.model_copy(update={"attempts": [*task.attempts, last][-MOST_ATTEMPTS:]})

    def _deleted(self, found: Sequence[Any]) -> Iterator[tuple[TaskRow, Any]]:
        """The rows as they were, each with the instant."""
        for *columns, instant in found:
            (row,) = self._rows([columns])
            yield row, instant

    def _bounded(self, outcome: AttemptOutcome) -> AttemptOutcome:
        if not outcome.ending.lost or outcome.row.lost_workers + 1 < self.max_lost_workers:
            return outcome
        return replace(outcome, ending=replace(outcome.ending, retry=False))

    def _failure(self, outcome: AttemptOutcome) -> dict[str, Any]:
        return {
            "id": outcome.row.id,
            "attempt": outcome.row.attempt,
            "outcome": outcome.name,
            "error": outcome.ending.error,
            "brief": brief(outcome.ending.error),
            "retry": outcome.retries,
            "lost": int(outcome.ending.lost),
            "wait": self._wait(outcome),
        }

    def _wait(self, outcome: AttemptOutcome) -> int:
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

    def _progress(
        self, holder: str, reports: Mapping[tuple[str, int], str], wait: bool = True
    ) -> Operation[set[str]]:
        batch = self.batch(
            [
                {"id": task_id, "attempt": attempt, "progress": text}
                for (task_id, attempt), text in sorted(reports.items())
            ]
        )
        parameters = {"holder": holder, **batch}
        _, locked = yield from self._on_held(self.sql.progress, parameters, wait)
        return locked

    def _cancel_requests(
        self, holder: str, attempts: Sequence[tuple[str, int]]
    ) -> Operation[set[str]]:
        rows = yield self.sql.cancel_requests, {"holder": holder, **self._attempts(attempts)}
        return {self.to_id(row[0]) for row in rows}

    def _extend(
        self,
        holder: str,
        attempts: Sequence[tuple[str, int]],
        lease: int,
        now: datetime | None,
        wait: bool = True,
    ) -> Operation[tuple[set[str], set[str]]]:
        parameters = {"holder": holder, "lease": lease, "now": self.instant(now)}
        rows, locked = yield from self._on_held(
            self.sql.extend, {**parameters, **self._attempts(attempts)}, wait
        )
        return {self.to_id(row[0]) for row in rows}, locked

    def _release(
        self,
        holder: str,
        attempts: Sequence[tuple[str, int]],
        begun: Collection[tuple[str, int]],
        now: datetime | None,
        wait: bool = True,
    ) -> Operation[tuple[list[Task], set[str]]]:
        batch = self.batch(
            [{"id": key[0], "attempt": key[1], "begun": key in begun} for key in sorted(attempts)]
        )
        parameters = {"holder": holder, "now": self.instant(now), **batch}
        rows, locked = yield from self._on_held(self.sql.release, parameters, wait)
        return _tasks((yield from self._ended(rows))), locked

    def _attempts(self, attempts: Sequence[tuple[str, int]]) -> dict[str, Any]:
        return self.batch(
            [{"id": task_id, "attempt": attempt} for task_id, attempt in sorted(attempts)]
        )

    def _sweep(
        self, limit: int, now: datetime | None, holder: str | None, holds: Holds
    ) -> Operation[Swept]:
        instant = self.instant(now)
        raw = yield self.sql.expired, {"limit": limit, "now": instant}
        rows = self._rows(raw)
        spared = [
            (row.id, row.attempt)
            for row in rows
            if row.thread_id == holder and holds((row.id, row.attempt))
        ]
        left_out = set(spared)
        lost = sorted(
            (row for row in rows if (row.id, row.attempt) not in left_out),
            key=lambda row: str(row.id),
        )
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
            found, _ = yield from self._past_locks(
                self.sql.drop_expired, {"now": instant, **batch}, True
            )
            changed.update(self._dropped(dropped, found))
        kept = [o for o in outcomes if not o.drops]
        if kept:
            batch = self.batch([{**self._failure(o), "holder": o.row.thread_id} for o in kept])
            found, _ = yield from self._past_locks(
                self.sql.fail_expired,
                {"now": instant, "keep_failed": self._kept_failed, **batch},
                True,
            )
            changed.update((yield from self._ended(found)))
        return Swept(len(outcomes) + len(spared), _tasks(changed), spared)

    def _lost_if_readable(self, row: TaskRow) -> AttemptOutcome | None:
        # SQLite stores anything in any column.
        try:
            outcome = self._lost(row)
            return outcome if outcome.status and isinstance(row.id, str) else None
        except TypeError:
            return None

    def _lost(self, row: TaskRow) -> AttemptOutcome:
        count = row.lost_workers + 1
        error = TaskError(
            name="LeaseLostError",
            message=(
                f"worker {clean_text(row.thread_id, 255)} was lost while it held "
                f"attempt {row.attempt} (lost worker {count} of {self.max_lost_workers})"
            ),
            source="rowlock",
        )
        ending = HandlerResult(
            error=error.model_dump_json(by_alias=True),
            lost=True,
            cancelled=row.cancel_requested is not None,
        )
        return self._bounded(AttemptOutcome(row, ending))

    def _prune(self, limit: int, now: datetime | None) -> Operation[int]:
        rows = yield self.sql.prune, {"limit": limit, "now": self.instant(now)}
        return len(rows)

    def _only(self, rows: Sequence[Any]) -> Task | None:
        return self.to_task(self._rows(rows)[0]) if rows else None


def _end(row: TaskRow, outcome: AttemptOutcome, instant: Any) -> TaskRow:
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


def _key_taken(task_type: str, key: str | None, holder: str) -> DuplicateKeyError:
    return DuplicateKeyError(f"key: task {holder} of type {task_type!r} has {key!r}", holder)


def _unreadable(row: TaskRow, error: Exception) -> RowlockError:
    return RowlockError(f"task {str(row.id)[:64]!r} cannot be read: {type(error).__name__}")


def _tasks(changed: Mapping[str, Task | None]) -> list[Task]:
    return [task for task in changed.values() if task is not None]


def no_schema(url: URL) -> SchemaError:
    """Return the error of a database without rowlock's tables."""
    return SchemaError(f"the database has no rowlock schema: run {upgrade_command(url)}")


def used_up() -> DatabaseUnavailableError:
    """Return the error of a pool whose connections are all lent."""
    return DatabaseUnavailableError(
        "the connection pool of the application's engine is used up: "
        "a larger pool_size, or connections that are given back sooner, are needed"
    )
