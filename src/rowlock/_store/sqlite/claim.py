"""How tasks are claimed on SQLite: type by type and priority by priority, each by its index range.

All of it is one transaction, in the thread of the connection that writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Text, bindparam, func, select, text

from rowlock._rows import ClaimedRow, HeldRow, TaskRow
from rowlock._store.database import MOST_BYTES_OF_A_CLAIM, MOST_OF_A_CLAIM, Operation
from rowlock._store.sql import COLUMNS, TO_RUN, Dialect, Statement, Statements, claimed
from rowlock._store.sqlite.dialect import DIALECT
from rowlock._store.tables import task

_ABOVE_EVERY_PRIORITY = 2**31


class ClaimStatements(Statements):
    """How tasks are claimed, and how it is known when the next one is due."""

    def __init__(self, dialect: Dialect) -> None:
        self.top_priority = dialect.statement(
            text(
                "SELECT priority FROM rowlock_task WHERE status = 'pending' AND type = :type"
                " AND priority < :below ORDER BY priority DESC LIMIT 1"
            )
        )
        self.due = dialect.statement(
            text(
                "SELECT id, COALESCE(length(CAST(payload AS BLOB)), 0) FROM rowlock_task"
                " WHERE status = 'pending' AND type = :type AND priority = :priority"
                " AND run_at <= :now AND attempt < 2147483647 ORDER BY run_at, id LIMIT :room"
            )
        )
        self.first_due = dialect.statement(
            text(
                "SELECT run_at FROM rowlock_task WHERE status = 'pending' AND type = :type"
                " AND priority = :priority ORDER BY run_at LIMIT 1"
            )
        )
        ids = func.json_each(bindparam("ids", type_=Text)).table_valued("value", name="item")
        update = claimed(dialect, task.c.id.in_(select(ids.c.value)))
        self.claim = dialect.statement(update.returning(*COLUMNS))
        self.claim_to_run = dialect.statement(update.returning(*TO_RUN))
        self.claims: dict[type[HeldRow], Statement] = {
            TaskRow: self.claim,
            ClaimedRow: self.claim_to_run,
        }


_SQL = ClaimStatements.of(DIALECT)


def claim_rows(
    kind: type[HeldRow], rooms: Mapping[str, int], parameters: Mapping[str, Any]
) -> Operation[Sequence[Any]]:
    """Take due tasks, of each type as many as there is room for."""
    ids: list[str] = []
    left = MOST_BYTES_OF_A_CLAIM
    for task_type, wanted in rooms.items():
        room = min(wanted, MOST_OF_A_CLAIM - len(ids)) if left > 0 else 0
        priority = yield from _next_priority(task_type, _ABOVE_EVERY_PRIORITY)
        while room > 0 and priority is not None:
            found = yield (
                _SQL.due,
                {
                    "type": task_type,
                    "priority": priority,
                    "now": parameters["now"],
                    "room": room,
                },
            )
            for task_id, size in found:
                # SQLite stores anything in any column, and an id of rowlock's is text.
                if left > 0 and isinstance(task_id, str):
                    ids.append(task_id)
                    left -= size
            room = room - len(found) if left > 0 else 0
            if room > 0:
                priority = yield from _next_priority(task_type, priority)
    if not ids:
        return []
    return (yield _SQL.claims[kind], {"ids": json.dumps(ids), **parameters})


def next_due(types: Sequence[str], now: int) -> Operation[float | None]:
    """Return the seconds until a task of the types is due; see `Database.next_due`."""
    first: int | None = None
    for task_type in types:
        priority = yield from _next_priority(task_type, _ABOVE_EVERY_PRIORITY)
        while priority is not None:
            rows = yield _SQL.first_due, {"type": task_type, "priority": priority}
            instant = rows[0][0] if rows else None
            if isinstance(instant, int) and (first is None or instant < first):
                first = instant
            priority = yield from _next_priority(task_type, priority)
    return None if first is None else max(0, first - now) / 1e6


def _next_priority(task_type: str, below: int) -> Operation[int | None]:
    # One lookup for each priority. For a join SQLite, once the table was analyzed, reads the
    # whole backlog into a Bloom filter.
    rows = yield _SQL.top_priority, {"type": task_type, "below": below}
    return rows[0][0] if rows else None
