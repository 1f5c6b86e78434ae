"""Leave tasks that are processing out of the indexes that serve pages.

A claim then writes two index entries and not five. On PostgreSQL neither the building nor the
dropping of an index keeps anybody from reading or writing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLE = "rowlock_task"

_RESTING = "status != 'processing'"
_MODIFIED = ["status", "date_modified", "id"]

# The name, the columns, the condition.
Index = tuple[str, list[str], str | None]
OLD: list[Index] = [
    ("ix_rowlock_task_status", ["status", "id"], None),
    ("ix_rowlock_task_type", ["type", "status", "id"], None),
    ("ix_rowlock_task_modified", _MODIFIED, None),
    ("ix_rowlock_task_type_modified", ["type", *_MODIFIED], None),
]
NEW: list[Index] = [
    ("ix_rowlock_task_processing", ["status", "id"], "status = 'processing'"),
    ("ix_rowlock_task_status_id", ["status", "id"], _RESTING),
    ("ix_rowlock_task_type_status_id", ["type", "status", "id"], _RESTING),
    ("ix_rowlock_task_status_modified", _MODIFIED, _RESTING),
    ("ix_rowlock_task_type_status_modified", ["type", *_MODIFIED], _RESTING),
]


def upgrade() -> None:
    replace(OLD, NEW)


def downgrade() -> None:
    replace(NEW, OLD)


def replace(old: Iterable[Index], new: Iterable[Index]) -> None:
    with concurrently() as on_postgresql:
        for name, columns, condition in new:
            # One whose building was interrupted is there, but not valid.
            op.drop_index(name, TABLE, if_exists=True, postgresql_concurrently=on_postgresql)
            where = None if condition is None else sa.text(condition)
            op.create_index(
                name,
                TABLE,
                columns,
                postgresql_where=where,
                sqlite_where=where,
                postgresql_concurrently=on_postgresql,
            )
        for name, *_ in old:
            op.drop_index(name, TABLE, if_exists=True, postgresql_concurrently=on_postgresql)


@contextmanager
def concurrently() -> Iterator[bool]:
    context = op.get_context()
    if context.dialect.name != "postgresql":
        yield False
        return
    with context.autocommit_block():
        yield True
