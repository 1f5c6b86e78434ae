"""Requests to cancel what runs in this process."""

from __future__ import annotations

import asyncio
import time

from rowlock._events import Events
from rowlock._loop import Loop
from rowlock._store.attempts import Attempts
from rowlock._worker.held import Held

# Seconds between two looks for requests, at least.
_GAP = 0.05


class Cancels:
    """Looks for requests after a hint, and in each poll interval.

    Args:
        attempts: their operations.
        held: what this process holds.
        events: where failures of the loop are emitted.
        poll_interval: seconds between two looks without a hint.
    """

    def __init__(
        self, attempts: Attempts, held: Held, events: Events, poll_interval: float
    ) -> None:
        self.loop = Loop("cancel", self.handle_cancel_requests, events.emit)
        self._attempts = attempts
        self._held = held
        self._poll_interval = poll_interval
        # `time.monotonic()` of the last hint that no look has answered for all that was held.
        self._hinted_at: float | None = None

    def hint(self, holder: str | None) -> None:
        """There may be a request about a task of a holder, or of any."""
        if holder in (None, self._held.holder):
            self._hinted_at = time.monotonic()
            self.loop.wake()

    async def handle_cancel_requests(self) -> float:
        """Cancel what somebody wants cancelled; leave out what will soon have ended."""
        held, hinted_at, poll = self._held, self._hinted_at, self._poll_interval
        limit = time.monotonic() - (poll if hinted_at is None else _GAP)
        # What was claimed since then cannot have been meant; what was before is old enough.
        in_full = hinted_at is not None and hinted_at <= limit and held.claiming_since > hinted_at
        keys = [key for key, job in held.jobs.items() if job.claimed_at <= limit]
        if keys:
            ids = await self._attempts.cancel_requests(held.holder, keys)
            for job in [held.jobs[key] for key in keys if key[0] in ids and key in held.jobs]:
                job.pool.cancel(job)
        if in_full and self._hinted_at == hinted_at:
            self._hinted_at = None
        if self._hinted_at is None:
            return poll
        await asyncio.sleep(_GAP)
        return 0.0
