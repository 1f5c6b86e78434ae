"""How a thread calls a handler or a hook: the same in a worker thread and in a worker process."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any

from rowlock._executors.context import Link, RunningTask, running_task
from rowlock._executors.handler import Handler
from rowlock._json import loads
from rowlock.models import SizeLimits

if TYPE_CHECKING:
    from rowlock._executors.messages import Run
    from rowlock._rows import HeldRow

AwaitInLoop = Callable[[Awaitable[Any], Context], Any]


def prepare(
    handler: Handler, row: HeldRow | Run, link: Link, limits: SizeLimits
) -> tuple[RunningTask, tuple[Any, ...]]:
    """Return what the handler sees of its task, and the arguments that it is called with."""
    payload = loads(row.payload)
    running = RunningTask(
        row.id, row.type, row.attempt, payload, row.progress, row.schedule_id, link, limits
    )
    return running, (payload,) if handler.takes_payload else ()


def own_context(context: Context, running: RunningTask) -> Context:
    """Return a copy of a context for one run."""
    own = context.copy()
    own.run(running_task.set, running)
    return own


def call(
    context: Context, function: Callable[..., Any], *arguments: Any, await_in_loop: AwaitInLoop
) -> Any:
    """Call a function in a context, and await what it returns if that can be awaited.

    Args:
        context: of the call, and of what is awaited.
        function: a handler or a hook.
        arguments: of the call.
        await_in_loop: awaits in an event loop of this thread.
    """
    answer = context.run(function, *arguments)
    if not inspect.isawaitable(answer):
        return answer
    return await_in_loop(answer, context)


async def result_of(awaitable: Awaitable[Any]) -> Any:
    """Return what anything that can be awaited gives: a runner takes nothing but coroutines."""
    return await awaitable
