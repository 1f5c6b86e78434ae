"""A producer: `python -m tests.faults.producer URL LEDGER TYPE …`.

It creates tasks one after the other, a few at a time, until it has made as many as asked or
SIGTERM comes. What it was answered is in the ledger.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from rowlock import InvalidArgumentError, RowlockError, TaskQueue
from tests.faults import crash, variants
from tests.faults.ledger import Ledger
from tests.support import pgbouncer as _pgbouncer

AT_ONCE = 4


async def create(
    queue: TaskQueue,
    ledger: Ledger,
    key: str,
    task_type: str,
    *,
    keyed: bool = False,
    payload: dict[str, Any] | None = None,
    **options: Any,
) -> str | None:
    """Create a task and note what was answered; return its id, None if it is not known.

    Args:
        queue: where.
        ledger: takes "asked" before, and afterwards "acknowledged", "refused" or "unknown".
        key: names the task in the ledger, and is in its payload.
        task_type: its type.
        keyed: whether it is the idempotency key, too.
        payload: what else is in the payload.
        options: of `create`; by default the task is kept for ever.
    """
    ledger.append("asked", key=key)
    try:
        task_id = await queue.create(
            task_type,
            {**(payload or {}), "key": key},
            key=key if keyed else None,
            **{"retain_for": -1, **options},
        )
    except InvalidArgumentError as error:
        ledger.append("refused", key=key, error=repr(error))
    except RowlockError as error:
        ledger.append("unknown", key=key, error=repr(error))
    else:
        ledger.append("acknowledged", key=key, task=task_id)
        return task_id
    return None


async def create_all(
    queue: TaskQueue, ledger: Ledger, name: str, count: int, task_type: str, **options: Any
) -> list[str]:
    """Create tasks at once, each of which must be acknowledged; return their ids."""
    ids = await asyncio.gather(
        *(create(queue, ledger, f"{name}-{n}", task_type, **options) for n in range(count))
    )
    assert None not in ids
    return [task_id for task_id in ids if task_id is not None]


async def run(arguments: argparse.Namespace, ledger: Ledger) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    numbers = iter(range(arguments.count) if arguments.count else itertools.count())
    payload = json.loads(arguments.payload)

    async def produce(queue: TaskQueue) -> None:
        for number in numbers:
            if stop.is_set():
                return
            key = f"{arguments.name}-{number}"
            # Some are gone as soon as they have ended, and could be made again by their key.
            retain_for = 0 if number % 4 == 3 and not arguments.keyed else -1
            task_type = arguments.types[number % len(arguments.types)]
            while (
                await create(
                    queue,
                    ledger,
                    key,
                    task_type,
                    keyed=arguments.keyed,
                    payload=payload,
                    retain_for=retain_for,
                )
                is None
                and arguments.keyed
                and not stop.is_set()
            ):
                await asyncio.sleep(0.05)
            with suppress(TimeoutError):
                async with asyncio.timeout(arguments.gap):
                    await stop.wait()

    async with TaskQueue(arguments.url) as queue:
        ledger.append("ready")
        await asyncio.gather(*(produce(queue) for _ in range(AT_ONCE)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.producer")
    parser.add_argument("url")
    parser.add_argument("ledger", type=Path)
    parser.add_argument("types", nargs="+")
    parser.add_argument("--count", type=int, help="how many; by default until SIGTERM")
    parser.add_argument("--gap", type=float, default=0.01, help="seconds after each create")
    parser.add_argument("--payload", default="{}", help="as JSON")
    parser.add_argument(
        "--keyed", action="store_true", help="create by idempotency key, until it is acknowledged"
    )
    parser.add_argument("--name", required=True, help="what its keys begin with")
    parser.add_argument("--crash", choices=crash.PRODUCER)
    arguments = parser.parse_args()
    ledger = Ledger(arguments.ledger)
    variants.apply()
    _pgbouncer.apply()
    if arguments.crash is not None:
        crash.arm(arguments.crash, ledger)
    asyncio.run(run(arguments, ledger))


if __name__ == "__main__":
    main()
