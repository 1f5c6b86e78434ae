"""Handlers that return, raise and report what a test has put aside, by its number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rowlock import HandlerError, InvalidArgumentError, current_task

values: list[Callable[[], Any]] = []
texts: list[Any] = []


async def returns(number: int) -> Any:
    return values[number]()


def returns_in_thread(number: int) -> Any:
    return values[number]()


async def raises(number: int) -> None:
    raise ValueError(texts[number])


async def raises_with_properties(number: int) -> None:
    raise HandlerError("no", properties={"value": values[number]()})


async def reports(number: int) -> str:
    try:
        current_task().progress(values[number](), texts[number], values[number]())
    except InvalidArgumentError as error:
        return type(error).__name__
    return "reported"
