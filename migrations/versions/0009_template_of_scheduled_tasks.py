"""Keep the options of the tasks that a scheduled task creates as JSON, in one column.

On PostgreSQL the table stays the same one, with the rights that were granted on it.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TABLE = "rowlock_scheduled_task"

BUILD = """
    UPDATE rowlock_scheduled_task SET template = {json_object}(
        'retries_remaining', retries_remaining, 'retry_interval', retry_interval,
        'retain_for', retain_for, 'priority', priority, 'delay', delay)
    WHERE task_type IS NOT NULL
"""
# What is absent has its default. Scheduled tasks that call a function have no template, and zeros.
POSTGRESQL = """
    UPDATE rowlock_scheduled_task SET
        retries_remaining = CAST(template ->> 'retries_remaining' AS integer),
        retry_interval = CAST(template ->> 'retry_interval' AS bigint),
        retain_for = CASE WHEN template IS NULL THEN 0
            ELSE COALESCE(CAST(template ->> 'retain_for' AS bigint), -2) END,
        priority = COALESCE(CAST(template ->> 'priority' AS integer), 0),
        delay = COALESCE(CAST(template ->> 'delay' AS bigint), 0)
"""
# SQLite adds a column that is NOT NULL and has no default only to an empty table.
SQLITE = """
    CREATE TEMPORARY TABLE rowlock_kept AS SELECT *,
        json_extract(template, '$.retries_remaining') AS retries_remaining,
        json_extract(template, '$.retry_interval') AS retry_interval,
        CASE WHEN template IS NULL THEN 0
            ELSE COALESCE(json_extract(template, '$.retain_for'), -2) END AS retain_for,
        COALESCE(json_extract(template, '$.priority'), 0) AS priority,
        COALESCE(json_extract(template, '$.delay'), 0) AS delay
    FROM rowlock_scheduled_task
"""


def columns(*, nullable: bool) -> list[sa.Column[Any]]:
    return [
        sa.Column("retries_remaining", sa.Integer()),
        sa.Column("retry_interval", sa.BigInteger()),
        sa.Column("retain_for", sa.BigInteger(), nullable=nullable),
        sa.Column("priority", sa.Integer(), nullable=nullable),
        sa.Column("delay", sa.BigInteger(), nullable=nullable),
    ]


def upgrade() -> None:
    on_postgresql = op.get_context().dialect.name == "postgresql"
    document = postgresql.JSON() if on_postgresql else sa.Text()
    op.add_column(TABLE, sa.Column("template", document))
    if on_postgresql:
        # Or a policy would have the UPDATE pass over rows, whose options would be lost.
        op.execute("SET LOCAL row_security = off")
    op.execute(BUILD.format(json_object="json_build_object" if on_postgresql else "json_object"))
    for column in columns(nullable=True):
        op.drop_column(TABLE, column.name)


def downgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        for column in columns(nullable=True):
            op.add_column(TABLE, column)
        op.execute(POSTGRESQL)
        for name in ("retain_for", "priority", "delay"):
            op.alter_column(TABLE, name, nullable=False)
    else:
        op.execute(SQLITE)
        op.execute("DELETE FROM rowlock_scheduled_task")
        for column in columns(nullable=False):
            op.add_column(TABLE, column)
        op.execute("INSERT INTO rowlock_scheduled_task SELECT * FROM rowlock_kept")
        op.execute("DROP TABLE rowlock_kept")
    op.drop_column(TABLE, "template")
