"""The schema of the database: create it, change it, look at it.

Alembic runs from code, without a configuration file, and leaves the
process's logging alone.

The functions block, for as long as a minute if another process is upgrading the same database.
They may be called where an event loop runs, but that loop stands still meanwhile: there, await
`asyncio.to_thread(upgrade, database)`.

Several processes may upgrade one database at once: one of them does the work, the others wait for
it and find nothing left to do. On PostgreSQL they meet at a lock of the session, so a pooler that
shares sessions between clients is refused: connect directly.

Where a function takes a database, that is its URL, as for `TaskQueue`, or an `AsyncEngine`, whose
way to connect is used, but none of its connections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from rowlock._store import migrate as _migrate
from rowlock._store.migrate import head, is_newer, migrations_path
from rowlock._store.open import migrations_of
from rowlock.errors import InvalidArgumentError

if TYPE_CHECKING:
    from alembic.runtime.environment import (
        IncludeNameFn,
        NameFilterParentNames,
        NameFilterType,
    )

__all__ = [
    "check",
    "current",
    "downgrade",
    "head",
    "ignore_rowlock",
    "is_newer",
    "migrations_path",
    "sql",
    "upgrade",
]

Database = str | URL | AsyncEngine


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema up to a revision; if it is there already, or beyond, do nothing.

    So also where a newer rowlock has brought it further: this one works with that. On PostgreSQL
    an index whose building was interrupted is built anew.

    A SQLite file that does not exist is created, in WAL mode; the mode of an existing one is
    left as it is.

    Args:
        database: its URL or engine.
        revision: "head" or a revision such as "0001".

    Raises:
        InvalidArgumentError: not such a URL, or not such a revision.
        DatabaseUnavailableError: the database cannot be reached within 10 s (`connect_timeout`
            of the URL), is damaged, is not writable, or stayed locked for 60 s; on PostgreSQL
            the message names who was in the way. A migration's own statements have no time limit.
        DatabaseError: a right is missing, or the database is not encoded as UTF8.
        SchemaError: the migration failed, and nothing is changed; or a pooler stands between; or
            a migration of another Alembic application is running in this process.
    """
    _migrate.check_revision(revision)
    migrations_of(database).upgrade(revision)


def downgrade(database: Database, revision: str) -> None:
    """Bring the schema down to a revision. What the tables held beyond it is lost.

    Args:
        database: its URL or engine.
        revision: a revision such as "0001", or "base" to remove everything but the empty
            version table.

    Raises:
        InvalidArgumentError: not such a URL, or not such a revision.
        DatabaseUnavailableError: as for `upgrade`.
        DatabaseError: as for `upgrade`.
        SchemaError: as for `upgrade`, or the schema is not at that revision or beyond it, or is
            of a newer rowlock.
    """
    _migrate.check_revision(revision)
    migrations_of(database).downgrade(revision)


def current(database: Database) -> str | None:
    """Return the revision of a database's schema, None if it has none.

    Args:
        database: its URL or engine. A SQLite file that does not exist is not created.

    Raises:
        InvalidArgumentError: not such a URL.
        DatabaseUnavailableError: as for `upgrade`.
    """
    return migrations_of(database).current()


def check(database: Database) -> list[str]:
    """Compare a database's schema with the one that this version of rowlock declares.

    What Alembic can see is compared: tables, columns with their types and NOT NULL, indexes with
    their columns. Tables that are not rowlock's are not looked at.

    Args:
        database: its URL or engine. A SQLite file that does not exist is not created.

    Returns:
        The differences, a line for each; none if the schema is current and equal.

    Raises:
        InvalidArgumentError: not such a URL.
        DatabaseUnavailableError: as for `upgrade`.
    """
    return migrations_of(database).differences()


def sql(
    dialect: Literal["postgresql", "sqlite"], revision: str = "head", *, start: str = "base"
) -> str:
    """Return the script that brings a schema from one revision to a later one, if it is later.

    It is for those who must run SQL by other means. It records the revision as `upgrade` does,
    but does not lock anything against upgrades at the same time.

    Args:
        dialect: "postgresql" or "sqlite".
        revision: "head" or a revision such as "0001".
        start: the revision that the database has, see `current`; "base" for none.

    Raises:
        InvalidArgumentError: not such a dialect, or not such a revision.
        SchemaError: a migration of another Alembic application is running in this process.
    """
    if dialect not in ("postgresql", "sqlite"):
        raise InvalidArgumentError(f"dialect: {dialect!r}; allowed are postgresql and sqlite")
    _migrate.check_revision(revision)
    _migrate.check_revision(start, "start")
    return _migrate.script(dialect, start, revision)


def ignore_rowlock(include_name: IncludeNameFn | None = None) -> IncludeNameFn:
    """Keep your own Alembic away from rowlock's tables, where both share a database.

    Without it, `alembic revision --autogenerate` proposes to drop them. In your env.py:

        context.configure(..., include_name=ignore_rowlock())

    Args:
        include_name: your own filter, asked about everything else.

    Returns:
        A filter for the argument `include_name` of `context.configure`.
    """

    def include(name: str | None, kind: NameFilterType, parents: NameFilterParentNames) -> bool:
        if kind == "table" and name in _migrate.OWN_TABLES:
            return False
        return include_name is None or include_name(name, kind, parents)

    return include
