"""Handlers in a thread of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import Any

from rowlock._endings import HandlerResult
from rowlock._executors.base import Executor
from rowlock._executors.calling import call, own_context, prepare, result_of
from rowlock._executors.context import Link
from rowlock._executors.handler import Handler
from rowlock._executors.results import for_future
from rowlock._rows import HeldRow
from rowlock.models import SizeLimits


class InThread(Executor):
    """Calls handlers in a thread of its own.

    A daemon, unlike the threads of an executor: one that never returns must not keep the
    process from ending.
    """

    def __init__(self, handler: Handler, limits: SizeLimits) -> None:
        super().__init__(handler, limits)
        self._calls: SimpleQueue[tuple[asyncio.Future[Any], Callable[[], Any]] | None] = (
            SimpleQueue()
        )
        self._overdue: asyncio.Future[Any] | None = None
        # What the `initialise_method` sets in it each run finds in a copy of its own.
        self._context = copy_context()

    async def start(self) -> None:
        name = f"rowlock {self._handler.task_type}"
        threading.Thread(target=self._serve, name=name, daemon=True).start()
        await self._hook(self._handler.initialise)

    async def _hook(self, function: Callable[[], Any] | None) -> None:
        if function is not None:
            await self._submit(self._context, function)

    async def run(self, row: HeldRow, link: Link) -> HandlerResult:
        handler = self._handler
        try:
            running, arguments = prepare(handler, row, link, self._limits)
            context = own_context(self._context, running)
            future = self._submit(context, handler.function, *arguments)
            if handler.options.timeout is not None:
                done, _ = await asyncio.wait({future}, timeout=handler.options.timeout / 1000)
                if not done:
                    self._overdue = future
                    return self._results.late()
            result = await future
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            return self._results.raised(error)
        return self._results.returned(result)

    async def wait_until_free(self) -> None:
        # It cannot be stopped: the slot stays taken until it returns.
        if self._overdue is not None:
            await asyncio.wait({self._overdue})
            self._overdue = None

    async def stop(self) -> None:
        await self._hook(self._handler.shutdown)

    async def close(self) -> None:
        self._calls.put(None)

    def _submit(
        self, context: Context, function: Callable[..., Any], *arguments: Any
    ) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls.put(
            (future, lambda: call(context, function, *arguments, await_in_loop=_in_new_loop))
        )
        return future

    def _serve(self) -> None:
        while (item := self._calls.get()) is not None:
            future, call_function = item
            result: Any = None
            error: BaseException | None = None
            try:
                result = call_function()
            except BaseException as raised:
                error = for_future(raised)
            try:
                future.get_loop().call_soon_threadsafe(_resolve, future, result, error)
            except RuntimeError:
                return  # the loop has been closed meanwhile


def _in_new_loop(answer: Awaitable[Any], context: Context) -> Any:
    with asyncio.Runner() as runner:
        return runner.run(result_of(answer), context=context)


def _resolve(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
        future.exception()  # a late error is dropped, without a warning that nobody retrieved it
