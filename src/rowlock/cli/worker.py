"""The command `rowlock worker`."""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import logging
import os
import sys
from collections.abc import Callable
from operator import attrgetter
from typing import Annotated, Any

import typer

from rowlock.cli.log import LogFormat, LogLevel, set_up
from rowlock.cli.signals import DRAINED, EXIT_TIME, HURRIED, Signals, exit_within
from rowlock.errors import InvalidArgumentError, RowlockError
from rowlock.queue import TaskQueue

logger = logging.getLogger("rowlock")


def worker(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:NAME",
            help="A TaskQueue with handlers or a TaskScheduler, or a function (def or async def, "
            "without arguments) that returns one.",
        ),
    ],
    log_level: Annotated[
        LogLevel,
        typer.Option(
            case_sensitive=False, envvar="ROWLOCK_LOG_LEVEL", help="What is logged, to stderr."
        ),
    ] = LogLevel.INFO,
    log_format: Annotated[
        LogFormat,
        typer.Option(
            case_sensitive=False,
            envvar="ROWLOCK_LOG_FORMAT",
            help="How: lines of text, or one JSON object a line.",
        ),
    ] = LogFormat.TEXT,
) -> None:
    """Run the handlers of a queue until a signal.

    The current directory is importable. A queue made without a URL uses ROWLOCK_DATABASE_URL.

    The first SIGINT or SIGTERM drains: no task is claimed any more, and what runs has the queue's
    stop_timeout to finish; then it is put back. A second signal puts it back at once. Neither
    costs a task a try. A worker that loses its database waits for it and goes on. A signal while
    the worker starts, the import of the module included, ends it at once.

    Where the module sets up logging itself while it is imported, that stays. An object of
    --log-format json has time, level, logger, message, and where there is one task_id, task_type,
    attempt, worker and exception.

    Where uvloop is installed, the worker runs on it.

    Exit codes:

    - 0: drained after the first signal, or ended by it before it had started.

    - 1: could not start: a bad target, neither handlers nor a scheduler, no schema or an old one,
    no database.

    - 2: wrong usage.

    - 130: ended by a second signal.
    """
    # Most of what a claim brings goes by itself. The application's own setting counts more.
    gc.set_threshold(10_000)
    signals: Signals = context.obj
    found = _load(target)
    signals.listen()
    set_up(log_level, log_format)
    if signals.count:
        raise typer.Exit(DRAINED)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        code = runner.run(_serve(found, target, signals))
    exit_within(EXIT_TIME, code)
    raise typer.Exit(code)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _load(target: str) -> Any:
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise InvalidArgumentError(
            f"target: {target!r}; expected is package.module:name of a TaskQueue, "
            "or of a function that returns one"
        )
    sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except RowlockError:
        raise
    except Exception as error:
        raise InvalidArgumentError(
            f"target: {module_name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    try:
        found = attrgetter(name)(module)
    except AttributeError:
        raise InvalidArgumentError(
            f"target: module {module_name!r} has no attribute {name!r}"
        ) from None
    # Called before there is an event loop: `register_handler` is a coroutine, so a plain function
    # has to use `asyncio.run`.
    return found if isinstance(found, TaskQueue) else _call(found, target)


def _call(function: Any, target: str) -> Any:
    if not callable(function):
        raise InvalidArgumentError(
            f"target: {target} is {_kind(function)}, neither a TaskQueue nor a function"
        )
    try:
        return function()
    except RowlockError:
        raise
    except Exception as error:
        raise _raised(target, error) from error


async def _queue_of(found: Any, target: str) -> TaskQueue:
    if inspect.isawaitable(found):
        try:
            found = await found
        except RowlockError:
            raise
        except Exception as error:
            raise _raised(target, error) from error
    if not isinstance(found, TaskQueue):
        raise InvalidArgumentError(f"target: {target} returned {_kind(found)}, not a TaskQueue")
    if not found.task_types and not found.has_scheduler:
        raise InvalidArgumentError(
            f"target: no handler is registered with {target}, and no scheduler is made for it: "
            "there is nothing to run"
        )
    return found


def _raised(target: str, error: Exception) -> InvalidArgumentError:
    return InvalidArgumentError(f"target: {target} raised {type(error).__name__}: {error}")


def _kind(value: object) -> str:
    return f"an object of type {type(value).__name__}"


async def _serve(found: Any, target: str, signals: Signals) -> int:
    first = asyncio.create_task(signals.wait(1))
    starting = asyncio.create_task(_start(found, target))
    await asyncio.wait({first, starting}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
        if starting.cancelled():
            return DRAINED
    queue = starting.result()
    await first
    second = asyncio.create_task(signals.wait(2))
    stopping = asyncio.create_task(queue.stop())
    await asyncio.sleep(0)  # from here on nothing is claimed, as the line says
    logger.info("draining; a second signal puts back at once what still runs")
    await asyncio.wait({second, stopping}, return_when=asyncio.FIRST_COMPLETED)
    hurried = not stopping.done()
    if hurried:
        await queue.stop()
    second.cancel()
    await stopping
    await queue.close()
    logger.info("stopped")
    return HURRIED if hurried else DRAINED


async def _start(found: Any, target: str) -> TaskQueue:
    queue = await _queue_of(found, target)
    try:
        await queue.open()
        # What was imported stays: a full collection that goes through all of it takes 50 ms, in
        # which no handler runs.
        gc.collect()
        gc.freeze()
        await queue.start()
    except BaseException:
        await queue.close()
        raise
    logger.info(
        "started in process %d on %s, %s",
        os.getpid(),
        type(asyncio.get_running_loop()).__module__.partition(".")[0],
        f"task types {', '.join(queue.task_types)}"
        if queue.task_types
        else "no handlers: it triggers scheduled tasks and runs none",
    )
    return queue
