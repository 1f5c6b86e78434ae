"""Where a queue is open: in one event loop of one process."""

from __future__ import annotations

import asyncio
import ctypes
import os
from weakref import WeakSet

from rowlock.errors import EventLoopError

_homes: WeakSet[Home] = WeakSet()


class Home:
    """The event loop and the process in which a queue was opened.

    Attributes:
        changing: held by whoever opens, starts, stops or closes the queue.
        held: what a fork of the process must not close.
        entered: whether it is inside `async with` of the queue.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.changing = asyncio.Lock()
        self.held: set[object] = set()
        self.entered = False
        self._process = os.getpid()
        _homes.add(self)

    @property
    def is_gone(self) -> bool:
        """Whether nobody can ever use it again here."""
        return self.loop.is_closed() or os.getpid() != self._process

    def check(self) -> None:
        """Refuse to go on elsewhere.

        Raises:
            EventLoopError: in another event loop, in none, or in another process.
        """
        if os.getpid() != self._process:
            raise EventLoopError(
                f"the queue was opened in process {self._process}, of which this one is a fork: "
                "call open() here, or make another TaskQueue"
            )
        if asyncio._get_running_loop() is not self.loop:
            if self.loop.is_closed():
                raise EventLoopError(
                    "the event loop in which the queue was opened is closed: call open() in this "
                    "one, or close() in the old one before it ends"
                )
            raise EventLoopError(
                "the queue is open in another event loop: call it there "
                "(`asyncio.run_coroutine_threadsafe(…, loop)`), or make another TaskQueue"
            )


def _keep() -> None:
    # A connection that the fork would collect says goodbye to the server, or takes its socket out
    # of the epoll that both processes share; one of SQLite may wait for a lock that a thread held
    # which the fork has not. So nothing of them is ever collected, not even at the end.
    held = list(_homes)
    if held:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(held))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep)
