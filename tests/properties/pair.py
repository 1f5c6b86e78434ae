"""Two stores, one on each database, and one event loop for the whole of a test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Any, TypeVar

from sqlalchemy import delete, select

from rowlock._rows import TaskRow
from rowlock._store.database import Operation
from rowlock._store.sql import Statement
from rowlock._store.store import Store
from rowlock._store.tables import task
from tests.support.stores import open_store

T = TypeVar("T")
Hidden = tuple[Any, ...]


class Pair:
    """The same operation on both databases, which have to give the same answer."""

    def __init__(self, runner: asyncio.Runner, stores: Sequence[Store]) -> None:
        self.runner = runner
        self.stores = stores

    def each(self, act: Callable[[Store], Awaitable[T]]) -> list[T]:
        """Run an operation on both; return what each answered."""

        async def run() -> list[T]:
            return [await act(store) for store in self.stores]

        return self.runner.run(run())

    def both(self, act: Callable[[Store], Awaitable[T]]) -> T:
        """Run an operation on both; return the one answer."""
        sqlite, postgresql = self.each(act)
        assert sqlite == postgresql
        return sqlite

    def hidden(self) -> dict[str, Hidden]:
        """What each row has that its task does not show."""
        return self.both(_hidden)

    def clear(self) -> None:
        """Delete every task."""
        self.both(
            lambda store: store.database.transaction(
                _clear(store.database.dialect.statement(delete(task)))
            )
        )


async def _hidden(store: Store) -> dict[str, Hidden]:
    columns = task.c.id, task.c.lost_workers, task.c.lease_until, task.c.cancel_requested
    statement = store.database.dialect.statement(select(*columns))

    def operation() -> Operation[dict[str, Hidden]]:
        rows = yield statement, {}
        return {
            store.database.codec.to_id(task_id): (
                lost_workers,
                *(
                    None if instant is None else store.database.codec.from_time(instant)
                    for instant in instants
                ),
            )
            for task_id, lost_workers, *instants in rows
        }

    return await store.database.read(operation())


def _clear(statement: Statement) -> Operation[None]:
    yield statement, {}


@contextmanager
def open_pair(urls: Sequence[str], **settings: Any) -> Iterator[Pair]:
    """Open a store on each of two databases."""
    stack = AsyncExitStack()
    with asyncio.Runner() as runner:

        async def enter() -> list[Store]:
            return [await stack.enter_async_context(open_store(url, **settings)) for url in urls]

        stores = runner.run(enter())
        try:
            yield Pair(runner, stores)
        finally:
            runner.run(stack.aclose())


def comparable(store: Store, row: TaskRow) -> dict[str, Any]:
    """A row without what the drivers say differently."""
    times = (
        "date_created", "date_modified", "date_retain_until", "run_at", "cancel_requested",
        "date_started",
    )  # fmt: skip
    values = row._asdict()
    # Each database writes the instants of it in its own way; the tasks themselves are compared.
    values["attempts"] = None
    for name in times:
        if values[name] is not None:
            values[name] = store.database.codec.from_time(values[name])
    return values
