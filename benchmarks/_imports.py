"""How long imports take in a new interpreter that finds the byte code written."""

from __future__ import annotations

import subprocess
import sys
from statistics import median

SQLALCHEMY = "import sqlalchemy.ext.asyncio"

# rowlock itself imports neither SQLAlchemy nor its own queue until that is asked for.
_STATEMENTS = (SQLALCHEMY, "import rowlock", "from rowlock import TaskQueue, TaskScheduler")

_PROGRAM = """
import time
began = time.perf_counter()
{}
print(time.perf_counter() - began)
"""


def import_seconds(rounds: int) -> dict[str, float]:
    """Return the median of each statement; one round before, which writes byte code, is left out.

    The statements take turns.
    """
    taken: dict[str, list[float]] = {statement: [] for statement in _STATEMENTS}
    for _ in range(rounds + 1):
        for statement, seconds in taken.items():
            seconds.append(_once(statement))
    return {statement: median(seconds[1:]) for statement, seconds in taken.items()}


def _once(statement: str) -> float:
    command = [sys.executable, "-c", _PROGRAM.format(statement)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return float(done.stdout)
