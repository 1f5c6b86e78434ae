"""However a task is inserted, it is the same row."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from rowlock._rows import NewRow
from tests.support.stores import START, existing, new_row, open_store


async def nothing() -> AsyncIterator[Sequence[NewRow]]:
    return
    yield


@pytest.mark.parametrize(
    "options",
    [
        {"run_at": None},
        {"run_at": None, "delay": 5000},
        {
            "payload": '{"a" : 1e300}',
            "retries_remaining": 3,
            "retry_interval": 7,
            "retain_for": 9,
            "priority": -2,
        },
    ],
)
async def test_a_row_is_the_same_alone_in_a_batch_and_in_bulk(
    database: str, options: dict[str, Any]
) -> None:
    async with open_store(database) as store:
        found = []
        for insert in (
            store.tasks.insert,
            lambda row, now: store.tasks.insert_group([row], now),
            lambda row, now: store.tasks.insert_new([row], nothing(), now),
        ):
            row = new_row(**options)
            await insert(row, START)
            task = await existing(store, row.id)
            found.append(task.model_copy(update={"id": "", "date_created": START}))
        assert found[0] == found[1] == found[2]
        held = await store.database.claim("w", {"t": 3}, 1000, START.replace(year=2028))
        assert {each.retain_for for each in held} == {new_row(**options).retain_for}
