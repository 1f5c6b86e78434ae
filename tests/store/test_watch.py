"""On SQLite a worker watches the file from outside, and looks into it only when it has changed."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rowlock._events import Event
from rowlock._loop import Loop
from rowlock._store.database import Hint, HintKind
from rowlock._store.sqlite import watch as _changes
from rowlock._store.sqlite.database import SqliteDatabase
from rowlock._store.sqlite.watch import _REST, InotifyWatcher, StatWatcher
from rowlock._store.store import Store
from tests.support.helpers import eventually
from tests.support.stores import new_row, open_store

_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of writes")


@pytest.fixture(params=[pytest.param("notified", marks=_LINUX), "glances"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[object]:
    """The way in which files are watched; the second one on a coarse clock."""
    if request.param == "notified":
        return InotifyWatcher
    monkeypatch.setitem(sys.modules, "inotify_simple", None)
    stat = os.stat

    def coarse(path: Any, **options: Any) -> Any:
        # As before Linux 6.13: a change within the tick has the time of the one before.
        found = stat(path, **options)
        if not str(path).endswith("-wal"):
            return found
        return SimpleNamespace(
            st_mtime_ns=found.st_mtime_ns // 10**7, st_size=found.st_size, st_ino=found.st_ino
        )

    monkeypatch.setattr("rowlock._store.sqlite.watch.os.stat", coarse)
    return StatWatcher


class Watching:
    """A loop that watches."""

    def __init__(self, store: Store) -> None:
        self.woken = 0
        self.failures: list[Event] = []
        self._store = store
        self._loop = Loop("watch", self._watch, self.failures.append)

    async def _watch(self) -> float:
        return await self._store.database.watch(
            frozenset({HintKind.WORK}), self._heard, self._loop.wake
        )

    def _heard(self, hint: Hint) -> None:
        self.woken += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._loop.run())
        await eventually(lambda: self.woken > 0)
        yield
        self._loop.stop()
        await task
        assert self.failures == []


@contextmanager
def another(url: str, synchronous: str) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        yield connection


@pytest.mark.parametrize("synchronous", ["OFF", "FULL"])
async def test_every_commit_of_another_connection_is_seen(
    sqlite_url: str, way: type[object], synchronous: str
) -> None:
    """Fails if what follows a change within a tick of the file system's clock is not looked for."""
    async with open_store(sqlite_url) as store:
        watching = Watching(store)
        async with watching.running():
            assert isinstance(store.database, SqliteDatabase)
            assert type(store.database._watcher) is way
            with another(sqlite_url, synchronous) as other:
                for number in range(700):
                    other.execute(f"PRAGMA user_version = {number}")
                # From the log's beginning again, so that no commit makes it longer.
                other.execute("PRAGMA wal_checkpoint(RESTART)")
                for number in range(300):
                    watching.woken = 0
                    other.execute(f"PRAGMA user_version = {number + 1}")
                    await eventually(lambda: watching.woken > 0, timeout=2)


def test_the_last_glance_is_after_the_tick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a process that is late looks no more, and misses what was committed meanwhile."""
    log = tmp_path / "log"
    log.touch()
    now = 100.0
    monkeypatch.setattr(_changes, "time", SimpleNamespace(monotonic=lambda: now))
    glances = StatWatcher(str(log))
    assert glances._has_changed()
    now += 3600
    assert glances._has_changed()
    assert not glances._has_changed()


@_LINUX
async def test_a_commit_that_shows_late_is_seen(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is written to first, and synced. Fails if a write is followed by one look only."""
    stale = 0
    async with open_store(sqlite_url) as store:
        assert isinstance(store.database, SqliteDatabase)
        database = store.database
        in_thread = database._in_thread

        async def late(*arguments: Any) -> Any:
            nonlocal stale
            if stale > 0:
                stale -= 1
                return database._seen_version
            return await in_thread(*arguments)

        watching = Watching(store)
        async with watching.running():
            monkeypatch.setattr(database, "_in_thread", late)
            with another(sqlite_url, "OFF") as other:
                for number in range(5):
                    watching.woken, stale = 0, 5
                    other.execute(f"PRAGMA user_version = {number + 1}")
                    await eventually(lambda: watching.woken > 0, timeout=2)


@_LINUX
async def test_who_writes_does_not_wait_for_the_end_of_a_look(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if a look keeps the connection that somebody waits for."""
    looking = threading.Event()

    def glimpse(seconds: float) -> None:
        looking.set()
        time.sleep(seconds)

    glimpsing = SimpleNamespace(**vars(time) | {"sleep": glimpse})
    monkeypatch.setattr("rowlock._store.sqlite.driver.time", glimpsing)
    monkeypatch.setattr("rowlock._store.sqlite.watch._SPIN", 60.0)
    async with open_store(sqlite_url) as store, Watching(store).running():
        assert isinstance(store.database, SqliteDatabase)
        changes = store.database._watcher
        assert isinstance(changes, InotifyWatcher)

        async def looks() -> bool:
            if changes._pause == _REST:
                # Linux tells of this write, too, and no commit of another connection follows.
                await store.tasks.insert(new_row())
            return looking.is_set()

        await eventually(looks)
        monkeypatch.setattr("rowlock._store.sqlite.watch._SPIN", 0.0)
        async with asyncio.timeout(10):
            await store.tasks.insert(new_row())


@_LINUX
async def test_where_nothing_can_be_watched_the_file_is_looked_at(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_many(self: object, *arguments: object) -> int:
        raise OSError(28, "the user limit on inotify watches was reached")

    monkeypatch.setattr("inotify_simple.INotify.add_watch", too_many)
    async with open_store(sqlite_url) as store:
        watching = Watching(store)
        async with watching.running():
            assert isinstance(store.database, SqliteDatabase)
            assert type(store.database._watcher) is StatWatcher


@_LINUX
async def test_what_was_opened_to_watch_is_closed(sqlite_url: str) -> None:
    def watches() -> int:
        paths = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        return sum(os.path.exists(p) and "inotify" in os.readlink(p) for p in paths)

    before = watches()
    async with open_store(sqlite_url) as store:
        async with Watching(store).running():
            assert watches() == before + 1
        await store.database.unwatch()
        assert watches() == before
        async with Watching(store).running():
            assert watches() == before + 1
    assert watches() == before


async def test_an_idle_file_is_not_read(
    sqlite_url: str, way: type[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    async with open_store(sqlite_url) as store:
        assert isinstance(store.database, SqliteDatabase)
        database = store.database
        in_thread = database._in_thread

        async def counted(*arguments: object) -> object:
            nonlocal reads
            reads += 1
            return await in_thread(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(database, "_in_thread", counted)

        async def nothing_read() -> bool:
            before = reads
            await store.database.watch(frozenset(HintKind), lambda hint: None, lambda: None)
            return reads == before

        await eventually(nothing_read)
        assert [await nothing_read() for _ in range(5)] == [True] * 5
