"""The one periodic loop. Every loop of the library is an instance; tests call its pass."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from rowlock._background import Background
from rowlock._events import Event, LoopCancelled, LoopFailed, LoopRecovered

MIN_BACKOFF = 0.05
MAX_BACKOFF = 3.0


class Loop:
    """Runs a pass again and again, until it is stopped.

    Args:
        name: what events call it.
        run_pass: does the work once; returns the seconds until the next pass, unless it is
            woken before.
        emit: takes events of failures. A pass that raises is repeated with back-off, for ever,
            and where somebody else has cancelled the task of the loop it goes on in another one:
            a loop never ends by itself.
        jitter: by how much the seconds vary at random, so that the loops of many processes do
            not fall together; 0.1 is ±10 %.
        max_backoff: the longest back-off, in seconds.
    """

    def __init__(
        self,
        name: str,
        run_pass: Callable[[], Awaitable[float]],
        emit: Callable[[Event], None],
        *,
        jitter: float = 0.0,
        max_backoff: float = MAX_BACKOFF,
    ) -> None:
        self.name = name
        self.run_pass = run_pass
        self._emit = emit
        self._jitter = jitter
        self._max_backoff = max_backoff
        self._woken = asyncio.Event()
        self._stopped = asyncio.Event()
        self._background: Background | None = None

    def start(self) -> None:
        """Run in a task of its own, until `stop` or `end`."""
        self._background = Background(self.run, f"rowlock {self.name}", self._cancelled)

    def _cancelled(self) -> None:
        if not self._stopped.is_set():
            self._emit(LoopCancelled(self.name))

    def wake(self) -> None:
        """Begin the next pass now, or right after the one that runs."""
        self._woken.set()

    def stop(self) -> None:
        """End after the pass that runs."""
        self._stopped.set()
        self._woken.set()

    async def end(self, timeout: float) -> None:
        """Stop, and wait; cancel a pass that takes longer than `timeout` seconds."""
        self.stop()
        if self._background is None:
            return
        _, late = await asyncio.wait({self._background.ended}, timeout=timeout)
        if late:
            self._background.cancel()
            await asyncio.wait(late)

    async def run(self) -> None:
        """Run passes until `stop`."""
        failures = 0
        while not self._stopped.is_set():
            self._woken.clear()
            try:
                delay = await self.run_pass()
            except BaseException as error:
                if _ends(error):
                    raise
                failures += 1
                delay = min(self._max_backoff, MIN_BACKOFF * 2 ** min(failures, 20))
                delay *= random.uniform(0.5, 1.0)  # noqa: S311
                # The error of a timeout has no text.
                reason = str(error) or type(error).__name__
                self._emit(LoopFailed(self.name, reason, delay))
                await _wait(self._stopped, delay)
                continue
            if failures:
                self._emit(LoopRecovered(self.name, failures))
                failures = 0
            if self._jitter:
                delay *= random.uniform(1 - self._jitter, 1 + self._jitter)  # noqa: S311
            if delay > 0 and not self._woken.is_set() and not self._stopped.is_set():
                await _wait(self._woken, delay)


def _ends(error: BaseException) -> bool:
    """Whether it is meant for the task, or the program, and not what became of a pass."""
    if isinstance(error, asyncio.CancelledError):
        # Else something that the pass waited for was cancelled.
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
