"""What is stored of the ends of a handler, whichever executor runs it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

from rowlock._endings import HandlerResult, describe, raised, returned
from rowlock._executors.handler import Handler
from rowlock.models import SizeLimits, class_name, message_of


class Results:
    """Translates what comes of the calls of one handler.

    Attributes:
        returned: takes what the handler returned.
        raised: takes what it raised.
    """

    def __init__(self, handler: Handler, limits: SizeLimits) -> None:
        self._handler = handler
        self._limits = limits
        self.returned = partial(returned, source=handler.source, limits=limits)
        self.raised = partial(raised, source=handler.source, limits=limits)

    def late(self) -> HandlerResult:
        """The handler ran longer than its timeout."""
        timeout = self._handler.options.timeout
        error = TimeoutError(f"the handler ran longer than its timeout of {timeout} ms")
        return replace(self.raised(error), late=True)

    def lost(self, error: Exception) -> HandlerResult:
        """The handler's process ended with it."""
        return HandlerResult(error=describe(error, self._handler.source, self._limits), lost=True)


def for_future(error: BaseException) -> BaseException:
    """Return what a future can hold in the place of an exception from another thread."""
    # Not `isinstance`, which asks an object of another type for its `__class__`: that may raise.
    if issubclass(type(error), StopIteration | asyncio.CancelledError):
        # A future cannot hold the one, and the other would cancel who waits.
        return RuntimeError(f"the handler raised {class_name(error, 64)}: {message_of(error)}")
    return error
