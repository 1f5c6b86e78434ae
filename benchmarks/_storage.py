"""What a database has written and keeps."""

from __future__ import annotations

import os
from typing import Any

from benchmarks._counting import Ask
from benchmarks._databases import SQLITE, sqlite_file

# What another database of the server writes meanwhile is in it too.
_WAL = "SELECT (pg_current_wal_lsn() - '0/0')::bigint"
_TABLE = """
    SELECT n_dead_tup, pg_total_relation_size(relid)::float8 / 1048576
    FROM pg_stat_user_tables WHERE relname = 'rowlock_task'
"""


async def wal_bytes(ask: Ask) -> int:
    """Return how much a PostgreSQL server has written to its log, ever."""
    ((written,),) = await ask(_WAL)
    return int(written)


async def storage(url: str, ask: Ask) -> dict[str, Any]:
    """Return what a table that changes grows by."""
    if url.startswith(SQLITE):
        return _files(sqlite_file(url))
    ((dead, size),) = await ask(_TABLE)
    return {"dead tuples": dead, "table and indexes MiB": size}


def _files(file: str) -> dict[str, Any]:
    return {
        "WAL file MiB": os.path.getsize(f"{file}-wal") / 2**20,
        "file MiB": os.path.getsize(file) / 2**20,
    }
