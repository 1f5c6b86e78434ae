"""The command line: `rowlock worker`, `rowlock demo`, `rowlock db …`."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from rowlock._cli_db import db
from rowlock._cli_worker import worker
from rowlock._demo import demo
from rowlock._streams import open_standard_streams
from rowlock.errors import RowlockError

# A failure that is not a RowlockError is a bug: its plain traceback says most.
app = typer.Typer(name="rowlock", no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(db)
app.command()(worker)
app.command()(demo)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rowlock {version('rowlock')}")
        raise typer.Exit


@app.callback()
def _rowlock(
    show: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """A SQL-backed durable task queue on PostgreSQL or SQLite."""


def main() -> None:
    """Run the command line; an error of rowlock is one line on stderr and exit code 1."""
    open_standard_streams()
    try:
        app()
    except RowlockError as error:
        typer.echo(f"Error: {' '.join(str(error).split())}", err=True)
        sys.exit(1)
