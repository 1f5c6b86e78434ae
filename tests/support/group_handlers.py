"""Handlers that raise groups, and errors with notes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from rowlock import HandlerError

E = TypeVar("E", bound=BaseException)


class Refused(HandlerError):
    pass


def caught(error: E) -> E:
    """An exception with a traceback."""
    try:
        raise error
    except BaseException:
        return error


def noted(error: E, *notes: str) -> E:
    for note in notes:
        error.add_note(note)
    return error


def led_to(cause: BaseException, error: E) -> E:
    error.__cause__ = cause
    return error


def group() -> BaseException:
    """Two members with notes and a cause each, one of them in a group within."""
    first = led_to(KeyError("the cause of the first"), noted(caught(ValueError("first")), "note 1"))
    refused = Refused("second", properties={"code": 7})
    second = noted(caught(refused), "note 2", "note 3")
    inner = noted(caught(ExceptionGroup("inner", [second])), "of the inner")
    return noted(ExceptionGroup("outer", [first, inner]), "of the outer")


def as_a_cause() -> BaseException:
    return led_to(group(), RuntimeError("three sends failed"))


def final() -> HandlerError:
    return HandlerError("final", retry=False)


ERRORS: dict[str, Callable[[], BaseException]] = {
    "group": group,
    "as a cause": as_a_cause,
    "final": lambda: ExceptionGroup("g", [ValueError("x"), final()]),
    "final deep within": lambda: ExceptionGroup(
        "g", [ValueError("x"), ExceptionGroup("h", [ExceptionGroup("i", [final()])])]
    ),
    "final of BaseExceptions": lambda: BaseExceptionGroup("g", [KeyboardInterrupt(), final()]),
    "final, the last of 10,000": lambda: ExceptionGroup("g", [*[ValueError()] * 9999, final()]),
    "not final": lambda: ExceptionGroup("g", [HandlerError("x"), ValueError("y")]),
    "final as a cause": lambda: led_to(final(), ValueError("x")),
    "final as a cause within": lambda: ExceptionGroup("g", [led_to(final(), ValueError("x"))]),
    "a group with a final one as a cause": lambda: led_to(
        ExceptionGroup("g", [final()]), ValueError("x")
    ),
}
FINAL = {name for name in ERRORS if name.startswith("final") and "cause" not in name}


async def raises(name: str) -> None:
    raise ERRORS[name]()


def raises_in_thread(name: str) -> None:
    raise ERRORS[name]()


def raises_in_process(name: str) -> None:
    raise ERRORS[name]()


async def fails_in_a_task_group(_: Any) -> None:
    async def send(number: int) -> None:
        raise ConnectionError(f"recipient {number}")

    async with asyncio.TaskGroup() as tasks:
        for number in range(3):
            tasks.create_task(send(number))
