"""Runs the migrations, for `alembic …` at the project's root and for `rowlock.schema`.

`rowlock.schema` hands over the connection that it has locked, or the dialect for which it wants
a script. The command `alembic` hands over nothing, and the database is `ROWLOCK_DATABASE_URL`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from alembic import context
from alembic.operations.ops import MigrationScript
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection

from rowlock._store import migrate
from rowlock._store.open import migrations_of
from rowlock._store.url import async_url, default_database
from rowlock.errors import RowlockError


def number_revision(
    migration: MigrationContext, heads: Any, scripts: Iterable[MigrationScript]
) -> None:
    """Name a new revision by the next ordinal, in place of Alembic's random digits."""
    for script in scripts:
        script.rev_id = f"{int(migrate.head()) + 1:04}"


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        process_revision_directives=number_revision,
        **migrate.CONFIGURATION,
    )
    with context.begin_transaction():
        context.run_migrations()


def run_offline(dialect: str) -> None:
    context.configure(
        dialect_name=dialect,
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
        **migrate.CONFIGURATION,
    )
    with context.begin_transaction():
        context.run_migrations()


def run_command() -> None:
    logging.basicConfig(format="%(message)s")
    logging.getLogger("alembic.runtime.migration").setLevel(logging.INFO)
    try:
        if context.is_offline_mode():
            run_offline(async_url(default_database()).get_backend_name())
        else:
            migrations_of(default_database()).connected(run, lock=True)
    except RowlockError as error:
        raise CommandError(str(error)) from error


attributes = context.config.attributes
if "connection" in attributes:
    run(attributes["connection"])
elif "dialect" in attributes:
    run_offline(attributes["dialect"])
else:
    run_command()
