"""A worker: `python -m tests.faults.node URL LEDGER TYPE …`.

It runs the handlers of `tests.faults.handlers`, whose names are the types, until SIGTERM, and
drains, in a hurry after a second one. `ready` in the ledger tells that it has started. Every
claim and every fenced write goes to the ledger, with what the database answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from rowlock import Task, TaskQueue
from rowlock._events import AttemptLost, Event, LoopFailed
from rowlock._store.attempts import Attempts
from rowlock._store.postgres.database import PostgresDatabase
from rowlock._store.sqlite.database import SqliteDatabase
from rowlock._store.sweep import Sweep
from rowlock._worker.held import Held
from rowlock._worker.leases import LeaseThread
from tests.faults import crash, variants
from tests.faults.ledger import VARIABLE, Ledger
from tests.support import pgbouncer as _pgbouncer

# A lost worker is found soon, and no number of them fails a task, unless the scenario says so.
SETTINGS = {
    "lease": 1500,
    "sweep_interval": 200,
    "poll_interval": 200,
    "retry_interval": 50,
    "max_lost_workers": 100_000,
    "stop_timeout": 20_000,
}


def note_writes(ledger: Ledger) -> None:
    """Have every store of this process note its claims, fenced writes and retention passes."""
    for database in (PostgresDatabase, SqliteDatabase):
        _note_claims(database, ledger)
    _note(
        Attempts, "finish", ledger, lambda outcomes: [(o.row.id, o.row.attempt) for o in outcomes]
    )
    _note(Attempts, "extend", ledger, list)
    _note(Attempts, "release", ledger, list)
    _note_forgets(ledger)


def _note_claims(database: Any, ledger: Ledger) -> None:
    claim = database._claim

    async def noted(self: Any, *arguments: Any, **named: Any) -> Any:
        rows = await claim(self, *arguments, **named)
        for row in rows:
            ledger.append("claim", task=row.id, attempt=row.attempt)
        return rows

    database._claim = noted


def _note(
    owner: Any,
    name: str,
    ledger: Ledger,
    attempts_of: Callable[[Any], list[tuple[str, int]]],
) -> None:
    write: Callable[..., Awaitable[Any]] = getattr(owner, name)

    async def noted(self: Any, holder: str, batch: Any, *arguments: Any, **named: Any) -> Any:
        attempts = attempts_of(batch)
        sent = time.monotonic()
        answer = await write(self, holder, batch, *arguments, **named)
        # Those that were written come first, and then those that are to be tried again.
        written, *left = answer
        accepted = {task.id if isinstance(task, Task) else task for task in written}
        for task_id, attempt in attempts:
            if any(task_id in ids for ids in left):
                continue
            ledger.append(
                "write",
                write=name,
                task=task_id,
                attempt=attempt,
                accepted=task_id in accepted,
                sent=sent,
            )
        return answer

    setattr(owner, name, noted)


def _note_forgets(ledger: Ledger) -> None:
    retention = Sweep.retention

    async def noted(self: Sweep, *arguments: Any, **named: Any) -> int:
        began = time.monotonic()
        rows = await retention(self, *arguments, **named)
        if rows:
            ledger.append("forgot", rows=rows, seconds=time.monotonic() - began)
        return rows

    setattr(Sweep, "retention", noted)  # noqa: B010


def stall_leases() -> None:
    """Have nobody extend leases: neither their thread, nor who finds that some have run out."""

    async def nothing(self: LeaseThread) -> float:
        return 0.1

    async def nobody(self: Held, keys: object) -> None:
        pass

    LeaseThread.extend = nothing  # type: ignore[method-assign]
    Held.extend = nobody  # type: ignore[method-assign]


async def run(arguments: argparse.Namespace, ledger: Ledger) -> None:
    stop, hurry = asyncio.Event(), asyncio.Event()

    def signalled() -> None:
        (hurry if stop.is_set() else stop).set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, signalled)

    def changed(task: Task) -> None:
        ledger.append("change", task=task.id, attempt=task.attempt, status=task.status)

    def happened(event: Event) -> None:
        if isinstance(event, AttemptLost):
            ledger.append("lost", task=event.task_id, attempt=event.attempt)
        elif isinstance(event, LoopFailed):
            ledger.append("trouble", loop=event.loop, error=event.reason)

    async with TaskQueue(arguments.url, **{**SETTINGS, **json.loads(arguments.settings)}) as queue:
        queue.runtime.events.subscribe(happened)
        for name in arguments.types:
            options = json.loads(arguments.options)
            await queue.register_handler(name, "tests.faults.handlers", name, changed, options)
        await queue.start()
        ledger.append("ready")
        await stop.wait()
        ledger.append("draining")
        stopping = asyncio.create_task(queue.stop())
        hurrying = asyncio.create_task(hurry.wait())
        await asyncio.wait({stopping, hurrying}, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            await queue.stop()
        hurrying.cancel()
        await stopping


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.node")
    parser.add_argument("url")
    parser.add_argument("ledger", type=Path)
    parser.add_argument("types", nargs="*")
    parser.add_argument("--settings", default="{}", help="of the queue, as JSON")
    parser.add_argument("--options", default="{}", help="of the handlers, as JSON")
    parser.add_argument("--stalled-leases", action="store_true", help="leases are not extended")
    parser.add_argument("--crash", choices=[*crash.WORKER, *crash.HANDLER])
    arguments = parser.parse_args()
    os.environ[VARIABLE] = str(arguments.ledger)
    ledger = Ledger(arguments.ledger)
    variants.apply()
    _pgbouncer.apply()
    note_writes(ledger)
    if arguments.stalled_leases:
        stall_leases()
    if arguments.crash is not None:
        crash.arm(arguments.crash, ledger)
    asyncio.run(run(arguments, ledger))


if __name__ == "__main__":
    main()
