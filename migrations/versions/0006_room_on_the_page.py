"""Leave room on each page for the next version of its rows.

A task is written again when it is claimed and when it has ended. Where its page is full the new
version goes to another one, which makes the table longer and takes a record more of WAL. Pages
that exist already stay as they are. On SQLite there is nothing to do.
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute("ALTER TABLE rowlock_task SET (fillfactor = 50)")


def downgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute("ALTER TABLE rowlock_task RESET (fillfactor)")
