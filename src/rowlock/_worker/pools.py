"""The pool of each type, and the pools whose handler was replaced or removed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from rowlock._worker.pool import Job, Pool
from rowlock._worker.releases import Releases
from rowlock._worker.side_tasks import SideTasks


class Pools:
    """What runs where.

    Args:
        releases: puts back what has not begun in a pool that is removed.
        side_tasks: run the ends of such pools.

    Attributes:
        by_type: the pool of each type that is claimed, in the order in which a claim takes them.
    """

    def __init__(self, releases: Releases, side_tasks: SideTasks) -> None:
        self.by_type: dict[str, Pool] = {}
        self._retired: set[Pool] = set()
        self._releases = releases
        self._side_tasks = side_tasks

    def __len__(self) -> int:
        return len(self.by_type)

    def add(self, pool: Pool) -> None:
        """Run a type in a pool; what runs in an earlier pool of the type finishes there."""
        self.remove(pool.handler.task_type)
        self.by_type[pool.handler.task_type] = pool

    def remove(self, task_type: str) -> None:
        """Begin nothing of a type any more."""
        pool = self.by_type.pop(task_type, None)
        if pool is not None:
            self._retired.add(pool)
            self._side_tasks.start(lambda: self._wind_up(pool))

    async def _wind_up(self, pool: Pool) -> None:
        await self._releases.put_back(pool.take_waiting())
        await pool.close()
        self._retired.discard(pool)

    def all(self) -> list[Pool]:
        """Return every pool, with those that wind up."""
        return [*self.by_type.values(), *self._retired]

    @property
    def have_waiting(self) -> bool:
        """Whether a job has not begun."""
        return any(pool.waits for pool in self.by_type.values())

    @property
    def share_a_process(self) -> bool:
        """Whether a handler can bring this process down, and not only one of its own."""
        return any(pool.handler.executor != "process" for pool in self.by_type.values())

    def rooms(self, most: int) -> dict[str, int]:
        """Return how many jobs each type has room for, up to `most`; no type without room."""
        rooms = {name: min(pool.room(), most) for name, pool in self.by_type.items()}
        return {name: room for name, room in rooms.items() if room}

    def move_to_end(self, types: Iterable[str]) -> None:
        """Let the next claim come to other types first."""
        for name in types:
            if (pool := self.by_type.pop(name, None)) is not None:
                self.by_type[name] = pool

    def take_waiting(self) -> list[Job]:
        """Take back the jobs that have not begun."""
        return [job for pool in self.by_type.values() for job in pool.take_waiting()]

    def take_stalled(self) -> list[Job]:
        """Take back the jobs that wait for longer than was meant."""
        return [job for pool in self.by_type.values() for job in pool.take_stalled()]


async def close(pools: Iterable[Pool]) -> None:
    """End pools when their jobs have ended."""
    await asyncio.gather(*(pool.close() for pool in pools))
