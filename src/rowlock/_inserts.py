"""Group commit: tasks that are created while an INSERT is under way go together in the next."""

from __future__ import annotations

import asyncio

from rowlock._batch_size import BatchSize, StatementTooSlowError
from rowlock._operations import KeyTakenError, NewRow
from rowlock._store import Store
from rowlock.errors import DatabaseUnavailableError

MOST = 200


class Inserts:
    """Stores new tasks, those of callers that wait at the same time in one statement.

    Each caller returns when its own row is durable, and hears only of its own row's error.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._busy = False
        self._size = BatchSize(MOST)
        self._waiting: list[tuple[NewRow, asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None

    def goes_alone(self, row: NewRow) -> bool:
        """Whether the task would have an INSERT of its own, and at once."""
        return row.key is None and not self._busy

    async def insert(self, row: NewRow, *, tell: bool = False) -> str:
        """Store a task; return its id, or that of the task that has its key.

        Args:
            row: the task.
            tell: give the hint to other processes with it; only for one that goes alone.
        """
        if row.key is not None:
            return await self._store.insert(row)
        if self._busy:
            stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((row, stored))
            await stored
            return row.id
        self._busy = True
        try:
            return await self._store.insert(row, tell=tell)
        finally:
            if self._waiting:
                # In a task of its own: a caller that is cancelled must not take others with it.
                self._flushing = asyncio.create_task(self._flush(), name="rowlock inserts")
            else:
                self._busy = False

    async def _flush(self) -> None:
        try:
            while self._waiting:
                batch = self._waiting[: self._size.rows]
                del self._waiting[: len(batch)]
                await self._write([entry for entry in batch if not entry[1].done()])
        finally:
            self._busy = False

    async def _write(
        self, batch: list[tuple[NewRow, asyncio.Future[None]]], *, again: bool = False
    ) -> None:
        if not batch:
            return
        failure: Exception | None = None
        try:
            with self._size.statement(len(batch)):
                await self._store.insert_together([row for row, _ in batch])
        except StatementTooSlowError as error:
            if len(batch) > 1:
                half = len(batch) // 2
                await self._write(batch[:half], again=True)
                await self._write(batch[half:], again=True)
                return
            failure = error
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, DatabaseUnavailableError):
                for entry in batch:
                    await self._write([entry], again=again)
                return
            # An id that is there by then has come with the try whose answer came too late.
            failure = None if again and isinstance(error, KeyTakenError) else error
        for _, stored in batch:
            if stored.done():
                continue
            if failure is None:
                stored.set_result(None)
            else:
                stored.set_exception(failure)
