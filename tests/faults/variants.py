"""Broken variants of rowlock, which the scenarios must find.

`ROWLOCK_TEST_VARIANT=NAME pytest tests/faults -k …` breaks it in every node.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
from sqlalchemy import ColumnElement, FromClause, and_

from rowlock._batch_size import BatchSize
from rowlock._loop import Loop
from rowlock._rows import NewRow
from rowlock._store import attempts, ends
from rowlock._store.attempts import Attempts
from rowlock._store.ends import Ends
from rowlock._store.postgres import errors as _postgres_errors
from rowlock._store.postgres import listen as _listen
from rowlock._store.postgres.database import PostgresDatabase
from rowlock._store.postgres.dialect import PostgresCodec
from rowlock._store.sql import HOLDER, Dialect
from rowlock._store.sqlite import driver as _driver
from rowlock._store.tables import task
from rowlock._store.tasks import Tasks
from rowlock._worker import sweeper as _sweeper
from rowlock._worker.held import Held
from rowlock._worker.leases import LeaseThread
from rowlock._worker.pool import Job, Pool
from rowlock._worker.quarantine import Quarantine
from rowlock._worker.sweeper import Sweeper

VARIABLE = "ROWLOCK_TEST_VARIANT"


def apply() -> None:
    """Break this process as the environment says."""
    if name := os.environ.get(VARIABLE):
        VARIANTS[name]()


def patch(owner: object, name: str, value: object) -> None:
    setattr(owner, name, value)


def _fence(*, by_holder: bool) -> None:
    def fence(
        dialect: Dialect, batch: FromClause, holder: ColumnElement[Any] = HOLDER
    ) -> ColumnElement[bool]:
        conditions = [task.c.id == batch.c.id, task.c.lease_until.is_not(None)]
        if by_holder:
            conditions.append(task.c.thread_id == holder)
        return and_(*conditions)

    patch(attempts, "fence", fence)
    patch(ends, "fence", fence)


def fence_by_status() -> None:
    """Take a write about any row that is processing."""
    _fence(by_holder=False)


def fence_by_holder() -> None:
    """Take a write about any row that this start of this process holds."""
    _fence(by_holder=True)


def no_sweep() -> None:
    """Leave the tasks of lost workers where they are."""

    async def nothing(self: Sweeper) -> float:
        return 0.2

    patch(Sweeper, "sweep", nothing)


def acknowledge_early() -> None:
    """Answer a create before its row is written."""
    insert = Tasks.insert
    under_way: set[asyncio.Task[str]] = set()

    async def early(
        self: Tasks, row: NewRow, now: datetime | None = None, *, notify: bool = False
    ) -> str:
        later = asyncio.create_task(insert(self, row, now, notify=notify))
        under_way.add(later)
        later.add_done_callback(under_way.discard)
        return row.id

    patch(Tasks, "insert", early)


def keep_leases() -> None:
    """Go on with tasks whose lease cannot be extended."""

    def keep(self: Held, job: Job) -> None:
        pass

    patch(Held, "lose", keep)


def trust_listener() -> None:
    """Believe that the connection that listens is alive."""

    async def alive(connection: object) -> bool:
        return True

    patch(_listen, "_is_alive", alive)


def own_clock() -> None:
    """Decide by the clock of this process what is due and what has run out."""

    def instant(self: PostgresCodec, now: datetime | None) -> datetime:
        return datetime.now(UTC) if now is None else now

    patch(PostgresCodec, "instant", instant)
    for name in ("claim", "claim_to_run", "next_due"):
        look: Callable[..., Awaitable[Any]] = getattr(PostgresDatabase, name)

        async def by_own_clock(
            self: PostgresDatabase,
            *arguments: Any,
            look: Callable[..., Awaitable[Any]] = look,
        ) -> Any:
            return await look(self, *arguments, now=datetime.now(UTC))

        patch(PostgresDatabase, name, by_own_clock)


def no_keys() -> None:
    """Make a row for every create, whatever its key."""
    insert = Tasks.insert

    async def unkeyed(
        self: Tasks, row: NewRow, now: datetime | None = None, *, notify: bool = False
    ) -> str:
        return await insert(self, row._replace(key=None), now, notify=notify)

    patch(Tasks, "insert", unkeyed)


def leases_in_loop() -> None:
    """Extend leases in the loop in which handlers run."""

    def start(self: LeaseThread) -> None:
        self._loop = asyncio.get_running_loop()
        self._periodic = Loop("leases", self.extend, self._emit)
        patch(self, "task", self._loop.create_task(self._periodic.run()))

    def stop(self: LeaseThread) -> None:
        assert self._periodic is not None
        self._loop.call_soon_threadsafe(self._periodic.stop)

    patch(LeaseThread, "start", start)
    patch(LeaseThread, "stop", stop)


def lost_workers_uncounted() -> None:
    """Try again whatever brings its worker down."""
    patch(Ends, "bounded", lambda self, outcome: outcome)


def no_release() -> None:
    """Stop without putting back what was claimed."""

    async def nothing(self: Attempts, *arguments: Any, **named: Any) -> tuple[list[Any], set[str]]:
        return [], set()

    patch(Attempts, "release", nothing)


def no_busy_timeout() -> None:
    """Wait for no lock on SQLite."""
    patch(_driver, "BUSY_TIMEOUT_MS", 0)


def unordered_locks() -> None:
    """Lock the rows of a batch in any order."""
    batch = PostgresCodec.batch

    def shuffled(self: PostgresCodec, rows: Sequence[Any]) -> dict[str, Any]:
        return batch(self, random.sample(rows, len(rows)))

    patch(PostgresCodec, "batch", shuffled)


def forget_at_once() -> None:
    """Delete all that is past its retention in one statement."""
    patch(_sweeper, "BATCH", 10_000_000)


def never_alone() -> None:
    """Let other tasks run beside the last try of one that has lost its workers."""

    async def admit_all(self: Quarantine, jobs: list[Job], clear_for: object) -> list[Job]:
        return jobs

    patch(Quarantine, "admit", admit_all)


def misread_read_only() -> None:
    """Take the refusal of a read-only server for an error of the statement."""
    known = set(_postgres_errors.UNAVAILABLE) - {asyncpg.ReadOnlySQLTransactionError}
    patch(_postgres_errors, "UNAVAILABLE", tuple(known))


def wait_for_locks() -> None:
    """Wait for a row that somebody has locked for as long as that takes."""
    sibling = PostgresDatabase.sibling

    def patient(self: PostgresDatabase, lock_timeout: int = 0) -> PostgresDatabase:
        return sibling(self, 0)

    patch(PostgresDatabase, "sibling", patient)


def pass_by() -> None:
    """Extend the leases of locked rows with those of others, and wait for none of them."""
    extend = LeaseThread.extend

    async def impatient(self: LeaseThread) -> float:
        self._wait, self._locked = False, set()
        await extend(self)
        return self._lease / 9

    patch(LeaseThread, "extend", impatient)


def same_batch() -> None:
    """Send again what was too slow, as it was."""
    patch(BatchSize, "too_slow", lambda self, rows: None)


def hoard() -> None:
    """Keep what was claimed ahead."""
    patch(Pool, "take_stalled", lambda self: [])


def sweep_own() -> None:
    """Take from this process what it holds, once its lease has run out."""
    patch(Held, "holds", lambda self, key: False)


def sudden() -> None:
    """Go by the clock also when it has just been set."""
    patch(Sweeper, "_is_patient", lambda self: False)


VARIANTS: dict[str, Callable[[], None]] = {
    "fence-by-status": fence_by_status,
    "fence-by-holder": fence_by_holder,
    "no-sweep": no_sweep,
    "acknowledge-early": acknowledge_early,
    "keep-leases": keep_leases,
    "trust-listener": trust_listener,
    "own-clock": own_clock,
    "no-keys": no_keys,
    "forget-at-once": forget_at_once,
    "leases-in-loop": leases_in_loop,
    "misread-read-only": misread_read_only,
    "no-release": no_release,
    "never-alone": never_alone,
    "no-busy-timeout": no_busy_timeout,
    "unordered-locks": unordered_locks,
    "wait-for-locks": wait_for_locks,
    "pass-by": pass_by,
    "same-batch": same_batch,
    "hoard": hoard,
    "sweep-own": sweep_own,
    "sudden": sudden,
    "lost-workers-uncounted": lost_workers_uncounted,
}
