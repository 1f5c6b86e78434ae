"""Walks over pages while others write, with few different sort values, so that many are equal."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowlock._store.store import Store
from rowlock.models import SortDirection, SortProperty, Task, TaskStatus
from tests.properties.pair import open_pair
from tests.properties.sizes import size, tried
from tests.store.test_paging import TYPES, brute_force, fill, value_of
from tests.support.stores import LEASE, at, failure, new_row, success

picks = st.integers(0, 200)
# What others do between two pages: the operation, to which task, at which instant.
acts = st.tuples(
    st.sampled_from(["insert", "remove", "claim", "finish", "fail", "release", "cancel", "retry"]),
    picks,
    st.integers(0, 30).map(at),
)
scripts = st.lists(st.lists(acts, max_size=6), min_size=1, max_size=30)
choices = st.tuples(
    st.sampled_from([None, None, *TYPES]),
    st.sampled_from([None, None, None, *TaskStatus]),
    st.sampled_from(list(SortProperty)),
    st.sampled_from(list(SortDirection)),
    st.integers(1, 7),
)


class Writer:
    """Carries out what others do."""

    def __init__(self, store: Store, ids: list[str]) -> None:
        self._store = store
        self._ids = ids
        self._held: list[Any] = []

    async def act(self, what: str, number: int, now: datetime) -> None:
        store = self._store
        task_id = self._ids[number % len(self._ids)]
        if what == "insert":
            self._ids.append(await store.tasks.insert(new_row(type=TYPES[number % 2]), now))
        elif what == "remove":
            await store.tasks.remove(task_id)
        elif what == "claim":
            self._held += await store.database.claim(
                "w2", {TYPES[number % 2]: 1 + number % 3}, LEASE, now
            )
        elif what == "cancel":
            await store.tasks.cancel(task_id, now)
        elif what == "retry":
            await store.tasks.retry(task_id, now)
        elif self._held:
            row = self._held.pop(number % len(self._held))
            if what == "release":
                await store.attempts.release("w2", [(row.id, row.attempt)], now)
            else:
                outcome = success(row) if what == "finish" else failure(row, retry=number % 2 == 0)
                await store.attempts.finish("w2", [outcome], now=now)


async def everything(store: Store) -> list[Task]:
    page = await store.pages.page(
        None, None, SortProperty.DATE_CREATED, SortDirection.ASCENDING, None, 500
    )
    return page.entities


async def walk(
    store: Store,
    script: Sequence[Sequence[tuple[str, int, datetime]]],
    task_type: str | None,
    status: TaskStatus | None,
    sort: SortProperty,
    direction: SortDirection,
    limit: int,
) -> tuple[int, int]:
    """Walk to the end with a script between the pages; return the pages and the stable rows."""
    before = await fill(store, seed=len(script), number=30)
    writer = Writer(store, [task.id for task in before])
    chosen = [
        task for task in before if task_type in (None, task.type) and status in (None, task.status)
    ]
    # A row that leaves and comes back in the meantime was not there throughout.
    stable = {task.id: task for task in chosen}
    seen: list[str] = []
    cursor, pages = None, 0
    while True:
        page = await store.pages.page(task_type, status, sort, direction, cursor, limit)
        seen += [task.id for task in page.entities]
        pages += 1
        cursor = page.cursor
        if cursor is None:
            break
        for what, number, now in script[pages] if pages < len(script) else ():
            await writer.act(what, number, now)
            present = {task.id: task for task in await everything(store)}
            for task in chosen:
                found = present.get(task.id)
                if (
                    found is None
                    or value_of(found, sort) != value_of(task, sort)
                    or status not in (None, found.status)
                ):
                    stable.pop(task.id, None)
    expected = [task_id for task_id in brute_force(chosen, sort, direction) if task_id in stable]
    assert [task_id for task_id in seen if task_id in stable] == expected
    return pages, len(stable)


@pytest.mark.timeout(3600)
def test_each_stable_row_is_seen_exactly_once(
    pytestconfig: pytest.Config, sqlite_url: str, postgres_url: str
) -> None:
    """Fails on a cursor of the value alone, which skips or repeats its equals, on one that takes
    the row itself again, and on pages by OFFSET."""
    examples = size(pytestconfig, short=15, ci=200, long=2000)
    pages = stable = 0
    with open_pair([sqlite_url, postgres_url]) as pair:

        @tried(examples)
        @given(scripts, choices)
        def walks(script: Any, chosen: Any) -> None:
            nonlocal pages, stable
            pair.clear()

            async def each() -> list[tuple[int, int]]:
                return list(
                    await asyncio.gather(*(walk(store, script, *chosen) for store in pair.stores))
                )

            for more_pages, more_stable in pair.runner.run(each()):
                pages += more_pages
                stable += more_stable

        walks()
    print(
        f"walks: {examples} on each of SQLite and PostgreSQL, {pages} pages, "
        f"{stable} stable rows, each seen once"
    )
