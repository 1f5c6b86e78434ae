"""The indexes of the tables, as SQLAlchemy Core metadata.

Which indexes exist, and why no more: every index entry is written again at each change of a
task's status, so an index must earn its place.

- The primary key is the order of creation (see `_ids`), so it serves pages by `dateCreated`.
- A page without a filter on status is merged from one index range for each of the five
  statuses, so that `(status, …)` serves pages with and without that filter.
- Tasks that are processing are no more than workers hold, so a short index of its own finds
  them, and what is wanted of them is sorted. The others leave them out: a claim then writes two
  index entries and not five.
- A row that has ended is not modified again, so its `date_modified` is when it completed or was
  cancelled. Neither instant has a column, and pages by `dateCompleted` read the indexes on
  `date_modified`.
- Expired leases are found among the rows that are processing.

Only who creates or compares a schema imports this: what an index has of PostgreSQL has SQLAlchemy
load all that it knows of PostgreSQL.
"""

from __future__ import annotations

from sqlalchemy import Index

from rowlock._tables import scheduled_task, task

_pending = task.c.status == "pending"
Index(
    "ix_rowlock_task_claim",
    task.c.type,
    task.c.priority.desc(),
    task.c.run_at,
    task.c.id,
    postgresql_where=_pending,
    sqlite_where=_pending,
)
_resting = task.c.status != "processing"
for _name, *_columns in (
    ("status_id", task.c.status, task.c.id),
    ("type_status_id", task.c.type, task.c.status, task.c.id),
    ("status_modified", task.c.status, task.c.date_modified, task.c.id),
    ("type_status_modified", task.c.type, task.c.status, task.c.date_modified, task.c.id),
):
    Index(
        f"ix_rowlock_task_{_name}",
        *_columns,
        postgresql_where=_resting,
        sqlite_where=_resting,
    )
_processing = task.c.status == "processing"
Index(
    "ix_rowlock_task_processing",
    task.c.status,
    task.c.id,
    postgresql_where=_processing,
    sqlite_where=_processing,
)
_retained = task.c.date_retain_until.is_not(None)
Index(
    "ix_rowlock_task_retain",
    task.c.date_retain_until,
    postgresql_where=_retained,
    sqlite_where=_retained,
)
_keyed = task.c.key.is_not(None)
Index(
    "uq_rowlock_task_key",
    task.c.key,
    unique=True,
    postgresql_where=_keyed,
    sqlite_where=_keyed,
)

_waiting = scheduled_task.c.next_trigger.is_not(None)
Index(
    "ix_rowlock_scheduled_task_due",
    scheduled_task.c.next_trigger,
    postgresql_where=_waiting,
    sqlite_where=_waiting,
)
