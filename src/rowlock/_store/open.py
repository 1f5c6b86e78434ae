"""The one place that looks at the name of a dialect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from rowlock._store.database import Database
from rowlock._store.url import async_url, connecting
from rowlock.errors import InvalidArgumentError

if TYPE_CHECKING:
    from rowlock._store.migrate import Migrations

_DRIVERS = (("postgresql", "asyncpg"), ("sqlite", "aiosqlite"))


def checked_engine(engine: AsyncEngine) -> AsyncEngine:
    """Return an engine that rowlock can work with.

    Raises:
        InvalidArgumentError: for another kind of database, or one that renames tables.
    """
    if (engine.dialect.name, engine.dialect.driver) not in _DRIVERS:
        raise InvalidArgumentError(
            f"database: an engine for {engine.dialect.name} by {engine.dialect.driver} was given, "
            "allowed are PostgreSQL by asyncpg and SQLite by aiosqlite"
        )
    if None in engine.sync_engine.get_execution_options().get("schema_translate_map", ()):
        # Statements are compiled once in a process, without the engine's options.
        raise InvalidArgumentError(
            "database: an engine whose schema_translate_map renames tables without a schema was "
            "given; give one without it, and name the schema by search_path"
        )
    return engine


def database_of(database: URL | AsyncEngine) -> Database:
    """Return a database, not open yet, by its URL or over the application's engine."""
    owns_engine = isinstance(database, URL)
    url = database if isinstance(database, URL) else database.url
    settings: dict[str, Any] = {"owns_engine": owns_engine, "url": url}
    if _is_postgresql(url):
        from rowlock._store.postgres import database as _postgres

        engine = _engine_of(database, _postgres.connect_arguments())
        return _postgres.PostgresDatabase(engine, **settings)
    from rowlock._store.sqlite import database as _sqlite

    return _sqlite.SqliteDatabase(_engine_of(database, _sqlite.connect_arguments()), **settings)


def migrations_of(database: str | URL | AsyncEngine) -> Migrations:
    """Return the schema of a database, by its URL or the application's engine."""
    engine = checked_engine(database) if isinstance(database, AsyncEngine) else None
    url = async_url(database) if not isinstance(database, AsyncEngine) else database.url
    if _is_postgresql(url):
        from rowlock._store.postgres.migrate import PostgresMigrations

        # The engine's own arguments are used, so its URL is not read as libpq would.
        return PostgresMigrations(url, engine)
    from rowlock._store.sqlite.migrate import SqliteMigrations

    return SqliteMigrations(async_url(url))


def _is_postgresql(url: URL) -> bool:
    return url.get_backend_name() == "postgresql"


def _engine_of(database: URL | AsyncEngine, arguments: dict[str, Any]) -> AsyncEngine:
    if isinstance(database, AsyncEngine):
        return database
    url, given = connecting(database)
    own = arguments["connect_args"]
    settings = [each["server_settings"] for each in (given, own) if "server_settings" in each]
    if settings:
        # rowlock's own settings override those of the URL.
        given["server_settings"] = {name: s[name] for s in settings for name in s}
    return create_async_engine(url, **{**arguments, "connect_args": {**own, **given}})
