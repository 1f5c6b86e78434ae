"""Add how late an instant of a scheduled task may be before it is left out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("rowlock_scheduled_task", sa.Column("misfire_grace", sa.BigInteger()))


def downgrade() -> None:
    op.drop_column("rowlock_scheduled_task", "misfire_grace")
