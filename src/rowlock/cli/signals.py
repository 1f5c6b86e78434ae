"""The signals of `rowlock worker`. Imports nothing that takes time: they are heard before."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from contextlib import suppress
from types import FrameType

NUMBERS = (signal.SIGINT, signal.SIGTERM)

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

    Python calls a handler once the main thread is back from C, which can take long: a call that
    begins just after the signal is not interrupted by it, nor is one whose signal the kernel gave
    to another thread, and some begin again (SQLite waiting for a lock). So a thread hears the
    signals beside it, and ends the process where the handler has not.
    """

    def __init__(self) -> None:
        self.count = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._came = asyncio.Event()
        self._heard, self._written = socket.socketpair()
        self._written.setblocking(False)
        self._other: socket.socket | None = None
        self.listen()
        threading.Thread(target=self._watch, name="rowlock-signals", daemon=True).start()
        # A fork is no worker: it ends by a signal, of which this process is not to hear (a terminal
        # sends its Ctrl-C to both). One that comes before it has let go of them waits for that.
        self._masks = threading.local()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._hold, after_in_parent=self._release, after_in_child=self._leave
            )

    def _hold(self) -> None:
        self._masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)

    def _release(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.before)

    def _leave(self) -> None:
        signal.set_wakeup_fd(-1)
        for number in NUMBERS:
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, signal.SIG_DFL)
        self._release()

    def listen(self) -> None:
        """Hear them from now on; what was imported may have had a mind of its own."""
        for number in NUMBERS:
            signal.signal(number, self._on_signal)
        former = signal.set_wakeup_fd(self._written.fileno(), warn_on_full_buffer=False)
        if former not in (-1, self._written.fileno()):
            # That of the loop, which waits for it; a copy, because the loop closes its own.
            self._other = socket.fromfd(former, self._written.family, self._written.type)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self._loop is None:
            raise SystemExit(_starting_code(self.count))
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._came.set)

    def _watch(self) -> None:
        count = 0
        while True:
            byte = self._heard.recv(1)
            if self._other is not None:
                with suppress(OSError):
                    self._other.send(byte)
            if byte[0] not in NUMBERS:
                continue
            count += 1
            if self._loop is None:
                # There is nothing to drain, only an import or a function that may take long, and
                # that may swallow what is raised.
                exit_within(EXIT_TIME / count, _starting_code(count))
            elif count == 2:
                exit_within(_LAST_RESORT, HURRIED)

    async def wait(self, count: int) -> None:
        """Wait until so many have come."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self.listen()
        while self.count < count:
            self._came.clear()
            await self._came.wait()


def _starting_code(count: int) -> int:
    return DRAINED if count == 1 else HURRIED


def exit_within(seconds: float, code: int) -> None:
    """End the process after some time, whatever keeps it from ending."""
    timer = threading.Timer(seconds, os._exit, (code,))
    timer.daemon = True
    timer.start()
