"""How much goes into one statement."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rowlock.errors import DatabaseUnavailableError

# After so many seconds without one that was too slow, twice as much is tried.
_GROWS_AFTER = 30.0


class StatementTooSlowError(DatabaseUnavailableError):
    """A statement took longer than the server or rowlock allows, and was undone."""


class BatchSize:
    """Halves what goes into one statement when one was too slow, down to one row.

    The same statement would be too slow again: under a statement timeout, or over a slow link.

    Attributes:
        rows: how many go into the next statement, at most.
    """

    def __init__(self, most: int) -> None:
        self.rows = most
        self._most = most
        self._grows_at = 0.0

    def too_slow(self, rows: int) -> None:
        """A statement of so many rows was too slow."""
        self.rows = max(1, min(self.rows, rows) // 2)
        self._grows_at = time.monotonic() + _GROWS_AFTER

    def worked(self) -> None:
        """A statement was not."""
        if self.rows < self._most and time.monotonic() >= self._grows_at:
            self.rows = min(self._most, 2 * self.rows)
            self._grows_at = time.monotonic() + _GROWS_AFTER

    @contextmanager
    def statement(self, rows: int) -> Iterator[None]:
        """Take note of what becomes of a statement of so many rows, whose errors are raised."""
        try:
            yield
        except StatementTooSlowError:
            self.too_slow(rows)
            raise
        self.worked()
