"""The functions of scheduled tasks, as they run in this process."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from queue import SimpleQueue
from typing import Any, Self

from rowlock import _arguments as check

ScheduledCallback = Callable[..., Any]

_Answer = asyncio.Future[tuple[Any, BaseException | None]]

_ANY_INSTANT = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Function:
    """A function that scheduled tasks call.

    Attributes:
        call: the function.
        takes_instant: whether it is called with the instant, and not with nothing.
        in_loop: whether it is an `async def`, which is called in the event loop.
    """

    call: ScheduledCallback
    takes_instant: bool
    in_loop: bool

    @classmethod
    def of(cls, name: str, value: Any) -> Self:
        """Look at what was given as an argument.

        Raises:
            InvalidArgumentError: if it cannot be called with an instant or with nothing, or a call
                would run nothing.
        """
        function = check.function(name, value)
        if _is_any(inspect.isgeneratorfunction, function) or _is_any(
            inspect.isasyncgenfunction, function
        ):
            check.refuse(name, value, "a function without yield, which a call does not run,")
        takes_instant = _takes_instant(function)
        if takes_instant is None:
            check.refuse(name, value, "a function that takes the instant, or nothing,")
        return cls(function, takes_instant, _is_any(inspect.iscoroutinefunction, function))

    def arguments(self, due: datetime) -> tuple[datetime, ...]:
        """Return what a call gets."""
        return (due,) if self.takes_instant else ()


class Threads:
    """Daemon threads, each for one call, that are started before there is one.

    Daemons: one that never returns must not keep the process from ending. And one call each, so
    that nothing that is kept in a thread goes from one function to another.

    Args:
        most: how many may be there at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._jobs: SimpleQueue[Callable[[], Callable[[], None]] | None] = SimpleQueue()
        self._waiting = 0
        self._busy = 0
        self._lock = threading.Lock()

    @property
    def room(self) -> int:
        """How many calls may begin."""
        return self._most - self._busy

    def prepare(self, count: int) -> int:
        """Have `count` threads wait for a call, as far as there is room; return how many do.

        Raises:
            RuntimeError: if none does because the system gives none.
        """
        count = min(count, self.room)
        while self._waiting > count:
            self._jobs.put(None)
            self._waiting -= 1
        try:
            while self._waiting < count:
                self._start()
                self._waiting += 1
        except RuntimeError:
            if not self._waiting:
                raise
        return self._waiting

    def run(self, job: Callable[[], Callable[[], None]]) -> None:
        """Run a job in a thread that waits; it returns what is called when its room is free.

        Raises:
            RuntimeError: if none does, as after a `drain`, and the system gives none.
        """
        if self._waiting:
            self._waiting -= 1
        else:
            self._start()
        with self._lock:
            self._busy += 1
        self._jobs.put(job)

    def _start(self) -> None:
        threading.Thread(target=self._serve, name="rowlock schedule", daemon=True).start()

    def _serve(self) -> None:
        job = self._jobs.get()
        if job is None:
            return
        then = job()
        with self._lock:
            self._busy -= 1
        then()


