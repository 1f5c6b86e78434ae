"""The commands of the command line."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from rowlock._demo.demo import demo
from rowlock.cli.db import db
from rowlock.cli.signals import Signals
from rowlock.cli.worker import worker
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


def run(signals: Signals | None) -> None:
    """Run a command.

    Args:
        signals: those of `worker`, which is not to be run without.
    """
    try:
        app(obj=signals)
    except RowlockError as error:
        typer.echo(f"Error: {' '.join(str(error).split())}", err=True)
        sys.exit(1)
