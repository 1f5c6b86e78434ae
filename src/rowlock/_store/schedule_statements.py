"""The statements on the table of scheduled tasks, built once for each database."""

from __future__ import annotations

from functools import cache
from typing import Any, Final, NamedTuple, cast

from sqlalchemy import (
    ColumnElement,
    Executable,
    Integer,
    Select,
    Text,
    bindparam,
    delete,
    func,
    literal_column,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.types import TypeEngine

from rowlock._store.sql import Dialect
from rowlock._store.tables import IdType, JsonType, TimeType, scheduled_task, task


class ScheduleRow(NamedTuple):
    """A row as it comes from the driver, but for ids, which are always 32 hex digits."""

    id: str
    token: str
    times: str
    next_trigger: Any
    paused_since: Any
    misfire: str
    misfire_grace: int | None
    overlap: str
    task_type: str | None
    payload: str | None
    retries_remaining: int | None
    retry_interval: int | None
    retain_for: int
    priority: int
    delay: int
    last_trigger: Any
    last_outcome: str | None
    last_error: str | None
    last_task_id: str | None
    last_skip: Any
    last_skip_reason: str | None


_JSON: Final = ("times", "payload", "last_error")
_COLUMNS: Final = [
    sql_cast(scheduled_task.c[name], Text).label(name) if name in _JSON else scheduled_task.c[name]
    for name in ScheduleRow._fields
]
# As they travel in a batch.
_KINDS: Final[dict[str, TypeEngine[Any]]] = {
    name: Text() if isinstance(scheduled_task.c[name].type, JsonType | Text) else column.type
    for name, column in scheduled_task.c.items()
}
# The ids that a statement is about, and the tokens of the rows that it leaves out.
_NAMED: Final[dict[str, TypeEngine[Any]]] = {"id": Text(), "token": IdType()}


@cache
def schedule_statements(dialect: Dialect) -> ScheduleStatements:
    """Return the statements of a database."""
    return ScheduleStatements(dialect)


class ScheduleStatements:
    """Every statement on scheduled tasks, and how they create tasks."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._now = dialect.now
        build = dialect.compile
        named = scheduled_task.c.id == bindparam("id", type_=Text)

        self.insert = build(self._insert())
        self.get = build(self._select().where(named).with_for_update())
        self.look = build(select(*_COLUMNS).where(named))
        self.looks = build(select(*_COLUMNS).where(self._added_here()))
        self.times = build(
            select(
                scheduled_task.c.id,
                sql_cast(scheduled_task.c.times, Text),
            ).order_by(scheduled_task.c.id)
        )
        self.remove = build(delete(scheduled_task).where(named).returning(scheduled_task.c.id))
        self.remove_others = build(self._remove_others())
        # What creates a task is anybody's; what calls a function, only theirs who have it.
        ours = or_(scheduled_task.c.task_type.is_not(None), self._added_here())
        self.next_due = build(
            select(func.min(scheduled_task.c.next_trigger), self._now.label("now")).where(
                # Said, or SQLite does not read the index that leaves the others out.
                scheduled_task.c.next_trigger.is_not(None),
                ours,
                self._readable(),
            )
        )
        self.due = build(self._due(ours))
        self.due_here = build(self._due(self._added_here()))
        self.statuses = build(self._statuses())
        self.write = build(self._write())
        self.ended = build(self._ended())

    def _select(self) -> Select[Any]:
        return select(*_COLUMNS, self._now.label("now"))

    def _statuses(self) -> Executable:
        ids = self._dialect.batch({"id": IdType()})
        return select(task.c.id, task.c.status).where(
            self._dialect.one_of(task.c.id, select(ids.c.id))
        )

    def _due(self, ours: ColumnElement[bool]) -> Select[Any]:
        return (
            self._select()
            .where(scheduled_task.c.next_trigger <= self._now, ours, self._readable())
            .order_by(scheduled_task.c.next_trigger)
            .limit(bindparam("limit", type_=Integer))
            .with_for_update(skip_locked=True)
        )

    def _added_here(self) -> ColumnElement[bool]:
        named = self._dialect.batch(_NAMED)
        return scheduled_task.c.id.in_(select(named.c.id))

    def _readable(self) -> ColumnElement[bool]:
        # What this process cannot read stays due until another has triggered it.
        named = self._dialect.batch(_NAMED)
        return scheduled_task.c.token.not_in(select(named.c.token))

    def _remove_others(self) -> Executable:
        prefix = bindparam("prefix", type_=Text)
        return (
            delete(scheduled_task)
            .where(
                func.substr(scheduled_task.c.id, literal_column("1"), func.length(prefix))
                == prefix,
                not_(self._added_here()),
            )
            .returning(scheduled_task.c.id)
        )

    def _insert(self) -> Executable:
        batch = self._dialect.batch(_KINDS)
        insert = self._dialect.insert(scheduled_task).from_select(
            list(_KINDS),
            select(*(_from_batch(batch.c[name], name) for name in _KINDS))
            # SQLite would take the conflict clause for one of a join.
            .where(literal_column("true")),
        )
        return cast(
            Executable,
            insert.on_conflict_do_nothing(index_elements=["id"]).returning(scheduled_task.c.id),
        )

    def _write(self) -> Executable:
        batch = self._dialect.batch({**_KINDS, "new_token": IdType()})
        values = {
            name: _from_batch(batch.c[name], name) for name in _KINDS if name not in ("id", "token")
        }
        return (
            update(scheduled_task)
            # The compare-and-set. With it nobody writes what was computed from an older row.
            .where(scheduled_task.c.id == batch.c.id, scheduled_task.c.token == batch.c.token)
            .values(token=batch.c.new_token, **values)
            .returning(scheduled_task.c.id)
        )

    def _ended(self) -> Executable:
        columns = {"id": Text(), "due": TimeType(), "outcome": Text(), "error": Text()}
        batch = self._dialect.batch(columns)
        return (
            update(scheduled_task)
            .where(
                scheduled_task.c.id == batch.c.id,
                scheduled_task.c.last_trigger == batch.c.due,
                scheduled_task.c.last_outcome == literal_column("'started'"),
            )
            .values(
                last_outcome=batch.c.outcome,
                last_error=sql_cast(batch.c.error, JsonType),
            )
        )


def _from_batch(column: ColumnElement[Any], name: str) -> ColumnElement[Any]:
    return sql_cast(column, JsonType) if name in _JSON else column
