"""What a fork of the process means to SQLite."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from rowlock.errors import EventLoopError

# Seconds that a fork waits for calls into SQLite to return; then it goes on all the same.
_PATIENCE = 1.0

FileId = tuple[int, int]

_guards: WeakSet[ForkGuard] = WeakSet()
_inherited: set[FileId] = set()
_held: list[threading.Lock] = []


class ForkGuard:
    """Keeps forks out of one connection's calls, and a fork out of its parent's file.

    A mutex of the library that a thread holds at the fork is held for ever in the fork, whose
    next use of SQLite, of any file, hangs in its allocator.

    Attributes:
        file: the device and the inode of the file that is open.
    """

    file: FileId | None = None

    def __init__(self) -> None:
        self.lock = threading.Lock()
        _guards.add(self)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function that no fork is to find in the middle of it."""
        with self.lock:
            return function(*arguments)


def refuse_inherited(path: str, file: FileId | None) -> None:
    """Refuse a file that was open in a process of which this one is a fork.

    SQLite keeps one account of a file's locks in a process, and the fork has its copy while the
    locks themselves are its parent's. A lock that a thread of the parent held at that moment is
    never free again; and where the parent closes the file, it takes itself for the last one and
    removes the -wal to which the fork goes on writing: what was committed is lost.

    Raises:
        EventLoopError: if it was.
    """
    if file in _inherited:
        raise EventLoopError(
            f"SQLite: {path} was open when this process was forked, and SQLite's locks are no "
            "good in the fork: open the queue after the fork only, or start the process anew "
            '(`multiprocessing.get_context("spawn")`)'
        )


def _hold() -> None:
    end = time.monotonic() + _PATIENCE
    _held.extend(
        guard.lock
        for guard in list(_guards)
        if guard.lock.acquire(timeout=max(0.0, end - time.monotonic()))
    )


def _release() -> None:
    while _held:
        _held.pop().release()


def _inherit() -> None:
    _inherited.update(guard.file for guard in _guards if guard.file is not None)
    _release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_inherit)
