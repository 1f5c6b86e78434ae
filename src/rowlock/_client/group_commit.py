"""Group commit: tasks that are created while an INSERT is under way go together in the next."""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import chain

from rowlock._background import Background
from rowlock._batch_size import BatchSize, StatementTooSlowError
from rowlock._rows import NewRow
from rowlock._store.database import KeyTakenError
from rowlock._store.store import Store
from rowlock.errors import DatabaseUnavailableError

MOST = 200
# No statement is to take long to make and to send, however large the payloads are.
LENGTH = 4 * 2**20


class Inserts:
    """Stores new tasks, those of callers that wait at the same time in one statement.

    Each caller returns when its own row is durable, and hears only of its own row's error.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._busy = False
        self._size = BatchSize(MOST)
        self._waiting: list[tuple[NewRow, asyncio.Future[None]]] = []
        self._flushing: Background | None = None

    def goes_alone(self, row: NewRow) -> bool:
        """Whether the task would have an INSERT of its own, and at once."""
        return row.key is None and not self._busy

    async def insert(self, row: NewRow, *, notify: bool = False) -> str:
        """Store a task; return its id, or that of the task that has its key.

        Args:
            row: the task.
            notify: give the hint to other processes with it; only for one that goes alone.
        """
        if row.key is not None:
            return await self._store.tasks.insert(row)
        if self._busy:
            stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((row, stored))
            await stored
            return row.id
        self._busy = True
        try:
            return await self._store.tasks.insert(row, notify=notify)
        finally:
            if self._waiting:
                # In a task of its own: a caller that is cancelled must not take others with it.
                self._flushing = Background(self._flush, "rowlock inserts")
            else:
                self._busy = False

    async def _flush(self) -> None:
        while self._waiting:
            await self._write([entry for entry in self._take() if not entry[1].done()])
        self._busy = False

    def _take(self) -> list[tuple[NewRow, asyncio.Future[None]]]:
        length = count = 0
        while count < min(self._size.rows, len(self._waiting)) and length < LENGTH:
            length += len(self._waiting[count][0].payload or "")
            count += 1
        batch = self._waiting[:count]
        del self._waiting[:count]
        return batch

    async def _write(
        self, batch: list[tuple[NewRow, asyncio.Future[None]]], *, again: bool = False
    ) -> None:
        if not batch:
            return
        try:
            with self._size.statement(len(batch)):
                await self._store.tasks.insert_group([row for row, _ in batch])
        except asyncio.CancelledError:
            # Somebody else's: those who wait for these rows were not meant, and must hear of it.
            _fail(batch, DatabaseUnavailableError("cancelled; the task is stored, or is not"))
            raise
        except StatementTooSlowError as error:
            if len(batch) > 1:
                half = len(batch) // 2
                await self._write_parts([batch[:half], batch[half:]], again=True)
            else:
                _fail(batch, error)
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, DatabaseUnavailableError):
                await self._write_parts([[entry] for entry in batch], again=again)
            elif again and isinstance(error, KeyTakenError):
                # An id that is there by then has come with the try whose answer came too late.
                _succeed(batch)
            else:
                _fail(batch, error)
        else:
            _succeed(batch)

    async def _write_parts(
        self, parts: list[list[tuple[NewRow, asyncio.Future[None]]]], *, again: bool
    ) -> None:
        left = deque(parts)
        try:
            while left:
                await self._write(left.popleft(), again=again)
        finally:
            self._waiting[:0] = chain.from_iterable(left)


def _succeed(batch: list[tuple[NewRow, asyncio.Future[None]]]) -> None:
    for _, stored in batch:
        if not stored.done():
            stored.set_result(None)


def _fail(batch: list[tuple[NewRow, asyncio.Future[None]]], error: Exception) -> None:
    for _, stored in batch:
        if not stored.done():
            stored.set_exception(error)
