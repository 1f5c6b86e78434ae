"""Objects that are stored as their JSON: pydantic models and dataclasses."""

from __future__ import annotations

from typing import Any

import pydantic_core

# A model may hold more than its JSON has, but not so much that it cannot be looked at.
_MOST_VALUES = 400_000
_SCALARS = frozenset({str, int, float, bool, type(None)})
_MOST_DEPTH = 256  # pydantic's is 255


def is_jsonable(item: Any) -> bool:
    """Tell whether an object is a pydantic model or a dataclass."""
    kind = type(item)
    return hasattr(kind, "__pydantic_serializer__") or hasattr(kind, "__dataclass_fields__")


def jsonable(item: Any) -> Any:
    """Return the JSON value, by alias, of a pydantic model or a dataclass.

    Raises:
        TypeError: if the object is neither.
    """
    if not is_jsonable(item):
        raise TypeError("neither a pydantic model nor a dataclass")
    return pydantic_core.to_jsonable_python(item, by_alias=True)


def is_huge(item: Any, max_bytes: int) -> bool:
    """Tell whether an object has too many values for a JSON text, before that is made."""
    left = max(max_bytes, _MOST_VALUES)
    parts = [(item, 0)]
    while parts:
        part, depth = parts.pop()
        if depth > _MOST_DEPTH:
            return False  # a circle, which pydantic refuses
        kind = type(part)
        if issubclass(kind, dict | list | tuple | set | frozenset):
            left -= len(part)
            inside = part.values() if issubclass(kind, dict) else part
        elif is_jsonable(part):
            inside = _fields(part)
            left -= len(inside)
        else:
            continue
        if left < 0:
            return True
        depth += 1
        parts += [(each, depth) for each in inside if type(each) not in _SCALARS]
    return False


def _fields(item: Any) -> list[Any]:
    fields = [*getattr(item, "__dict__", {}).values()]
    fields += (getattr(item, "__pydantic_extra__", None) or {}).values()
    if not fields:  # a dataclass with slots
        fields += (getattr(item, name, None) for name in getattr(item, "__dataclass_fields__", ()))
    return fields
