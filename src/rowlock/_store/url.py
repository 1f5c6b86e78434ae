"""The database URL: one rule for the queue, the migrations and the command line.

What a URL may hold depends on its backend, so that is looked at here, by `_names_a_file`; which
code speaks to a database is chosen in `open` alone.
"""

from __future__ import annotations

import os
import re
import shlex
from typing import Any
from urllib.parse import quote, unquote

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.util import asbool

from rowlock._store import libpq_url as _postgres_url
from rowlock.errors import InvalidArgumentError

DATABASE_VARIABLE = "ROWLOCK_DATABASE_URL"
DEFAULT_URL = "sqlite:///rowlock.db"

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}

_ALLOWED = (
    "allowed are sqlite:///PATH and postgresql://USER:PASSWORD@HOST/NAME, "
    "the latter also as postgres:, each also with +aiosqlite or +asyncpg"
)


def default_database() -> str:
    """Return the URL in `ROWLOCK_DATABASE_URL`, or `sqlite:///rowlock.db` if there is none."""
    return os.environ.get(DATABASE_VARIABLE) or DEFAULT_URL


def async_url(database: str | URL) -> URL:
    """Return the URL with the async driver that rowlock uses for it.

    Args:
        database: a URL with the scheme `sqlite`, `postgresql` or `postgres`, with or without
            rowlock's driver (`+aiosqlite`, `+asyncpg`). White space around it is left out. One
            of PostgreSQL is read as libpq does, with its parameters and with several hosts. The
            path of a SQLite file is made absolute.

    Raises:
        InvalidArgumentError: it is not such a URL, or a SQLite database in memory: nothing
            there survives, and each connection would see its own. The message never shows a
            password.
    """
    if not isinstance(database, str | URL):
        raise InvalidArgumentError(f"database: {type(database).__name__} is not a URL; {_ALLOWED}")
    url = database if isinstance(database, URL) else _parsed(database.strip())
    url = url.set(drivername=_driver(url.drivername))
    if _names_a_file(url):
        return _sqlite(url)
    _postgres_url.connecting(url)
    return url


def connecting(url: URL) -> tuple[URL, dict[str, Any]]:
    """Return what an engine takes for a URL of `async_url`: its own URL, and `connect_args`."""
    if _names_a_file(url):
        return url, {}
    return _postgres_url.connecting(url)


def shown(url: URL) -> str:
    """Return what messages may say of a URL: no user, password or parameter."""
    bare = URL.create(url.get_backend_name(), database=url.database)
    if _names_a_file(url):
        return bare.render_as_string()
    return _postgres_url.without_password(url, bare=True)


def upgrade_command(url: URL) -> str:
    """Return the command that brings the schema of a database up to date, for a shell.

    The password is left out; where there is one, what is returned says how to give it.
    """
    if _names_a_file(url):
        whole = url.set(drivername="sqlite", database=_absolute(url)).render_as_string()
        return f"`rowlock db upgrade --database {shlex.quote(whole)}`"
    whole = _postgres_url.without_password(url)
    secret = url.password or url.query.get("password")
    return f"`rowlock db upgrade --database {shlex.quote(whole)}`" + (
        " with the password in PGPASSWORD" if secret else ""
    )


def _parsed(text: str) -> URL:
    scheme, mark, _ = text.partition("://")
    # Not quoted: what cannot be parsed may hold a password anywhere.
    unreadable = InvalidArgumentError(f"database: not a database URL; {_ALLOWED}")
    if not mark or not re.fullmatch(r"[\w+]+", scheme):
        raise unreadable
    if _driver(scheme) == "postgresql+asyncpg":
        return _postgres_url.parse(text)
    try:
        return make_url(text)
    except (ArgumentError, ValueError):
        raise unreadable from None


def _driver(scheme: str) -> str:
    driver = _DRIVERS.get(scheme)
    if driver is None:
        raise InvalidArgumentError(f"database: unknown scheme {scheme!r}; {_ALLOWED}")
    return driver


def _sqlite(url: URL) -> URL:
    if url.host or not url.database:
        raise InvalidArgumentError(
            "database: a SQLite URL needs a file: "
            "sqlite:///relative/path.db or sqlite:////absolute/path.db"
        )
    if ":memory:" in url.database or url.query.get("mode") == "memory":
        raise InvalidArgumentError(
            "database: a SQLite database in memory is lost with its connection; "
            "name a file: sqlite:///path.db"
        )
    return url.set(database=_absolute(url))


def _absolute(url: URL) -> str:
    """Return the path of a SQLite file, or its `file:` URI, from the root on.

    A program may change its directory, and every connection must find the same file.
    """
    path = url.database or ""
    if not _is_uri(url):
        return os.path.abspath(path)
    found = re.fullmatch(r"file:([^/?#][^?#]*)(.*)", path)
    if found is None or os.path.isabs(found[1]):
        return path
    return f"file:{quote(os.path.abspath(unquote(found[1])))}{found[2]}"


def _names_a_file(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _is_uri(url: URL) -> bool:
    # Only then does SQLite read it as one; else it is the name of a file that begins like that.
    try:
        return asbool(url.query.get("uri", False))
    except ValueError:
        raise InvalidArgumentError("database: uri: allowed are true and false") from None
