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
    await asyncio.Event().wait()


async def cancel_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


class Hostile(dict[str, Any]):
    def values(self) -> Any:
        raise RuntimeError("no values")


async def hostile_result() -> Any:
    return Hostile(a=1)


class HostileError(Exception):
    @property
    def retry(self) -> bool:
        raise RuntimeError("no retry")


async def hostile_error() -> None:
    raise HostileError


class ForeignError(Exception):
    retry = False


async def foreign_error() -> None:
    raise ForeignError


async def sleep_seconds(seconds: float) -> str:
    started.append((current_task().id, current_task().attempt))
    await asyncio.sleep(seconds)
    return "slept"


starting = 0


async def slow_second_start() -> None:
    global starting
    starting += 1
    if starting > 1:
        await asyncio.Event().wait()


async def exit_at_start() -> None:
    raise SystemExit(4)
