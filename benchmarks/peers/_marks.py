"""What the handlers of all worker processes have seen: a file that they share.

Each process counts in a place of its own; each task has a byte for its runs, and an instant.
"""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path

PLACES = 16
_HEAD = PLACES * 8


def payload(number: int) -> str:
    """Return what is 100 bytes as JSON: the task's number, the instant, and padding."""
    return f"{number:08d}{time.monotonic():020.9f}".ljust(98, "x")


class Marks:
    """The shared file.

    Args:
        file: where it is; it is made if `tasks` is given.
        tasks: how many tasks there are.
    """

    def __init__(self, file: Path, tasks: int | None = None) -> None:
        if tasks is not None:
            file.write_bytes(bytes(_HEAD + tasks * 9))
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), 0)
        self._tasks = (len(self._map) - _HEAD) // 9
        self._instants = _HEAD + self._tasks

    def total(self) -> int:
        """Return how many runs there were."""
        return sum(struct.unpack_from(f"{PLACES}Q", self._map))

    def runs(self) -> bytes:
        """Return how often each task has run."""
        return self._map[_HEAD : self._instants]

    def latencies(self) -> list[float]:
        """Return for each task how long after the instant in its payload it ran."""
        return list(struct.unpack_from(f"{self._tasks}d", self._map, self._instants))

    def handle_at(self, place: int) -> None:
        """Let the handlers of this process count at this place."""
        global _at
        _at = (self._map, place * 8, self._instants)


_at: tuple[mmap.mmap, int, int]


def hit(payload: str) -> None:
    """Count: all that the handlers of all queues do."""
    now = time.monotonic()
    shared, place, instants = _at
    number = int(payload[:8])
    struct.pack_into("d", shared, instants + number * 8, now - float(payload[8:28]))
    shared[_HEAD + number] += 1
    struct.pack_into("Q", shared, place, struct.unpack_from("Q", shared, place)[0] + 1)


async def handler(payload: str) -> None:
    """The async no-op, for queues that import a handler by its name."""
    hit(payload)
