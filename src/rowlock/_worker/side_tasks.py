"""Work beside the loops, which the end of the worker waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from rowlock._background import Background


class SideTasks:
    """Runs work to its end in the background."""

    def __init__(self) -> None:
        self._running: set[asyncio.Future[None]] = set()

    def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begin work; it is begun again where somebody else cancels its asyncio task."""
        ended = Background(work, "rowlock").ended
        self._running.add(ended)
        ended.add_done_callback(self._running.discard)

    async def wait(self, timeout: float) -> None:
        """Wait until all of it has ended, for so many seconds at most."""
        if self._running:
            await asyncio.wait(self._running, timeout=timeout)
