"""Add the table of scheduled tasks, and what a task says of the one that created it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    identifier: sa.types.TypeEngine[Any] = sa.Text()
    name = sa.Text()
    instant: sa.types.TypeEngine[Any] = sa.BigInteger()
    document: sa.types.TypeEngine[Any] = sa.Text()
    if op.get_context().dialect.name == "postgresql":
        identifier = postgresql.UUID(as_uuid=False)
        name = sa.Text(collation="C")
        instant = sa.DateTime(timezone=True)
        document = postgresql.JSON()

    # Without a default and without an index: no row is written, whatever the size of the table.
    op.add_column("rowlock_task", sa.Column("schedule_id", name))
    op.add_column("rowlock_task", sa.Column("scheduled_for", instant))
    op.create_table(
        "rowlock_scheduled_task",
        sa.Column("id", name, primary_key=True),
        sa.Column("token", identifier, nullable=False),
        sa.Column("times", document, nullable=False),
        sa.Column("next_trigger", instant),
        sa.Column("paused_since", instant),
        sa.Column("misfire", sa.Text(), nullable=False),
        sa.Column("overlap", sa.Text(), nullable=False),
        sa.Column("task_type", name),
        sa.Column("payload", document),
        sa.Column("retries_remaining", sa.Integer()),
        sa.Column("retry_interval", sa.BigInteger()),
        sa.Column("retain_for", sa.BigInteger(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("delay", sa.BigInteger(), nullable=False),
        sa.Column("last_trigger", instant),
        sa.Column("last_outcome", sa.Text()),
        sa.Column("last_error", document),
        sa.Column("last_task_id", identifier),
        sa.Column("last_skip", instant),
        sa.Column("last_skip_reason", sa.Text()),
    )
    waiting = sa.text("next_trigger IS NOT NULL")
    op.create_index(
        "ix_rowlock_scheduled_task_due",
        "rowlock_scheduled_task",
        ["next_trigger"],
        postgresql_where=waiting,
        sqlite_where=waiting,
    )


def downgrade() -> None:
    op.drop_table("rowlock_scheduled_task")
    op.drop_column("rowlock_task", "scheduled_for")
    op.drop_column("rowlock_task", "schedule_id")
