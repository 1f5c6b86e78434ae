"""What the workers of `rowlock demo` run."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from typing import Any

from rowlock.models import HandlerOptions
from rowlock.queue import TaskQueue

TYPE_VARIABLE = "ROWLOCK_DEMO_TASK_TYPE"
SETTINGS: dict[str, Any] = {
    # Short, so that the tasks of the killed worker are soon taken over.
    "lease": 2000,
    "sweep_interval": 500,
    # On a shared database the demo's sweepers meet the tasks of others. How many lost workers
    # are too many is for their own queues to say.
    "max_lost_workers": 1_000_000,
}

_CHUNK = 256 * 1024


async def queue() -> TaskQueue:
    """Return the queue of a worker of the demo, for the task type that the demo made up."""
    threading.Thread(target=_end_with_the_demo, name="rowlock demo", daemon=True).start()
    result = TaskQueue(**SETTINGS)
    await result.register_handler(
        os.environ[TYPE_VARIABLE],
        __name__,
        "measure",
        options=HandlerOptions(executor="thread", max_worker_count=2),
    )
    return result


def measure(payload: dict[str, str]) -> dict[str, Any]:
    """Return a file's size, number of lines, SHA-256 and the milliseconds that it took."""
    began = time.perf_counter()
    digest = hashlib.sha256()
    size = newlines = 0
    last = b""
    with open(payload["path"], "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            newlines += chunk.count(b"\n")
            last = chunk[-1:]
    return {
        "size": size,
        "lines": newlines + (last not in (b"", b"\n")),
        "sha256": digest.hexdigest(),
        "milliseconds": round((time.perf_counter() - began) * 1000, 3),
    }


def _end_with_the_demo() -> None:
    # The demo writes nothing: its end, however sudden, ends the read.
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
