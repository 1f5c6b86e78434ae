"""The commands `rowlock db …`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from rowlock._store.url import DATABASE_VARIABLE, DEFAULT_URL, async_url
from rowlock.errors import RowlockError

# Alembic takes a third of a second to import, so the commands import `rowlock.schema` themselves.

db = typer.Typer(name="db", help="Create, change and check the schema.", no_args_is_help=True)

Database = Annotated[
    str,
    typer.Option(
        envvar=DATABASE_VARIABLE,
        help="sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME.",
    ),
]


@db.command()
def upgrade(
    revision: Annotated[str, typer.Argument(help="A revision, or head.")] = "head",
    database: Database = DEFAULT_URL,
) -> None:
    """Bring the schema up to a revision."""
    from rowlock import schema

    with _errors():
        schema.upgrade(database, revision)
        typer.echo(_revision(database))


@db.command()
def downgrade(
    revision: Annotated[str, typer.Argument(help="A revision, or base.")],
    database: Database = DEFAULT_URL,
) -> None:
    """Bring the schema down to a revision; what the tables held beyond it is lost."""
    from rowlock import schema

    with _errors():
        schema.downgrade(database, revision)
        typer.echo(_revision(database))


@db.command()
def current(database: Database = DEFAULT_URL) -> None:
    """Show the revision of the schema."""
    with _errors():
        typer.echo(_revision(database))


@db.command()
def check(database: Database = DEFAULT_URL) -> None:
    """Compare the schema with what this version needs; exit code 1 if it differs."""
    from rowlock import schema

    with _errors():
        differences = schema.check(database)
    for difference in differences:
        typer.echo(difference)
    if differences:
        raise typer.Exit(1)


@db.command()
def sql(
    revision: Annotated[str, typer.Argument(help="A revision, or head.")] = "head",
    start: Annotated[
        str,
        typer.Option(
            "--from", help="The revision to start from; base, or current: ask the database."
        ),
    ] = "base",
    database: Database = DEFAULT_URL,
) -> None:
    """Print the SQL of the migrations, for the kind of database that the URL names."""
    from rowlock import schema

    with _errors():
        if start == "current":
            start = schema.current(database) or "base"
        backend = async_url(database).get_backend_name()
        script = schema.sql(
            "sqlite" if backend == "sqlite" else "postgresql", revision, start=start
        )
    typer.echo(script, nl=False)


def _revision(database: str) -> str:
    from rowlock import schema

    revision = schema.current(database)
    if schema.is_newer(revision):
        return (
            f"{revision} (of a newer rowlock than this one, which has {schema.head()} and works "
            "with it)"
        )
    return f"{revision} (head)" if revision == schema.head() else revision or "none"


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except RowlockError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None
