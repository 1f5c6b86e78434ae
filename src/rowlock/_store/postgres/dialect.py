"""How statements are said to PostgreSQL, and what asyncpg takes and gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any, cast

from sqlalchemy import (
    Column,
    ColumnElement,
    Delete,
    Executable,
    FromClause,
    Select,
    Table,
    Text,
    any_,
    bindparam,
    case,
    delete,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by, array, insert
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.types import TypeEngine

from rowlock._rows import MOST_ATTEMPTS, TaskRow
from rowlock._store.codec import Codec
from rowlock._store.postgres.driver import as_array
from rowlock._store.sql import Dialect
from rowlock._store.tables import JsonType, TimeType, task

CHANNEL = "rowlock_task"


class PostgresDialect(Dialect):
    """PostgreSQL's way to say it."""

    kind = PGDialect
    now = func.coalesce(bindparam("now", type_=TimeType), func.statement_timestamp())

    def __init__(self) -> None:
        super().__init__(asyncpg_dialect())  # type: ignore[no-untyped-call]

    def insert(self, table: Table) -> Any:
        return insert(table)

    def notifying(self, insert: Any) -> Executable:
        told = func.pg_notify(literal_column(f"'{CHANNEL}'"), task.c.type)
        return cast(Executable, insert.returning(told))

    def after(self, instant: ColumnElement[Any], ms: ColumnElement[Any]) -> ColumnElement[Any]:
        return instant + ms * literal_column("INTERVAL '1 millisecond'")

    def batch(
        self, columns: Mapping[str, TypeEngine[Any]], *, skip_locked: bool = False
    ) -> FromClause:
        # In a subquery the planner does not see how long the arrays are, and expects few rows. It
        # then looks up tasks by key; for many rows it would scan the table.
        arrays = [
            select(sql_cast(bindparam(f"all_{name}", type_=Text), ARRAY(kind))).scalar_subquery()
            for name, kind in columns.items()
        ]
        rows = func.unnest(*arrays).table_valued(
            *(Column(name, kind) for name, kind in columns.items())
        )
        if not skip_locked:
            return rows.render_derived(name="batch")
        given = rows.render_derived(name="given")
        locked = task.alias("locked")
        free = (
            select(locked.c.id)
            .where(self.same(locked.c.id, given.c.id))
            .with_for_update(skip_locked=True)
            .lateral("free")
        )
        return select(*given.c).select_from(given.join(free, true())).subquery("batch")

    def same(self, column: ColumnElement[Any], value: ColumnElement[Any]) -> ColumnElement[bool]:
        # "=" would allow a merge join, which reads an index from end to end. If the table was
        # analyzed while all its rows were dead, the planner takes that for free: 60,000 ends
        # took 25 s instead of 1.5.
        return column == any_(array([value]))

    def delete(self, batch: FromClause, fence: ColumnElement[bool]) -> Delete:
        return delete(task).where(fence)

    def appended(self, entry: Mapping[str, ColumnElement[Any]]) -> ColumnElement[Any]:
        earlier = case(
            (func.json_typeof(task.c.attempts) == literal_column("'array'"), task.c.attempts),
            else_=literal_column("'[]'::json"),
        )
        left_out = func.json_array_length(earlier) - literal_column(str(MOST_ATTEMPTS - 1))
        element = (
            func.json_array_elements(earlier)
            .table_valued(Column("value", Text), with_ordinality="place")
            .render_derived(name="element")
        )
        comma: ColumnElement[str] = literal_column("','")
        kept = select(
            func.string_agg(
                sql_cast(element.c.value, Text), aggregate_order_by(comma, element.c.place)
            )
        ).where(element.c.place > left_out)
        added = func.json_build_object(
            *chain.from_iterable(
                (literal_column(f"'{name}'"), value) for name, value in entry.items()
            )
        )
        elements = func.concat_ws(comma, kept.scalar_subquery(), sql_cast(added, Text))
        return sql_cast(
            literal_column("'['", Text) + elements + literal_column("']'", Text), JsonType
        )

    def one_of(self, column: ColumnElement[Any], ids: Select[Any]) -> ColumnElement[bool]:
        return column == any_(func.array(ids.scalar_subquery()))


class PostgresCodec(Codec):
    """What asyncpg takes and gives."""

    def instant(self, now: datetime | None) -> datetime | None:
        return now

    def to_time(self, value: datetime) -> datetime:
        return value

    def from_time(self, value: Any) -> datetime:
        assert isinstance(value, datetime)  # noqa: S101
        # The first and the last instant are stored as infinities, and come back naive.
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)

    def from_json_time(self, value: Any) -> datetime:
        infinite = {"infinity": datetime.max, "-infinity": datetime.min}.get(value)
        return self.from_time(infinite or datetime.fromisoformat(value))

    def core_parameters(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        return {
            name: as_array(value) if isinstance(value, list) else value
            for name, value in parameters.items()
        }

    def row(self, columns: Iterable[Any]) -> TaskRow:
        task_id, *others = columns
        return TaskRow(task_id.hex, *others)

    def to_id(self, value: Any) -> str:
        return value if isinstance(value, str) else str(value.hex)

    def batch(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {f"all_{name}": [row[name] for row in rows] for name in rows[0]}


DIALECT = PostgresDialect()
CODEC = PostgresCodec()
