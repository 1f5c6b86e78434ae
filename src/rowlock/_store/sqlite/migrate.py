"""How the schema of a SQLite file is changed: under its one write lock, taken at the beginning."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import NullPool

from rowlock._store.migrate import Migrations, T
from rowlock._store.sqlite.errors import translated_of_migration

_POLL = 0.1


class SqliteMigrations(Migrations):
    """The schema of a SQLite file."""

    @property
    def is_missing(self) -> bool:
        # A file: URI is left to SQLite.
        path = str(self.url.database)
        return not path.startswith("file:") and not Path(path).exists()

    def _connected(self, work: Callable[[Connection], T], lock: bool) -> T:
        # With isolation_level None the driver begins no transactions of its own; with the plain
        # driver no thread stands between the migration and its connection.
        engine = create_engine(
            self.url.set(drivername="sqlite"),
            poolclass=NullPool,
            connect_args={"timeout": self.lock_timeout, "isolation_level": None},
        )
        if lock:
            event.listen(engine, "connect", self._choose_wal)
            event.listen(engine, "begin", _begin_immediate)
        with translated_of_migration(self.name), engine.connect() as connection:
            return work(connection)

    def _choose_wal(self, connection: sqlite3.Connection, record: object) -> None:
        deadline = time.monotonic() + self.lock_timeout
        while connection.execute("PRAGMA page_count").fetchone() == (0,):
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                # This statement does not wait for a lock, whatever the busy timeout is.
                busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > deadline:
                    raise
                time.sleep(_POLL)
            else:
                return

    def before_upgrade(self, connection: Connection) -> None:
        """Do nothing: SQLite stores every character."""

    def after_upgrade(self, connection: Connection) -> None:
        """Do nothing: an upgrade is one transaction."""

    def damage(self, connection: Connection) -> list[str]:
        return []


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
