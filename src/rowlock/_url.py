"""The database URL: one rule for the queue, the migrations and the command line."""

from __future__ import annotations

import os

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

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

# What asyncpg takes as text. It would answer any other name with a TypeError.
_POSTGRESQL_QUERY = frozenset(
    {
        "gsslib",
        "host",
        "krbsrvname",
        "passfile",
        "password",
        "port",
        "prepared_statement_cache_size",
        "service",
        "servicefile",
        "ssl",
        "target_session_attrs",
        "user",
    }
)


def default_database() -> str:
    """Return the URL in `ROWLOCK_DATABASE_URL`, or `sqlite:///rowlock.db` if there is none."""
    return os.environ.get(DATABASE_VARIABLE) or DEFAULT_URL


def async_url(database: str | URL) -> URL:
    """Return the URL with the async driver that rowlock uses for it.

    Args:
        database: a URL with the scheme `sqlite`, `postgresql` or `postgres`, with or without
            rowlock's driver (`+aiosqlite`, `+asyncpg`). libpq's `sslmode` is understood.

    Raises:
        InvalidArgumentError: it is not such a URL, or a SQLite database in memory: nothing
            there survives, and each connection would see its own. The message never shows a
            password.
    """
    if not isinstance(database, str | URL):
        raise InvalidArgumentError(f"database: {type(database).__name__} is not a URL; {_ALLOWED}")
    try:
        url = make_url(database)
    except (ArgumentError, ValueError):
        # Not quoted: what cannot be parsed may hold a password anywhere.
        raise InvalidArgumentError(f"database: not a database URL; {_ALLOWED}") from None
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise InvalidArgumentError(f"database: unknown scheme {url.drivername!r}; {_ALLOWED}")
    url = url.set(drivername=driver)
    return _sqlite(url) if url.get_backend_name() == "sqlite" else _postgresql(url)


def shown(url: URL) -> str:
    """Return what messages may say of a URL: no user, password or query."""
    return URL.create(
        url.get_backend_name(), host=url.host, port=url.port, database=url.database
    ).render_as_string()


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
    return url


def _postgresql(url: URL) -> URL:
    if url.port is not None and not 0 < url.port < 65536:
        raise InvalidArgumentError(f"database: port {url.port}; allowed are 1 to 65535")
    query = dict(url.query)
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    unknown = sorted(query.keys() - _POSTGRESQL_QUERY)
    if unknown:
        raise InvalidArgumentError(
            f"database: unknown parameter {unknown[0]!r} of a PostgreSQL URL; "
            f"allowed are sslmode, {', '.join(sorted(_POSTGRESQL_QUERY))}"
        )
    return url.set(query=query)
