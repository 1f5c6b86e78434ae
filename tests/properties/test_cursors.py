"""Ten thousand cursors that no page has given: each is refused, and no SQL is sent for it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowlock import TaskQueue
from rowlock._store.database import Database
from rowlock.errors import InvalidCursorError
from rowlock.models import SortDirection, SortProperty, TaskStatus
from tests.properties.sizes import size, tried
from tests.store.test_paging import fill

Walk = tuple[str | None, TaskStatus | None, SortProperty, SortDirection]

walks: st.SearchStrategy[Walk] = st.tuples(
    st.sampled_from([None, "a", "b"]),
    st.sampled_from([None, *TaskStatus]),
    st.sampled_from(list(SortProperty)),
    st.sampled_from(list(SortDirection)),
)
places = st.integers(0, 47)


def cut(cursor: str, place: int, length: int) -> str:
    return cursor[:place] + cursor[place + 1 + length :]


def grown(cursor: str, place: int, length: int) -> str:
    return cursor[:place] + "A=\n é"[length % 5] * (1 + length) + cursor[place:]


def flipped(cursor: str, place: int, length: int) -> str:
    raw = bytearray(base64.urlsafe_b64decode(cursor))
    raw[place % len(raw)] ^= 1 << (length % 8)
    return base64.urlsafe_b64encode(raw).decode()


def flipped_as_text(cursor: str, place: int, length: int) -> str:
    raw = bytearray(cursor.encode())
    raw[place] ^= 1 << (length % 7)
    return raw.decode("ascii")


def swapped(cursor: str, place: int, length: int) -> str:
    return cursor[place:] + cursor[:place]


def huge(cursor: str, place: int, length: int) -> str:
    return cursor * (1_000_000 // len(cursor))


Damage = Callable[[str, int, int], str]
damages: st.SearchStrategy[Damage] = st.sampled_from(
    [cut, grown, flipped, flipped_as_text, swapped, huge]
)


@pytest.mark.timeout(3600)
def test_a_changed_or_foreign_cursor_is_refused_without_sql(
    pytestconfig: pytest.Config, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where the digest leaves the filters out, and where it is not looked at."""
    examples = size(pytestconfig, short=500, ci=10_000, long=100_000)
    sent: list[str] = []
    refused = 0

    with asyncio.Runner() as runner:
        queue = TaskQueue(sqlite_url, notify=False)
        runner.run(queue.open())
        store = queue.runtime._opened
        assert store is not None
        runner.run(fill(store, seed=1, number=40))
        database = store.database
        for name in ("read", "read_in_index_order", "autocommit"):
            monkeypatch.setattr(database, name, _counting(database, name, sent))

        async def query(walk: Walk, cursor: str | None) -> str | None:
            return (await queue.query(*walk, cursor, 1)).cursor

        @tried(examples)
        @given(walks, walks, damages, places, st.integers(0, 30))
        def cursors(own: Walk, foreign: Walk, damage: Damage, place: int, length: int) -> None:
            nonlocal refused
            good = runner.run(query(own, None))
            if good is None:
                return  # one page holds all of it
            changed = damage(good, place, length)
            bad = [] if changed == good else [(own, changed)]
            if foreign != own:
                bad.append((foreign, good))
            for walk, cursor in bad:
                sent.clear()
                with pytest.raises(InvalidCursorError):
                    runner.run(query(walk, cursor))
                assert sent == []
                refused += 1
            # And the walk goes on from the one that it was given.
            runner.run(query(own, good))
            assert sent

        try:
            cursors()
        finally:
            runner.run(queue.close())
    print(f"cursors: {examples} generated, {refused} changed or foreign, all refused without SQL")


def _counting(store: Database, name: str, sent: list[str]) -> Any:
    method = getattr(store, name)

    async def counted(operation: Any) -> Any:
        sent.append(name)
        return await method(operation)

    return counted
