"""What runs the handlers of a type: in the event loop, in a thread or in a process."""

from __future__ import annotations

from abc import ABC, abstractmethod

from rowlock._endings import HandlerResult
from rowlock._executors.context import Link
from rowlock._executors.handler import Handler
from rowlock._executors.results import Results
from rowlock._rows import HeldRow
from rowlock.models import SizeLimits


class Executor(ABC):
    """One worker for the handlers of one type."""

    def __init__(self, handler: Handler, limits: SizeLimits) -> None:
        self._handler = handler
        self._limits = limits
        self._results = Results(handler, limits)

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
