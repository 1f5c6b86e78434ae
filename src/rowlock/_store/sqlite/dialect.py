"""How statements are said to SQLite, and what its driver takes and gives."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Delete,
    Executable,
    FromClause,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.types import TypeEngine

from rowlock._instants import from_microseconds, to_microseconds
from rowlock._rows import MOST_ATTEMPTS, TaskRow
from rowlock._store.codec import Codec
from rowlock._store.sql import Dialect
from rowlock._store.tables import JsonType, task


class SqliteDialect(Dialect):
    """SQLite's way to say it."""

    kind = SQLiteDialect
    now = bindparam("now", type_=BigInteger)

    def __init__(self) -> None:
        super().__init__(sqlite.dialect(paramstyle="named"))

    def insert(self, table: Table) -> Any:
        return insert(table)

    def notifying(self, insert: Any) -> Executable:
        # Others see the change of the file.
        return cast(Executable, insert)

    def after(self, instant: ColumnElement[Any], ms: ColumnElement[Any]) -> ColumnElement[Any]:
        return instant + ms * literal_column("1000")

    def batch(
        self, columns: Mapping[str, TypeEngine[Any]], *, skip_locked: bool = False
    ) -> FromClause:
        # Nobody locks a row.
        rows = func.json_each(bindparam("batch", type_=Text)).table_valued("value", name="item")
        return select(
            *(
                func.json_extract(rows.c.value, literal_column(f"'$.{name}'")).label(name)
                for name in columns
            )
        ).subquery("batch")

    def same(self, column: ColumnElement[Any], value: ColumnElement[Any]) -> ColumnElement[bool]:
        return column == value

    def delete(self, batch: FromClause, fence: ColumnElement[bool]) -> Delete:
        # A DELETE has no other table: its rows are found by a SELECT of its own.
        held = select(task.c.id).where(fence).correlate(None)
        return delete(task).where(task.c.id.in_(held))

    def appended(self, entry: Mapping[str, ColumnElement[Any]]) -> ColumnElement[Any]:
        attempts = task.c.attempts
        earlier = case(
            (
                and_(
                    func.json_valid(attempts),
                    func.json_type(attempts) == literal_column("'array'"),
                ),
                attempts,
            ),
            else_=literal_column("'[]'"),
        )
        left_out = func.json_array_length(earlier) - literal_column(str(MOST_ATTEMPTS - 1))
        element = func.json_each(earlier).table_valued("key", "value", "type", name="element")
        kept = select(func.json_group_array(func.json(element.c.value))).where(
            element.c.key >= left_out, element.c.type == literal_column("'object'")
        )
        added = func.json_object(
            *chain.from_iterable(
                (
                    literal_column(f"'{name}'"),
                    func.json(value) if isinstance(value.type, JsonType) else value,
                )
                for name, value in entry.items()
            )
        )
        return func.json_insert(kept.scalar_subquery(), literal_column("'$[#]'"), added)

    def one_of(self, column: ColumnElement[Any], ids: Select[Any]) -> ColumnElement[bool]:
        return column.in_(ids)


class SqliteCodec(Codec):
    """What sqlite3 takes and gives: instants as microseconds since the epoch."""

    def instant(self, now: datetime | None) -> int:
        return self.to_time(datetime.now(UTC) if now is None else now)

    def to_time(self, value: datetime) -> int:
        return to_microseconds(value)

    def from_time(self, value: Any) -> datetime:
        return from_microseconds(value)

    def from_json_time(self, value: Any) -> datetime:
        return self.from_time(value)

    def core_parameters(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        return parameters

    def row(self, columns: Iterable[Any]) -> TaskRow:
        return TaskRow(*columns)

    def to_id(self, value: Any) -> str:
        return str(value)

    def batch(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {"batch": json.dumps(rows)}


DIALECT = SqliteDialect()
CODEC = SqliteCodec()
