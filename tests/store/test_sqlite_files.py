"""Which file of SQLite is open, by which name, with whose connections, and whether it still is."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import NullPool, StaticPool, event, text
from sqlalchemy.ext.asyncio import create_async_engine

from rowlock import (
    DatabaseUnavailableError,
    InvalidArgumentError,
    NewTask,
    ScheduledTaskTime,
    TaskQueue,
    TaskScheduler,
)
from rowlock._events import Event, LoopFailed, LoopRecovered
from rowlock._store.database import HintKind
from rowlock._store.sqlite.database import SqliteDatabase
from rowlock._store.sqlite.watch import InotifyWatcher
from tests.support.helpers import eventually
from tests.support.stores import execute, open_store

_POSIX = pytest.mark.skipif(sys.platform == "win32", reason="open files cannot be removed there")


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


# An application's engine.


def engine_of(url: str, **options: Any) -> Any:
    return create_async_engine(url.replace("sqlite:", "sqlite+aiosqlite:"), **options)


@pytest.mark.parametrize(
    "options",
    [
        {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.1},
        {"poolclass": NullPool},
        {},
    ],
)
async def test_an_application_keeps_the_pool_of_its_engine(
    sqlite_url: str, options: dict[str, Any]
) -> None:
    """Fails if the queue keeps connections of the pool: with one there is none left to open it."""
    engine = engine_of(sqlite_url, **options)
    connected: list[object] = []
    event.listen(engine.sync_engine, "connect", lambda driver, record: connected.append(driver))
    async with engine.connect() as mine, TaskQueue(engine, lease=1000) as queue:
        # What the application does to each connection is done to the queue's, too.
        assert len(connected) == 3
        await queue.register_handler("quick", "tests.support.loop_handlers", "quick")
        await queue.start()
        task_id = await queue.create("quick", retain_for=-1)

        async def has_ended() -> bool:
            task = await queue.get(task_id)
            return task is not None and task.status == "success"

        await eventually(has_ended)
        await queue.create("t", connection=mine)
        await mine.commit()
        assert (await queue.counts("t"))["pending"] == 1
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM rowlock_task"))).scalar() == 2
    await engine.dispose()


async def test_one_connection_for_all_is_refused(sqlite_url: str) -> None:
    engine = engine_of(sqlite_url, poolclass=StaticPool)
    with pytest.raises(InvalidArgumentError, match="StaticPool"):
        await TaskQueue(engine).open()
    await engine.dispose()


async def test_an_engine_without_a_file_is_refused() -> None:
    engine = engine_of("sqlite:///", poolclass=NullPool)
    with pytest.raises(InvalidArgumentError, match="without a file"):
        await TaskQueue(engine).open()


# Other names of a file.


@pytest.fixture(params=["plain", "link", "linked folder", "uri", "uri with a percent"])
def by_another_name(request: pytest.FixtureRequest, sqlite_url: str, tmp_path: Path) -> str:
    path = path_of(sqlite_url)
    if request.param == "link":
        link = tmp_path / "link.db"
        link.symlink_to(path)
        return f"sqlite:///{link}"
    if request.param == "linked folder":
        (tmp_path / "folder").symlink_to(path.parent, target_is_directory=True)
        return f"sqlite:///{tmp_path / 'folder' / path.name}"
    if request.param == "uri":
        return f"sqlite:///file:{path}?uri=true&mode=rw"
    if request.param == "uri with a percent":
        moved = path.rename(tmp_path / "a b.db")
        return f"sqlite:///file:{str(moved).replace(' ', '%2520')}?uri=true&mode=rw"
    return sqlite_url


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of writes")
async def test_the_log_of_the_file_itself_is_watched(
    by_another_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if the log is looked for beside the name: an idle file is then read again and again."""
    async with open_store(by_another_name) as store:
        assert isinstance(store.database, SqliteDatabase)
        woken = asyncio.Event()

        async def watch() -> float:
            return await store.database.watch(frozenset(HintKind), lambda hint: None, woken.set)

        while await watch() < 3000:
            pass
        assert isinstance(store.database._watcher, InotifyWatcher)
        with closing(sqlite3.connect(store.database._file)) as other:
            other.execute("PRAGMA user_version = 7")
        async with asyncio.timeout(10):
            await woken.wait()
        assert store.database._checkpoints._log == f"{store.database._file}-wal"
        assert os.path.exists(store.database._checkpoints._log)


