"""Keep the attempts of a task that were no success, and let each type have its own keys.

A key is unique among the tasks of its type that have neither failed nor been cancelled. On
PostgreSQL neither the building nor the dropping of an index keeps anybody from reading or writing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TABLE = "rowlock_task"


def upgrade() -> None:
    instant: sa.types.TypeEngine[Any] = sa.BigInteger()
    document: sa.types.TypeEngine[Any] = sa.Text()
    if op.get_context().dialect.name == "postgresql":
        instant = sa.DateTime(timezone=True)
        document = postgresql.JSON()
    # Without a default and without an index: no row is written, whatever the size of the table.
    op.add_column(TABLE, sa.Column("date_started", instant))
    op.add_column(TABLE, sa.Column("attempts", document))
    taken = "\"key\" IS NOT NULL AND (status NOT IN ('failed', 'cancelled'))"
    replace("uq_rowlock_task_key", "uq_rowlock_task_type_key", ["type", "key"], taken)


def downgrade() -> None:
    # Where several tasks have one key by now, only the newest one keeps it.
    op.execute(
        "UPDATE rowlock_task SET key = NULL WHERE key IS NOT NULL AND EXISTS (SELECT 1"
        " FROM rowlock_task AS newer WHERE newer.key = rowlock_task.key"
        " AND newer.id > rowlock_task.id)"
    )
    replace("uq_rowlock_task_type_key", "uq_rowlock_task_key", ["key"], '"key" IS NOT NULL')
    op.drop_column(TABLE, "attempts")
    op.drop_column(TABLE, "date_started")


def replace(old: str, new: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    with concurrently() as on_postgresql:
        # One whose building was interrupted is there, but not valid.
        op.drop_index(new, TABLE, if_exists=True, postgresql_concurrently=on_postgresql)
        op.create_index(
            new,
            TABLE,
            columns,
            unique=True,
            postgresql_where=where,
            sqlite_where=where,
            postgresql_concurrently=on_postgresql,
        )
        op.drop_index(old, TABLE, if_exists=True, postgresql_concurrently=on_postgresql)


@contextmanager
def concurrently() -> Iterator[bool]:
    context = op.get_context()
    if context.dialect.name != "postgresql":
        yield False
        return
    with context.autocommit_block():
        yield True
