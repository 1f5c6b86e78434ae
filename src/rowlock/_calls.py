"""The functions of scheduled tasks, as they run in this process."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from rowlock._handlers import takes_argument

ScheduledCallback = Callable[..., Any]


class Calls:
    """Calls functions, of one scheduled task one at a time.

    An `async def` runs in the event loop. A `def` runs in a thread of its own, which is a daemon:
    one that never returns must not keep the process from ending.

    Args:
        ended: called with the id, the instant and None or what the function raised.
    """

    def __init__(self, ended: Callable[[str, datetime, BaseException | None], None]) -> None:
        self._ended = ended
        self._running: dict[str, asyncio.Task[None]] = {}

    def __contains__(self, schedule_id: str) -> bool:
        return schedule_id in self._running

    def runs(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether an asyncio task is a call."""
        return task in self._running.values()

    def start(self, schedule_id: str, due: datetime, function: ScheduledCallback) -> None:
        """Begin a call."""
        self._running[schedule_id] = asyncio.create_task(
            self._run(schedule_id, due, function), name=f"rowlock schedule {schedule_id}"
        )

    async def _run(self, schedule_id: str, due: datetime, function: ScheduledCallback) -> None:
        error: BaseException | None = None
        try:
            arguments = (due,) if takes_argument(function) else ()
            if inspect.iscoroutinefunction(function):
                await function(*arguments)
            else:
                answer = await _in_thread(schedule_id, function, arguments)
                if inspect.isawaitable(answer):
                    await answer
        except BaseException as raised:
            error = raised
            running = asyncio.current_task()
            if running is not None and running.cancelling():
                raise
        finally:
            del self._running[schedule_id]
            self._ended(schedule_id, due, error)

    async def drain(self, timeout: float, hurried: asyncio.Event) -> None:
        """Wait until nothing runs; after `timeout` seconds cancel what can be cancelled.

        Args:
            timeout: seconds.
            hurried: ends the time when it is set.
        """
        if not self._running:
            return
        ended = asyncio.create_task(_all(self._running.values()))
        hurry = asyncio.create_task(hurried.wait())
        await asyncio.wait({ended, hurry}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        for task in self._running.values():
            task.cancel()
        # A function that swallows its cancellation must not keep `stop` for ever.
        await asyncio.wait({ended}, timeout=1)
        ended.cancel()


async def _all(tasks: Iterable[asyncio.Task[None]]) -> None:
    await asyncio.wait(set(tasks))


async def _in_thread(
    schedule_id: str, function: ScheduledCallback, arguments: tuple[datetime, ...]
) -> Any:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()

    def settle(answer: Any, error: BaseException | None) -> None:
        if not future.done():
            future.set_result((answer, error))

    def call() -> None:
        answer: Any = None
        error: BaseException | None = None
        try:
            answer = function(*arguments)
        except BaseException as raised:
            error = raised
        try:
            loop.call_soon_threadsafe(settle, answer, error)
        except RuntimeError:
            return  # the loop has been closed meanwhile

    threading.Thread(target=call, name=f"rowlock schedule {schedule_id}", daemon=True).start()
    answer, error = await future
    if isinstance(error, StopIteration | asyncio.CancelledError):
        # A coroutine cannot raise the one, and the other would look like its own cancellation.
        raise RuntimeError(f"the function raised {error!r}") from error
    if error is not None:
        raise error
    return answer
