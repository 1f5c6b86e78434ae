"""Exceptions that do what they can against being stored, and handlers that raise them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from rowlock import HandlerError, current_task


class HidesItsName(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise Nameless


class Nameless(Exception, metaclass=HidesItsName):
    """Its name, its text and what they raise are all of itself."""

    def __str__(self) -> str:
        raise Nameless

    __repr__ = __str__


class OtherName(type):
    __name__: Any = 5


class Misnamed(Exception, metaclass=OtherName):
    pass


class LyingText(str):
    """Text with methods that give back what cannot be stored."""

    __slots__ = ()

    def __len__(self) -> int:
        return 1

    def __getitem__(self, place: Any) -> Any:
        return self

    def replace(self, *args: Any) -> Any:
        return self

    def encode(self, *args: Any) -> Any:
        return self

    def decode(self, *args: Any) -> Any:
        return self


class SaysLyingText(Exception):
    def __str__(self) -> str:
        return LyingText("a\0b\ud800" * 1000)


class HidesItsClass(Exception):
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("no class")


class SaysItIsAHandlerError(Exception):
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return HandlerError


class HidesItsCause(Exception):
    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no cause")


class HidesItsTrace(Exception):
    @property
    def __traceback__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no trace")


class CauseIsNoException(Exception):
    __cause__: Any = 5


class HasNoTruth(Exception):
    def __bool__(self) -> bool:
        raise RuntimeError("neither true nor false")


class StopsWithoutText(StopIteration):
    """No future can hold it, and what is said of it raises."""

    def __str__(self) -> str:
        raise Nameless

    __repr__ = __str__


class CancelledWithoutText(asyncio.CancelledError):
    def __str__(self) -> str:
        raise Nameless

    __repr__ = __str__


class EndlessGroup(ExceptionGroup[Exception]):
    @property
    def exceptions(self) -> Any:
        return [EndlessGroup("x", [ValueError("y")])]


class Endless(list[Any]):
    def __iter__(self) -> Any:
        while True:
            yield "x"

    def __len__(self) -> int:
        raise RuntimeError("no length")


class Unprintable:
    """Is encoded as nothing, and says so late."""

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("looked at")


def with_cause(cause: BaseException) -> BaseException:
    error = ValueError("x")
    error.__cause__ = cause
    return error


def deep_group() -> BaseException:
    group: BaseException = ValueError("x")
    for _ in range(500):
        group = BaseExceptionGroup("y" * 1000, [group, KeyboardInterrupt()])
    return group


def with_notes(notes: Any) -> BaseException:
    error = ValueError("x")
    error.__notes__ = notes
    return error


def without_end() -> BaseException:
    return without_end()


HOSTILE: dict[str, Callable[[], BaseException]] = {
    "hides its name": Nameless,
    "a name that is no text": Misnamed,
    "text of a lying class": SaysLyingText,
    "hides its class": HidesItsClass,
    "says it is a HandlerError": SaysItIsAHandlerError,
    "hides its cause": HidesItsCause,
    "hides its trace": HidesItsTrace,
    "a cause that is no exception": CauseIsNoException,
    "a cause without truth": lambda: with_cause(HasNoTruth()),
    "a cause that hides its name": lambda: with_cause(Nameless()),
    "StopIteration": StopIteration,
    "StopIteration without text": StopsWithoutText,
    "StopAsyncIteration": StopAsyncIteration,
    "CancelledError": asyncio.CancelledError,
    "CancelledError without text": CancelledWithoutText,
    "GeneratorExit": GeneratorExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "SystemExit": lambda: SystemExit("out"),
    "BaseException": BaseException,
    "MemoryError": MemoryError,
    "no end": without_end,
    "a deep group": deep_group,
    "a group of 100,000": lambda: ExceptionGroup("x", [ValueError(n) for n in range(100_000)]),
    "a group of hostile ones": lambda: BaseExceptionGroup(
        "x", [Nameless(), HidesItsCause(), HidesItsClass(), Misnamed(), StopsWithoutText()]
    ),
    "a group that says it has no end": lambda: EndlessGroup("x", [ValueError("y")]),
    "a group of large properties": lambda: ExceptionGroup(
        "x", [HandlerError("y", properties={"a": ["z" * 100] * 100}) for _ in range(1000)]
    ),
    "notes without end": lambda: with_notes(Endless(["x"])),
    "notes of a lying class": lambda: with_notes([LyingText("a\0b\ud800" * 1000)] * 1000),
    "20 MB of NUL as a note": lambda: with_notes(["\0" * 20_000_000]),
    "20 MB of NUL": lambda: ValueError("\0" * 20_000_000),
    "many properties": lambda: HandlerError("x", properties={"a": [Unprintable()] * 100_000}),
    "many properties of a cause": lambda: with_cause(
        HandlerError("x", properties={str(n): n for n in range(100_000)})
    ),
    "properties that are no JSON": lambda: HandlerError("x", properties={"a": Unprintable()}),
}


def chosen(name: str) -> BaseException:
    if name in HOSTILE:
        return HOSTILE[name]()
    from tests.client import test_models

    return test_models.HOSTILE[name]()


async def raises(name: str) -> None:
    raise chosen(name)


async def raises_within_a_timeout(name: str) -> None:
    raise chosen(name)


def raises_in_thread(name: str) -> None:
    raise chosen(name)


def raises_in_process(name: str) -> None:
    raise chosen(name)


async def gives(size: int) -> str:
    return "x" * size


async def gives_deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


async def fails_long(size: int) -> None:
    raise ValueError("x" * size)


async def says(size: int) -> str:
    try:
        current_task().progress("x" * size)
    except Exception as error:
        return type(error).__name__
    return "said"
