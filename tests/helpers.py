"""What several test modules use. Not a fixture: import it."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable


async def eventually(
    predicate: Callable[[], object | Awaitable[object]], timeout: float = 10, message: str = ""
) -> None:
    """Wait until the predicate, which may be async, gives something true."""
    deadline = time.monotonic() + timeout
    while True:
        outcome = predicate()
        if inspect.isawaitable(outcome):
            outcome = await outcome
        if outcome:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"{message or 'condition'}: still {outcome!r} after {timeout} s")
        await asyncio.sleep(0.005)
