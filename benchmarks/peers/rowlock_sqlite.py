"""rowlock on SQLite."""

from __future__ import annotations

from typing import ClassVar

from benchmarks.peers._peer import SQLITE
from benchmarks.peers.rowlock_postgresql import Rowlock


class RowlockOnSqlite(Rowlock):
    """The same calls."""

    distributions: ClassVar[tuple[str, ...]] = ("rowlock", "aiosqlite", "uvloop")
    server = SQLITE
    rate = 15_000


PEER = RowlockOnSqlite()
