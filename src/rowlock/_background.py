"""Work in asyncio tasks: who cancels all tasks of an event loop cancels the library's, too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class _Task(asyncio.Task[None]):
    """A task that knows whether anything may follow it."""

    last = False

    def cancel(self, msg: Any | None = None) -> bool:
        # `asyncio.run` cancels at its end what is left, from outside of the loop, and waits for it.
        if not self.get_loop().is_running():
            self.last = True
        return super().cancel(msg)


class Background:
    """Work in an asyncio task of its own, done to its end whoever cancels that task.

    Args:
        work: begun again where somebody else has cancelled it, so that it has to know by itself
            what is left to do. At the end of `asyncio.run` it is not.
        name: of the task.
        resumed: called before it is begun again.

    Attributes:
        ended: done when the work is, cancelled if it was. Not a task, so that nobody finds it.
    """

    def __init__(
        self,
        work: Callable[[], Coroutine[Any, Any, None]],
        name: str,
        resumed: Callable[[], None] | None = None,
    ) -> None:
        self._work = work
        self._name = name
        self._resumed = resumed
        self._cancelled = False
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._begin()

    def _begin(self) -> None:
        self._task = _Task(self._work(), loop=self._loop, name=self._name)
        self._task.add_done_callback(self._after)

    def _after(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            if (error := task.exception()) is None:
                self.ended.set_result(None)
            else:
                self.ended.set_exception(error)
        elif self._cancelled or self._task.last:
            self.ended.cancel()
        else:
            if self._resumed is not None:
                self._resumed()
            self._begin()

    def cancel(self) -> None:
        """Cancel the work for good."""
        self._cancelled = True
        self._task.cancel()

    async def wait(self) -> None:
        """Wait for the end. The work goes on though the caller is cancelled."""
        await asyncio.shield(self.ended)
