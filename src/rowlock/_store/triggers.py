"""What triggers of scheduled tasks.

It is decided and recorded in one transaction: the rows that are due are read and locked, their next
instants written by compare-and-set, and the tasks that they create inserted. So an instant triggers
once, whoever else looks at the same moment or wakes from a long sleep.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Executable,
    Integer,
    Select,
    Text,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    update,
)

from rowlock._endings import describe
from rowlock._ids import new_id
from rowlock._instants import from_milliseconds, to_milliseconds
from rowlock._rows import NewRow
from rowlock._scheduling import plan
from rowlock._scheduling.times import (
    DamagedError,
    NotUnderstoodError,
)
from rowlock._store.database import Database, Operation, reading, transaction
from rowlock._store.new_rows import batch_parameters
from rowlock._store.schedule_rows import (
    DAMAGED,
    ScheduleRow,
    ScheduleRows,
    is_among,
    is_not_left,
    names,
    readable,
    template_of,
    with_instant,
)
from rowlock._store.sql import Dialect, Statements
from rowlock._store.tables import IdType, TimeType, scheduled_task, stored_from_batch, task
from rowlock._store.tasks import TaskStatements
from rowlock.models import SizeLimits, TaskStatus

# So many instants of one scheduled task are caught up in one transaction.
CATCH_UP = 100

# So many rows that cannot be read are left out of a look.
_MOST_LEFT = 10_000


@dataclass(frozen=True, slots=True)
class Trigger:
    """A function is to be called.

    Attributes:
        id: of which scheduled task.
        due: the instant that triggers.
    """

    id: str
    due: datetime


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """How the call of a function ended: "success", or "failed" with an error as JSON text."""

    trigger: Trigger
    outcome: str
    error: str | None


@dataclass(slots=True)
class Advance:
    """What one look for due scheduled tasks has done.

    Attributes:
        found: how many were due and free.
        triggers: the functions to call.
        types: the types of the tasks that were created.
        damaged: those that are nothing that rowlock writes, which are put aside, and why.
        unread: those that are left to others, and why.
        skipped: those of which instants were too late, and why.
        read: the rows as they were.
    """

    found: int = 0
    triggers: list[Trigger] = field(default_factory=list)
    types: set[str] = field(default_factory=set)
    damaged: list[tuple[str, str]] = field(default_factory=list)
    unread: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    read: list[ScheduleRow] = field(default_factory=list, compare=False, repr=False)


class Left:
    """The rows that this process leaves to others, by their tokens: each write changes them."""

    def __init__(self) -> None:
        self._tokens: dict[str, None] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._tokens))

    @property
    def is_full(self) -> bool:
        """Whether the next one takes the place of another."""
        return len(self._tokens) >= _MOST_LEFT

    def add(self, token: str) -> None:
        """Leave a row out of the next looks."""
        if self.is_full:
            del self._tokens[next(iter(self._tokens))]
        self._tokens[token] = None

    def clear(self) -> None:
        """Look at all of them again."""
        self._tokens.clear()


class TriggerStatements(Statements):
    """The statements."""

    def __init__(self, dialect: Dialect) -> None:
        build = dialect.statement
        # What creates a task is anybody's; what calls a function, only theirs who have it.
        ours = or_(scheduled_task.c.task_type.is_not(None), is_among(dialect))

        self.next_due = build(
            select(func.min(scheduled_task.c.next_trigger), dialect.now.label("now")).where(
                # Said, or SQLite does not read the index that leaves the others out.
                scheduled_task.c.next_trigger.is_not(None),
                ours,
                is_not_left(dialect),
            )
        )
        self.due = build(_due(dialect, ours))
        self.due_here = build(_due(dialect, is_among(dialect)))
        self.statuses = build(_statuses(dialect))
        self.ended = build(_ended(dialect))


def _due(dialect: Dialect, ours: ColumnElement[bool]) -> Select[Any]:
    return (
        with_instant(dialect)
        # What this process cannot read stays due until another has triggered it.
        .where(scheduled_task.c.next_trigger <= dialect.now, ours, is_not_left(dialect))
        .order_by(scheduled_task.c.next_trigger)
        .limit(bindparam("limit", type_=Integer))
        .with_for_update(skip_locked=True)
    )


def _statuses(dialect: Dialect) -> Executable:
    ids = dialect.batch({"id": IdType()})
    return select(task.c.id, task.c.status).where(dialect.one_of(task.c.id, select(ids.c.id)))


def _ended(dialect: Dialect) -> Executable:
    batch = dialect.batch({"id": Text(), "due": TimeType(), "outcome": Text(), "error": Text()})
    return (
        update(scheduled_task)
        .where(
            scheduled_task.c.id == batch.c.id,
            scheduled_task.c.last_trigger == batch.c.due,
            scheduled_task.c.last_outcome == literal_column("'started'"),
        )
        .values(
            last_outcome=batch.c.outcome,
            last_error=stored_from_batch(scheduled_task.c.last_error, batch.c.error),
        )
    )


class Triggers:
    """The operations. Instants called `now` are `datetime | None`, as for a `Database`.

    Args:
        database: where they are.
        left: what is left to others; it is added to.
    """

    def __init__(self, database: Database, left: Left | None = None) -> None:
        self._database = database
        self._codec = database.codec
        self._sql = TriggerStatements.of(database.dialect)
        self._rows = ScheduleRows(database)
        self._left = Left() if left is None else left

    @reading
    def next_due(self, ours: Iterable[str], now: datetime | None = None) -> Operation[float | None]:
        """Return the seconds until something is due: 0 if it is, None if nothing waits.

        Args:
            ours: the ids whose functions can be called here.
            now: the instant.
        """
        ((due, instant),) = yield (
            self._sql.next_due,
            {"now": self._codec.instant(now), **names(self._codec, ours, self._left)},
        )
        if due is None:
            return None
        wait = self._codec.from_time(due) - self._codec.from_time(instant)
        return max(0.0, wait.total_seconds())

    @transaction
    def advance(
        self,
        ours: Iterable[str],
        limit: int,
        now: datetime | None = None,
        rooms: Sequence[tuple[Iterable[str], int]] = (),
    ) -> Operation[Advance]:
        """Trigger what is due: of each function one instant.

        Args:
            ours: the ids whose functions can be called here.
            limit: how many of these and of those that create tasks are triggered at most.
            now: the instant.
            rooms: more ids whose functions can be called here, but only so many of them.
        """
        parameters = {"now": self._codec.instant(now)}
        rows: list[Any] = []
        for statement, ids, room in (
            (self._sql.due, ours, limit),
            *((self._sql.due_here, ids, room) for ids, room in rooms),
        ):
            named = names(self._codec, ids, self._left)
            rows += yield statement, {**parameters, "limit": room, **named}
        # One that creates tasks here and calls a function elsewhere may be among both.
        found = {row.id: (row, instant) for row, instant in map(self._rows.split, rows)}
        done = Advance(found=len(found), read=[row for row, _ in found.values()])
        changed: list[ScheduleRow] = []
        tasks: list[NewRow] = []
        statuses = yield from self._statuses(done.read)
        for row, instant in found.values():
            created: list[NewRow] = []
            try:
                row, created = self._advanced(row, instant, statuses.get(row.id), done)
            except DamagedError as error:
                row = _put_aside(row, instant, error, done)
            except Exception as error:
                # What else there is may be only here: another process may be able to.
                done.unread.append((row.id, str(error) or type(error).__name__))
                self._left.add(row.token)
                continue
            changed.append(row)
            tasks += created
        written = yield from self._rows.write(changed)
        done.triggers = [trigger for trigger in done.triggers if trigger.id in written]
        tasks = [task for task in tasks if task.schedule_id in written]
        yield from self._create(tasks, parameters["now"])
        done.types.update(task.type for task in tasks)
        return done

    @transaction
    def trigger(
        self, schedule_id: str, ours: bool, now: datetime | None = None
    ) -> Operation[Advance]:
        """Trigger a scheduled task now, whatever its instants; `found` is 0 if it cannot be.

        Args:
            schedule_id: which.
            ours: whether its function can be called here.
            now: the instant.
        """
        done = Advance()
        found = yield from self._rows.found(schedule_id, now)
        if found is None or (found[0].task_type is None and not ours):
            return done
        row, instant = found
        if row.last_outcome == DAMAGED:
            return done
        statuses = yield from self._statuses([row])
        present = to_milliseconds(self._codec.from_time(instant))
        tasks: list[NewRow] = []
        try:
            row, tasks = self._triggered(row, [present], statuses.get(row.id), done)
        except NotUnderstoodError as error:
            done.unread.append((row.id, str(error)))
            return done
        except DamagedError as error:
            row = _put_aside(row, instant, error, done)
        else:
            done.found = 1
        yield from self._rows.write([row])
        yield from self._create(tasks, self._codec.instant(now))
        done.types.update(task.type for task in tasks)
        return done

    @transaction
    def record(self, ends: Sequence[CallOutcome]) -> Operation[None]:
        """Store how calls ended, unless the scheduled task has triggered again."""
        yield (
            self._sql.ended,
            self._codec.batch(
                [
                    {
                        "id": end.trigger.id,
                        "due": self._codec.to_time(end.trigger.due),
                        "outcome": end.outcome,
                        "error": end.error,
                    }
                    for end in sorted(ends, key=lambda end: end.trigger.id)
                ]
            ),
        )

    def _advanced(
        self, row: ScheduleRow, instant: Any, status: str | None, done: Advance
    ) -> tuple[ScheduleRow, list[NewRow]]:
        """Return a row whose due instants have triggered, and the tasks that these create."""
        found = plan.due(
            readable(row),
            to_milliseconds(self._codec.from_time(instant)),
            row.misfire,
            row.misfire_grace,
            1 if row.task_type is None else CATCH_UP,
        )
        if found.missed is not None:
            done.skipped.append((row.id, found.reason))
            row = row._replace(
                last_skip=self._rows.time(found.missed), last_skip_reason=found.reason
            )
        elif not found.instants:
            raise DamagedError("next_trigger: it is not the earliest of the times")
        row = self._rows.with_times(row, found.times)
        return self._triggered(row, found.instants, status, done)

    def _triggered(
        self, row: ScheduleRow, instants: Sequence[int], status: str | None, done: Advance
    ) -> tuple[ScheduleRow, list[NewRow]]:
        """Return a row that instants have triggered, and the tasks that these create."""
        template = template_of(row)
        if template is None:
            for instant in instants:
                done.triggers.append(Trigger(row.id, from_milliseconds(instant)))
                row = row._replace(
                    last_trigger=self._rows.time(instant), last_outcome="started", last_error=None
                )
            return row, []
        skipped: Sequence[int] = ()
        if row.overlap == "skip":
            instants, skipped = plan.apart(instants, status)
        tasks = [
            template._replace(
                id=new_id(), schedule_id=row.id, scheduled_for=from_milliseconds(instant)
            )
            for instant in instants
        ]
        if tasks:
            status = TaskStatus.PENDING
            row = row._replace(
                last_trigger=self._rows.time(instants[-1]),
                last_outcome="created",
                last_error=None,
                last_task_id=tasks[-1].id,
            )
        if skipped:
            row = row._replace(
                last_skip=self._rows.time(skipped[-1]),
                last_skip_reason=f"task {row.last_task_id} was {status}",
            )
        return row, tasks

    def _create(self, tasks: Sequence[NewRow], now: Any) -> Operation[None]:
        if tasks:
            to_time = self._codec.to_time
            batch = self._codec.batch([batch_parameters(task, to_time) for task in tasks])
            yield TaskStatements.of(self._database.dialect).insert_batch, {"now": now, **batch}

    def _statuses(self, rows: Sequence[ScheduleRow]) -> Operation[dict[str, str]]:
        """Return of the scheduled tasks with an overlap rule how their last task stands.

        In a statement of its own: the one that locks a row does not see the task that was
        created while it waited for the lock.
        """
        last = {
            row.last_task_id: row.id
            for row in rows
            if row.overlap == "skip" and row.last_task_id is not None
        }
        if not last:
            return {}
        found = yield self._sql.statuses, self._codec.batch([{"id": task_id} for task_id in last])
        return {last[self._codec.to_id(task_id)]: status for task_id, status in found}


def _put_aside(row: ScheduleRow, instant: Any, error: DamagedError, done: Advance) -> ScheduleRow:
    done.damaged.append((row.id, str(error)))
    return row._replace(
        next_trigger=None,
        paused_since=instant,
        last_outcome=DAMAGED,
        last_error=describe(error, "rowlock", SizeLimits()),
    )
