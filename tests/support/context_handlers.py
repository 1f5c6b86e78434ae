"""Handlers that leave something in their context, and tell what they found there."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from rowlock import current_task

tenant: ContextVar[str | None] = ContextVar("tenant", default=None)
service: ContextVar[str | None] = ContextVar("service", default=None)
tasks: list[asyncio.Task[Any] | None] = []
hooks: list[str] = []
failures = 0


def swap(payload: str) -> list[str | None]:
    found = [tenant.get(), service.get()]
    tenant.set(payload)
    return found


async def swap_async(payload: str) -> list[str | None]:
    found = swap(payload)
    await asyncio.sleep(0)
    return found


def set_service() -> None:
    service.set("from the hook")


async def set_service_async() -> None:
    set_service()


async def note_task(payload: float) -> str:
    tasks.append(asyncio.current_task())
    assert hooks.count("initialise") > hooks.count("shutdown") or not hooks
    await asyncio.sleep(payload)
    return "done"


async def initialise() -> None:
    hooks.append("initialise")


async def initialise_fails_first() -> None:
    hooks.append("initialise")
    if len(hooks) == 1:
        raise RuntimeError("not yet")


async def shutdown() -> None:
    hooks.append("shutdown")


async def cancels_itself_and_returns() -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    return "returned"


def scheduled() -> list[str | None]:
    task = current_task()
    instant = task.scheduled_for
    return [task.schedule_id, None if instant is None else instant.isoformat()]


async def scheduled_async() -> list[str | None]:
    return scheduled()


# What is no `async def`, and returns what can be awaited.


def _as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def decorated(*arguments: Any) -> Any:
        return function(*arguments)

    return decorated


class _Callable:
    async def __call__(self, payload: Any) -> Any:
        return [payload]

    async def method(self, payload: Any) -> Any:
        return [payload]


class _Awaitable:
    def __init__(self, value: Any) -> None:
        self._value = value

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        return [self._value]


async def _listed(wanted: str, payload: Any) -> Any:
    await asyncio.sleep(0)
    return [payload]


partial = functools.partial(_listed, "list")
partial_of_object = functools.partial(_Callable())
an_object = _Callable()
method = _Callable().method
decorated = _as_it_is(partial)
a_lambda: Callable[[Any], Awaitable[Any]] = lambda payload: _listed("list", payload)  # noqa: E731


@_as_it_is
async def decorated_async(payload: Any) -> Any:
    return [payload]


def awaitable(payload: Any) -> Any:
    return _Awaitable(payload)


# Signatures.


def two(payload: Any, other: Any) -> None: ...
def keyword(*, payload: Any) -> None: ...
def keyword_with_default(*, verbose: bool = False) -> None: ...
def keywords(**options: Any) -> None: ...
async def two_async(payload: Any, other: Any) -> None: ...


needs_more = functools.partial(two)
none_left = functools.partial(two, 1, 2)


def _with_session(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def with_session(*arguments: Any) -> Any:
        return function(*arguments, "session")

    return with_session


@_with_session
def given_a_session(payload: Any, session: str) -> Any:
    return [payload, session]


def with_default(payload: Any, times: int = 2) -> Any:
    return [payload] * times


def many(*payloads: Any) -> Any:
    return list(payloads)


def nothing() -> str:
    return "nothing"


@_as_it_is
def nothing_decorated() -> str:
    return "nothing"
