"""When a connection to PostgreSQL has its plans made again.

A plan is kept until the statistics or the table change. One that was made while the table was
empty reads all of a table that has grown, for each batch of ends, and compares each row with each
of the batch: 200,000 tasks that were created at once took 41 s and not 6.
"""

from __future__ import annotations

import time

# A statement is slow that takes longer than so many seconds, and so many for each row.
_TOLERATED = 0.015
_TOLERATED_PER_ROW = 0.0001
# Seconds, at least, until plans are made again because of a slow statement. It may as well have
# waited, for a lock or the disk: twice as long where the last time was of no use.
_SHORTEST = 1.0
_LONGEST = 60.0
# A batch of so many, or more, is given no plans older than so many seconds.
_LONG = 100
_OLD = 10.0


def is_slow(seconds: float, rows: int) -> bool:
    """Whether a statement that was given or has returned so many rows may have read far more."""
    return seconds > _TOLERATED + _TOLERATED_PER_ROW * rows


class Plans:
    """The plans of one connection."""

    def __init__(self) -> None:
        self._made_at = time.monotonic()
        self._slow = False
        self._patience = _SHORTEST

    def are_stale(self, batch: int) -> bool:
        """Whether to make them again before a statement is given a batch of so many, or none."""
        age = time.monotonic() - self._made_at
        if self._slow:
            return age >= self._patience
        return batch >= _LONG and age >= _OLD

    def discarded(self) -> None:
        """They are made again when they are needed next."""
        now = time.monotonic()
        if self._slow:
            again = now - self._made_at < 2 * self._patience
            self._patience = min(2 * self._patience, _LONGEST) if again else _SHORTEST
        self._made_at = now
        self._slow = False

    def executed(self, seconds: float, rows: int) -> None:
        """Take note of how long a statement took that was given or has returned so many rows."""
        self._slow |= is_slow(seconds, rows)