# A file that is no longer there.


def take_away(path: Path, how: str) -> None:
    if how == "removed":
        path.unlink()
    elif how == "removed with its journals":
        for one in path.parent.glob(f"{path.name}*"):
            one.unlink()
    elif how == "replaced":
        shutil.copyfile(path, path.with_name("other.db"))
        path.with_name("other.db").replace(path)
    else:
        path.rename(path.with_name("moved.db"))


@_POSIX
@pytest.mark.parametrize("how", ["removed", "removed with its journals", "replaced", "moved"])
async def test_what_would_be_lost_is_refused(sqlite_url: str, how: str) -> None:
    """Fails if a task is acknowledged that is in a file which nobody finds any more."""
    path = path_of(sqlite_url)
    queue = TaskQueue(sqlite_url, poll_interval=50, sweep_interval=50)
    events: list[Event] = []
    queue.runtime.events.subscribe(events.append)
    await queue.open()
    scheduler = TaskScheduler(queue)
    await queue.register_handler("quick", "tests.support.loop_handlers", "quick")
    await queue.start()
    kept = await queue.create("t", retain_for=-1)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    take_away(path, how)
    times = [ScheduledTaskTime(interval_days=1)]
    for call in (
        lambda: queue.create("t"),
        lambda: queue.create_many([NewTask("t")] * 3),
        lambda: queue.get(kept),
        lambda: queue.query(),
        lambda: queue.cancel(kept),
        lambda: scheduler.add_task("s", times, task_type="t"),
    ):
        with pytest.raises(DatabaseUnavailableError, match="removed or replaced") as raised:
            await call()
    assert str(path) in str(raised.value)
    loops = ("claim", "sweeper", "scheduler")
    await eventually(
        lambda: {e.loop for e in events if isinstance(e, LoopFailed)}.issuperset(loops)
    )
    if how == "moved":
        # The same file again: nothing was lost, and all goes on.
        path.with_name("moved.db").rename(path)
        task_id = await queue.create("quick", retain_for=-1)

        async def has_ended() -> bool:
            task = await queue.get(task_id)
            return task is not None and task.status == "success"

        await eventually(has_ended)
        await eventually(lambda: any(isinstance(event, LoopRecovered) for event in events))
    await queue.close()


@_POSIX
async def test_a_file_in_its_place_is_left_alone(sqlite_url: str, tmp_path: Path) -> None:
    """Another file and its log are neither written to nor removed; opened again, it is used."""
    path = path_of(sqlite_url)
    restored = shutil.copyfile(path, tmp_path / "restored.db")
    queue = TaskQueue(sqlite_url)
    await queue.open()
    await queue.create("old")
    for one in path.parent.glob(f"{path.name}*"):
        one.unlink()
    restored.rename(path)
    async with TaskQueue(sqlite_url) as other:
        task_id = await other.create("new", retain_for=-1)
        with pytest.raises(DatabaseUnavailableError):
            await queue.create("old")
        await queue.close()
        assert path.with_name(f"{path.name}-wal").exists()
        await queue.open()
        assert await queue.get(task_id) is not None
        await queue.close()
    assert await execute(sqlite_url, "SELECT type FROM rowlock_task") == [("new",)]


@_POSIX
async def test_journals_come_and_go(sqlite_url: str) -> None:
    async with TaskQueue(sqlite_url) as queue:
        for number in range(3):
            await queue.create("t", {"n": number}, retain_for=-1)
            with closing(sqlite3.connect(path_of(sqlite_url))) as other:
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                other.execute("VACUUM")
        assert len((await queue.query()).entities) == 3


@_POSIX
async def test_a_file_that_vanishes_within_a_write(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if it is looked for before the write only."""
    from rowlock._store.sqlite import driver as _driver

    path = path_of(sqlite_url)
    async with open_store(sqlite_url) as store:
        from tests.support.stores import new_row

        run_read = _driver.run_read

        def vanishing(driver: Any, operation: Any, check: Any) -> Any:
            def checked() -> None:
                path.unlink()
                check()

            return run_read(driver, operation, checked)

        monkeypatch.setattr(_driver, "run_read", vanishing)
        with pytest.raises(DatabaseUnavailableError, match="removed or replaced"):
            await store.tasks.insert(new_row())
