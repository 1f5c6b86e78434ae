"""The signals of `rowlock worker`. Imports nothing that takes time: they are heard before."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from types import FrameType

DRAINED = 0
HURRIED = 130

# What rowlock itself does in `stop` and `close` after a hurry is bounded; a handler that swallows
# its cancellation, blocks the loop or sits in a thread of an executor is not.
_LAST_RESORT = 10.0
EXIT_TIME = 5.0


class Signals:
    """Counts SIGINT and SIGTERM.

    By `signal.signal`, not by the loop: it must also hear them while the application is imported,
    which ends at the first one, the second one while a handler blocks the loop, and those in the
    time after the loop's end in which Python waits for threads.
    """

    def __init__(self) -> None:
        self.count = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._came = asyncio.Event()
        self.listen()

    def listen(self) -> None:
        """Hear them from now on; what was imported may have had a mind of its own."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self._loop is None:
            # There is nothing to drain, only an import or a function that may take long, and that
            # may swallow what is raised.
            code = DRAINED if self.count == 1 else HURRIED
            exit_within(EXIT_TIME / self.count, code)
            raise SystemExit(code)
        if self.count == 2:
            exit_within(_LAST_RESORT, HURRIED)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._came.set)

    async def wait(self, count: int) -> None:
        """Wait until so many have come."""
        self._loop = asyncio.get_running_loop()
        while self.count < count:
            self._came.clear()
            await self._came.wait()


def exit_within(seconds: float, code: int) -> None:
    """End the process after some time, whatever keeps it from ending."""
    timer = threading.Timer(seconds, os._exit, (code,))
    timer.daemon = True
    timer.start()
