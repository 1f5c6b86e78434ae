"""The tables, as SQLAlchemy Core metadata. No queries.

Their indexes are in `_indexes`, which only `schema` needs.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    Dialect,
    FromClause,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    and_,
    cast,
    literal_column,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

REVISION = "0009"
"""The revision of the schema that this version of rowlock works with, or a later one."""

VERSION_TABLE = "rowlock_alembic_version"


class _Wire(TypeDecorator[Any]):
    """A column whose values go to and from the driver as they are, in the form of `Operations`."""

    def bind_processor(self, dialect: Dialect) -> None:
        return None

    def result_processor(self, dialect: Dialect, coltype: Any) -> None:
        return None


class IdType(_Wire):
    """A task id: uuid on PostgreSQL, 32 hex digits on SQLite."""

    impl = Text().with_variant(Uuid(as_uuid=False), "postgresql")
    cache_ok = True


class TimeType(_Wire):
    """An instant: timestamptz on PostgreSQL, microseconds since the epoch in UTC on SQLite."""

    impl = BigInteger().with_variant(DateTime(timezone=True), "postgresql")
    cache_ok = True


class JsonType(_Wire):
    """JSON text: json on PostgreSQL, text on SQLite.

    Not jsonb: it rewrites numbers (1e300 comes back as an integer that is not equal to it,
    -0.0 as 0.0) and forgets the order of keys, so the two databases would answer differently.
    """

    impl = Text().with_variant(JSON(), "postgresql")
    cache_ok = True


def type_in_batch(column: Column[Any]) -> TypeEngine[Any]:
    """Return the type in which a batch has values of a column: of text and JSON, plain text."""
    return Text() if isinstance(column.type, JsonType | Text) else column.type


def stored_from_batch(column: Column[Any], value: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return what is stored of a value that has the type in a batch."""
    return cast(value, JsonType) if isinstance(column.type, JsonType) else value


# Sorted by byte on both databases, whatever the database's own collation.
_NAME = Text().with_variant(Text(collation="C"), "postgresql")

metadata = MetaData()

task = Table(
    "rowlock_task",
    metadata,
    Column("id", IdType, primary_key=True),
    Column("type", _NAME, nullable=False),
    Column("status", _NAME, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("run_at", TimeType, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("thread_id", Text, nullable=False),
    Column("lease_until", TimeType),
    Column("lost_workers", Integer, nullable=False),
    Column("retries_remaining", Integer),
    Column("retry_interval", BigInteger),
    Column("retain_for", BigInteger, nullable=False),
    Column("date_created", TimeType, nullable=False),
    Column("date_modified", TimeType, nullable=False),
    Column("date_retain_until", TimeType),
    Column("key", _NAME),
    Column("payload", JsonType),
    Column("result", JsonType),
    Column("error", JsonType),
    Column("progress", JsonType),
    Column("cancel_requested", TimeType),
    Column("schedule_id", _NAME),
    Column("scheduled_for", TimeType),
    # The instant of the last claim.
    Column("date_started", TimeType),
    # The last attempts that were no success: a JSON array, which `Dialect.appended` writes.
    Column("attempts", JsonType),
)


def key_taken(table: FromClause) -> ColumnElement[bool]:
    """The rows whose key no other task of their type can have."""
    # As literals: a partial index is not matched by parameters.
    ended = [literal_column("'failed'", Text), literal_column("'cancelled'", Text)]
    return and_(table.c.key.is_not(None), table.c.status.not_in(ended))


KEY_TAKEN = key_taken(task)

# `token` changes with every write, which is what a compare-and-set compares. `next_trigger` is
# the earliest of the `times`, and null while nothing is to trigger.
scheduled_task = Table(
    "rowlock_scheduled_task",
    metadata,
    Column("id", _NAME, primary_key=True),
    Column("token", IdType, nullable=False),
    Column("times", JsonType, nullable=False),
    Column("next_trigger", TimeType),
    Column("paused_since", TimeType),
    Column("misfire", Text, nullable=False),
    Column("overlap", Text, nullable=False),
    Column("task_type", _NAME),
    Column("payload", JsonType),
    Column("last_trigger", TimeType),
    Column("last_outcome", Text),
    Column("last_error", JsonType),
    Column("last_task_id", IdType),
    Column("last_skip", TimeType),
    Column("last_skip_reason", Text),
    Column("misfire_grace", BigInteger),
    # The options of the tasks that it creates, but for those that have a column above.
    Column("template", JsonType),
)
