"""Statements one after the other, where there are no processors for more of them at a time.

Claims and finishes overlap, so that the database works while handlers run. Where more wants to run
than there are processors, somebody always does, and statements at the same time only get in each
other's way: measured where workers and PostgreSQL share two processors.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

# Linux only; elsewhere nothing is known, and nothing is crowded.
_STATISTICS = Path("/proc/thread-self/schedstat")
_INTERVAL = 0.1
# Who runs less than this part of the time is no part of a crowd.
_BUSY = 0.05
# Two ready threads for each processor wait as long as they run.
_CROWDED = 1.75
# A statement that hangs does not keep the others for longer.
_LONGEST = 0.5


class CpuPressure:
    """Watches how the processors are shared. For use in one thread."""

    def __init__(self) -> None:
        self._crowded = False
        self._measured_at = time.monotonic()
        self._ran, self._waited = _statistics()

    def is_crowded(self) -> bool:
        """Whether lately this thread was ready for far longer than it ran."""
        now = time.monotonic()
        passed = now - self._measured_at
        if passed < _INTERVAL:
            return self._crowded
        before_ran, before_waited = self._ran, self._waited
        self._measured_at = now
        self._ran, self._waited = _statistics()
        ran, waited = self._ran - before_ran, self._waited - before_waited
        self._crowded = ran > _BUSY * passed and waited > _CROWDED * ran
        return self._crowded


class StatementGate:
    """The turns of one worker. For use in one thread."""

    def __init__(self) -> None:
        self._processor = CpuPressure()
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until no other one is under way, if there is a crowd."""
        taken = False
        if self._processor.is_crowded():
            with suppress(TimeoutError):
                async with asyncio.timeout(_LONGEST):
                    taken = await self._lock.acquire()
        try:
            yield
        finally:
            if taken:
                self._lock.release()


def _statistics() -> tuple[float, float]:
    # Nanoseconds on a processor, and ready for one; see sched-stats in the kernel's documentation.
    try:
        ran, waited, _ = _STATISTICS.read_text().split()
    except (OSError, ValueError):
        return 0.0, 0.0
    return int(ran) / 1e9, int(waited) / 1e9
