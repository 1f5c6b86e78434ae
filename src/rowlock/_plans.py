"""When a connection to PostgreSQL makes the plans of its statements again.

A plan is kept until the statistics are made again. One that was made while the table was empty
may read all of a table that has grown, for each task of a batch: 50,000 tasks that were created
at once took five times as long.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import asyncpg

# A statement is slow that takes longer than so many seconds, and so many for each row.
_TOLERATED = 0.015
_TOLERATED_PER_ROW = 0.0001
# Seconds for which a plan is used although it was slow: it is not its fault where all wait.
_TRIED = 1.0
# Nor is a plan used for so long a batch that is so many seconds old: the table may have grown.
_LONG = 100
_OLD = 10.0


def is_slow(seconds: float, rows: int) -> bool:
    """Whether a statement that returned so many rows has probably read far more than these."""
    return seconds > _TOLERATED + _TOLERATED_PER_ROW * rows


class Plans:
    """The ages of the plans of each connection, and whether one was slow."""

    def __init__(self) -> None:
        self._made: WeakKeyDictionary[asyncpg.Connection, float] = WeakKeyDictionary()
        self._slow: WeakSet[asyncpg.Connection] = WeakSet()

    def are_stale(self, driver: asyncpg.Connection, parameters: Mapping[str, Any]) -> bool:
        """Whether they are to be made again before a statement; counts as done if so."""
        now = time.monotonic()
        age = now - self._made.setdefault(driver, now)
        if age < _TRIED:
            return False
        if driver not in self._slow:
            if age < _OLD:
                return False
            longest = max((len(v) for v in parameters.values() if type(v) is list), default=0)
            if longest < _LONG:
                return False
        self._made[driver] = now
        self._slow.discard(driver)
        return True

    def executed(self, driver: asyncpg.Connection, seconds: float, rows: int) -> None:
        """Take note of how long a statement took."""
        if is_slow(seconds, rows):
            self._slow.add(driver)
