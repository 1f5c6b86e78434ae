"""Creates that wait at the same time go together, and each hears of its own row only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rowlock import DatabaseUnavailableError, TaskQueue
from rowlock._client.group_commit import MOST, Inserts
from rowlock._ids import new_id
from rowlock._rows import NewRow
from rowlock._store.store import Store
from tests.support.helpers import eventually
from tests.support.stores import execute, existing, new_row, open_store


class Gate:
    """Holds the first INSERT until it is opened, and counts what follows together."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = asyncio.Event()
        self.batches: list[int] = []
        self.error: Exception | None = None
        self.open_together = asyncio.Event()
        self.open_together.set()
        insert, together = store.tasks.insert, store.tasks.insert_group

        async def held(row: NewRow, **options: Any) -> str:
            await self.open.wait()
            return await insert(row, **options)

        async def counted(rows: Sequence[NewRow], *args: Any) -> None:
            self.batches.append(len(rows))
            await self.open_together.wait()
            if self.error is not None:
                raise self.error
            await together(rows, *args)

        monkeypatch.setattr(store.tasks, "insert", held)
        monkeypatch.setattr(store.tasks, "insert_group", counted)


@asynccontextmanager
async def gated(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Store, Inserts, Gate]]:
    async with open_store(url) as store:
        yield store, Inserts(store), Gate(store, monkeypatch)


async def begin(inserts: Inserts, rows: Sequence[NewRow]) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(inserts.insert(row)) for row in rows]
    await eventually(lambda: len(inserts._waiting) == len(rows) - 1)
    return tasks


async def count(url: str) -> int:
    ((found,),) = await execute(url, "SELECT count(*) FROM rowlock_task")
    return int(found)


async def test_those_that_wait_go_together(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with gated(database, monkeypatch) as (store, inserts, gate):
        rows = [
            new_row(payload='{"n":1.50,"s":"ü"}', priority=3, delay=5, run_at=None, retain_for=9),
            *(new_row(payload=None) for _ in range(MOST + 10)),
        ]
        rows[1] = new_row(
            payload='{"n":1.50,"s":"ü"}', priority=3, delay=5, run_at=None, retain_for=9,
            retries_remaining=2, retry_interval=7,
        )  # fmt: skip
        tasks = await begin(inserts, rows)
        gate.open.set()
        assert await asyncio.gather(*tasks) == [row.id for row in rows]
        assert gate.batches == [MOST, 10]
        assert await count(database) == len(rows)
        alone, together = [await existing(store, row.id) for row in rows[:2]]
        same = {"id", "date_created", "date_modified", "run_at"}
        changed = {"retries_remaining": 2, "retry_interval": 7}
        assert together.model_dump(exclude=same) == {**alone.model_dump(exclude=same), **changed}
        assert (together.run_at - together.date_modified).total_seconds() == 0.005


async def test_a_bad_row_fails_its_own_caller(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if the error of a batch is told to all of it."""
    async with gated(database, monkeypatch) as (_, inserts, gate):
        taken = new_row()
        tasks = await begin(inserts, [taken, new_row(), new_row(id=taken.id), new_row()])
        gate.open.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(outcome, Exception) for outcome in outcomes] == [
            False, False, True, False,
        ]  # fmt: skip
        assert await count(database) == 3


async def test_a_caller_that_is_cancelled_takes_nobody_with_it(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if the row of one that has gone is written."""
    async with gated(database, monkeypatch) as (_, inserts, gate):
        tasks = await begin(inserts, [new_row() for _ in range(4)])
        tasks[2].cancel()
        tasks[0].cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(outcome, str) for outcome in outcomes] == [False, True, False, True]
        assert gate.batches == [2]
        assert await count(database) == 2
        gate.open.set()
        await inserts.insert(new_row())


async def test_the_first_caller_does_not_wait_for_the_others(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if others' rows are written by the task of the first caller."""
    async with gated(database, monkeypatch) as (_, inserts, gate):
        tasks = await begin(inserts, [new_row() for _ in range(3)])
        gate.open_together.clear()
        gate.open.set()
        await tasks[0]
        assert not tasks[1].done()
        gate.open_together.set()
        await asyncio.gather(*tasks)


async def test_all_hear_that_the_database_is_gone(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gated(database, monkeypatch) as (_, inserts, gate):
        gate.error = DatabaseUnavailableError("gone")
        tasks = await begin(inserts, [new_row() for _ in range(4)])
        gate.open.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [str, *[DatabaseUnavailableError] * 3]
        gate.error = None
        tasks = [asyncio.create_task(inserts.insert(new_row())) for _ in range(9)]
        await asyncio.gather(*tasks)
        assert await count(database) == 10


async def test_keys_are_kept_beside_a_group(database: str) -> None:
    async with TaskQueue(database) as queue:
        ids = await asyncio.gather(
            *(queue.create("t", key=f"k{n % 5}", retain_for=-1) for n in range(50)),
            *(queue.create("t", retain_for=-1) for _ in range(50)),
        )
        assert len(set(ids[:50])) == 5
        assert len(set(ids)) == 55
        assert (await queue.counts("t"))["pending"] == 55


async def test_ids_are_unique_though_created_together(database: str) -> None:
    ids = [new_id() for _ in range(1000)]
    async with open_store(database) as store:
        inserts = Inserts(store)
        assert await asyncio.gather(*(inserts.insert(new_row(id=i)) for i in ids)) == ids
        assert await count(database) == 1000
