"""create_many of many tasks lets others run meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rowlock import InvalidArgumentError, NewTask, TaskQueue
from rowlock._client.new_tasks import new_row
from tests.support.stores import execute

COUNT = 600


class Clock:
    """A clock that goes on by a millisecond with each task, and the longest time without a turn."""

    def __init__(self) -> None:
        self.now = 0.0
        self.longest = 0.0
        self.turns = 0

    def perf_counter(self) -> float:
        return self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def take(self, count: int) -> Iterator[NewTask]:
        for number in range(count):
            self.now += 0.001
            yield NewTask("bulk", {"n": number})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async def beat() -> None:
            last = self.now
            while True:
                await asyncio.sleep(0)
                self.longest = max(self.longest, self.now - last)
                self.turns += self.now > last
                last = self.now

        beating = asyncio.create_task(beat())
        await asyncio.sleep(0)
        yield
        beating.cancel()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("rowlock._client.parts.time", clock)

    def slow(*arguments: Any) -> Any:
        clock.now += 0.001
        return new_row(*arguments)

    monkeypatch.setattr("rowlock.queue.new_row", slow)
    return clock


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("key", [None, "key"])
async def test_others_run_meanwhile(
    database: str, clock: Clock, key: str | None, own: bool
) -> None:
    """Fails if all the tasks are taken, or checked, without a pause."""
    async with TaskQueue(database) as queue:
        tasks = [NewTask("bulk", key=key), *clock.take(2), NewTask("bulk")] if key else []
        async with clock.running():
            given = (task for source in (tasks, clock.take(COUNT)) for task in source)
            if own:
                async with queue._store.database._engine.begin() as connection:
                    ids = await queue.create_many(given, connection=connection)
            else:
                ids = await queue.create_many(given)
    assert clock.longest < 0.05
    assert clock.turns > 2 * COUNT * 0.001 / 0.05
    assert len(ids) == COUNT + len(tasks)
    stored = await execute(database, "SELECT id FROM rowlock_task ORDER BY id")
    assert [str(row[0]).replace("-", "") for row in stored] == ids


async def test_a_few_do_not_wait(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails if a small bulk gives up its turn before it sends."""
    async with TaskQueue(database) as queue:
        turns = 0

        async def beat() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        sent = asyncio.Event()
        insert_new = queue._store.tasks.insert_new
        seen: list[int] = []

        async def noted(*arguments: Any) -> None:
            seen.append(turns)
            sent.set()
            await insert_new(*arguments)

        monkeypatch.setattr(queue._store.tasks, "insert_new", noted)
        beating = asyncio.create_task(beat())
        await queue.create_many([NewTask("bulk")] * 3)
        beating.cancel()
        assert seen == [0]


async def test_a_bad_one_far_behind_stores_nothing(database: str, clock: Clock) -> None:
    async with TaskQueue(database) as queue:
        for bad in (NewTask("bulk", priority=1 << 40), "no task"):
            tasks: list[Any] = [*clock.take(COUNT), bad]
            with pytest.raises(InvalidArgumentError):
                await queue.create_many(tasks)
        assert await execute(database, "SELECT count(*) FROM rowlock_task") == [(0,)]
        await queue.create("t")
