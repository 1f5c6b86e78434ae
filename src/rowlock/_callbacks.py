"""State change callbacks: after the change is durable, in the order of a task's changes."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable

from rowlock._events import CallbackFailed, Event, Events, TaskChanged
from rowlock.models import Task

Callback = Callable[[Task], object]  # what it returns is awaited if it can be, and dropped


class Callbacks:
    """Calls the callback of a task's type for each change of a task.

    The changes of one task are a chain, run one after the other; chains run side by side, so
    that a slow callback delays no other task's.
    """

    def __init__(self, events: Events, callback_of: Callable[[str], Callback | None]) -> None:
        self._events = events
        self._callback_of = callback_of
        self._chains: dict[str, deque[Task]] = {}
        self._running: set[asyncio.Task[None]] = set()
        events.subscribe(self._on_event)

    def _on_event(self, event: Event) -> None:
        if not isinstance(event, TaskChanged) or self._callback_of(event.task.type) is None:
            return
        chain = self._chains.get(event.task.id)
        if chain is not None:
            chain.append(event.task)
            return
        self._chains[event.task.id] = deque([event.task])
        running = asyncio.create_task(self._run(event.task.id), name="rowlock callback")
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def _run(self, task_id: str) -> None:
        chain = self._chains[task_id]
        try:
            while chain:
                await self._call(chain.popleft())
        finally:
            del self._chains[task_id]

    async def _call(self, task: Task) -> None:
        callback = self._callback_of(task.type)
        if callback is None:
            return
        try:
            answer = callback(task)
            if inspect.isawaitable(answer):
                await answer
        except BaseException as error:
            chain = asyncio.current_task()
            if chain is not None and chain.cancelling():
                raise
            self._events.emit(CallbackFailed(task.id, error))

    async def drain(self, timeout: float) -> None:
        """Wait until no callback runs; cancel those that still do after `timeout` seconds."""
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=timeout)
            for task in late:
                task.cancel()
