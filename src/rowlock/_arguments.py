"""Checks of arguments, before any SQL: the error says which, what was given, what is allowed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from rowlock.errors import InvalidArgumentError
from rowlock.models import MAX_DURATION_MS, TAKEN, Duration, to_utc

E = TypeVar("E", bound=StrEnum)
M = TypeVar("M", bound=BaseModel)

MAX_INTEGER = 2**31 - 1


def refuse(name: str, value: object, allowed: str) -> NoReturn:
    """Raise the error of an argument."""
    shown = _shorten(_repr(value))
    raise InvalidArgumentError(f"{name}: {shown} was given, {allowed} is allowed")


def duration(name: str, value: Duration, *, minimum: int = 0) -> int:
    """Return a duration in milliseconds."""
    if isinstance(value, timedelta):
        value = value // timedelta(milliseconds=1)
    if type(value) is not int or not minimum <= value <= MAX_DURATION_MS:
        refuse(name, value, f"{minimum:,} to {MAX_DURATION_MS:,} milliseconds, or a timedelta,")
    return value


def integer(name: str, value: int, minimum: int, maximum: int) -> int:
    """Return an integer within bounds."""
    if type(value) is not int or not minimum <= value <= maximum:
        refuse(name, value, f"an integer from {minimum:,} to {maximum:,}")
    return value


def label(name: str, value: str, max_length: int) -> str:
    """Return a task type or a key: text that both databases store and index."""
    try:
        # The very text: the `str()` of an enumeration's member may be its name.
        text = str.__str__(value)
        text.encode("utf-8")
        if 1 <= len(text) <= max_length and "\0" not in text:
            return text
    except (TypeError, UnicodeEncodeError):
        pass
    refuse(name, value, f"text of 1 to {max_length} characters without NUL and lone surrogates")


def instant(name: str, value: datetime) -> datetime:
    """Return an aware datetime in UTC."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        refuse(name, value, "an aware datetime")
    try:
        return to_utc(value)
    except ValueError:
        refuse(name, value, "an instant of the years 1 to 9999 in UTC")


def member(name: str, value: E | str, kind: type[E]) -> E:
    """Return a member of an enumeration, given as it or as its value."""
    try:
        return kind(value)
    except ValueError:
        refuse(name, value, " or ".join(repr(item.value) for item in kind))


def model(name: str, value: object, kind: type[M]) -> M:
    """Return a valid model, given as one, as a mapping of its fields, or as None."""
    context = None
    if isinstance(value, kind):
        # Again: one that was copied or made by `model_construct` was never validated.
        value, context = dict(value), TAKEN
    elif value is not None and not isinstance(value, Mapping):
        refuse(name, value, kind.__name__)
    try:
        return kind.model_validate(value or {}, context=context)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, (name, *first["loc"])))
        raise InvalidArgumentError(
            f"{place}: {first['msg']}; given was {_shorten(_repr(first['input']))}"
        ) from None


def function(name: str, value: Any) -> Callable[..., Any]:
    """Return a callable."""
    if not callable(value):
        refuse(name, value, "a callable")
    result: Callable[..., Any] = value
    return result


def _repr(value: object) -> str:
    try:
        return repr(value).encode("ascii", "backslashreplace").decode("ascii")
    except Exception:
        return f"<{type(value).__name__}>"


def _shorten(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
