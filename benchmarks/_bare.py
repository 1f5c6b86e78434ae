"""What the drivers alone can do: the fewest statements that drain the table durably.

No lease is extended, no payload is decoded, no handler is called, nothing overlaps.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime

import asyncpg

from benchmarks._databases import sqlite_file

BATCH = 200

_PG_CLAIM = """
    UPDATE rowlock_task
    SET status = 'processing', attempt = attempt + 1, thread_id = $1,
        lease_until = now() + interval '30 seconds', date_modified = now()
    WHERE id = ANY(ARRAY(
        SELECT id FROM rowlock_task
        WHERE status = 'pending' AND type = $2 AND run_at <= now()
        ORDER BY priority DESC, run_at, id LIMIT $3 FOR UPDATE SKIP LOCKED
    ))
    RETURNING id, attempt, payload
"""
_PG_UPDATE = """
    UPDATE rowlock_task AS t
    SET status = 'success', lease_until = NULL, date_modified = now()
    FROM unnest($2::uuid[], $3::integer[]) AS batch(id, attempt)
    WHERE t.id = batch.id AND t.attempt = batch.attempt AND t.thread_id = $1
"""
_PG_DELETE = """
    DELETE FROM rowlock_task AS t
    USING unnest($2::uuid[], $3::integer[]) AS batch(id, attempt)
    WHERE t.id = batch.id AND t.attempt = batch.attempt AND t.thread_id = $1
"""

_SQLITE_CLAIM = """
    UPDATE rowlock_task
    SET status = 'processing', attempt = attempt + 1, thread_id = :holder,
        lease_until = :now + 30000000, date_modified = :now
    WHERE id IN (
        SELECT id FROM rowlock_task
        WHERE status = 'pending' AND type = :type AND run_at <= :now
        ORDER BY priority DESC, run_at, id LIMIT :limit
    )
    RETURNING id, attempt, payload
"""
_SQLITE_HELD = """
    WHERE (id, attempt) IN (
        SELECT value ->> 0, value ->> 1 FROM json_each(:batch)
    ) AND thread_id = :holder
"""
_SQLITE_UPDATE = f"""
    UPDATE rowlock_task SET status = 'success', lease_until = NULL, date_modified = :now
    {_SQLITE_HELD}
"""
_SQLITE_DELETE = f"DELETE FROM rowlock_task {_SQLITE_HELD}"


async def on_postgresql(
    connection: asyncpg.Connection,
    task_type: str,
    *,
    keep: bool,
    seen: Callable[[str], None] | None = None,
    holder: str = "bare",
) -> None:
    """Drain with asyncpg; each payload is given to `seen`."""
    finish = _PG_UPDATE if keep else _PG_DELETE
    while rows := await connection.fetch(_PG_CLAIM, holder, task_type, BATCH):
        if seen is not None:
            for row in rows:
                seen(row["payload"])
        await connection.execute(
            finish, holder, [row["id"] for row in rows], [row["attempt"] for row in rows]
        )


def on_sqlite(
    url: str,
    task_type: str,
    synchronous: int,
    *,
    keep: bool,
    seen: Callable[[str], None] | None = None,
    holder: str = "bare",
) -> None:
    """Drain with sqlite3; each payload is given to `seen`."""
    with closing(sqlite3.connect(sqlite_file(url), timeout=30, isolation_level=None)) as database:
        database.execute(f"PRAGMA synchronous = {synchronous}")
        finish = _SQLITE_UPDATE if keep else _SQLITE_DELETE
        common = {"holder": holder, "type": task_type, "limit": BATCH}
        while True:
            database.execute("BEGIN IMMEDIATE")
            rows = database.execute(_SQLITE_CLAIM, {**common, "now": _now()}).fetchall()
            database.execute("COMMIT")
            if not rows:
                return
            if seen is not None:
                for row in rows:
                    seen(row[2])
            batch = json.dumps([row[:2] for row in rows])
            database.execute("BEGIN IMMEDIATE")
            database.execute(finish, {"holder": holder, "batch": batch, "now": _now()})
            database.execute("COMMIT")


def _now() -> int:
    return int(datetime.now(UTC).timestamp() * 1e6)
