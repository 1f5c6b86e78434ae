"""Handlers in the event loop of the worker."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

from rowlock._endings import HandlerResult
from rowlock._executors.base import Executor
from rowlock._executors.calling import prepare
from rowlock._executors.context import Link, RunningTask, running_task
from rowlock._rows import HeldRow


class InLoop(Executor):
    """Calls handlers in the event loop, each in the task and the context that `run` is called in.

    Attributes:
        context: what is to be copied for each run, with all that the `initialise_method` has set.
    """

    context: Context

    async def start(self) -> None:
        await self._hook(self._handler.initialise)
        self.context = copy_context()

    async def _hook(self, function: Callable[[], Any] | None) -> None:
        if function is not None:
            answer = function()
            if inspect.isawaitable(answer):
                await answer

    async def run(self, row: HeldRow, link: Link) -> HandlerResult:
        handler = self._handler
        timeout = handler.options.timeout
        limit: asyncio.Timeout | None = None
        running: RunningTask | None = None
        try:
            running, arguments = prepare(handler, row, link, self._limits)
            running.runs_in = asyncio.current_task()
            running_task.set(running)
            if timeout is None:
                result = await handler.function(*arguments)
            else:
                async with asyncio.timeout(timeout / 1000) as limit:
                    result = await handler.function(*arguments)
        except BaseException as error:
            # A handler that exits or raises KeyboardInterrupt fails its attempt, not the worker.
            if limit is not None and limit.expired() and isinstance(error, TimeoutError):
                return self._results.late()
            return self._results.raised(error)
        finally:
            if running is not None:
                # Its context has this: a circle for each run would double what the garbage
                # collector takes, from 5 to 11 us a task.
                running.runs_in = None
        return self._results.returned(result)

    async def stop(self) -> None:
        await self._hook(self._handler.shutdown)
