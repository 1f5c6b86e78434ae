"""Handlers that are cancelled, time out and report. They leave marks: files in a directory.

A mark can be left and looked for in any process; the payload names the directory.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rowlock import RowlockError, RunningTask, current_task

STEP = 0.005
START_GATE = "ROWLOCK_TEST_START_GATE"

cancelled: list[str] = []
"""The ids of tasks whose handlers saw a CancelledError in this process."""
hooks: list[str] = []
"""What `current_task()` raised in a hook of this process."""


def mark(payload: Any, name: str, text: str = "") -> None:
    # Whole or not at all: whoever sees the file also reads its text.
    path = Path(payload["marks"]) / name
    draft = path.with_suffix(f".{threading.get_ident()}")
    draft.write_text(text)
    draft.replace(path)


def marked(payload: Any, name: str) -> bool:
    return (Path(payload["marks"]) / name).exists()


# Cancelling.


async def polite_async(payload: Any) -> str:
    """Return "done" at the mark "go"; end when cancelled."""
    if payload.get("quick"):
        return "done"
    mark(payload, "began")
    try:
        while not marked(payload, "go"):
            await asyncio.sleep(STEP)
        return "done"
    except asyncio.CancelledError:
        cancelled.append(current_task().id)
        mark(payload, "cancelled")
        raise
    finally:
        mark(payload, "finally")


def polite(payload: Any) -> str:
    """Return "done" at the mark "go", and "late" when cancelled."""
    if payload.get("quick"):
        return "done"
    mark(payload, "began")
    while not marked(payload, "go"):
        if current_task().cancelled:
            mark(payload, "cancelled")
            return "late"
        time.sleep(STEP)
    return "done"


async def returns_async(payload: Any) -> str:
    mark(payload, "began")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        mark(payload, "cancelled")
    return "late"


async def breaks_async(payload: Any) -> None:
    mark(payload, "began")
    try:
        await asyncio.Event().wait()
    finally:
        raise RuntimeError("the connection that I would close is gone")


def breaks(payload: Any) -> None:
    mark(payload, "began")
    while not current_task().cancelled:
        time.sleep(STEP)
    raise RuntimeError("the connection that I would close is gone")


async def deaf_async(payload: Any) -> str:
    """Swallow every cancellation until the mark "release"."""
    if payload.get("quick"):
        return "done"
    mark(payload, "began")
    while not marked(payload, "release"):
        try:
            await asyncio.sleep(STEP)
        except asyncio.CancelledError:
            mark(payload, "cancelled")
    mark(payload, "returned")
    return "late"


def deaf(payload: Any) -> str | bool:
    """Look for nothing but the mark "release"."""
    if payload.get("quick"):
        return marked(payload, "returned")
    mark(payload, "began")
    while not marked(payload, "release"):
        time.sleep(STEP)
    mark(payload, "returned")
    return "late"


def sleeps(payload: Any) -> None:
    mark(payload, "began", str(os.getpid()))
    threading.Event().wait()


async def sleeps_async(payload: Any) -> None:
    mark(payload, "began", str(os.getpid()))
    await asyncio.Event().wait()


def wait_to_start() -> None:
    """As `initialise_method`: the worker is ready once the file of the environment is there."""
    while not os.path.exists(os.environ[START_GATE]):
        time.sleep(STEP)


def tells_late(payload: Any) -> str:
    """In a thread: run over the time, and mark what tells that nobody waits any more."""
    while not marked(payload, "release"):
        if current_task().cancelled:
            mark(payload, "told")
            return "told"
        time.sleep(STEP)
    return "not told"


async def hook() -> None:
    try:
        hooks.append(f"task {current_task().id}")
    except RowlockError:
        hooks.append("RowlockError")


# Progress.


def _say(payload: Any) -> None:
    current_task().progress(payload["value"], payload.get("message"), payload.get("checkpoint"))
    mark(payload, "began")


def reports(payload: Any) -> str:
    _say(payload)
    while not marked(payload, "go"):
        time.sleep(STEP)
    return "done"


async def reports_async(payload: Any) -> str:
    _say(payload)
    while not marked(payload, "go"):
        await asyncio.sleep(STEP)
    return "done"


def _resume() -> Any:
    task = current_task()
    found = task.checkpoint
    if task.attempt == 1:
        task.progress(1, "one", {"at": [5]})
        task.progress(2)
        raise RuntimeError("no")
    return found


def resumes() -> Any:
    return _resume()


async def resumes_async() -> Any:
    return _resume()


async def resumes_and_reports() -> None:
    _resume()
    current_task().progress(3)


def _report_and_end(payload: Any) -> None:
    current_task().progress(payload)
    if payload % 2:
        raise RuntimeError("no")


def report_and_end(payload: Any) -> None:
    _report_and_end(payload)


async def report_and_end_async(payload: Any) -> None:
    _report_and_end(payload)


def report_and_die() -> None:
    current_task().progress("last words")
    os.kill(os.getpid(), signal.SIGKILL)


def _report_often(count: int) -> str:
    for n in range(1, count + 1):
        current_task().progress(n)
    return "done"


def reports_often(count: int) -> str:
    return _report_often(count)


async def reports_often_async(count: int) -> str:
    return _report_often(count)


def reports_until_lost(payload: Any) -> str:
    """Mark the error that ends the reporting of the first attempt."""
    if current_task().attempt > 1:
        return "second"
    n = 0
    while not marked(payload, "release"):
        try:
            current_task().progress(n)
        except RowlockError as error:
            mark(payload, type(error).__name__)
            break
        mark(payload, "began")
        n += 1
        time.sleep(STEP)
    return "first"


async def reports_after_cancellation(payload: Any) -> str:
    """Mark the error that a report gives once the handler has been given up."""
    mark(payload, "began")
    while not marked(payload, "release"):
        try:
            await asyncio.sleep(STEP)
        except asyncio.CancelledError:
            continue
    try:
        current_task().progress("late")
    except RowlockError as error:
        mark(payload, type(error).__name__)
    mark(payload, "returned")
    return "late"


async def reports_twice(payload: Any) -> None:
    current_task().progress(1)
    while not marked(payload, "first"):
        await asyncio.sleep(STEP)
    current_task().progress(2, checkpoint=[2])
    mark(payload, "second")
    await asyncio.Event().wait()


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def _bad(kind: str) -> str:
    arguments: dict[str, dict[str, Any]] = {
        "nan": {"value": float("nan")},
        "object": {"value": object()},
        "nul": {"value": "a\0b"},
        "nul in the message": {"value": 1, "message": "a\0b"},
        "surrogate": {"value": "\ud800"},
        "surrogate in the checkpoint": {"value": 1, "checkpoint": ["\ud800"]},
        "large": {"value": "x" * 1000},
        "large checkpoint": {"value": 1, "checkpoint": "x" * 1000},
        "deep": {"value": _nested(9)},
        "message": {"value": 1, "message": 7},
        "as deep as may be": {"value": _nested(8)},
    }
    try:
        current_task().progress(**arguments[kind])
    except Exception as error:
        return type(error).__name__
    return "none"


def bad(kind: str) -> str:
    return _bad(kind)


async def bad_async(kind: str) -> str:
    name = _bad(kind)
    # What is reported right before the end is another test's matter.
    await asyncio.sleep(0)
    return name


def leaves_a_thread(payload: Any) -> str:
    """Leave a thread behind that reports while the next task of the worker runs."""
    if payload.get("next"):
        mark(payload, "next began")
        while not marked(payload, "reported"):
            time.sleep(STEP)
        return "done"
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(_report_late, payload), daemon=True).start()
    return "done"


def _report_late(payload: Any) -> None:
    task: RunningTask = current_task()
    while not marked(payload, "next began"):
        time.sleep(STEP)
    with suppress(RowlockError):
        task.progress("of the task before")
    mark(payload, "reported")
