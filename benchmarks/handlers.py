"""The handlers that the benchmarks register, by name as every handler is."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any


class Calls:
    """What the handlers of this process have seen."""

    count = 0
    latencies: list[float] = []  # noqa: RUF012


async def nothing(payload: Any) -> None:
    """The task of `drain`."""
    Calls.count += 1


async def arrive(payload: float) -> None:
    """The task of `latency`: its payload is when `create` was called."""
    now = time.monotonic()
    Calls.latencies.append(now - payload)


async def every_fifth_fails(payload: int) -> None:
    """The task of `walk`: it is seen in every status."""
    await asyncio.sleep(payload % 30 / 1000)
    if payload % 5 == 0:
        raise RuntimeError("as ordered")


def nothing_at_all(payload: Any) -> None:
    """A task of `processes`."""


def digest(megabytes: int) -> str:
    """The other task of `processes`."""
    return hashlib.sha256(bytes(megabytes * 1_000_000)).hexdigest()
