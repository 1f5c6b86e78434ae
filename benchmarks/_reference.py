"""A process that has imported what it is told, and nothing else that is not Python's own."""

from __future__ import annotations

import asyncio
import importlib
import sys

from benchmarks._process import ready, until_stdin_ends

if __name__ == "__main__":
    for module in sys.argv[1:]:
        importlib.import_module(module)
    ready()
    asyncio.run(until_stdin_ends())
