"""One connection of sqlite3: what is called in its thread, and the file that it has open."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import aiosqlite

from rowlock._store.database import Operation, T
from rowlock._store.sqlite.errors import for_operation
from rowlock._store.sqlite.wal import Checkpoints
from rowlock.errors import DatabaseUnavailableError, InvalidArgumentError

BUSY_TIMEOUT_MS = 10_000
FILES = "PRAGMA database_list"
_GLIMPSE = 0.0001


async def open_driver(*arguments: Any, **options: Any) -> aiosqlite.Connection:
    connection = aiosqlite.connect(*arguments, **options)
    # As SQLAlchemy has it: a queue that was not closed does not keep a program from ending.
    connection._thread.daemon = True
    try:
        return await connection
    except (Exception, asyncio.CancelledError):
        # The thread of a connection that was not opened still reports its end to the loop. If
        # nobody waited for it, that could come after the loop is closed, with a traceback.
        await asyncio.to_thread(connection._thread.join)
        raise


def set_up(driver: sqlite3.Connection) -> None:
    driver.isolation_level = None
    driver.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")


def run_write(
    driver: sqlite3.Connection,
    operation: Operation[T],
    abandoned: threading.Event,
    check: Callable[[], None],
    checkpoints: Checkpoints,
) -> T:
    driver.execute("BEGIN IMMEDIATE")
    try:
        result = run_read(driver, operation, check)
        if abandoned.is_set():
            # BEGIN may have waited for seconds, and the caller was cancelled. A claim that
            # committed now would leave tasks with a worker that has stopped.
            raise asyncio.CancelledError
        driver.execute("COMMIT")
    except BaseException:
        if driver.in_transaction:
            driver.execute("ROLLBACK")
        raise
    checkpoints.after_commit(driver)
    return result


def run_read(driver: sqlite3.Connection, operation: Operation[T], check: Callable[[], None]) -> T:
    try:
        statement, parameters = next(operation)
        while True:
            try:
                # fetchall: a RETURNING that is not read to its end keeps its lock.
                rows = driver.execute(
                    statement.sql, {**parameters, **statement.constants}
                ).fetchall()
            except sqlite3.Error as error:
                if "Could not decode" in str(error):
                    # A row that rowlock has not written holds text that is not UTF-8. From now on
                    # such bytes are replaced, so that the next statement can read the other rows.
                    driver.text_factory = _legible
                told = for_operation(error)
                if told is None:
                    raise
                statement, parameters = operation.throw(told)
            else:
                statement, parameters = operation.send(rows)
    except StopIteration as stop:
        # Last, as the COMMIT comes next.
        check()
        value: T = stop.value
        return value


def _legible(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def next_version(
    driver: sqlite3.Connection, seen: int | None, patience: float, is_wanted: Callable[[], bool]
) -> int:
    # data_version changes with each commit of another connection. A writer that waits for this
    # connection ends the look.
    end = time.monotonic() + patience
    while True:
        (version,) = driver.execute("PRAGMA data_version").fetchone()
        if version != seen or is_wanted() or time.monotonic() >= end:
            return int(version)
        time.sleep(_GLIMPSE)


def path_of(driver: sqlite3.Connection) -> str:
    """Return the path of the file, as SQLite found it: of a URI, or by way of a symbolic link."""
    path: str = next(row[2] for row in driver.execute(FILES) if row[1] == "main")
    if not path:
        raise InvalidArgumentError("database: a SQLite database without a file was given")
    return os.path.realpath(path)


def file_id(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DatabaseUnavailableError(f"SQLite: {error}") from error
    return found.st_dev, found.st_ino


def list_files(driver: sqlite3.Connection) -> list[Any]:
    return driver.execute(FILES).fetchall()


def file_id_of(files: Sequence[Any]) -> tuple[int, int] | None:
    # The first is the main database. In memory it has no path.
    path = files[0][2]
    if not path:
        return None
    found = os.stat(path)
    return found.st_dev, found.st_ino
