"""When to look into a SQLite database for what others have committed.

Its write-ahead log is watched from outside, which costs little and asks no thread. A log is
written to before what it says is committed, so one change asks for several looks.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from typing import Protocol

INTERVAL = 0.005

# Seconds for which the first look after a silence polls: a commit usually shows within them, and
# the timers of an event loop are coarser.
_SPIN = 0.002
# Seconds: the pause after the first look, doubled after each further one; after a pause of _LAST
# or more nothing is looked at until the file is written again.
_FIRST = 0.001
_LAST = 0.1
_REST = 3600.0

# Seconds: if the last write was no longer ago, as with this process's own, the first look waits
# for INTERVAL and does not poll.
_SILENCE = 0.01

# Looks at the file in one pass; and the seconds for which the file's time may not show a change.
_GLANCES = 10
_TICK = 0.02


class Watcher(Protocol):
    """Says when to look."""

    async def spin_seconds(self) -> float | None:
        """Return the seconds for which to look for a change, 0 for once, None for not at all."""

    def pause(self) -> float:
        """Return the seconds until it is to be asked again."""

    def close(self) -> None:
        """Watch no more."""


def watcher_of(file: str, wake: Callable[[], None]) -> Watcher:
    """Watch a database.

    Args:
        file: the path of the database.
        wake: called in the loop when it is to be asked before its pause is over.
    """
    # Windows updates the time of a change only when the file is closed.
    if sys.platform == "win32":
        return NoWatcher()
    log = f"{file}-wal"
    try:
        return InotifyWatcher(log, wake)
    except (ImportError, OSError):
        return StatWatcher(log)


class NoWatcher:
    """For a file that cannot be watched: the database is asked every INTERVAL."""

    async def spin_seconds(self) -> float:
        """Return 0: look once."""
        return 0.0

    def pause(self) -> float:
        """Return the interval."""
        return INTERVAL

    def close(self) -> None:
        """Do nothing."""


class InotifyWatcher:
    """Sleeps until inotify reports a write to the log.

    Raises:
        ImportError: if this is not Linux.
        OSError: if this user watches too many files.
    """

    def __init__(self, log: str, wake: Callable[[], None]) -> None:
        from inotify_simple import INotify, flags

        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._pause = _FIRST
        self._written_at = 0.0
        self._inotify = INotify(nonblocking=True)
        try:
            self._inotify.add_watch(log, flags.MODIFY)
        except OSError:
            self._inotify.close()
            raise

    async def spin_seconds(self) -> float | None:
        """Return _SPIN after a silence, else 0, None if nothing was written."""
        if self._pause == _REST:
            return None
        if self._inotify.read(timeout=0):
            self._pause = min(self._pause, INTERVAL)
            self._written_at = time.monotonic()
        return _SPIN if self._pause == _FIRST else 0.0

    def pause(self) -> float:
        """Return the seconds until the next look, or for ever."""
        pause = self._pause
        self._pause = pause * 2 if pause < _LAST else _REST
        # Not during short pauses: a writer would wake the loop with each page of the log.
        if pause > INTERVAL:
            self._loop.add_reader(self._inotify.fileno(), self._written)
        return pause

    def _written(self) -> None:
        self._loop.remove_reader(self._inotify.fileno())
        silence = time.monotonic() - self._written_at
        self._pause = INTERVAL if silence < _SILENCE else _FIRST
        self._wake()

    def close(self) -> None:
        """Give the file descriptor back."""
        self._loop.remove_reader(self._inotify.fileno())
        self._inotify.close()


class StatWatcher:
    """Asks for the time and the size of the log every INTERVAL."""

    def __init__(self, log: str) -> None:
        self._log = log
        self._seen: tuple[int, int, int] | None = None
        self._look_until = 0.0
        self._looked_at = -1.0
        self._looked = False

    async def spin_seconds(self) -> float | None:
        """Wait up to _GLANCES intervals for a change; return 0 after one, else None."""
        for _ in range(_GLANCES):
            if self._has_changed():
                self._looked = True
                return 0.0
            await asyncio.sleep(INTERVAL)
        return None

    def _has_changed(self) -> bool:
        try:
            found = os.stat(self._log)
        except OSError:
            return True
        glance = (found.st_mtime_ns, found.st_size, found.st_ino)
        now = time.monotonic()
        if glance != self._seen:
            self._seen = glance
            # Two commits within a tick of the file system's clock show as one change, so the
            # database is asked once more after the tick.
            self._look_until = now + _TICK
        if self._looked_at >= self._look_until:
            return False
        self._looked_at = now
        return True

    def pause(self) -> float:
        """Return the interval, or nothing if that has passed."""
        looked, self._looked = self._looked, False
        return INTERVAL if looked else 0.0

    def close(self) -> None:
        """Do nothing."""
