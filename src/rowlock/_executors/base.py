"""Where the handlers of a type run: in the event loop or in threads. Knows no store."""

from __future__ import annotations

import asyncio
import inspect
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

from rowlock._endings import HandlerResult, raised, returned
from rowlock._executors.context import Link, RunningTask, running_task
from rowlock._executors.handler import Handler, result_of
from rowlock._json import loads
from rowlock._rows import HeldRow
from rowlock.models import SizeLimits, class_name, message_of


class Executor(ABC):
    """One worker for the handlers of one type."""

    def __init__(self, handler: Handler, limits: SizeLimits) -> None:
        self._handler = handler
        self._limits = limits

    @property
    def needs_replacement(self) -> bool:
        """Whether it is to be replaced by a new one before the next handler."""
        return False

    @abstractmethod
    async def start(self) -> None:
        """Begin, with the `initialise_method`, whose error is raised."""

    @abstractmethod
    async def run(self, row: HeldRow, link: Link) -> HandlerResult | None:
        """Run the handler for a row as it was claimed; None if it could not begin."""

    async def wait_until_free(self) -> None:
        """Wait until the next handler can run."""
        return

    def interrupt(self) -> None:
        """Tell the handler that runs to end, unless all it can do is to look."""
        return

    def kill(self) -> None:
        """End the handler that runs as far as that is possible; nobody wants its outcome."""
        self.interrupt()

    @abstractmethod
    async def stop(self) -> None:
        """End, with the `shutdown_method`, whose error is raised."""

    async def close(self) -> None:
        """Let go of everything, whatever the state is."""
        return

    def _running(self, row: HeldRow, link: Link) -> tuple[RunningTask, tuple[Any, ...]]:
        payload = loads(row.payload)
        running = RunningTask(
            row.id,
            row.type,
            row.attempt,
            payload,
            row.progress,
            row.schedule_id,
            link,
            self._limits,
        )
        return running, (payload,) if self._handler.takes_payload else ()

    def _late(self) -> HandlerResult:
        timeout = self._handler.options.timeout
        error = TimeoutError(f"the handler ran longer than its timeout of {timeout} ms")
        return replace(raised(error, self._handler.source, self._limits), late=True)


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
            running, arguments = self._running(row, link)
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
                return self._late()
            return raised(error, handler.source, self._limits)
        finally:
            if running is not None:
                # Its context has this: a circle for each run would double what the garbage
                # collector takes, from 5 to 11 us a task.
                running.runs_in = None
        return returned(result, handler.source, self._limits)

    async def stop(self) -> None:
        await self._hook(self._handler.shutdown)


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
            await self._submit(lambda: _call(self._context, function))

    async def run(self, row: HeldRow, link: Link) -> HandlerResult:
        handler = self._handler
        try:
            running, arguments = self._running(row, link)
            context = self._context.copy()
            context.run(running_task.set, running)
            future = self._submit(lambda: _call(context, handler.function, *arguments))
            if handler.options.timeout is not None:
                done, _ = await asyncio.wait({future}, timeout=handler.options.timeout / 1000)
                if not done:
                    self._overdue = future
                    return self._late()
            result = await future
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            return raised(error, handler.source, self._limits)
        return returned(result, handler.source, self._limits)

    async def wait_until_free(self) -> None:
        # It cannot be stopped: the slot stays taken until it returns.
        if self._overdue is not None:
            await asyncio.wait({self._overdue})
            self._overdue = None

    async def stop(self) -> None:
        await self._hook(self._handler.shutdown)

    async def close(self) -> None:
        self._calls.put(None)

    def _submit(self, call: Callable[[], Any]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls.put((future, call))
        return future

    def _serve(self) -> None:
        while (item := self._calls.get()) is not None:
            future, call = item
            result: Any = None
            error: BaseException | None = None
            try:
                result = call()
            except (StopIteration, asyncio.CancelledError) as raised:
                # A future cannot hold the one, and the other would cancel who waits.
                name = class_name(raised, 64)
                error = RuntimeError(f"the handler raised {name}: {message_of(raised)}")
            except BaseException as raised:
                error = raised
            try:
                future.get_loop().call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:
                return  # the loop has been closed meanwhile


def _call(context: Context, function: Callable[..., Any], *arguments: Any) -> Any:
    answer = context.run(function, *arguments)
    if not inspect.isawaitable(answer):
        return answer
    with asyncio.Runner() as runner:
        return runner.run(result_of(answer), context=context)


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
        future.exception()  # a late error is dropped, and nobody is to be warned of it
