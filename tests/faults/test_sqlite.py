"""What only SQLite has: its file, and one lock for all who write."""

from __future__ import annotations

import asyncio
import logging
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from rowlock import DatabaseUnavailableError, SchemaError, TaskQueue
from tests.faults.harness import Node, Run
from tests.support.helpers import eventually

Begin = Callable[[str, str], Awaitable[Run]]
Size = Callable[..., int]


async def test_sqlite_killed_as_it_writes(sqlite_url: str, begin: Begin, size: Size) -> None:
    """All that its processes do is to write, and one of them is killed.

    Fails where a create is acknowledged before its row is durable (variant "acknowledge-early").
    """
    run = await begin("SQLite killed as it writes", sqlite_url)
    starts: list[Callable[[], Node]] = [
        lambda: run.producer("quick", gap=0),
        lambda: run.worker("quick", lease=1000),
        lambda: run.worker("quick", lease=1000),
    ]
    nodes = [start() for start in starts]
    await run.ready()
    for _ in range(size(short=10, ci=500)):
        seen = run.count("acknowledged")
        await run.recorded(seen + run.random.randrange(1, 20), "acknowledged")
        place = run.random.randrange(len(nodes))
        await nodes[place].ready()
        nodes[place].kill()
        nodes[place] = starts[place]()
        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as file:
            assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        run.cycles += 1
    nodes[0].kill()
    await run.finish()


async def test_sqlite_shared_by_processes(sqlite_url: str, begin: Begin, size: Size) -> None:
    """Four workers and two producers: none hears "locked", none is kept waiting for ever.

    Fails where a lock is not waited for (variant "no-busy-timeout").
    """
    run = await begin("SQLite, 4 processes", sqlite_url)
    # Long enough a lease that a slow machine is not taken for a lost worker.
    workers = [run.worker("quick", lease=30_000) for _ in range(4)]
    await run.ready()
    producers = [run.producer("quick", gap=0) for _ in range(2)]
    count = size(short=600, ci=20_000, long=200_000)
    await run.recorded(count, "end", patience=60 + count / 20)

    def everyone() -> bool:
        for event, nodes in (("end", workers), ("acknowledged", producers)):
            shares = Counter(record["process"] for record in run.ledger.records(event))
            mean = shares.total() / len(nodes)
            if any(shares[node.pid] < 0.05 * mean for node in nodes):
                return False
        return True

    # SQLite's lock has no queue: on a busy machine one may miss it for a second, which is all
    # that a short run takes.
    await eventually(everyone, message="each has its share")
    for node in producers:
        node.signal(signal.SIGTERM)
        await node.ended()
    figures = await run.finish()
    assert figures.unknown == 0
    assert run.ledger.records("trouble") == []


# What is no database that can be written.


def directory_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(b"This is no database. " * 1000)


def damaged(path: Path) -> None:
    """The header is right, and the pages behind it are not."""
    data = path.read_bytes()
    path.write_bytes(data[:200] + bytes(range(256)) * ((len(data) - 200) // 256))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def other(path: Path) -> None:
    """A database of somebody else."""
    path.unlink()
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE t (x)")


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        path.name: path.read_bytes() if path.is_file() else None
        for path in folder.iterdir()
        # SQLite makes them beside a file that says it uses WAL, whatever else it holds.
        if not path.name.endswith(("-wal", "-shm"))
    }


BAD: dict[str, tuple[Callable[[Path], None], type[Exception]]] = {
    "missing": (Path.unlink, SchemaError),
    "empty": (empty, SchemaError),
    "other": (other, SchemaError),
    "directory": (directory_instead, DatabaseUnavailableError),
    "garbage": (garbage, DatabaseUnavailableError),
    "damaged": (damaged, DatabaseUnavailableError),
    "cut": (cut, DatabaseUnavailableError),
}


@pytest.mark.parametrize("kind", BAD)
async def test_sqlite_bad_file(sqlite_url: str, tmp_path: Path, kind: str) -> None:
    """Fails where a missing file is made by opening it, or an error of the driver comes through."""
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    spoil, expected = BAD[kind]
    spoil(path)
    before = contents(tmp_path)
    queue = TaskQueue(sqlite_url)
    async with asyncio.timeout(5):
        with pytest.raises(expected) as caught:
            await queue.open()
    await queue.close()
    assert str(path) in str(caught.value) or "rowlock db upgrade" in str(caught.value)
    assert contents(tmp_path) == before


async def test_sqlite_no_late_thread(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing of what could not be opened is left to a loop that may be closed by then.

    Fails where the thread of a connection that was refused is not waited for.
    """

    def slow(record: logging.LogRecord) -> bool:
        # The driver's thread says so before it ends.
        if "close_and_stop" in record.getMessage():
            time.sleep(0.2)
        return True

    before = set(threading.enumerate())
    slowed = logging.Filter()
    slowed.filter = slow  # type: ignore[method-assign]
    with (
        caplog.at_level(logging.DEBUG, "aiosqlite"),
        caplog.filtering(slowed),
        pytest.raises(DatabaseUnavailableError),
    ):
        await TaskQueue(f"sqlite:///{tmp_path}").open()
    assert not [
        thread for thread in threading.enumerate() if thread.daemon and thread not in before
    ]


async def test_sqlite_read_only(sqlite_url: str, tmp_path: Path) -> None:
    """It may be opened, read or refused at once; what cannot be is to write.

    Fails where SQLite's own errors are let through.
    """
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    before = contents(tmp_path)
    async with asyncio.timeout(5):
        with pytest.raises(DatabaseUnavailableError, match=r"read.?only|WAL"):
            async with TaskQueue(f"sqlite:///file:{path}?mode=ro&uri=true") as queue:
                await queue.create("t")
    assert contents(tmp_path) == before
