"""The statements that both databases share, built once for each.

What has to be said differently is named in `Dialect`; all else is written here once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final, NamedTuple, cast

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Delete,
    Executable,
    FromClause,
    Integer,
    Select,
    Table,
    Text,
    TextClause,
    Update,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal_column,
    not_,
    null,
    select,
    text,
    tuple_,
    union_all,
    update,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.types import TypeEngine

from rowlock._store.tables import (
    KEY_TAKEN,
    VERSION_TABLE,
    IdType,
    JsonType,
    TimeType,
    key_taken,
    task,
)
from rowlock.models import MAX_DURATION_MS, TRANSITIONS, SortDirection, TaskStatus

# One claim takes no more tasks: they could not all begin soon, and others may want them.
MOST_OF_A_CLAIM = 1000
# Nor more bytes of payloads than these, and the row with which it comes to them: what a claim
# brings has to come over the link within the timeout, and into memory.
MOST_BYTES_OF_A_CLAIM = 16 * 2**20

KEEP_IF_FAILED = -2
"""`retain_for` where none was given: removed at the end, but a failed task is kept for a while."""

MOST_ATTEMPTS = 20
"""So many attempts that were no success are kept with a task."""


class TaskRow(NamedTuple):
    """A row as it comes from the driver, but for the id, which is always 32 hex digits.

    To run a task takes no more than what has no default, and a claim asks for no more, unless
    somebody wants to see the task: half as much to send and to read.
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
    status: Any = None
    thread_id: Any = None
    date_created: Any = None
    date_modified: Any = None
    date_retain_until: Any = None
    key: str | None = None
    result: str | None = None
    error: str | None = None
    cancel_requested: Any = None
    date_started: Any = None
    attempts: str | None = None


_COLUMNS: Final = [
    sql_cast(task.c[name], Text).label(name)
    if name in ("payload", "result", "error", "progress", "attempts")
    else task.c[name]
    for name in TaskRow._fields
]
_TO_RUN: Final = _COLUMNS[: -len(TaskRow._field_defaults)]


