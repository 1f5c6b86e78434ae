"""Millions of tasks like those that long use leaves behind, made by the database itself."""

from __future__ import annotations

import time
from typing import NamedTuple

from benchmarks._counting import Ask
from benchmarks._databases import kind, session
from benchmarks._worker import handled
from rowlock.models import TaskError

_MINUTE = 60_000
_DAY = 24 * 60 * _MINUTE
_KEPT_FOR = 30 * _DAY
(_HANDLED,) = handled(1)
_ERROR = TaskError(
    name="TimeoutError",
    message="the mail server did not answer within 30 seconds",
    source="application.mail.send",
    stack="Traceback (most recent call last):" + "\n  File ..., line 1, in send" * 10,
).model_dump_json(by_alias=True)


class _Dialect(NamedTuple):
    """How a database says it; every instant is a number of milliseconds.

    An id is a UUIDv7 of the instant, as `rowlock._ids` makes them.
    """

    id: str
    instant: str
    json: str
    indexes: str
    before: tuple[str, ...]
    after: tuple[str, ...]


_DIALECTS = {
    "postgresql": _Dialect(
        id="CAST(lpad(to_hex(created), 12, '0') || '7' || substr(md5(created || 'a' || n), 1, 3)"
        " || '8' || substr(md5(created || 'b' || n), 1, 15) AS uuid)",
        instant="TIMESTAMPTZ 'epoch' + ({}) * INTERVAL '1 millisecond'",
        json="json",
        indexes="SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'rowlock_task'"
        " AND indexname !~ 'pkey'",
        before=("SET maintenance_work_mem = '512MB'",),
        after=("VACUUM ANALYZE rowlock_task", "CHECKPOINT"),
    ),
    "sqlite": _Dialect(
        id="printf('%012x7%03x8%015x', created, random() & 0xfff, random() & 0xfffffffffffffff)",
        instant="({}) * 1000",
        json="text",
        indexes="SELECT name, sql FROM sqlite_master WHERE type = 'index'"
        " AND tbl_name = 'rowlock_task' AND sql IS NOT NULL",
        before=(
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            "PRAGMA cache_size = -500000",
        ),
        after=("ANALYZE", "PRAGMA journal_mode = WAL"),
    ),
}

# Statuses and types are mixed in every stretch, and no ending comes in the order of creation.
_RETAINED = """
    SELECT n, {start} + n * {spread} / {count} AS created,
        {start} + n * {spread} / {count} + 50 + n * 7919 % 600000 AS modified,
        {start} + n * {spread} / {count} AS due,
        CASE n % 20 WHEN 0 THEN 'cancelled' WHEN 1 THEN 'failed' WHEN 2 THEN 'failed'
            WHEN 3 THEN 'failed' ELSE 'success' END AS status,
        CASE n % 7 WHEN 0 THEN '{handled}' WHEN 1 THEN 'report' WHEN 2 THEN 'sync'
            WHEN 3 THEN 'thumbnail' ELSE 'mail' END AS type
    FROM numbers
"""
_PENDING = """
    SELECT n, {start} + n * {spread} / {count} AS created,
        {start} + n * {spread} / {count} AS modified,
        {start} + n * {spread} / {count} + n % 2 * {day} AS due,
        'pending' AS status,
        CASE n % 4 WHEN 0 THEN 'mail' WHEN 2 THEN 'report' ELSE '{handled}' END AS type
    FROM numbers
"""
_COLUMNS = {
    "id": "{id}",
    "type": "type",
    "status": "status",
    "priority": "CASE n % 10 WHEN 0 THEN 10 ELSE 0 END",
    "run_at": "{due}",
    "attempt": "CASE WHEN status IN ('pending', 'cancelled') THEN 0 ELSE 1 END",
    "thread_id": "CASE WHEN status IN ('pending', 'cancelled') THEN '0'"
    " ELSE 'app-1:4242:0c5d1f9e77a2' END",
    "lost_workers": "0",
    "retries_remaining": "CASE status WHEN 'failed' THEN 0 END",
    "retain_for": f"CASE n % 3 WHEN 0 THEN {_KEPT_FOR} ELSE -1 END",
    "date_created": "{created}",
    "date_modified": "{modified}",
    "date_retain_until": "CASE WHEN n % 3 = 0 AND status <> 'pending' THEN {kept} END",
    "payload": 'CAST(\'{{"number": \' || n || \', "address": "somebody@example.com"}}\' AS {json})',
    "result": "CAST(CASE status WHEN 'success' THEN '{{\"ok\": true}}' END AS {json})",
    "error": "CAST(CASE status WHEN 'failed' THEN '{error}' END AS {json})",
}


async def fill(url: str, *, pending: int, retained: int) -> float:
    """Add tasks of which a worker of one type can begin none; return the seconds it took.

    Args:
        url: the database.
        pending: half are due, of types that it does not handle, half are of its type and due
            tomorrow. They were created in the last hours.
        retained: finished ones, of several types, its own among them, of the last ten days.
    """
    dialect = _DIALECTS[kind(url)]
    began = time.monotonic()
    now = int(time.time() * 1000)
    async with session(url) as ask:
        for statement in dialect.before:
            await ask(statement)
        indexes = await ask(dialect.indexes)
        for name, _ in indexes:
            await ask(f"DROP INDEX {name}")
        await _insert(ask, dialect, _RETAINED, retained, now - 10 * _DAY, 9 * _DAY)
        await _insert(ask, dialect, _PENDING, pending, now - 180 * _MINUTE, 170 * _MINUTE)
        for _, definition in indexes:
            await ask(definition)
        for statement in dialect.after:
            await ask(statement)
    return time.monotonic() - began


async def _insert(
    ask: Ask, dialect: _Dialect, source: str, count: int, start: int, spread: int
) -> None:
    if not count:
        return
    given = {
        "id": dialect.id,
        "due": dialect.instant.format("due"),
        "created": dialect.instant.format("created"),
        "modified": dialect.instant.format("modified"),
        "kept": dialect.instant.format(f"modified + {_KEPT_FOR}"),
        "json": dialect.json,
        "error": _ERROR,
    }
    rows = source.format(start=start, spread=spread, count=count, day=_DAY, handled=_HANDLED)
    await ask(f"""
        INSERT INTO rowlock_task ({", ".join(_COLUMNS)})
        WITH RECURSIVE numbers(n) AS (
            SELECT CAST(0 AS bigint) UNION ALL SELECT n + 1 FROM numbers WHERE n < {count - 1}
        ), rows AS ({rows})
        SELECT {", ".join(column.format(**given) for column in _COLUMNS.values())} FROM rows
    """)
