"""The tests' own tools: what they promise is what every other test rests on."""

from __future__ import annotations

import pytest

from rowlock import schema
from tests.support.helpers import eventually


def test_database_url_is_empty(database_url: str) -> None:
    assert schema.current(database_url) is None


@pytest.mark.parametrize("use", [1, 2])
def test_each_test_has_its_own_database_with_the_schema(database: str, use: int) -> None:
    assert schema.check(database) == []
    schema.downgrade(database, "base")


async def test_eventually_takes_sync_and_async_predicates() -> None:
    calls: list[str] = []

    async def called_often() -> bool:
        calls.append("call")
        return len(calls) > 2

    await eventually(called_often)
    await eventually(lambda: len(calls) > 2)


async def test_eventually_says_what_it_waited_for() -> None:
    with pytest.raises(AssertionError, match="the row: still None after 0"):
        await eventually(lambda: None, timeout=0.01, message="the row")
