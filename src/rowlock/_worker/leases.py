"""Leases are extended from a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from math import inf
from typing import TypeVar

from rowlock._batch_size import BatchSize
from rowlock._events import Event, Events
from rowlock._loop import Loop
from rowlock._store.database import LOCK_TIMEOUT
from rowlock._store.store import Store
from rowlock._worker.held import Held
from rowlock._worker.pool import Job

T = TypeVar("T")

_END_TIMEOUT = 5.0
_SHORTEST = 0.05
# What could not be extended by this part of the lease is given up, before others may have it.
_LAST = 0.9
_BACKOFF = 0.05
# A row that somebody has locked may cost the others this part of the lease.
_LOCK_PART = 1 / 12
# Seconds after which an idle connection is used: a NAT or a balancer might drop it.
_KEEP_ALIVE = 10.0
_MOST = 1000


def lock_timeout(lease: float) -> int:
    """Return the milliseconds that an extension waits for a row which somebody has locked."""
    return min(LOCK_TIMEOUT, int(lease * 1000 * _LOCK_PART))


class LeaseThread:
    """Extends leases from a thread with a connection of its own.

    A handler that blocks the event loop must not lose its lease, nor those of its neighbours.
    """

    def __init__(self, held: Held, store: Store, events: Events, lease: float) -> None:
        self._held = held
        self._store = store
        self._size = BatchSize(_MOST)
        self._events = events
        self._lease = lease
        self._main = asyncio.get_running_loop()
        self._opened: Future[None] = Future()
        self._used_at = -inf
        # For rows that somebody has locked; not where there were such the last time, but for them.
        self._wait = True
        self._locked: set[str] = set()
        self._periodic: Loop | None = None
        self._thread = threading.Thread(target=self._run, name="rowlock leases", daemon=True)

    async def start(self) -> None:
        """Begin to extend, with a connection that is open.

        Raises:
            DatabaseUnavailableError: if none can be had.
        """
        self._thread.start()
        await asyncio.wrap_future(self._opened)

    def stop(self) -> None:
        """End, and wait for the end."""
        if self._periodic is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._periodic.stop)
        self._thread.join(timeout=_END_TIMEOUT)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._opened.done():
                raise
            self._opened.set_exception(error)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._periodic = Loop(
            "leases", self.extend, self._emit, max_backoff=min(3.0, self._lease * _BACKOFF)
        )
        try:
            await self._store.database.open()
            self._opened.set_result(None)
            await self._periodic.run()
        finally:
            await self._store.database.close()

    def _emit(self, event: Event) -> None:
        self._in_main(self._events.emit, event)

    def _in_main(self, function: Callable[[T], None], argument: T) -> None:
        with suppress(RuntimeError):  # the loop is closed, and nobody is left to hear of it
            self._main.call_soon_threadsafe(function, argument)

    async def extend(self) -> float:
        """Extend once what is held longer than a third of the lease."""
        if self._main.is_closed() and self._periodic is not None:
            # Nobody finishes what is held, so that others must get it.
            self._periodic.stop()
            return 0.0
        began = time.monotonic()
        jobs = self._held.leased_before(self._lease / 3)
        if not jobs:
            await self._keep_alive()
            return self._lease / 9
        # Of a task that it has lost and claimed again it holds the last attempt only, and the
        # answer does not say which it is about.
        last = {job.row.id: job for job in sorted(jobs, key=lambda job: job.row.attempt)}
        # Whoever waits for a row has it before those that pass by what is locked: the sweeper, for
        # which the lease has run out meanwhile.
        wait = self._wait or last.keys() <= self._locked
        try:
            kept, locked = await self._extend(
                list(last.values()), began - min(job.leased_at for job in jobs), wait
            )
        except Exception:
            # It may have been a lock for which there was no time; the next try waits for none.
            self._wait, self._locked = False, set()
            if not self._store.database.keeps_trying:
                # Those too for which it would be time during the back-off.
                for job in self._held.leased_before(self._lease * (_LAST - _BACKOFF)):
                    self._in_main(self._held.lose, job)
            raise
        self._wait, self._locked = not locked, locked
        for job in jobs:
            if last[job.row.id] is not job:
                self._in_main(self._held.lose, job)
            elif job.row.id in kept:
                job.leased_at = began
            elif job.row.id not in locked:  # nobody can take what somebody has locked
                self._in_main(self._held.lose, job)
        return 0.0 if locked else self._lease / 9

    async def _keep_alive(self) -> None:
        if time.monotonic() - self._used_at < _KEEP_ALIVE:
            return
        async with asyncio.timeout(_END_TIMEOUT):
            await self._store.database.keep_alive()
        self._used_at = time.monotonic()

    async def _extend(self, jobs: list[Job], age: float, wait: bool) -> tuple[set[str], set[str]]:
        kept: set[str] = set()
        locked: set[str] = set()
        # An answer that comes after the lease has run out is no use; but where this thread was
        # kept from running until then, by a signal or a debugger, nobody may have taken them yet.
        left = self._lease * _LAST - age
        if left <= 0:
            left = self._lease / 3
        async with asyncio.timeout(max(_SHORTEST, min(self._lease / 3, left))):
            while jobs:
                some, jobs = jobs[: self._size.rows], jobs[self._size.rows :]
                with self._size.statement(len(some)):
                    extended, waiting = await self._store.attempts.extend(
                        self._held.holder,
                        [(job.row.id, job.row.attempt) for job in some],
                        int(self._lease * 1000),
                        wait=wait,
                    )
                kept |= extended
                locked |= waiting
        self._used_at = time.monotonic()
        return kept, locked
