"""One worker in a process of its own, which tells what it has done when it is asked.

It imports no more than a worker needs unless it is to be watched: its memory is measured.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks._process import answer, asked, ready
from benchmarks.handlers import Calls
from rowlock import TaskQueue

Watch = Callable[[], dict[str, Any]]


def handled(count: int) -> list[str]:
    """Return the names of the types that a worker of so many types has handlers for."""
    return [f"nothing-{number}" for number in range(count)]


async def _main(url: str, types: int, watched: str) -> None:
    with _WATCHES[watched]() as found:
        async with TaskQueue(url) as queue:
            for task_type in handled(types):
                await queue.register_handler(task_type, "benchmarks.handlers", "nothing")
            ready()
            async for word in asked():
                if word == "start":
                    await queue.start()
                answer({"calls": Calls.count, **found()})


@contextmanager
def _unwatched() -> Iterator[Watch]:
    yield dict


@contextmanager
def _statements() -> Iterator[Watch]:
    from benchmarks._counting import counted

    with counted() as sent:
        yield lambda: {name: sent[name] for name in ("queue", "file")}


@contextmanager
def _claims() -> Iterator[Watch]:
    from benchmarks._counting import claims_timed
    from benchmarks._figures import milliseconds

    with claims_timed() as taken:

        def since_last_asked() -> dict[str, Any]:
            found = {"claims": len(taken), **milliseconds(taken)}
            taken.clear()
            return found

        yield since_last_asked


_WATCHES = {"nothing": _unwatched, "statements": _statements, "claims": _claims}


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
