"""Why a value cannot be stored as JSON: the place in it, and what helps."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Iterator, Mapping, Sequence, Set, ValuesView
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from rowlock._jsonable import is_jsonable, jsonable

_CLASS_NAME = vars(type)["__name__"].__get__
_MODEL = 'model_dump(mode="json")'

# The first that fits. What `model_dump()` leaves in a dict is most often why.
_REMEDIES: tuple[tuple[tuple[type[Any], ...], str], ...] = (
    ((date, time), f"isoformat(), or {_MODEL} of the pydantic model that it comes from"),
    ((timedelta,), f"total_seconds(), or {_MODEL} of the pydantic model that it comes from"),
    ((UUID, Decimal, PurePath), f"str(), or {_MODEL} of the pydantic model that it comes from"),
    ((Enum,), f"its value, or {_MODEL} of the pydantic model that it comes from"),
    ((bytes, bytearray, memoryview), "base64, or decode() if it is text"),
    ((Awaitable,), "what it gives when it is awaited"),
    ((Mapping,), "dict()"),
    ((Set, Sequence, ValuesView, Iterator), "list()"),
    ((BaseException,), "str()"),
)

# From the value upwards: the key or the index, and the place that it is in.
_Place = tuple[str | int, Any] | None


class TooLargeError(ValueError):
    """A value has more than is allowed."""


class _Refusal(Exception):
    """What is wrong with a value, and where."""

    def __init__(self, place: _Place, fault: str) -> None:
        super().__init__(fault)
        self.place = place


def reason(value: Any, name: str, max_bytes: int, max_depth: int, models: bool) -> str | None:
    """Return why `dumps` has refused a value, None if that cannot be seen any more.

    Args:
        value: what was refused; this and the others as `dumps` got them.
        name: what it is called.
        max_bytes: the limit of its text.
        max_depth: the limit of its depth.
        models: whether models and dataclasses are taken.
    """
    try:
        _walk(value, max_bytes, max_depth, models)
    except _Refusal as refusal:
        return f"{_shown(name, refusal.place)} {refusal}"
    except Exception:  # its class is whoever's
        return None
    return None


def _walk(value: Any, max_bytes: int, max_depth: int, models: bool) -> None:
    stack: list[tuple[Any, int, _Place]] = [(value, 0, None)]
    left = max_bytes
    while stack:
        item, depth, place = stack.pop()
        kind = type(item)
        children: list[tuple[Any, int, _Place]] = []
        if issubclass(kind, dict | list | tuple):
            left -= len(item)
            if left < 0:
                raise _Refusal(None, f"has more than {max_bytes:,} bytes as JSON")
            if depth == max_depth:
                raise _Refusal(place, f"is nested deeper than {max_depth} levels")
            if issubclass(kind, dict):
                for key, child in item.items():
                    _check_key(key, place)
                    children.append((child, depth + 1, (key, place)))
            else:
                children += ((child, depth + 1, (n, place)) for n, child in enumerate(item))
            stack += reversed(children)
        elif issubclass(kind, str):
            _check_text(item, place, "holds")
        elif issubclass(kind, float):
            if not math.isfinite(item):
                raise _Refusal(
                    place, f"is {float.__repr__(item)}; give None where math.isfinite() is false"
                )
        elif issubclass(kind, int):
            _check_integer(item, place)
        elif item is not None:
            if not (models and is_jsonable(item)):
                raise _Refusal(place, _not_json(type(item)))
            stack.append((_converted(item, place), depth, place))


def _check_key(key: Any, place: _Place) -> None:
    if not issubclass(type(key), str):
        raise _Refusal(place, f"has a key of type {_class_name(type(key))}; only str is JSON")
    _check_text(key, place, "has a key with")


def _check_text(text: str, place: _Place, holds: str) -> None:
    if str.__contains__(text, "\0"):
        raise _Refusal(place, f"{holds} a NUL character, which PostgreSQL cannot store")
    try:
        str.encode(text, "utf-8")
    except UnicodeEncodeError:
        raise _Refusal(
            place, f'{holds} a lone surrogate; encode("utf-8", "replace").decode() is without'
        ) from None


def _check_integer(number: int, place: _Place) -> None:
    try:
        int.__repr__(number)
    except ValueError:
        raise _Refusal(place, "is an integer of too many digits; give it as text") from None


def _converted(item: Any, place: _Place) -> Any:
    try:
        return jsonable(item)
    except Exception as error:
        name, broken = _class_name(type(item)), _class_name(type(error))
        fault = f"is of type {name}, whose JSON cannot be made: {broken}"
        raise _Refusal(place, fault) from None


def _not_json(kind: type[Any]) -> str:
    fault = f"is of type {_class_name(kind)}, which is not JSON"
    if hasattr(kind, "model_dump") or hasattr(kind, "__dataclass_fields__"):
        remedy = _MODEL if hasattr(kind, "model_dump") else "dataclasses.asdict()"
    else:
        # The last is of numpy and its like.
        remedy = next((remedy for kinds, remedy in _REMEDIES if issubclass(kind, kinds)), "")
        remedy = remedy or ("tolist()" if hasattr(kind, "tolist") else "")
    return f"{fault}; give {remedy}" if remedy else fault


def _class_name(kind: type[Any]) -> str:
    return ascii(_CLASS_NAME(kind)[:64])[1:-1]


def _shown(name: str, place: _Place) -> str:
    parts: list[str] = []
    while place is not None:
        part, place = place
        if not isinstance(part, str):
            parts.append(f"[{part}]")
        elif re.fullmatch(r"[A-Za-z_]\w{0,63}", text := str.__str__(part), re.ASCII):
            parts.append(f".{text}")
        else:
            parts.append(f"[{text[:64]!a}]")
    text = name + "".join(reversed(parts))
    return text if len(text) <= 200 else f"{text[:100]}...{text[-97:]}"
