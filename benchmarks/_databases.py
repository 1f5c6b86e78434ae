"""Databases to measure on: durable, and a fresh one for each measurement."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import asyncpg

from rowlock import schema
from tests.support import postgres_server as _postgres_server

SQLITE = "sqlite"

Rows = list[tuple[Any, ...]]

_SETTINGS = ("server_version", "fsync", "synchronous_commit", "full_page_writes")


@contextmanager
def servers(database: str | None, only: str | None) -> Iterator[list[str]]:
    """Yield the servers to measure on: URLs of PostgreSQL, and `SQLITE`."""
    with ExitStack() as stack:
        found = []
        if only != "sqlite":
            found.append(stack.enter_context(_durable_server()) if database is None else database)
        if only != "postgresql":
            found.append(SQLITE)
        yield found


@contextmanager
def _durable_server() -> Iterator[str]:
    """The tests' server, but with fsync: their command line, which ALTER SYSTEM cannot
    override, turns it off.
    """
    popen = subprocess.Popen

    def with_fsync(command: list[Any], **options: Any) -> subprocess.Popen[Any]:
        return popen(
            ["--fsync=on" if word == "--fsync=off" else word for word in command], **options
        )

    with ExitStack() as stack:
        with mock.patch.object(subprocess, "Popen", with_fsync):
            url = stack.enter_context(_postgres_server.postgres_server())
        yield url


def kind(server: str) -> str:
    """Return what the results call a server, or the database of a URL."""
    return "sqlite" if server.startswith(SQLITE) else "postgresql"


def describe(server: str) -> str:
    """Return what there is to know of a server; refuse one that does not keep what it commits."""
    if server == SQLITE:
        return "SQLite"
    found = {name: asyncio.run(fetch(server, f"SHOW {name}"))[0][0] for name in _SETTINGS}
    for name in ("fsync", "synchronous_commit"):
        if found[name] != "on":
            raise SystemExit(f"PostgreSQL runs with {name} {found[name]}; it must be on")
    return "PostgreSQL, " + ", ".join(f"{name} {value}" for name, value in found.items())


@contextmanager
def fresh(server: str) -> Iterator[str]:
    """Yield the URL of a new database with rowlock's schema, and remove it at the end."""
    with ExitStack() as stack:
        if server == SQLITE:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="rowlock-"))
            url = f"sqlite:///{Path(directory) / 'rowlock.db'}"
        else:
            url = stack.enter_context(_postgres_server.temporary_database(server))
        schema.upgrade(url)
        yield url


def sqlite_file(url: str) -> str:
    """Return the file of a SQLite URL."""
    return url.removeprefix("sqlite:///")


async def fetch(url: str, statement: str) -> Rows:
    """Return the rows of a statement."""
    async with session(url) as ask:
        return await ask(statement)


@asynccontextmanager
async def session(url: str) -> AsyncIterator[Callable[[str], Awaitable[Rows]]]:
    """Yield a function that returns the rows of a statement, on a connection of its own.

    Each statement commits by itself, unless one of them begins a transaction.
    """
    if url.startswith(SQLITE):
        with closing(sqlite3.connect(sqlite_file(url), isolation_level=None)) as database:

            async def ask_sqlite(statement: str) -> Rows:
                return database.execute(statement).fetchall()

            yield ask_sqlite
        return
    connection = await asyncpg.connect(url)

    async def ask_postgresql(statement: str) -> Rows:
        return [tuple(row) for row in await connection.fetch(statement)]

    try:
        yield ask_postgresql
    finally:
        await connection.close()
