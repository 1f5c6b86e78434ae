"""Many items, taken in parts so that the event loop is not kept by them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")

# Others may run after so many seconds of one part; to send what was checked takes as long again.
_SLICE = 0.005


async def in_parts(items: Iterable[T]) -> AsyncIterator[list[T]]:
    """Take many items, and let others run after each slice of the time."""
    left = iter(items)
    clock = time.perf_counter
    while True:
        part: list[T] = []
        end = clock() + _SLICE
        for item in left:
            part.append(item)
            if clock() > end:
                break
        else:
            yield part
            return
        yield part
        await asyncio.sleep(0)


async def gathered(parts: AsyncIterator[list[T]]) -> list[T]:
    return [item async for part in parts for item in part]
