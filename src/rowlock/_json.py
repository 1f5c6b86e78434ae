"""The one strict JSON rule: what both databases store exactly, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pydantic_core

from rowlock.errors import InvalidPayloadError

# Made once: `json.dumps` with these arguments makes one at each call.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


_CLASSES = (str, dict, list, tuple, int, float)
_PLAIN = frozenset({*_CLASSES, bool, type(None)})


def dumps(value: Any, *, name: str, max_bytes: int, max_depth: int) -> str:
    """Return the JSON text of a value.

    A value is None, a bool, an int, a finite float, a str without NUL and lone surrogates, a
    list or tuple of values, or a dict from such str to values.

    Args:
        value: what is to be stored.
        name: what the error calls it, as "payload".
        max_bytes: the limit of the text in UTF-8.
        max_depth: how deeply lists and dicts may be nested.

    Raises:
        InvalidPayloadError: if the value is anything else, or over a limit.
    """
    if value is None:
        return "null"
    try:
        is_plain = _check(value, name, max_bytes, max_depth)
        text = _encode(value)
        size = len(text.encode("utf-8"))
        if not is_plain:
            # A class of its own may show the encoder something else than the check.
            _check(loads(text), name, max_bytes, max_depth)
    except InvalidPayloadError:
        raise
    except UnicodeEncodeError:
        raise InvalidPayloadError(f"{name} holds a lone surrogate") from None
    except ValueError:
        raise InvalidPayloadError(
            f"{name} holds NaN, an infinity, or an integer of too many digits"
        ) from None
    except Exception:
        raise InvalidPayloadError(f"{name} holds an object that cannot be read as JSON") from None
    if size > max_bytes:
        raise InvalidPayloadError(f"{name} has {size:,} bytes as JSON; {max_bytes:,} are allowed")
    return text


def loads(text: str | None) -> Any:
    """Return the value of JSON text, None for None."""
    return None if text is None else pydantic_core.from_json(text)


def _check(value: Any, name: str, max_bytes: int, max_depth: int) -> bool:
    """Refuse what is not JSON; return whether all classes are the very ones of JSON."""
    is_plain = True
    level = [value]
    depth = 0
    left = max_bytes
    while level:
        # Every value takes a byte, so that the largest need not be looked at.
        left -= len(level)
        if left < 0:
            raise InvalidPayloadError(f"{name} has more than {max_bytes:,} bytes as JSON")
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
                    raise InvalidPayloadError(f"{name} holds a NUL character")
            elif kind is dict:
                nested = True
                for key in item:
                    if type(key) is not str:
                        is_plain = False
                        if not isinstance(key, str):
                            raise InvalidPayloadError(
                                f"{name} has a key of type {type(key).__name__}; only str is JSON"
                            )
                    left -= len(key)
                    if "\0" in key:
                        raise InvalidPayloadError(f"{name} holds a NUL character")
                below.extend(item.values())
            elif kind is list or kind is tuple:
                nested = True
                below.extend(item)
            elif kind is None:
                raise InvalidPayloadError(
                    f"{name} holds an object of type {type(item).__name__}, which is not JSON"
                )
        depth += nested
        if depth > max_depth:
            raise InvalidPayloadError(f"{name} is nested deeper than {max_depth} levels")
        level = below
    return is_plain
