"""Exceptions as data: what was raised, what led to it and what is in it, within bounds."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import pydantic_core

from rowlock._json import dumps
from rowlock.errors import HandlerError, InvalidPayloadError

# Of one description: how many exceptions, and how deep causes and groups go.
_MOST_LINKS = 100
_MOST_LEVELS = 8
_MOST_FRAMES = 20
_MOST_NOTES = 16

# Of the base classes: what a class of its own says instead may raise, or be anything.
_CLASS_NAME = vars(type)["__name__"].__get__
_CAUSE = vars(BaseException)["__cause__"].__get__
_CONTEXT = vars(BaseException)["__context__"].__get__
_SUPPRESSES_CONTEXT = vars(BaseException)["__suppress_context__"].__get__
_TRACEBACK = vars(BaseException)["__traceback__"].__get__
_MEMBERS = vars(BaseExceptionGroup)["exceptions"].__get__


def clean_text(text: str, limit: int) -> str:
    """Return text that both databases store: cut to `limit` characters and marked, no NUL."""
    if len(text) > limit:
        text = f"{text[:limit]}… [cut, {len(text):,} characters]"
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode("utf-8")


def message_of(error: BaseException, limit: int = 16_384) -> str:
    """Return the text of an exception, cut to `limit` characters; also if its `str()` raises."""
    try:
        # Of the very class: what `__str__` returns may be of one with methods of its own.
        return clean_text(str.__str__(str(error)), limit)
    except BaseException as broken:
        return f"<str() of the exception raised {class_name(broken, 64)}>"


def class_name(error: BaseException, limit: int) -> str:
    """Return the name of an exception's class, whatever its metaclass says."""
    return clean_text(_CLASS_NAME(type(error)), limit)


def members_of(error: BaseException) -> Sequence[BaseException]:
    """Return the members of a group, none of any other exception."""
    members: Sequence[BaseException] = ()
    if issubclass(type(error), BaseExceptionGroup):
        members = _MEMBERS(error)
    return members


def is_final(error: BaseException) -> bool:
    """Tell whether it is a HandlerError with `retry=False`, or a group with one in it."""
    parts = [error]
    seen: set[int] = set()
    while parts:
        part = parts.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        parts += members_of(part)
        if issubclass(type(part), HandlerError):
            with suppress(BaseException):  # `retry` may be a property
                if part.retry is False:  # type: ignore[attr-defined]
                    return True
    return False


class Description:
    """Describes one exception, as the fields of a `TaskError`.

    Args:
        limit: how many characters of one text are kept. The fewer, the fewer exceptions too.
        depth: how deeply properties may be nested.
    """

    def __init__(self, limit: int, depth: int) -> None:
        self._limit = limit
        self._depth = depth
        self._seen: set[int] = set()

    def of(self, error: BaseException) -> dict[str, Any]:
        """Return the fields for an exception, its causes and its members."""
        described, _ = self._link(error, max(1, min(_MOST_LINKS, self._limit // 64)), 0)
        return described

    def _link(self, error: BaseException, room: int, level: int) -> tuple[dict[str, Any], int]:
        """Describe with at most `room` exceptions; return how many it were, too."""
        self._seen.add(id(error))
        limit = self._limit
        described: dict[str, Any] = {
            "name": class_name(error, limit),
            "message": message_of(error, limit),
            "properties": self._properties(error),
            "stack": _stack(error, limit) or None,
            "notes": _notes(error, limit),
        }
        used = 1
        members = members_of(error)
        cause = _CAUSE(error)
        if cause is None and not _SUPPRESSES_CONTEXT(error):
            cause = _CONTEXT(error)
        if cause is not None and id(cause) not in self._seen:
            left = (room - used) // 2 if members else room - used
            if left and level + 1 < _MOST_LEVELS:
                described["cause"], count = self._link(cause, left, level + 1)
                used += count
            else:
                described["cause"] = _cut("the cause is not stored")
        if members:
            described["errors"], count = self._members(members, room - used, level + 1)
            used += count
        return described, used

    def _members(
        self, members: Sequence[BaseException], room: int, level: int
    ) -> tuple[list[dict[str, Any]], int]:
        # Where not all find room, those that do have some for what led to them.
        shown = min(len(members), max(1, room // 2)) if room and level < _MOST_LEVELS else 0
        described = []
        used = 0
        for place in range(shown):
            link, count = self._link(members[place], (room - used) // (shown - place), level)
            described.append(link)
            used += count
        if shown < len(members):
            described.append(_cut(f"{len(members) - shown:,} errors of the group are not stored"))
        return described, used

    def _properties(self, error: BaseException) -> dict[str, Any] | None:
        if not issubclass(type(error), HandlerError):
            return None
        try:
            properties = error.properties  # type: ignore[attr-defined]
            if properties is None:
                return None
            if not isinstance(properties, dict):
                return {"cut": "the properties are no dict"}
            if _exceeds(properties, self._limit):
                return {"cut": f"the properties take more than {self._limit:,} characters"}
            described: dict[str, Any] = {}
            for name, value in properties.items():
                described.update(self._property(name, value))
            return described
        except BaseException as broken:
            return {"cut": f"the properties cannot be read: {class_name(broken, 64)}"}

    def _property(self, name: Any, value: Any) -> dict[str, Any]:
        plain = given = {name: value}
        try:
            with suppress(Exception):  # said with its place by the stricter rule
                plain = pydantic_core.to_jsonable_python(given, fallback=_not_json)
            dumps(plain, name="properties", max_bytes=8 * self._limit, max_depth=self._depth)
        except InvalidPayloadError as refused:
            shown = str.__str__(name) if issubclass(type(name), str) else class_name(name, 64)
            return {clean_text(shown, 64): f"[not stored: {refused}]"}
        return plain


def _cut(message: str) -> dict[str, Any]:
    return {"name": "cut", "message": message}


def _not_json(item: Any) -> str:
    return f"[not JSON: of type {class_name(item, 64)}]"


def _exceeds(value: Any, limit: int) -> bool:
    # Seen before they are encoded, which may take longer than a lease.
    left = limit
    parts: list[Any] = [value]
    while parts:
        part = parts.pop()
        left -= 1
        if isinstance(part, str | bytes | dict | list | tuple | set | frozenset):
            left -= len(part)
            if left < 0:
                break
            if isinstance(part, dict):
                parts += part.keys()
                parts += part.values()
            elif not isinstance(part, str | bytes):
                parts += part
    return left < 0


def _stack(error: BaseException, limit: int) -> str:
    text = "".join(traceback.format_tb(_TRACEBACK(error), limit=-_MOST_FRAMES))
    if len(text) > limit:
        # The last frame is where it was raised.
        text = f"[cut, {len(text):,} characters] …{text[-limit:]}"
    return clean_text(text, len(text))


def _notes(error: BaseException, limit: int) -> list[str] | None:
    try:
        notes = getattr(error, "__notes__", None)
    except BaseException:
        return None
    if notes is None:
        return None
    kind: type[Any] = list if issubclass(type(notes), list) else tuple
    if not issubclass(type(notes), kind):
        return [_not_text(notes)]
    shown: list[str] = []
    left = limit
    for note in islice(kind.__iter__(notes), _MOST_NOTES):
        if left <= 0:
            break
        is_text = issubclass(type(note), str)
        text = clean_text(str.__str__(note), left) if is_text else _not_text(note)
        shown.append(text)
        left -= len(text)
    if len(shown) < (count := kind.__len__(notes)):
        shown.append(f"[cut, {count:,} notes]")
    return shown or None


def _not_text(note: Any) -> str:
    return f"[not text: of type {class_name(note, 64)}]"
