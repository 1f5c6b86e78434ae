"""The rights that the README lists are enough, and none of them can be left out."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from rowlock import (
    DatabaseError,
    NewTask,
    ScheduledTaskTime,
    TaskQueue,
    TaskScheduler,
    TaskStatus,
    schema,
)
from tests.support.helpers import eventually
from tests.support.roles import role
from tests.support.stores import execute

README = Path(__file__).parents[2] / "README.md"


def documented(name: str) -> list[str]:
    """The GRANTs of a role, as the README has them."""
    (block,) = re.findall(rf"\n-- {name}\b[^\n]*\n(.*?)\n(?:\n|```)", README.read_text(), re.DOTALL)
    return [line.rstrip(";").replace(f"TO {name}", "TO {role}") for line in block.splitlines()]


async def returns(payload: Any) -> Any:
    return payload


def fails(payload: Any) -> None:
    raise ValueError(payload)


async def produce(queue: TaskQueue) -> str:
    task_id = await queue.create("t", {"n": 1}, retain_for=-1)
    await queue.create_many([NewTask("t"), NewTask("t")])
    first = await queue.create("t", key="once")
    assert await queue.create_many([NewTask("t", key="once")]) == [first]
    await asyncio.gather(*(queue.create("t") for _ in range(5)))
    assert await queue.get(task_id) is not None
    assert (await queue.query()).entities
    assert (await queue.counts())[TaskStatus.PENDING]
    return task_id


async def work(queue: TaskQueue) -> None:
    await queue.register_handler("t", __name__, "returns")
    await queue.register_handler("bad", __name__, "fails", options={"executor": "thread"})
    await queue.start()
    kept = await queue.create("t", {"n": 1}, retain_for=-1)
    bad = await queue.create("bad", retry_count=0, retain_for=-1, key="k")

    async def is_over() -> bool:
        tasks = [await queue.get(task_id) for task_id in (kept, bad)]
        return [task and task.status for task in tasks] == ["success", "failed"]

    await eventually(is_over, 30)
    assert await queue.retry(bad)
    await queue.cancel(bad)
    assert await queue.remove(kept)
    await queue._store.sweep.leases(10)
    await queue._store.sweep.retention(10)
    await queue.stop()


async def schedule(queue: TaskQueue) -> None:
    scheduler = TaskScheduler(queue)
    await scheduler.add_task(
        "s", [ScheduledTaskTime(interval_seconds=1)], task_type="t", retain_for=-1
    )
    await queue.start()
    await scheduler.trigger_task("s")
    await scheduler.pause_task("s")
    await scheduler.resume_task("s")
    await scheduler.remove_task("s")
    await queue.stop()


async def test_a_producer(postgres_url: str) -> None:
    async with role(postgres_url, *documented("producer")) as url, TaskQueue(url) as queue:
        task_id = await produce(queue)
        with pytest.raises(DatabaseError, match="permission denied"):
            await queue.remove(task_id)


async def test_a_worker(postgres_url: str) -> None:
    async with role(postgres_url, *documented("worker")) as url:
        async with TaskQueue(url) as queue:
            await produce(queue)
            await work(queue)
        async with TaskQueue(url) as queue:
            await schedule(queue)


async def test_who_changes_the_schema(postgres_url: str) -> None:
    await asyncio.to_thread(schema.downgrade, postgres_url, "base")
    await execute(postgres_url, "DROP TABLE rowlock_alembic_version")
    async with role(postgres_url, *documented("migrator")) as url:
        await asyncio.to_thread(schema.upgrade, url)
        assert await asyncio.to_thread(schema.check, url) == []
        await asyncio.to_thread(schema.downgrade, url, "base")


async def test_who_may_not_change_the_schema(postgres_url: str) -> None:
    """Fails where a missing right is told as a fault of the schema, or by a traceback."""
    await asyncio.to_thread(schema.downgrade, postgres_url, "0005")
    async with role(postgres_url, *documented("worker")) as url:
        with pytest.raises(DatabaseError, match=r"must be owner|permission denied"):
            await asyncio.to_thread(schema.upgrade, url)


def rights(name: str) -> list[tuple[str, str]]:
    """Each single right of a role, with the GRANT that leaves it out."""
    found = []
    for grant in documented(name):
        match = re.fullmatch(r"GRANT ([A-Z, ]+) ON (\w+) TO \{role\}", grant)
        assert match is not None, grant
        found += [(right, match[2]) for right in match[1].split(", ")]
    return found


@pytest.mark.parametrize(
    ("name", "right", "table"),
    [(name, *each) for name in ("producer", "worker") for each in rights(name)],
)
async def test_no_right_can_be_left_out(
    postgres_url: str, name: str, right: str, table: str
) -> None:
    revoke = f"REVOKE {right} ON {table} FROM {{role}}"
    async with role(postgres_url, *documented(name), revoke) as url:
        with pytest.raises(DatabaseError, match=f"permission denied for table {table}"):
            await use(url, name)


async def use(url: str, name: str) -> None:
    """What a role does, as far as its errors are raised and not logged."""
    async with TaskQueue(url) as queue:
        if name == "producer":
            await produce(queue)
            return
        await queue.create("t")
        await queue._store.database.claim("w", {"t": 1}, 1000)
        await queue.remove("0" * 32)
        await schedule(queue)
