"""Add the progress of running tasks, and requests to cancel them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    instant: sa.types.TypeEngine[Any] = sa.BigInteger()
    document: sa.types.TypeEngine[Any] = sa.Text()
    if op.get_context().dialect.name == "postgresql":
        instant = sa.DateTime(timezone=True)
        document = postgresql.JSON()
    # Without a default and without an index: no row is written, whatever the size of the table.
    op.add_column("rowlock_task", sa.Column("progress", document))
    op.add_column("rowlock_task", sa.Column("cancel_requested", instant))


def downgrade() -> None:
    op.drop_column("rowlock_task", "cancel_requested")
    op.drop_column("rowlock_task", "progress")
