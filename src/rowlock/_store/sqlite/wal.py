"""When to move SQLite's write-ahead log into the database.

SQLite tries it at each commit that finds the log long. While a reader pins the log that does
nothing, and looks through the whole log to find it out: the log grows, and commits with it. Then
it is tried from here instead, so that it takes little of the time.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress

from rowlock.errors import DatabaseUnavailableError

# SQLite's default for wal_autocheckpoint; and journal_size_limit, to which a log that is reset
# is truncated.
_AUTOMATIC_PAGES = 1000
USUAL_BYTES = 4 * 1024 * 1024
# Seconds between looks at the log's length, and between checkpoints of a log that a reader pins.
_LOOK = 0.1
_TRY = 1.0
# The part of the time that such checkpoints may take.
_SHARE = 0.05


class Checkpoints:
    """Follows the log of one writing connection, in its thread.

    Args:
        file: the path of the database.
    """

    def __init__(self, file: str) -> None:
        self._log = f"{file}-wal"
        self._next = 0.0
        self._automatic = True

    def after_commit(self, driver: sqlite3.Connection) -> None:
        """Try a checkpoint if the log is longer than SQLite should have let it become."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _LOOK
        # The commit is done; a checkpoint that fails must not make it look failed.
        with suppress(OSError, sqlite3.Error):
            pinned = os.stat(self._log).st_size > 2 * USUAL_BYTES
            if pinned:
                _, pages, moved = driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                pinned = moved < pages
                self._next = time.monotonic() + max(_TRY, (time.monotonic() - now) / _SHARE)
            if pinned is self._automatic:
                self._automatic = not pinned
                automatic = _AUTOMATIC_PAGES if self._automatic else 0
                driver.execute(f"PRAGMA wal_autocheckpoint = {automatic}").fetchone()


def use_wal(driver: sqlite3.Connection) -> None:
    (mode,) = driver.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise DatabaseUnavailableError(f"SQLite: journal_mode is {mode}, WAL is needed")
    driver.execute("PRAGMA synchronous = FULL")
    # Otherwise a log that is reset keeps the greatest size that it ever had.
    driver.execute(f"PRAGMA journal_size_limit = {USUAL_BYTES}").fetchone()
