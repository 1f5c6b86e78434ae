"""The handlers of the nodes. Each writes its start and its end to the ledger.

A gate is a file beside the ledger, which the test makes.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from rowlock import current_task
from tests.faults.ledger import of_process
from tests.support.deaths import die


def begin() -> None:
    task = current_task()
    of_process().append("start", task=task.id, attempt=task.attempt)


def end() -> dict[str, int]:
    """Say which attempt wrote the result."""
    task = current_task()
    of_process().append("end", task=task.id, attempt=task.attempt)
    return {"attempt": task.attempt, "process": os.getpid()}


def gate(directory: Path, task_id: str, attempt: int) -> Path:
    return directory / f"gate-{task_id}-{attempt}"


def _gate() -> Path:
    task = current_task()
    return gate(of_process().path.parent, task.id, task.attempt)


async def quick(payload: Any) -> Any:
    """Take `seconds`, which may be none."""
    begin()
    await asyncio.sleep(payload.get("seconds", 0))
    return end()


async def gated(payload: Any) -> Any:
    """Wait until the gate of the attempt is open."""
    begin()
    while not _gate().exists():
        await asyncio.sleep(0.01)
    return end()


async def blocking(payload: Any) -> Any:
    """Wait in the same way, and block the loop, so that nothing else of the loop runs before.

    Only the first two attempts wait: where a machine is so busy that the second one is lost, too,
    a third one may come to the process whose outcome of the first is still to be written.
    """
    begin()
    # Of what takes so long, none is claimed ahead.
    time.sleep(0.1)
    while current_task().attempt <= 2 and not _gate().exists():
        time.sleep(0.01)
    return end()


async def sleepy(payload: Any) -> Any:
    """Block the loop for `seconds`."""
    begin()
    time.sleep(payload["seconds"])
    return end()


async def poison(payload: Any) -> None:
    """Take the process down."""
    begin()
    die(payload["how"])


def poison_alone(payload: Any) -> None:
    """Take the process down, which is one of its own."""
    begin()
    die(payload["how"])