# What is given of a new task, as it travels.
_NEW: Final[dict[str, TypeEngine[Any]]] = {
    "id": IdType(),
    "type": Text(),
    "priority": Integer(),
    "run_at": TimeType(),
    "delay": BigInteger(),
    "retries_remaining": Integer(),
    "retry_interval": BigInteger(),
    "retain_for": BigInteger(),
    "date_created": TimeType(),
    "key": Text(),
    "payload": Text(),
}
_SCHEDULED: Final[dict[str, TypeEngine[Any]]] = {
    "schedule_id": Text(),
    "scheduled_for": TimeType(),
}


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement ready for the driver.

    Attributes:
        sql: its text.
        names: the names of its parameters, in the order of their places (PostgreSQL).
        constants: parameters that always have the same value.
        core: what it was compiled from, for a connection of the caller's.
        skipping: gives the one that does the same to those rows of a batch only that nobody else
            has locked, and waits for no lock. Built when it is needed first.
    """

    sql: str
    names: Sequence[str]
    constants: Mapping[str, Any]
    core: Executable
    skipping: Callable[[], Statement] | None = None


def constant(status: TaskStatus) -> ColumnElement[str]:
    """A status as a literal: a partial index is not matched by a parameter."""
    return literal_column(f"'{status.value}'", Text)


_LONGEST: Final[ColumnElement[int]] = literal_column(str(MAX_DURATION_MS), BigInteger)
_KEEP_IF_FAILED: Final[ColumnElement[int]] = literal_column(str(KEEP_IF_FAILED), BigInteger)
# Of a task that ends as success or cancelled.
_REMOVED_AT_ONCE: Final = task.c.retain_for.in_([literal_column("0"), _KEEP_IF_FAILED])

# The conditions of partial indexes, as they are declared.
_PROCESSING: Final = task.c.status == constant(TaskStatus.PROCESSING)
_RESTING: Final = task.c.status != constant(TaskStatus.PROCESSING)


def sources(target: TaskStatus) -> ColumnElement[bool]:
    """The row has a status from which the transition table allows `target`."""
    allowed = [status for status, targets in TRANSITIONS.items() if target in targets]
    return task.c.status.in_([constant(status) for status in allowed])


class Dialect(ABC):
    """What the statements need said differently on each database."""

    now: ColumnElement[Any]
    """The instant that decides what is due, expired and past retention."""

    @abstractmethod
    def insert(self, table: Table) -> Any:
        """An INSERT that can have an ON CONFLICT clause."""

    @abstractmethod
    def notifying(self, insert: Any) -> Executable:
        """The INSERT of a task, telling waiting workers as soon as it is committed."""

    @abstractmethod
    def after(self, instant: ColumnElement[Any], ms: ColumnElement[Any]) -> ColumnElement[Any]:
        """The instant `ms` milliseconds after another."""

    @abstractmethod
    def batch(
        self, columns: Mapping[str, TypeEngine[Any]], *, skip_locked: bool = False
    ) -> FromClause:
        """The rows of a batch, bound as one value.

        Args:
            columns: what each has.
            skip_locked: leave out those whose task, named by the column `id`, is gone or locked
                by somebody else, and lock the others.
        """

    @abstractmethod
    def same(self, column: ColumnElement[Any], value: ColumnElement[Any]) -> ColumnElement[bool]:
        """The column of a table has a value of a batch; looked up by the column's index.

        Whatever the statistics say: those of a table that was empty let a planner believe that
        it is as well to read all of it.
        """

    @abstractmethod
    def delete(self, batch: FromClause, fence: ColumnElement[bool]) -> Delete:
        """The DELETE of those tasks of a batch of ids and attempts that the fence lets through."""

    @abstractmethod
    def appended(self, entry: Mapping[str, ColumnElement[Any]]) -> ColumnElement[Any]:
        """The attempts of a task with one more, of which the last `MOST_ATTEMPTS` are kept.

        Args:
            entry: what the JSON object of that has.
        """

    @abstractmethod
    def one_of(self, column: ColumnElement[Any], ids: Select[Any]) -> ColumnElement[bool]:
        """The column is one of the ids; looked up by key, however many the planner expects."""

    @abstractmethod
    def compile(self, core: Executable) -> Statement:
        """Render a statement for the driver."""


class Statements:
    """Every statement that the two databases share."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self._now = dialect.now
        build = dialect.compile

        self.clock = build(select(self._now))
        self.revision = build(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608
        self.insert = build(self._insert_one())
        self.insert_and_notify = build(dialect.notifying(self._insert_one()))
        self.insert_batch = build(self._insert_batch())
        self.insert_keyed = build(self._keyed(self._insert_one()))
        self.insert_batch_keyed = build(self._keyed(self._insert_batch()))
        self.with_key = build(
            select(task.c.id).where(
                task.c.type == bindparam("type", type_=Text),
                task.c.key == bindparam("key", type_=Text),
                KEY_TAKEN,
            )
        )
        self.with_keys = build(self._with_keys())
        self.get = build(select(*_COLUMNS).where(task.c.id == bindparam("id", type_=IdType)))
        self.counts = build(self._counts())
        self.counts_of_type = build(self._counts(task.c.type == bindparam("type", type_=Text)))
        self.retry_waiting = build(self._retry_waiting())
        self.retry_ended = build(self._retry_ended())
        self.cancel_keep = build(self._cancel_keep())
        self.cancel_drop = build(self._cancel_drop())
        self.request_cancel = build(self._ask_cancel())
        self.cancel_requests = build(self._cancel_requests())
        self.progress = self._of_batch(self._progress)
        self.remove = build(
            delete(task).where(task.c.id == bindparam("id", type_=IdType)).returning(task.c.id)
        )
        self.succeed = self._of_batch(lambda skip: self._succeed(skip).returning(task.c.id))
        self.succeed_row = self._of_batch(lambda skip: self._succeed(skip).returning(*_COLUMNS))
        self.fail = self._of_batch(lambda skip: self._fail(skip, expired=False))
        self.drop = self._of_batch(
            lambda skip: self._drop(skip, expired=False).returning(task.c.id)
        )
        self.drop_row = self._of_batch(lambda skip: self._dropped(skip, expired=False))
        self.drop_cancelled = build(self._drop_cancelled())
        self.extend = self._of_batch(self._extend)
        self.release = self._of_batch(self._release)
        self.held = build(self._still_held())
        self.expired = build(self._expired())
        self.fail_expired = self._of_batch(lambda skip: self._fail(skip, expired=True))
        self.drop_expired = self._of_batch(lambda skip: self._dropped(skip, expired=True))
        self.prune = build(self._prune())
        self.page = cache(self._page)

    def _of_batch(self, make: Callable[[bool], Executable]) -> Statement:
        build = self.dialect.compile
        return replace(build(make(False)), skipping=cache(lambda: build(make(True))))

    def _insert_values(self, given: Mapping[str, ColumnElement[Any]]) -> dict[str, Any]:
        values = {name: value for name, value in given.items() if name != "delay"}
        return {
            **values,
            "payload": sql_cast(given["payload"], JsonType),
            "status": constant(TaskStatus.PENDING),
            "run_at": func.coalesce(given["run_at"], self.dialect.after(self._now, given["delay"])),
            "attempt": literal_column("0"),
            "thread_id": literal_column("'0'"),
            "lost_workers": literal_column("0"),
            "date_modified": self._now,
        }

    def _insert_one(self) -> Any:
        given = {name: bindparam(name, type_=kind) for name, kind in _NEW.items()}
        return self.dialect.insert(task).values(self._insert_values(given))

    def _insert_batch(self) -> Any:
        batch = self.dialect.batch({**_NEW, **_SCHEDULED})
        values = self._insert_values({column.name: column for column in batch.c})
        return self.dialect.insert(task).from_select(
            list(values),
            # SQLite would take a conflict clause for one of a join.
            select(*values.values()).where(literal_column("true")),
        )

    def _keyed(self, insert: Any) -> Executable:
        # Nothing is done to a row that has the key: DO UPDATE would lock it until the end of
        # the caller's transaction.
        return cast(
            Executable,
            insert.on_conflict_do_nothing(
                index_elements=["type", "key"], index_where=KEY_TAKEN
            ).returning(task.c.id),
        )

    def _with_keys(self) -> Executable:
        batch = self.dialect.batch({"id": IdType(), "type": Text(), "key": Text()})
        return select(batch.c.id, task.c.id).where(
            self.dialect.same(task.c.type, batch.c.type),
            self.dialect.same(task.c.key, batch.c.key),
            KEY_TAKEN,
        )

    def claim(self, chosen: ColumnElement[bool] | TextClause, *, rows: bool) -> Executable:
        """Hand the chosen rows to a holder, and return them whole or what it takes to run them."""
        return (
            update(task)
            .where(chosen)
            .values(
                status=constant(TaskStatus.PROCESSING),
                attempt=task.c.attempt + literal_column("1"),
                thread_id=bindparam("holder", type_=Text),
                lease_until=self.dialect.after(self._now, bindparam("lease", type_=BigInteger)),
                date_modified=self._now,
                date_started=self._now,
            )
            .returning(*(_COLUMNS if rows else _TO_RUN))
        )

    def _retain_until(self) -> ColumnElement[Any]:
        return case(
            (
                task.c.retain_for.between(literal_column("1"), _LONGEST),
                self.dialect.after(self._now, task.c.retain_for),
            ),
            else_=null(),
        )

    def _held(self, batch: FromClause, holder: ColumnElement[Any]) -> ColumnElement[bool]:
        # The fence. That the lease is not null says that the row is still processing, in a way
        # that cannot tempt a planner into an index on the status.
        return and_(
            self.dialect.same(task.c.id, batch.c.id),
            task.c.attempt == batch.c.attempt,
            task.c.thread_id == holder,
            task.c.lease_until.is_not(None),
        )

    def _ended_retain_until(self, ended: ColumnElement[bool]) -> ColumnElement[Any]:
        # For an end that only the row knew of. It is removed at once all the same, and if that
        # fails by the next retention pass.
        unkept = and_(ended, _REMOVED_AT_ONCE)
        return case((unkept, self._now), (ended, self._retain_until()), else_=null())

    def _failed_retain_until(self) -> ColumnElement[Any]:
        kept = self.dialect.after(self._now, bindparam("keep_failed", type_=BigInteger))
        return case((task.c.retain_for == _KEEP_IF_FAILED, kept), else_=self._retain_until())

    def _attempts(
        self, outcome: ColumnElement[Any], error: ColumnElement[Any]
    ) -> ColumnElement[Any]:
        return self.dialect.appended(
            {
                "attempt": task.c.attempt,
                "worker": task.c.thread_id,
                "started": task.c.date_started,
                "ended": self._now,
                "outcome": outcome,
                "error": sql_cast(error, JsonType),
            }
        )

    def _succeed(self, skip_locked: bool) -> Update:
        batch = self.dialect.batch(
            {"id": IdType(), "attempt": Integer(), "result": Text()}, skip_locked=skip_locked
        )
        return (
            update(task)
            .where(self._held(batch, bindparam("holder", type_=Text)))
            .values(
                status=constant(TaskStatus.SUCCESS),
                result=sql_cast(batch.c.result, JsonType),
                error=null(),
                lease_until=null(),
                cancel_requested=null(),
                date_modified=self._now,
                date_retain_until=self._retain_until(),
            )
        )

    def _fail(self, skip_locked: bool, *, expired: bool) -> Executable:
        columns = {
            "id": IdType(),
            "attempt": Integer(),
            "outcome": Text(),
            "error": Text(),
            "brief": Text(),
            "retry": Boolean(),
            "lost": Integer(),
            "wait": BigInteger(),
        }
        if expired:
            columns["holder"] = Text()
        batch = self.dialect.batch(columns, skip_locked=skip_locked)
        holder = batch.c.holder if expired else bindparam("holder", type_=Text)
        cancelled = task.c.cancel_requested.is_not(None)
        again = and_(batch.c.retry, not_(cancelled))
        statement = (
            update(task)
            .where(self._held(batch, holder))
            .values(
                status=case(
                    (cancelled, constant(TaskStatus.CANCELLED)),
                    (again, constant(TaskStatus.PENDING)),
                    else_=constant(TaskStatus.FAILED),
                ),
                thread_id=case((again, literal_column("'0'")), else_=task.c.thread_id),
                retries_remaining=case(
                    (again, task.c.retries_remaining - literal_column("1")),
                    else_=task.c.retries_remaining,
                ),
                run_at=case(
                    (again, self.dialect.after(self._now, batch.c.wait)), else_=task.c.run_at
                ),
                # A cancelled attempt has none of its own: what an earlier one left stays.
                error=func.coalesce(sql_cast(batch.c.error, JsonType), task.c.error),
                lost_workers=case(
                    (task.c.lost_workers < literal_column("2147483647"), task.c.lost_workers),
                    else_=literal_column("0"),
                )
                + batch.c.lost,
                attempts=self._attempts(
                    batch.c.outcome, func.coalesce(batch.c.brief, batch.c.error)
                ),
                lease_until=null(),
                cancel_requested=null(),
                date_modified=self._now,
                date_retain_until=case(
                    (cancelled, self._ended_retain_until(cancelled)),
                    (again, null()),
                    else_=self._failed_retain_until(),
                ),
            )
            .returning(*_COLUMNS)
        )
        if expired:
            statement = statement.where(task.c.lease_until <= self._now)
        return statement

    def _drop(self, skip_locked: bool, *, expired: bool) -> Delete:
        columns = {"id": IdType(), "attempt": Integer()}
        if expired:
            columns["holder"] = Text()
        batch = self.dialect.batch(columns, skip_locked=skip_locked)
        holder = batch.c.holder if expired else bindparam("holder", type_=Text)
        statement = self.dialect.delete(batch, self._held(batch, holder))
        return statement.where(task.c.lease_until <= self._now) if expired else statement

    def _dropped(self, skip_locked: bool, *, expired: bool) -> Executable:
        return self._drop(skip_locked, expired=expired).returning(*_COLUMNS, self._now.label("now"))

    def _drop_cancelled(self) -> Executable:
        return delete(task).where(
            task.c.id == bindparam("id", type_=IdType),
            task.c.status == constant(TaskStatus.CANCELLED),
            _REMOVED_AT_ONCE,
        )

    def _extend(self, skip_locked: bool) -> Executable:
        batch = self.dialect.batch({"id": IdType(), "attempt": Integer()}, skip_locked=skip_locked)
        return (
            update(task)
            .where(self._held(batch, bindparam("holder", type_=Text)))
            .values(lease_until=self.dialect.after(self._now, bindparam("lease", type_=BigInteger)))
            .returning(task.c.id)
        )

    def _release(self, skip_locked: bool) -> Executable:
        batch = self.dialect.batch(
            {"id": IdType(), "attempt": Integer(), "begun": Boolean()}, skip_locked=skip_locked
        )
        outcome = case(
            (task.c.cancel_requested.is_not(None), literal_column("'cancelled'", Text)),
            else_=literal_column("'released'", Text),
        )
        cancelled = task.c.cancel_requested.is_not(None)
        return (
            update(task)
            .where(self._held(batch, bindparam("holder", type_=Text)))
            .values(
                status=case(
                    (cancelled, constant(TaskStatus.CANCELLED)),
                    else_=constant(TaskStatus.PENDING),
                ),
                thread_id=case((cancelled, task.c.thread_id), else_=literal_column("'0'")),
                # What was only claimed ahead would push out what failed.
                attempts=case(
                    (batch.c.begun, self._attempts(outcome, null())), else_=task.c.attempts
                ),
                lease_until=null(),
                cancel_requested=null(),
                date_modified=self._now,
                date_retain_until=self._ended_retain_until(cancelled),
            )
            .returning(*_COLUMNS)
        )

    def _progress(self, skip_locked: bool) -> Executable:
        batch = self.dialect.batch(
            {"id": IdType(), "attempt": Integer(), "progress": Text()}, skip_locked=skip_locked
        )
        return (
            update(task)
            .where(self._held(batch, bindparam("holder", type_=Text)))
            .values(progress=sql_cast(batch.c.progress, JsonType))
            .returning(task.c.id)
        )

    def _still_held(self) -> Select[Any]:
        batch = self.dialect.batch({"id": IdType(), "attempt": Integer()})
        return select(task.c.id).where(self._held(batch, bindparam("holder", type_=Text)))

    def _cancel_requests(self) -> Executable:
        return self._still_held().where(task.c.cancel_requested.is_not(None))

    def _counts(self, *filters: ColumnElement[bool]) -> Executable:
        # In two parts, each of which an index covers.
        counted = select(task.c.status, func.count()).where(*filters).group_by(task.c.status)
        return union_all(counted.where(_RESTING), counted.where(_PROCESSING))

    def _retry_waiting(self) -> Executable:
        return (
            update(task)
            .where(
                task.c.id == bindparam("id", type_=IdType),
                task.c.status == constant(TaskStatus.PENDING),
                task.c.run_at > self._now,
            )
            .values(run_at=self._now, date_modified=self._now)
            .returning(*_COLUMNS)
        )

    def _retry_ended(self) -> Executable:
        other = task.alias("other")
        return (
            update(task)
            .where(
                task.c.id == bindparam("id", type_=IdType),
                sources(TaskStatus.PENDING),
                _RESTING,
                not_(
                    exists().where(
                        other.c.type == task.c.type, other.c.key == task.c.key, key_taken(other)
                    )
                ),
            )
            .values(
                status=constant(TaskStatus.PENDING),
                thread_id=literal_column("'0'"),
                run_at=self._now,
                lost_workers=literal_column("0"),
                cancel_requested=null(),
                date_modified=self._now,
                date_retain_until=null(),
            )
            .returning(*_COLUMNS)
        )

    def _cancel_keep(self) -> Executable:
        return (
            update(task)
            .where(
                task.c.id == bindparam("id", type_=IdType),
                task.c.status == constant(TaskStatus.PENDING),
                not_(_REMOVED_AT_ONCE),
            )
            .values(
                status=constant(TaskStatus.CANCELLED),
                date_modified=self._now,
                date_retain_until=self._retain_until(),
            )
            .returning(*_COLUMNS)
        )

    def _cancel_drop(self) -> Executable:
        return (
            delete(task)
            .where(
                task.c.id == bindparam("id", type_=IdType),
                task.c.status == constant(TaskStatus.PENDING),
                _REMOVED_AT_ONCE,
            )
            .returning(*_COLUMNS, self._now.label("now"))
        )

    def _ask_cancel(self) -> Executable:
        return (
            update(task)
            .where(
                task.c.id == bindparam("id", type_=IdType),
                _PROCESSING,
            )
            .values(cancel_requested=func.coalesce(task.c.cancel_requested, self._now))
            .returning(*_COLUMNS)
        )

    def _expired(self) -> Executable:
        return (
            select(*_COLUMNS)
            .where(
                _PROCESSING,
                task.c.lease_until <= self._now,
            )
            .limit(bindparam("limit", type_=Integer))
            .with_for_update(skip_locked=True)
        )

    def _prune(self) -> Executable:
        past = (
            select(task.c.id)
            .where(task.c.date_retain_until <= self._now)
            .order_by(task.c.date_retain_until)
            .limit(bindparam("limit", type_=Integer))
            .with_for_update(skip_locked=True)
        )
        return delete(task).where(self.dialect.one_of(task.c.id, past)).returning(task.c.id)

    def _page(
        self,
        order: tuple[str, ...],
        statuses: tuple[TaskStatus, ...],
        typed: bool,
        direction: SortDirection,
    ) -> Statement:
        """One stretch of a page walk, merged from one index range for each status.

        Each range is bounded by comparing whole rows of the index's leading columns, and is
        sorted by them, so that no other index can serve it, whatever the statistics say. It
        starts behind the parameters `value` and `id`. That of processing is short, and sorted.

        Args:
            order: the columns that the page is sorted by.
            statuses: the statuses that take part; none where the status is not bounded.
            typed: whether there is a filter on the type.
            direction: which way.
        """
        descending = direction is SortDirection.DESCENDING
        ranges = []
        for status in statuses or (None,):
            bounds: list[tuple[ColumnElement[Any], ColumnElement[Any]]] = []
            part = select(*_COLUMNS)
            if status is TaskStatus.PROCESSING:
                part = part.where(_PROCESSING)
            elif status is not None:
                bounds.append((task.c.status, constant(status)))
                part = part.where(_RESTING)
            start = [
                (
                    task.c[name],
                    bindparam("id" if name == "id" else "value", type_=task.c[name].type),
                )
                for name in order
            ]
            columns = tuple_(*(column for column, _ in bounds + start))
            values = tuple_(*(value for _, value in bounds + start))
            part = part.where(columns < values if descending else columns > values)
            if bounds:
                prefix = tuple_(*(column for column, _ in bounds))
                edge = tuple_(*(value for _, value in bounds))
                part = part.where(prefix >= edge if descending else prefix <= edge)
            keys = [column for column, _ in bounds + start]
            if typed:
                # Not part of the comparison: PostgreSQL ends a scan on a row's first column only.
                part = part.where(task.c.type == bindparam("type", type_=Text))
                keys.insert(0, task.c.type)
            part = part.order_by(*(key.desc() if descending else key for key in keys))
            ranges.append(part.limit(bindparam("limit", type_=Integer)))
        if len(ranges) == 1:
            return self.dialect.compile(ranges[0])
        merged = union_all(*(select(part.subquery()) for part in ranges)).subquery()
        keys = [merged.c[name] for name in order]
        return self.dialect.compile(
            select(merged)
            .order_by(*(key.desc() if descending else key for key in keys))
            .limit(bindparam("limit", type_=Integer))
        )
