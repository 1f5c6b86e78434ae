"""A worker whose store is recorded: `python -m tests.model.node DATABASE FILE`, until SIGTERM."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from pathlib import Path
from typing import Any

from rowlock import HandlerError, HandlerOptions, TaskQueue
from tests.model.recorder import record

LEASE = 1000
MAX_LOST = 3
SETTINGS: dict[str, Any] = {
    "lease": LEASE,
    "max_lost_workers": MAX_LOST,
    "sweep_interval": 100,
    "poll_interval": 50,
    "retry_interval": 20,
    "stop_timeout": 200,
}


async def run(seconds: float) -> float:
    """Take a while, and sometimes fail."""
    await asyncio.sleep(seconds)
    luck = random.random()
    if luck < 0.3:
        raise HandlerError("no", retry=luck > 0.05)
    return seconds


async def serve(database: str, file: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with TaskQueue(database, **SETTINGS) as queue:
        record(file, queue._store, queue.runtime.worker_store)
        options = HandlerOptions(max_worker_count=4)
        await queue.register_handler("t", "tests.model.node", "run", options=options)
        await queue.start()
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2])))
