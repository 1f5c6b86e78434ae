"""Leases are extended from a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TypeVar

from rowlock._events import Event, Events
from rowlock._loop import Loop
from rowlock._pools import Job
from rowlock._store import Store
from rowlock.errors import RowlockError

T = TypeVar("T")

_END_TIMEOUT = 5.0
_SHORTEST = 0.05
# What could not be extended by this part of the lease is given up, before others may have it.
_LAST = 0.9
_BACKOFF = 0.05


class Holder(Protocol):
    """Who holds the attempts."""

    holder: str

    def leased_before(self, age: float) -> list[Job]:
        """Return the jobs whose lease is older than `age` seconds. Called by the thread."""

    def lose(self, job: Job) -> None:
        """An attempt no longer holds its task."""


class LeaseThread:
    """Extends leases from a thread with a connection of its own.

    A handler that blocks the event loop must not lose its lease, nor those of its neighbours.
    """

    def __init__(self, worker: Holder, store: Store, events: Events, lease: float) -> None:
        self._worker = worker
        self._store = store
        self._events = events
        self._lease = lease
        self._main = asyncio.get_running_loop()
        self._ready = threading.Event()
        self._opened = False
        self._periodic: Loop | None = None
        self._thread = threading.Thread(target=self._run, name="rowlock leases", daemon=True)

    def start(self) -> None:
        """Begin to extend."""
        self._thread.start()
        self._ready.wait()
        if self._periodic is None:
            raise RowlockError("the thread that extends leases could not start")

    def stop(self) -> None:
        """End, and wait for the end."""
        if self._periodic is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._periodic.stop)
        self._thread.join(timeout=_END_TIMEOUT)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._periodic = Loop(
            "leases", self.extend, self._emit, max_backoff=min(3.0, self._lease * _BACKOFF)
        )
        self._ready.set()
        try:
            await self._periodic.run()
        finally:
            await self._store.close()

    def _emit(self, event: Event) -> None:
        self._in_main(self._events.emit, event)

    def _in_main(self, function: Callable[[T], None], argument: T) -> None:
        with suppress(RuntimeError):  # the loop is closed, and nobody is left to be told
            self._main.call_soon_threadsafe(function, argument)

    async def extend(self) -> float:
        """Extend once what is held longer than a third of the lease."""
        if self._main.is_closed() and self._periodic is not None:
            # Nobody finishes what is held, so that others must get it.
            self._periodic.stop()
            return 0.0
        jobs = self._worker.leased_before(self._lease / 3)
        if not jobs:
            return self._lease / 9
        # Of a task that it has lost and claimed again it holds the last attempt only, and the
        # answer does not say which it is about.
        last = {job.row.id: job for job in sorted(jobs, key=lambda job: job.row.attempt)}
        now = time.monotonic()
        try:
            kept = await self._extend(list(last.values()), now - min(job.leased_at for job in jobs))
        except Exception:
            # Those too for which it would be time during the back-off.
            for job in self._worker.leased_before(self._lease * (_LAST - _BACKOFF)):
                self._in_main(self._worker.lose, job)
            raise
        for job in jobs:
            if job.row.id in kept and last[job.row.id] is job:
                job.leased_at = now
            else:
                self._in_main(self._worker.lose, job)
        return self._lease / 9

    async def _extend(self, jobs: list[Job], age: float) -> set[str]:
        # An answer that comes after the lease has run out is no use.
        async with asyncio.timeout(max(_SHORTEST, min(self._lease / 3, self._lease * _LAST - age))):
            if not self._opened:
                await self._store.open()
                self._opened = True
            return await self._store.extend(
                self._worker.holder,
                [(job.row.id, job.row.attempt) for job in jobs],
                int(self._lease * 1000),
            )
