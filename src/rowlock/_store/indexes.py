"""The indexes of the tables, as SQLAlchemy Core metadata, and how PostgreSQL is to store them.

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
- Until a vacuum a claim of a type, and a page of what was changed last, pass by what has run, in
  the claim index and at the end of the one by `date_modified`: 2 ms for 100,000 tasks. So
  PostgreSQL is to come sooner than at a fifth of all rows, which with a million retained would be
  once in 100,000 tasks, and to look after the indexes also where few pages have dead rows.
- A task is written again when it is claimed and when it has ended, and all of a page are claimed
  at once: half of it is left free for them, or the new versions would go to other pages, with a
  record more of WAL each. Whoever keeps millions of tasks may want the room instead.

Only who creates or compares a schema imports this: what an index has of PostgreSQL has SQLAlchemy
load all that it knows of PostgreSQL.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Index

from rowlock._store.tables import KEY_TAKEN, scheduled_task, task


def _partial(
    name: str, where: ColumnElement[bool], *columns: ColumnElement[Any], unique: bool = False
) -> None:
    Index(name, *columns, unique=unique, postgresql_where=where, sqlite_where=where)


_c = task.c
_partial(
    "ix_rowlock_task_claim", _c.status == "pending", _c.type, _c.priority.desc(), _c.run_at, _c.id
)
for _name, *_columns in (
    ("status_id", _c.status, _c.id),
    ("type_status_id", _c.type, _c.status, _c.id),
    ("status_modified", _c.status, _c.date_modified, _c.id),
    ("type_status_modified", _c.type, _c.status, _c.date_modified, _c.id),
):
    _partial(f"ix_rowlock_task_{_name}", _c.status != "processing", *_columns)
_partial("ix_rowlock_task_processing", _c.status == "processing", _c.status, _c.id)
_partial("ix_rowlock_task_retain", _c.date_retain_until.is_not(None), _c.date_retain_until)
_partial("uq_rowlock_task_type_key", KEY_TAKEN, _c.type, _c.key, unique=True)

task.dialect_kwargs["postgresql_with"] = {
    "autovacuum_vacuum_scale_factor": 0.02,
    "vacuum_index_cleanup": "on",
    "fillfactor": 50,
}

_next = scheduled_task.c.next_trigger
_partial("ix_rowlock_scheduled_task_due", _next.is_not(None), _next)
