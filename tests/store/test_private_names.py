"""The private names of other libraries that rowlock uses. pyproject.toml bounds their versions."""

from __future__ import annotations

import ast
import asyncio
import inspect
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiosqlite
import asyncpg
import pytest
from sqlalchemy.pool import NullPool, Pool, QueuePool

import rowlock


def _nothing() -> Any:
    raise AssertionError("nothing connects here")


OWNERS: dict[str, Any] = {
    "asyncpg": asyncpg.Connection,
    "aiosqlite": aiosqlite.connect(":memory:"),
    "sqlalchemy": QueuePool(_nothing),
    "asyncio": asyncio,
    "subprocess": subprocess,
}
NAMES = {
    "asyncpg._config": "Whether statements are kept, which behind a pooler they must not be.",
    "asyncpg._transport": "Its socket, to set keepalives and to see that the server has hung up.",
    "aiosqlite._thread": "A daemon, so that an open queue lets a program end; joined on failure.",
    "aiosqlite._execute": "A whole transaction is one call in the connection's thread.",
    "aiosqlite._conn": "The connection of sqlite3 that such a call is about.",
    "sqlalchemy._creator": "A pool of rowlock's own connects as the application's engine does.",
    "sqlalchemy._max_overflow": "Whether the application's pool has lent all that it may.",
    "asyncio._get_running_loop": "The running loop or None, without the cost of an exception.",
    "subprocess._args_from_interpreter_flags": "A worker process runs with the same flags.",
}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_there(name: str) -> None:
    library, _, attribute = name.partition(".")
    owner = OWNERS[library]
    # A property may raise before there is a connection.
    assert hasattr(type(owner), attribute) or hasattr(owner, attribute)


def test_a_pool_takes_the_events_of_another() -> None:
    assert "_dispatch" in inspect.signature(Pool.__init__).parameters
    pool = NullPool(_nothing)
    assert NullPool(_nothing, _dispatch=pool.dispatch).dispatch is not None


def _private() -> Iterator[str]:
    """The private attributes that the source reads of what is not its own."""
    trees = [ast.parse(p.read_text()) for p in Path(rowlock.__file__).parent.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    # Of a NamedTuple they are public.
    own = {"_replace", "_asdict", "_make", "_fields", "_field_defaults"}
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            own.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            own.add(node.attr)
    for node in nodes:
        if isinstance(node, ast.Attribute) and node.attr not in own:
            name = node.attr
            if name.startswith("_") and not name.endswith("__"):
                yield name


def test_no_other_is_used() -> None:
    """A name that rowlock's own objects have too is not seen."""
    assert set(_private()) <= {name.partition(".")[2] for name in NAMES}
