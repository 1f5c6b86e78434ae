from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import pytest

from rowlock._store.sqlite import wal as _checkpoints
from rowlock._store.sqlite.database import SqliteDatabase
from rowlock._store.sqlite.wal import USUAL_BYTES
from rowlock._store.store import Store
from rowlock.errors import DatabaseUnavailableError
from tests.support.stores import START, new_row, open_store


async def automatic_pages(store: Store) -> int:
    def ask(driver: sqlite3.Connection) -> int:
        return int(driver.execute("PRAGMA wal_autocheckpoint").fetchone()[0])

    assert isinstance(store.database, SqliteDatabase)
    pages = await store.database._in_thread(store.database._writer, ask)
    assert isinstance(pages, int)
    return pages


async def test_a_log_that_a_reader_pins(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where each commit tries a checkpoint, where none is tried again, and where the log
    stays as long as it was.
    """
    monkeypatch.setattr(_checkpoints, "_LOOK", 0.0)
    monkeypatch.setattr(_checkpoints, "_TRY", 0.0)
    monkeypatch.setattr(_checkpoints, "_SHARE", 1e9)
    path = sqlite_url.removeprefix("sqlite:///")
    payload = f'"{"x" * 100_000}"'
    async with open_store(sqlite_url) as store:
        assert isinstance(store.database, SqliteDatabase)
        assert await automatic_pages(store) == 1000
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM rowlock_task").fetchone()
            for _ in range(12):
                await store.tasks.insert_many([new_row(payload=payload) for _ in range(10)], START)
            assert await automatic_pages(store) == 0
            assert os.stat(f"{path}-wal").st_size > 2 * USUAL_BYTES
            reader.execute("COMMIT")
        for _ in range(3):
            await store.tasks.insert(new_row(), START)
        assert await automatic_pages(store) == 1000
        assert os.stat(f"{path}-wal").st_size <= USUAL_BYTES


async def test_a_checkpoint_that_fails_does_not_fail_the_write(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where the error of a checkpoint is that of the write, which is durable."""
    monkeypatch.setattr(_checkpoints, "USUAL_BYTES", -1)
    async with open_store(sqlite_url) as store:
        assert isinstance(store.database, SqliteDatabase)

        def refuse(driver: sqlite3.Connection) -> None:
            driver.set_authorizer(
                lambda action, name, *_: (
                    sqlite3.SQLITE_DENY
                    if action == sqlite3.SQLITE_PRAGMA and name == "wal_checkpoint"
                    else sqlite3.SQLITE_OK
                )
            )

        await store.database._in_thread(store.database._writer, refuse)
        await store.tasks.insert(new_row(), START)
        with pytest.raises(DatabaseUnavailableError, match="not authorized"):
            await store.database._in_thread(
                store.database._writer, lambda driver: driver.execute("PRAGMA wal_checkpoint")
            )
