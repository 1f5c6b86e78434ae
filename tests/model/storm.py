"""Three stores in one process, with workers of their own: everything goes wrong often."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from rowlock import DuplicateKeyError, TaskQueue
from rowlock._rows import TaskRow
from rowlock._store.store import Store
from rowlock._store.tasks import Tasks
from rowlock.models import TaskStatus
from tests.model.node import MAX_LOST
from tests.model.recorder import record
from tests.support.helpers import eventually
from tests.support.stores import failure, new_row, open_store, success

SEED = 11
UNFINISHED = (TaskStatus.PENDING, TaskStatus.PROCESSING)

STORES = 3
WORKERS = 4
ROWS = 80
SHORT_LEASE = 60


async def storm(database: str, files: Sequence[Path]) -> None:
    """Claim, stall, extend, finish twice, sweep, cancel, retry and remove, until all has ended."""
    luck = random.Random(SEED)
    async with AsyncExitStack() as stack:
        stores = []
        for file in files:
            opened = open_store(database, retry_interval=10, max_lost_workers=MAX_LOST)
            store = await stack.enter_async_context(opened)
            record(file, store)
            stores.append(store)
        rows = [
            new_row(
                run_at=None,
                retries_remaining=luck.choice((None, 0, 2)),
                retain_for=luck.choice((-1, 0, 0, 300)),
            )
            for _ in range(ROWS)
        ]
        await stores[0].tasks.insert_many(rows[: ROWS // 2])
        await stores[1].tasks.insert_group(rows[ROWS // 2 :])
        ids = [row.id for row in rows]
        done = asyncio.Event()
        running = [
            asyncio.create_task(repeated(step, done))
            for number, store in enumerate(stores)
            for step in (
                *(worker(store, f"holder {number}", luck) for _ in range(WORKERS)),
                sweeper(store, luck),
                client(store, ids, luck),
            )
        ]
        await eventually(lambda: none_left(stores[0]), timeout=60)
        done.set()
        await asyncio.gather(*running)
        # By luck alone it may be that none was.
        for task_id in ids[::2]:
            await stores[1].tasks.remove(task_id)
        for task_id in ids:
            await stores[0].tasks.get(task_id)


Step = Callable[[], Awaitable[None]]


async def repeated(step: Step, done: asyncio.Event) -> None:
    while not done.is_set():
        await step()


def worker(store: Store, holder: str, luck: random.Random) -> Step:
    async def work() -> None:
        for row in await store.database.claim(holder, {"t": 2}, SHORT_LEASE):
            await attempt(row)
        await asyncio.sleep(luck.uniform(0, 0.02))

    async def attempt(row: TaskRow) -> None:
        key = (row.id, row.attempt)
        if luck.random() < 0.4:
            await store.attempts.extend(holder, [key], SHORT_LEASE)
        # Often past its lease, and past the claim of another worker of this very holder.
        await asyncio.sleep(luck.uniform(0, 3 if luck.random() < 0.5 else 0.5) * SHORT_LEASE / 1000)
        if luck.random() < 0.2:
            await store.attempts.extend(holder, [key], SHORT_LEASE)
        if luck.random() < 0.15:
            await store.attempts.release(holder, [key])
        if luck.random() < 0.1:
            return  # it dies
        outcome = success(row) if luck.random() < 0.4 else failure(row, retry=luck.random() < 0.8)
        for _ in range(luck.choice((1, 1, 2))):
            await store.attempts.finish(holder, [outcome], rows=luck.random() < 0.5)

    return work


def sweeper(store: Store, luck: random.Random) -> Step:
    async def work() -> None:
        await asyncio.sleep(luck.uniform(0, 0.05))
        await store.sweep.leases(luck.choice((2, 500)))
        await store.sweep.retention(500)

    return work


def client(store: Store, ids: Sequence[str], luck: random.Random) -> Step:
    async def work() -> None:
        await asyncio.sleep(luck.uniform(0, 0.02))
        await meddle(store.tasks, luck.choice(ids), luck)

    return work


async def meddle(tasks: Tasks | TaskQueue, task_id: str, luck: random.Random) -> None:
    """Do one of the things that clients do to a task."""
    match luck.choice(("get", "get", "cancel", "ask", "retry", "remove")):
        case "get":
            await tasks.get(task_id)
        case "cancel":
            await tasks.cancel(task_id)
        case "ask":
            await tasks.cancel(task_id, running=True)
        case "retry":
            with suppress(DuplicateKeyError):  # another task has got its key
                await tasks.retry(task_id)
        case "remove" if luck.random() < 0.3:
            await tasks.remove(task_id)


async def none_left(store: Store) -> bool:
    counts = await store.tasks.counts("t")
    return not any(counts.get(status) for status in UNFINISHED)
