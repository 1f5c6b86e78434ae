"""Hints between processes: that there is work, or something to cancel, or a changed schedule.

A hint may be lost, and saves who gets it the wait for its next look. Sending is paced, and one
listener serves all that want to hear in this process, whether or not the queue is started.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from rowlock._events import Event
from rowlock._loop import Loop
from rowlock._store.database import Database, Heard, Hint, HintKind
from rowlock.errors import DatabaseError

# Hints of one process are at least this many seconds apart: NOTIFY lets one commit wait for
# another. One that goes with an INSERT is a whole round trip sooner, but others wait until that
# is on disk, so it needs a longer silence.
_GAP = 0.005
_SILENCE = 0.010
_FOREVER = 3600.0
_LAST_HINTS = 1.0


class Hints:
    """What this process tells others, and hears from them.

    Args:
        database: by which.
        emit: takes events of failures.
        enabled: whether anything is sent to other processes, and heard of them. What is told is
            heard within the process in any case.
    """

    def __init__(self, database: Database, emit: Callable[[Event], None], *, enabled: bool) -> None:
        self._database = database
        self._enabled = enabled
        self._listeners: dict[HintKind, list[Heard]] = {}
        self._unsent: set[Hint] = set()
        self._sent_at = 0.0
        self._sends = Loop("hints", self.send_unsent, emit)
        self._listens = Loop("watch", self.hear, emit)
        self._is_listening = False

    def start(self) -> None:
        """Begin to send."""
        if self._enabled:
            self._sends.start()

    async def close(self) -> None:
        """Send what is left, and hear no more."""
        self._listeners.clear()
        if not self._enabled:
            return
        await asyncio.gather(self._sends.end(_LAST_HINTS), self._listens.end(_LAST_HINTS))
        with suppress(Exception):
            async with asyncio.timeout(_LAST_HINTS):
                await self.send_unsent()

    # Sending.

    def tell(self, hints: Iterable[Hint], *, sent: bool = False) -> None:
        """Give hints to this process, and to others unless that is done."""
        for hint in hints:
            self._deliver(hint)
            if not sent:
                self.send(hint)

    def send(self, hint: Hint) -> None:
        """Give a hint to other processes, with those that come at nearly the same time."""
        if self._enabled:
            self._unsent.add(hint)
            self._sends.wake()

    async def send_unsent(self) -> float:
        """Send once what has gathered; return the seconds until there may be more."""
        if not self._unsent:
            return _FOREVER
        await asyncio.sleep(self._sent_at + _GAP - time.monotonic())
        hints, self._unsent = self._unsent, set()
        self._sent_at = time.monotonic()
        try:
            await self._database.hint(hints)
        except DatabaseError:
            raise  # one of them cannot be sent, now or ever; whom they were for will look
        except BaseException:
            self._unsent |= hints
            raise
        return _FOREVER

    def goes_along(self) -> bool:
        """Whether a hint may go with the INSERT that is about to be sent, which it then does."""
        now = time.monotonic()
        if not self._enabled or self._unsent or now - self._sent_at < _SILENCE:
            return False
        self._sent_at = now
        return True

    # Listening.

    def listen(self, hears: Mapping[HintKind, Heard]) -> None:
        """Call what hears with the value of each hint of its kind; with None if it may be any."""
        for kind, heard in hears.items():
            self._listeners.setdefault(kind, []).append(heard)
        if not self._enabled:
            return
        # Not before: a queue that only creates opens no connection for it.
        if self._is_listening:
            self._listens.wake()
        else:
            self._is_listening = True
            self._listens.start()

    def unlisten(self, hears: Mapping[HintKind, Heard]) -> None:
        """Call them no more."""
        for kind, heard in hears.items():
            listeners = self._listeners.get(kind, [])
            if heard in listeners:
                listeners.remove(heard)
            if not listeners:
                self._listeners.pop(kind, None)
        self._listens.wake()

    async def hear(self) -> float:
        """Look once for what other processes tell; return the seconds until the next look."""
        if not self._listeners:
            await self._database.unwatch()
            return _FOREVER
        return await self._database.watch(
            frozenset(self._listeners), self._deliver, self._listens.wake
        )

    def _deliver(self, hint: Hint) -> None:
        for heard in tuple(self._listeners.get(hint.kind, ())):
            heard(hint.value)
