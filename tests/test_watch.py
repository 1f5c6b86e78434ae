"""On SQLite a worker looks at the file from outside, and into it only when it has changed."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest

from rowlock._sqlite import SqliteStore
from tests.helpers import eventually
from tests.stores import open_store


async def test_every_commit_of_another_connection_is_seen(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if what follows a change within a tick of the file system's clock is not looked for."""
    woken = 0
    stat = os.stat

    def coarse(path: Any, **options: Any) -> Any:
        # As before Linux 6.13: a change within the tick has the time of the one before.
        found = stat(path, **options)
        if not str(path).endswith("-wal"):
            return found
        return SimpleNamespace(
            st_mtime_ns=found.st_mtime_ns // 10**7, st_size=found.st_size, st_ino=found.st_ino
        )

    monkeypatch.setattr("rowlock._sqlite.os.stat", coarse)

    def wake(task_type: str | None = None) -> None:
        nonlocal woken
        woken += 1

    async with open_store(sqlite_url) as store:
        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as other:
            # From its beginning again, so that no commit makes it longer.
            other.execute("PRAGMA wal_autocheckpoint = 0")
            other.execute("PRAGMA synchronous = OFF")
            for number in range(700):
                other.execute(f"PRAGMA user_version = {number}")
            other.execute("PRAGMA wal_checkpoint(RESTART)")
            for number in range(300):

                async def seen(before: int = woken) -> bool:
                    await store.watch(wake, lambda holder: None, lambda: None)
                    return woken > before

                other.execute(f"PRAGMA user_version = {number + 1}")
                await eventually(seen, timeout=2)


async def test_an_idle_file_is_not_read(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0
    async with open_store(sqlite_url) as store:
        assert isinstance(store, SqliteStore)
        in_thread = store._in_thread

        async def counted(*arguments: object) -> object:
            nonlocal reads
            reads += 1
            return await in_thread(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(store, "_in_thread", counted)

        async def nothing_read() -> bool:
            before = reads
            await store.watch(lambda task_type: None, lambda holder: None, lambda: None)
            return reads == before

        await eventually(nothing_read)
        assert [await nothing_read() for _ in range(5)] == [True] * 5
