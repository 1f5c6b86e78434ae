"""The schema of a database: brought to a revision, read, and compared with the declared one.

Alembic is imported here and nowhere else. What differs between the databases is in the wings,
in the modules of the same name.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from alembic import command, context
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Column, Connection, Index, Table

from rowlock._store import indexes as indexes  # the metadata has them then
from rowlock._store.database import first_line
from rowlock._store.tables import VERSION_TABLE, metadata
from rowlock._store.url import shown
from rowlock.errors import InvalidArgumentError, SchemaError

T = TypeVar("T")

OWN_TABLES = frozenset(metadata.tables) | {VERSION_TABLE}

# Alembic's commands speak to env.py through globals of the process.
_one_at_a_time = threading.Lock()


def _only_rowlock(name: str | None, kind: str, parents: object) -> bool:
    return kind != "table" or name in OWN_TABLES


CONFIGURATION: dict[str, Any] = {
    "target_metadata": metadata,
    "version_table": VERSION_TABLE,
    "include_name": _only_rowlock,
    # Alembic assumes that SQLite's driver cannot. Then each revision is a transaction of its own,
    # and between two of them another process begins to upgrade.
    "transactional_ddl": True,
}
"""What migrations/env.py configures."""


def migrations_path() -> Path:
    """Return the directory of the migrations: in the installed package, or in the checkout."""
    package = Path(__file__).parents[1]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parents[1] / "migrations"


def head() -> str:
    """Return the newest revision that this version of rowlock has."""
    return str(_scripts().get_current_head())


def is_newer(revision: str | None) -> bool:
    """Return whether a revision is one of a newer rowlock, which this one does not have."""
    return revision is not None and revision.isdecimal() and int(revision) > int(head())


def check_revision(revision: str, argument: str = "revision") -> None:
    """Raise InvalidArgumentError for what is no revision of this rowlock."""
    ordinals = sorted(script.revision for script in _scripts().walk_revisions())
    if revision not in ("base", "head", *ordinals):
        raise InvalidArgumentError(
            f"{argument}: {revision!r}; allowed are base, head, {', '.join(ordinals)}"
        )


def script(dialect: str, start: str, revision: str) -> str:
    """Return the SQL that brings a schema from one revision to another."""
    output = StringIO()
    with _alembic(output) as config:
        config.attributes["dialect"] = dialect
        try:
            command.upgrade(config, f"{start}:{revision}", sql=True)
        except CommandError as error:
            raise SchemaError(f"{dialect}: {first_line(error)}") from error
    return output.getvalue()


class Migrations(ABC):
    """The schema of one database.

    Attributes:
        url: of the database.
        connect_timeout: seconds that connecting may take.
        lock_timeout: seconds that may pass in waiting for locks.
    """

    connect_timeout = 10.0
    lock_timeout = 60.0

    def __init__(self, url: URL) -> None:
        self.url = url
        self.name = shown(url)

    @property
    @abstractmethod
    def is_missing(self) -> bool:
        """Whether there is no database, and connecting would create one."""

    def connected(self, work: Callable[[Connection], T], *, lock: bool = False) -> T:
        """Call `work` with a connection.

        Args:
            work: it is called again, in a new transaction, where a lock was in its way.
            lock: let no other process change the schema meanwhile.

        Raises:
            DatabaseUnavailableError: the database cannot be reached or read, or a lock was not
                to be had in time.
            DatabaseError: a right is missing.
            SchemaError: a migration failed.
        """
        try:
            return self._connected(work, lock)
        except CommandError as error:
            raise SchemaError(f"{self.name}: {first_line(error)}") from error

    @abstractmethod
    def _connected(self, work: Callable[[Connection], T], lock: bool) -> T:
        """Call `work` with a connection, and translate what the database raises."""

    @abstractmethod
    def before_upgrade(self, connection: Connection) -> None:
        """Refuse a database that cannot hold the schema."""

    @abstractmethod
    def after_upgrade(self, connection: Connection) -> None:
        """Mend what an interrupted upgrade has left."""

    @abstractmethod
    def damage(self, connection: Connection) -> list[str]:
        """Return what of the schema the database does not use, a line for each."""

    def upgrade(self, revision: str) -> None:
        """See `schema.upgrade`."""

        def run(config: Config, connection: Connection) -> None:
            self.before_upgrade(connection)
            if is_newer(_revision(connection)):
                return
            command.upgrade(config, revision)
            if revision == "head":
                self.after_upgrade(connection)

        self._command(run)

    def downgrade(self, revision: str) -> None:
        """See `schema.downgrade`."""
        if self.is_missing:
            raise SchemaError(f"{self.name}: there is no such file")

        def run(config: Config, connection: Connection) -> None:
            found = _revision(connection)
            if is_newer(found):
                raise SchemaError(
                    f"{self.name}: the schema is at revision {found}, of a newer rowlock than "
                    f"this one ({head()}): only that one can bring it down"
                )
            command.downgrade(config, revision)

        self._command(run)

    def current(self) -> str | None:
        """See `schema.current`."""
        return None if self.is_missing else self.connected(_revision)

    def differences(self) -> list[str]:
        """See `schema.check`."""
        if self.is_missing:
            return ["there is no such file"]
        return self.connected(self._differences)

    def _differences(self, connection: Connection) -> list[str]:
        revision = _revision(connection)
        found = compare_metadata(_migration(connection), metadata)
        differences = [_describe(difference) for difference in found]
        if revision != head():
            differences.insert(0, f"the revision is {revision or 'none'}, the newest is {head()}")
        return [*differences, *self.damage(connection)]

    def _command(self, run: Callable[[Config, Connection], None]) -> None:
        def work(connection: Connection) -> None:
            config.attributes["connection"] = connection
            run(config, connection)

        with _alembic() as config:
            self.connected(work, lock=True)


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(migrations_path())


def _migration(connection: Connection) -> MigrationContext:
    return MigrationContext.configure(connection, opts=CONFIGURATION)


def _revision(connection: Connection) -> str | None:
    found = _migration(connection).get_current_revision()
    connection.rollback()
    return found


def _describe(difference: Any) -> str:
    match difference:
        case [tuple() as only]:
            return _describe(only)
        case (kind, (Table() | Index()) as item):
            return f"{kind} {item.name}"
        case (kind, _, table, Column() as column):
            return f"{kind} {table}.{column.name}"
        case (kind, _, table, column, _, found, declared):
            return f"{kind} {table}.{column}: {found} is to be {declared}"
        case _:
            return repr(difference)


@contextmanager
def _alembic(output: StringIO | None = None) -> Iterator[Config]:
    with _one_at_a_time:
        if hasattr(context, "config"):
            raise SchemaError(
                "a migration of another Alembic application is running in this process; "
                "change rowlock's schema before or after it"
            )
        config = Config(output_buffer=output)
        # A ConfigParser reads it, to which a percent sign is special.
        config.set_main_option("script_location", str(migrations_path()).replace("%", "%%"))
        yield config
