"""Create the task table."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
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

    op.create_table(
        "rowlock_task",
        sa.Column("id", identifier, primary_key=True),
        sa.Column("type", name, nullable=False),
        sa.Column("status", name, nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("run_at", instant, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("thread_id", sa.Text(), nullable=False),
        sa.Column("lease_until", instant),
        sa.Column("lost_workers", sa.Integer(), nullable=False),
        sa.Column("retries_remaining", sa.Integer()),
        sa.Column("retry_interval", sa.BigInteger()),
        sa.Column("retain_for", sa.BigInteger(), nullable=False),
        sa.Column("date_created", instant, nullable=False),
        sa.Column("date_modified", instant, nullable=False),
        sa.Column("date_retain_until", instant),
        sa.Column("key", name),
        sa.Column("payload", document),
        sa.Column("result", document),
        sa.Column("error", document),
    )
    pending = sa.text("status = 'pending'")
    op.create_index(
        "ix_rowlock_task_claim",
        "rowlock_task",
        ["type", sa.text("priority DESC"), "run_at", "id"],
        postgresql_where=pending,
        sqlite_where=pending,
    )
    op.create_index("ix_rowlock_task_status", "rowlock_task", ["status", "id"])
    op.create_index("ix_rowlock_task_type", "rowlock_task", ["type", "status", "id"])
    op.create_index("ix_rowlock_task_modified", "rowlock_task", ["status", "date_modified", "id"])
    op.create_index(
        "ix_rowlock_task_type_modified",
        "rowlock_task",
        ["type", "status", "date_modified", "id"],
    )
    retained = sa.text("date_retain_until IS NOT NULL")
    op.create_index(
        "ix_rowlock_task_retain",
        "rowlock_task",
        ["date_retain_until"],
        postgresql_where=retained,
        sqlite_where=retained,
    )
    keyed = sa.text('"key" IS NOT NULL')
    op.create_index(
        "uq_rowlock_task_key",
        "rowlock_task",
        ["key"],
        unique=True,
        postgresql_where=keyed,
        sqlite_where=keyed,
    )


def downgrade() -> None:
    op.drop_table("rowlock_task")
