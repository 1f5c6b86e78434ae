"""Many operations at once on few rows: `python -m tests.faults.storm URL LEDGER SEED`.

Until SIGTERM. Each of its loops holds tasks and does with them, and with all others, what workers,
sweepers and clients do. An operation that raises is "trouble" in the ledger.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
from pathlib import Path

from rowlock import RowlockError
from rowlock._endings import HandlerResult
from rowlock._rows import TaskRow
from rowlock._store.ends import AttemptOutcome
from rowlock._store.store import Store
from tests.faults import variants
from tests.faults.ledger import Ledger
from tests.faults.node import note_writes
from tests.support.stores import open_store

LOOPS = 4
LEASE = 60


class Storm:
    """One loop with a store of its own."""

    def __init__(self, store: Store, holder: str, ids: list[str], chance: random.Random) -> None:
        self._store = store
        self._holder = holder
        self._ids = ids
        self._chance = chance
        self._held: list[TaskRow] = []

    async def step(self) -> None:
        """Do one thing."""
        store, some = self._store, self._some()
        match self._chance.randrange(8 if some else 5):
            case 0 | 1:
                self._held += await store.database.claim(self._holder, {"quick": 50}, LEASE)
            case 2:
                await store.sweep.leases(100)
            case 3:
                await store.sweep.retention(100)
            case 4:
                for task_id in self._chance.sample(self._ids, 10):
                    await store.tasks.cancel(task_id, running=self._chance.random() < 0.5)
                    await store.tasks.retry(self._chance.choice(self._ids))
            case 5:
                await store.attempts.extend(
                    self._holder, [(row.id, row.attempt) for row in some], LEASE
                )
            case 6:
                await store.attempts.release(self._holder, [(row.id, row.attempt) for row in some])
                self._held = [row for row in self._held if row not in some]
            case _:
                await store.attempts.finish(self._holder, [self._outcome(row) for row in some])
                self._held = [row for row in self._held if row not in some]

    def _some(self) -> list[TaskRow]:
        newest = {row.id: row for row in self._held}
        return self._chance.sample(list(newest.values()), self._chance.randrange(len(newest) + 1))

    def _outcome(self, row: TaskRow) -> AttemptOutcome:
        if self._chance.random() < 0.5:
            return AttemptOutcome(row, HandlerResult(result=json.dumps({"attempt": row.attempt})))
        error = {"name": "E", "message": "no", "properties": {"attempt": row.attempt}}
        return AttemptOutcome(
            row, HandlerResult(error=json.dumps(error), retry=self._chance.random() < 0.5)
        )


async def run(arguments: argparse.Namespace, ledger: Ledger) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    ids = [record["task"] for record in ledger.records("acknowledged")]

    async def one(number: int) -> None:
        async with open_store(arguments.url, retry_interval=0, max_lost_workers=10**6) as store:
            chance = random.Random(f"{arguments.seed} {number}")
            storm = Storm(store, f"{arguments.seed}-{number}", ids, chance)
            while not stop.is_set():
                try:
                    await storm.step()
                    ledger.append("step")
                except RowlockError as error:
                    ledger.append("trouble", error=repr(error))

    ledger.append("ready")
    await asyncio.gather(*(one(number) for number in range(LOOPS)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.storm")
    parser.add_argument("url")
    parser.add_argument("ledger", type=Path)
    parser.add_argument("seed")
    arguments = parser.parse_args()
    ledger = Ledger(arguments.ledger)
    variants.apply()
    note_writes(ledger)
    asyncio.run(run(arguments, ledger))


if __name__ == "__main__":
    main()
