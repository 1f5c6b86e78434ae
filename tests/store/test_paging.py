"""Pages against a sort in Python, quiet and while others write."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime
from typing import Any

import pytest

from rowlock import TaskQueue
from rowlock._store.store import Store
from rowlock.errors import InvalidCursorError
from rowlock.models import SortDirection, SortProperty, Task, TaskStatus
from tests.support.stores import LEASE, at, existing, failure, new_row, open_store, success

SORTS = list(SortProperty)
DIRECTIONS = list(SortDirection)
TYPES = ("a", "b")


async def fill(store: Store, seed: int, number: int) -> list[Task]:
    """Tasks in every status, with few different instants, so that many values are equal."""
    random_ = random.Random(seed)
    ids = [
        await store.tasks.insert(new_row(type=random_.choice(TYPES)), at(random_.randrange(3)))
        for _ in range(number)
    ]
    claimed = await store.database.claim("w", {"a": number, "b": number}, LEASE, at(1))
    random_.shuffle(claimed)
    for row in claimed:
        now = at(10 + random_.randrange(4))
        choice = random_.randrange(5)
        if choice == 0:
            await store.attempts.finish("w", [success(row)], now=now)
        elif choice == 1:
            await store.attempts.finish("w", [failure(row, retry=False)], now=now)
        elif choice < 4:
            await store.attempts.release("w", [(row.id, row.attempt)], now)
            if choice == 3:
                await store.tasks.cancel(row.id, now)
    return [await existing(store, task_id) for task_id in ids]


def value_of(task: Task, sort: SortProperty) -> Any:
    return {
        SortProperty.DATE_CREATED: task.date_created,
        SortProperty.DATE_MODIFIED: task.date_modified,
        SortProperty.DATE_COMPLETED: task.date_completed,
        SortProperty.STATUS: task.status.value,
    }[sort]


def brute_force(tasks: list[Task], sort: SortProperty, direction: SortDirection) -> list[str]:
    """Sort by the value and then the id, those without the value last in either direction."""
    descending = direction is SortDirection.DESCENDING
    valued = [task for task in tasks if value_of(task, sort) is not None]
    missing = [task for task in tasks if value_of(task, sort) is None]
    valued.sort(key=lambda task: (value_of(task, sort), task.id), reverse=descending)
    missing.sort(key=lambda task: task.id, reverse=descending)
    return [task.id for task in valued + missing]


async def walk(
    store: Store,
    task_type: str | None,
    status: TaskStatus | None,
    sort: SortProperty,
    direction: SortDirection,
    limit: int,
) -> list[str]:
    ids: list[str] = []
    cursor = None
    while True:
        page = await store.pages.page(task_type, status, sort, direction, cursor, limit)
        ids += [task.id for task in page.entities]
        cursor = page.cursor
        if cursor is None:
            return ids
        # A page that is not the last one is full, and what follows it is not empty.
        assert len(page.entities) == limit


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("sort", SORTS)
async def test_pages_are_the_brute_force_sort(
    database: str, sort: SortProperty, direction: SortDirection
) -> None:
    async with open_store(database) as store:
        tasks = await fill(store, seed=len(sort), number=42)
        assert {task.status for task in tasks} == set(TaskStatus)
        for task_type in (None, *TYPES, "none"):
            for status in (None, *TaskStatus):
                chosen = [
                    task
                    for task in tasks
                    if task_type in (None, task.type) and status in (None, task.status)
                ]
                expected = brute_force(chosen, sort, direction)
                for limit in (1, 2, 7, 500):
                    found = await walk(store, task_type, status, sort, direction, limit)
                    assert found == expected, (task_type, status, limit)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("sort", SORTS)
async def test_with_only_equal_values_the_id_decides(
    database: str, sort: SortProperty, direction: SortDirection
) -> None:
    """Fails on a cursor of the value alone, which skips or repeats its equals."""
    async with open_store(database) as store:
        ids = await store.tasks.insert_many([new_row() for _ in range(20)], at(0))
        if sort is SortProperty.DATE_COMPLETED:
            rows = await store.database.claim("w", {"t": 20}, LEASE, at(0))
            await store.attempts.finish("w", [success(row) for row in rows[:13]], now=at(1))
            by_end = [row.id for row in rows[:13]], [row.id for row in rows[13:]]
        else:
            by_end = ids, []
        reverse = direction is SortDirection.DESCENDING
        expected = [i for part in by_end for i in sorted(part, reverse=reverse)]
        for limit in (1, 3, 13):
            assert await walk(store, None, None, sort, direction, limit) == expected


@pytest.mark.parametrize("sort", SORTS)
async def test_the_last_page_has_no_cursor(database: str, sort: SortProperty) -> None:
    async with open_store(database) as store:
        empty = await store.pages.page(None, None, sort, SortDirection.ASCENDING, None, 5)
        assert (empty.entities, empty.cursor) == ([], None)
        await fill(store, seed=1, number=10)
        for limit, pages in ((5, 2), (10, 1), (11, 1), (4, 3)):
            cursor = None
            sizes = []
            while True:
                page = await store.pages.page(
                    None, None, sort, SortDirection.DESCENDING, cursor, limit
                )
                sizes.append(len(page.entities))
                cursor = page.cursor
                if cursor is None:
                    break
            assert (len(sizes), sum(sizes)) == (pages, 10)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("sort", SORTS)
async def test_a_walk_while_others_write_shows_what_stays_once(
    database: str, sort: SortProperty, direction: SortDirection, seed: int
) -> None:
    """Fails on OFFSET, on a cursor that is looked up again, and on one of the value alone."""
    random_ = random.Random(seed)
    async with open_store(database) as store, open_store(database) as other:
        tasks = await fill(store, seed, number=40)
        before = {task.id: value_of(task, sort) for task in tasks}
        order = brute_force(tasks, sort, direction)
        seen: list[str] = []
        cursor = None
        while True:
            page = await store.pages.page(None, None, sort, direction, cursor, 4)
            seen += [task.id for task in page.entities]
            cursor = page.cursor
            if cursor is None:
                break
            await disturb(other, random_, [task.id for task in page.entities], order)
        stable = []
        for task_id, value in before.items():
            task = await store.tasks.get(task_id)
            if task is not None and value_of(task, sort) == value:
                stable.append(task_id)
        assert [task_id for task_id in seen if task_id in stable] == [
            task_id for task_id in order if task_id in stable
        ]


async def disturb(
    store: Store, random_: random.Random, on_page: list[str], order: list[str]
) -> None:
    """Insert, remove (the last of the page too), claim, finish and cancel a few."""
    now: datetime = at(random_.randrange(30))
    await store.tasks.insert(new_row(type=random_.choice(TYPES)), now)
    if random_.random() < 0.7:
        await store.tasks.remove(on_page[-1])
    if random_.random() < 0.3:
        await store.tasks.remove(random_.choice(order))
    for row in await store.database.claim("other", {"a": 1, "b": 1}, LEASE, at(30)):
        if random_.random() < 0.5:
            await store.attempts.finish("other", [success(row)], now=now)
    await store.tasks.cancel(random_.choice(order), now)


@pytest.mark.parametrize("sort", SORTS)
async def test_a_walk_beside_a_busy_writer(database: str, sort: SortProperty) -> None:
    """The writer commits within the pages too, not only between them."""
    async with open_store(database) as store, open_store(database) as other:
        kept = await store.tasks.insert_many([new_row(type="kept") for _ in range(60)], at(0))
        stop = asyncio.Event()

        async def write() -> None:
            number = 0
            # Bounded, so that a walk through what it appends ends.
            while number < 150 and not stop.is_set():
                number += 1
                await other.tasks.insert(new_row(), at(number))
                for row in await other.database.claim("w", {"t": 2}, LEASE, at(number)):
                    await other.attempts.finish("w", [success(row)], now=at(number))

        writer = asyncio.create_task(write())
        try:
            for direction in DIRECTIONS:
                seen: list[str] = []
                cursor = None
                while True:
                    page = await store.pages.page(None, None, sort, direction, cursor, 5)
                    seen += [task.id for task in page.entities]
                    cursor = page.cursor
                    if cursor is None or set(kept) <= set(seen):
                        break
                found = [task_id for task_id in seen if task_id in set(kept)]
                assert sorted(found) == kept
        finally:
            stop.set()
            await writer


async def test_a_cursor_serves_only_its_own_walk(database: str) -> None:
    walks: list[tuple[str | None, TaskStatus | None, SortProperty, SortDirection]] = [
        (task_type, status, sort, direction)
        for task_type in (None, "a", "b")
        for status in (None, TaskStatus.PENDING, TaskStatus.SUCCESS)
        for sort in SORTS
        for direction in DIRECTIONS
    ]
    async with open_store(database) as store:
        await fill(store, seed=3, number=40)
        for own in walks:
            cursor = (await store.pages.page(*own, None, 1)).cursor
            assert cursor is not None
            await store.pages.page(*own, cursor, 7)
            for foreign in walks:
                if foreign != own:
                    with pytest.raises(InvalidCursorError):
                        await store.pages.page(*foreign, cursor, 1)


async def test_query_pages_with_plain_strings(database: str) -> None:
    async with open_store(database) as store:
        await store.tasks.insert_many([new_row() for _ in range(45)], at(0))
    async with TaskQueue(database) as queue:
        page = await queue.query()
        assert (len(page.entities), page.cursor is not None) == (40, True)
        rest = await queue.query(cursor=page.cursor, limit=500)
        assert (len(rest.entities), rest.cursor) == (5, None)
        same = await queue.query("t", "pending", "dateModified", "desc", limit=1)
        assert len(same.entities) == 1
        assert (await queue.query("t", "success")).entities == []
