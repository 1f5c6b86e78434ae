"""State change callbacks: after the change is durable, in the order of a task's changes."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import partial

from rowlock._background import Background
from rowlock._events import (
    CallbackFailed,
    CallbacksBehind,
    CallbacksDropped,
    Event,
    Events,
    TaskChanged,
)
from rowlock.models import Callback, Task

# The callbacks of so many tasks run at the same time, and so many changes wait for theirs. Beyond
# that the oldest are dropped: a finish that waited for them would cost the lease of its task.
RUNNING = 100
WAITING = 10_000

_caller: ContextVar[tuple[Callbacks, str]] = ContextVar("rowlock_callback")


class Callbacks:
    """Calls the callback of a task's type for each change of a task.

    The changes of one task are a chain, run one after the other; chains run side by side, so
    that a slow callback delays no other task's, unless there are `RUNNING` of them.
    """

    def __init__(self, events: Events, callback_of: Callable[[str], Callback | None]) -> None:
        self._events = events
        self._callback_of = callback_of
        # The changes that wait, of each task that has any or whose callback runs.
        self._chains: dict[str, deque[Task]] = {}
        self._ready: deque[str] = deque()
        self._running: dict[str, Background] = {}
        self._waiting = 0
        self._dropped = 0
        events.subscribe(self._on_event)

    def _on_event(self, event: Event) -> None:
        if not isinstance(event, TaskChanged) or self._callback_of(event.task.type) is None:
            return
        task_id = event.task.id
        chain = self._chains.get(task_id)
        if chain is None:
            chain = self._chains[task_id] = deque()
            self._ready.append(task_id)
        chain.append(event.task)
        self._waiting += 1
        if self._waiting > WAITING:
            self._drop(self._ready[0] if self._ready else task_id)
        self._start()

    def _drop(self, task_id: str) -> None:
        if not self._dropped:
            self._events.emit(CallbacksBehind(WAITING))
        self._dropped += 1
        self._waiting -= 1
        chain = self._chains[task_id]
        chain.popleft()
        if not chain and task_id not in self._running:
            self._ready.popleft()
            del self._chains[task_id]

    def _start(self) -> None:
        while self._ready and len(self._running) < RUNNING:
            task_id = self._ready.popleft()
            self._running[task_id] = Background(partial(self._run, task_id), "rowlock callback")

    async def _run(self, task_id: str) -> None:
        _caller.set((self, task_id))
        chain = self._chains.get(task_id)
        while chain:
            self._waiting -= 1
            await self._call(chain.popleft())
        # Not if it was dropped, and there is another one by now.
        if chain is not None and self._chains.get(task_id) is chain:
            del self._chains[task_id], self._running[task_id]
        if self._waiting <= WAITING // 2:
            self._tell_dropped()
        self._start()

    async def _call(self, task: Task) -> None:
        callback = self._callback_of(task.type)
        if callback is None:
            return
        try:
            answer = callback(task)
            if inspect.isawaitable(answer):
                await answer
        except BaseException as error:
            self._events.emit(CallbackFailed(task.id, error))
            chain = asyncio.current_task()
            if chain is not None and chain.cancelling():
                raise

    def _tell_dropped(self) -> None:
        if self._dropped:
            self._events.emit(CallbacksDropped(self._dropped))
            self._dropped = 0

    async def drain(self, timeout: float) -> None:
        """Wait until no callback runs or waits; drop those that still do after `timeout` seconds.

        Nobody can wait here for the end of a callback that calls this: it goes on.
        """
        mine = self._caller()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while others := self._others(mine):
                    await asyncio.wait(others)
        for task_id in self._chains.keys() - {mine}:
            chain = self._chains.pop(task_id)
            self._dropped += len(chain)
            self._waiting -= len(chain)
            chain.clear()
            if (background := self._running.pop(task_id, None)) is not None:
                background.cancel()
        self._ready.clear()
        self._tell_dropped()

    def is_calling(self) -> bool:
        """Whether the caller is a callback."""
        return self._caller() is not None

    def _caller(self) -> str | None:
        caller = _caller.get(None)
        return caller[1] if caller is not None and caller[0] is self else None

    def _others(self, mine: str | None) -> list[asyncio.Future[None]]:
        return [
            background.ended
            for task_id, background in self._running.items()
            if task_id != mine and not background.ended.done()
        ]

    def forget(self) -> None:
        """Forget what ran in a loop that is closed."""
        self._chains.clear()
        self._ready.clear()
        self._running.clear()
        self._waiting = self._dropped = 0
