"""Tables for people, and the same as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Report:
    """Prints each table and keeps its rows."""

    def __init__(self) -> None:
        self.results: list[dict[str, Any]] = []

    def table(self, common: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
        """Print rows that have the same columns."""
        names = list(rows[0])
        lines = [names, *([_shown(row[name]) for name in names] for row in rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
        for line in lines:
            first, *others = (
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            print("  ".join([first, *others]), flush=True)
        self.results.extend({**common, **row} for row in rows)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
