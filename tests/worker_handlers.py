"""Handlers for the tests of the worker."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from rowlock import HandlerError, current_task

started: list[tuple[str, int]] = []
gate = asyncio.Event()
gates: dict[int, asyncio.Event] = {}


async def echo(payload: Any) -> Any:
    started.append((current_task().id, current_task().attempt))
    return payload


def in_thread(payload: Any) -> Any:
    return [payload, current_task().attempt]


async def nothing() -> None:
    pass


async def fail(payload: Any) -> None:
    raise HandlerError("no", properties={"payload": payload}, retry=payload != "final")


def leave() -> None:
    raise SystemExit(3)


async def wait_for_gate(payload: Any) -> str:
    started.append((current_task().id, current_task().attempt))
    await gate.wait()
    return "late"


async def attempt_after_gate() -> int:
    attempt = current_task().attempt
    started.append((current_task().id, attempt))
    await gates[attempt].wait()
    return attempt


async def block_loop(seconds: float) -> str:
    started.append((current_task().id, current_task().attempt))
    time.sleep(seconds)  # what a careless handler does
    return "done"


async def not_json(payload: Any) -> Any:
    return {"bytes": b"", "nul": "\0", "nan": float("nan")}[payload]


async def sleep_long() -> None:
    await asyncio.sleep(3600)