class Calls:
    """Calls functions, of one scheduled task one at a time.

    An `async def` runs in the event loop, a `def` in a thread.

    Args:
        ended: called with the id, the instant, the function and None or what it raised.
        freed: called when there is room again for a call in a thread.
        max_threads: how many run in threads at once.
        max_coroutines: how many run in the loop at once.
    """

    def __init__(
        self,
        ended: Callable[[str, datetime, Function, BaseException | None], None],
        freed: Callable[[], None],
        *,
        max_threads: int,
        max_coroutines: int,
    ) -> None:
        self._ended = ended
        self._freed = freed
        self._threads = Threads(max_threads)
        self._max_coroutines = max_coroutines
        self._in_loop = 0
        self._awaited = 0
        self._running: dict[str, asyncio.Task[BaseException | None]] = {}

    def __contains__(self, schedule_id: str) -> bool:
        return schedule_id in self._running

    def room(self, *, in_loop: bool) -> int:
        """Return how many more calls of a kind may begin."""
        if in_loop:
            return self._max_coroutines - self._in_loop
        return self._threads.room - self._awaited

    def runs(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether an asyncio task is a call."""
        return task in self._running.values()

    def prepare(self, count: int) -> int:
        """Have threads ready for `count` calls, as far as there is room; return for how many.

        Raises:
            RuntimeError: if the system gives no thread.
        """
        return self._threads.prepare(min(count, self.room(in_loop=False)))

    def start(self, schedule_id: str, due: datetime, function: Function) -> None:
        """Begin a call, for which there must be room; for a `def` a thread that is ready."""
        thread = None if function.in_loop else self._in_thread(schedule_id, due, function)
        task = asyncio.create_task(
            self._run(function, due, thread), name=f"rowlock schedule {schedule_id}"
        )
        self._in_loop += function.in_loop
        self._running[schedule_id] = task
        # Not in the coroutine: one that is cancelled before it begins never runs.
        task.add_done_callback(partial(self._over, schedule_id, due, function))

    def _over(
        self,
        schedule_id: str,
        due: datetime,
        function: Function,
        task: asyncio.Task[BaseException | None],
    ) -> None:
        self._in_loop -= function.in_loop
        del self._running[schedule_id]
        error = asyncio.CancelledError() if task.cancelled() else task.result()
        self._ended(schedule_id, due, function, error)

    async def drain(self, timeout: float, hurried: asyncio.Event) -> None:
        """Wait until nothing runs; after `timeout` seconds cancel what can be cancelled.

        Args:
            timeout: seconds.
            hurried: ends the time when it is set.
        """
        self._threads.prepare(0)
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

    async def _run(
        self, function: Function, due: datetime, thread: _Answer | None
    ) -> BaseException | None:
        try:
            if thread is None:
                await function.call(*function.arguments(due))
            else:
                await self._answered(thread)
        except BaseException as error:
            running = asyncio.current_task()
            if running is not None and running.cancelling():
                raise
            return error
        return None

    async def _answered(self, thread: _Answer) -> None:
        answer, error = await thread
        if isinstance(error, StopIteration | asyncio.CancelledError):
            # A coroutine cannot raise the one, and the other looks like its own cancellation.
            raise RuntimeError(f"the function raised {error!r}") from error
        if error is not None:
            raise error
        if inspect.isawaitable(answer):
            # Its thread is gone, its room is not.
            self._awaited += 1
            try:
                await answer
            finally:
                self._awaited -= 1

    def _in_thread(self, schedule_id: str, due: datetime, function: Function) -> _Answer:
        loop = asyncio.get_running_loop()
        future: _Answer = loop.create_future()

        def settle(answer: Any, error: BaseException | None) -> None:
            if not future.done():
                future.set_result((answer, error))
            self._freed()

        def job() -> Callable[[], None]:
            threading.current_thread().name = f"rowlock schedule {schedule_id}"
            answer: Any = None
            error: BaseException | None = None
            try:
                answer = function.call(*function.arguments(due))
            except BaseException as raised:
                error = raised

            def tell() -> None:
                try:
                    loop.call_soon_threadsafe(settle, answer, error)
                except RuntimeError:
                    return  # the loop has been closed meanwhile

            return tell

        self._threads.run(job)
        return future


async def _all(tasks: Iterable[asyncio.Task[BaseException | None]]) -> None:
    await asyncio.wait(set(tasks))


def _is_any(kind: Callable[[Any], bool], function: Callable[..., Any]) -> bool:
    # Of an object that can be called it is its method.
    return kind(function) or kind(type(function).__call__)


def _takes_instant(function: Callable[..., Any]) -> bool | None:
    """Tell whether a function takes an instant, or nothing; None if it takes neither."""
    for follow_wrapped in (True, False):
        try:
            signature = inspect.signature(function, follow_wrapped=follow_wrapped)
        except (TypeError, ValueError):  # a builtin without a signature
            return True
        except Exception:
            return None
        for arguments in ((_ANY_INSTANT,), ()):
            try:
                signature.bind(*arguments)
            except TypeError:
                continue
            return bool(arguments)
        # A decorator may give what the function that it wraps takes.
    return None
