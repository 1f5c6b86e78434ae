"""The one strict JSON rule: what both databases store exactly, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pydantic_core

from rowlock._jsonable import is_huge, is_jsonable, jsonable
from rowlock._refusals import TooLargeError, reason
from rowlock.errors import InvalidPayloadError

# Made once: `json.dumps` with these arguments makes one at each call. What is not JSON has been
# refused before, unless it may be a model.
_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=jsonable
).encode

_CLASSES = (str, dict, list, tuple, int, float)
_PLAIN = frozenset({*_CLASSES, bool, type(None)})


def dumps(value: Any, *, name: str, max_bytes: int, max_depth: int, models: bool = False) -> str:
    """Return the JSON text of a value.

    A value is None, a bool, an int, a finite float, a str without NUL and lone surrogates, a
    list or tuple of values, or a dict from such str to values.

    Args:
        value: what is to be stored.
        name: what the error calls it, as "payload".
        max_bytes: the limit of the text in UTF-8.
        max_depth: how deeply lists and dicts may be nested.
        models: whether pydantic models and dataclasses are values too, stored as their JSON by
            alias.

    Raises:
        InvalidPayloadError: if the value is anything else, or over a limit; it says where.
    """
    if value is None:
        return "null"
    try:
        is_plain = _check(value, max_bytes, max_depth, models)
        text = _encode(value)
        size = len(text.encode("utf-8"))
        if not is_plain and size <= max_bytes:
            # A class of its own may show the encoder something else than the check.
            _check(loads(text), max_bytes, max_depth, False)
    except TooLargeError:
        raise InvalidPayloadError(f"{name} has more than {max_bytes:,} bytes as JSON") from None
    except Exception:
        why = reason(value, name, max_bytes, max_depth, models)
        why = why or f"{name} holds an object that cannot be read as JSON"
        raise InvalidPayloadError(why) from None
    if size > max_bytes:
        raise InvalidPayloadError(f"{name} has {size:,} bytes as JSON; {max_bytes:,} are allowed")
    return text


def loads(text: str | None) -> Any:
    """Return the value of JSON text, None for None."""
    return None if text is None else pydantic_core.from_json(text)


def _check(value: Any, max_bytes: int, max_depth: int, models: bool) -> bool:
    """Refuse what is not JSON; return whether all classes are the very ones of JSON.

    Raises:
        TooLargeError: if it is over the limit.
        ValueError: if it is refused for what `reason` knows.
    """
    is_plain = True
    level = [value]
    depth = 0
    left = max_bytes
    while level:
        # Every value takes a byte, so that the largest need not be looked at.
        left -= len(level)
        if left < 0:
            raise TooLargeError
        below: list[Any] = []
        nested = False
        for item in level:
            kind: type[Any] | None = type(item)
            if kind not in _PLAIN:
                is_plain = False
                kind = next((each for each in _CLASSES if isinstance(item, each)), None)
            if kind is str:
                left -= len(item)
                if "\0" in item:
                    raise ValueError
            elif kind is dict:
                nested = True
                for key in item:
                    if type(key) is not str:
                        is_plain = False
                        if not isinstance(key, str):
                            raise ValueError
                    left -= len(key)
                    if "\0" in key:
                        raise ValueError
                below.extend(item.values())
            elif kind is list or kind is tuple:
                nested = True
                if len(item) > left:
                    raise TooLargeError
                below.extend(item)
            elif kind is None:
                if not (models and is_jsonable(item)):
                    raise ValueError
                if is_huge(item, max_bytes):
                    raise TooLargeError
        depth += nested
        if depth > max_depth:
            raise ValueError
        level = below
    return is_plain
