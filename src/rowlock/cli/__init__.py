"""The command line: `rowlock worker`, `rowlock demo`, `rowlock db …`."""

from __future__ import annotations

import sys

from rowlock.cli.signals import Signals
from rowlock.cli.streams import open_standard_streams


def main() -> None:
    """Run the command line; an error of rowlock is one line on stderr and exit code 1."""
    # First of all: what the commands need takes half a second to import.
    open_standard_streams()
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    signals = Signals() if command == "worker" else None
    from rowlock.cli.app import run

    run(signals)
