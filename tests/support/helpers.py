"""What several test modules use. Not a fixture: import it."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rowlock import TaskQueue


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


def hold_claims(
    monkeypatch: pytest.MonkeyPatch, queue: TaskQueue
) -> tuple[asyncio.Event, asyncio.Event]:
    """Have what a claim takes told when a gate is open only.

    Returns:
        what is set when there is something to tell, and the gate.
    """
    taken, gate = asyncio.Event(), asyncio.Event()
    claim = queue.runtime.worker_store.database._claim

    async def held(*arguments: Any, **options: Any) -> Any:
        rows = await claim(*arguments, **options)
        if rows:
            taken.set()
            await gate.wait()
        return rows

    monkeypatch.setattr(queue.runtime.worker_store.database, "_claim", held)
    return taken, gate
