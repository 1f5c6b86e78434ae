"""What `field` asks of a queue."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, NamedTuple

POSTGRESQL, SQLITE = "postgresql", "sqlite"

# SQLite is looked at this often where a queue has to poll it, as rowlock does.
LOOK = 0.005


class Creator(NamedTuple):
    """Creates one task, or many at once if the queue can."""

    one: Callable[[str], Awaitable[object]]
    many: Callable[[list[str]], Awaitable[object]] | None = None


class Peer(ABC):
    """A queue, at its best documented settings. A module of this package has one as `PEER`."""

    name: ClassVar[str]
    distributions: ClassVar[tuple[str, ...]]
    server: ClassVar[str]
    # What becomes of the row of a finished task, and what was set, and where that is documented.
    rows: ClassVar[str]
    settings: ClassVar[str]
    # About how many tasks one worker drains in a second: a slower queue gets fewer of them.
    rate: ClassVar[int] = 4000
    leaves_out: ClassVar[frozenset[str]] = frozenset()
    uvloop: ClassVar[bool] = False
    # A query of one row: how many are not finished, and how many are, NULL where none is kept.
    counts: ClassVar[str]

    @abstractmethod
    async def install(self, url: str) -> None:
        """Make the schema in an empty database."""

    @abstractmethod
    def creating(self, url: str, connections: int) -> AbstractAsyncContextManager[Creator]:
        """Yield what creates tasks, `connections` at once."""

    @abstractmethod
    async def work(self, url: str, go: Callable[[], None], place: int) -> None:
        """Get ready to run `hit`, call `go`, which waits, and then run tasks until killed."""

    async def fill(self, url: str, payloads: list[str]) -> None:
        """Create a backlog, which is not timed."""
        async with self.creating(url, 1) as create:
            if create.many is not None:
                await create.many(payloads)
            else:
                for payload in payloads:
                    await create.one(payload)
