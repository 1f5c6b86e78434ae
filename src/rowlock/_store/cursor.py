"""The opaque cursor of a page walk: where the next page starts, bound to what is walked."""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import dataclass
from hashlib import blake2b

from rowlock.errors import InvalidCursorError

_LAYOUT = struct.Struct(">BBq16s")
_DIGEST = 10
_LENGTH = (_LAYOUT.size + _DIGEST) * 4 // 3
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Position:
    """The last row of a page.

    Attributes:
        segment: which part of the walk it lies in (a walk over a value that some rows lack
            has two).
        value: the sort value as an integer (microseconds, or the rank of a status), 0 if none.
        id: the row's id, 32 hex digits.
    """

    segment: int
    value: int
    id: str


def encode(position: Position, binding: tuple[str | None, ...]) -> str:
    """Return the URL-safe cursor of a position in the walk that `binding` names."""
    body = _LAYOUT.pack(_VERSION, position.segment, position.value, bytes.fromhex(position.id))
    return base64.urlsafe_b64encode(body + _digest(body, binding)).decode("ascii")


def decode(cursor: object, binding: tuple[str | None, ...]) -> Position:
    """Return the position that a cursor names.

    Raises:
        InvalidCursorError: if it is damaged, or was made for another walk.
    """
    # b64decode with other characters for + and / goes on to take those two as well.
    if (
        not isinstance(cursor, str)
        or len(cursor) != _LENGTH
        or not cursor.isascii()
        or "+" in cursor
        or "/" in cursor
    ):
        raise InvalidCursorError("cursor is not one that query() returned")
    try:
        raw = base64.b64decode(cursor, altchars=b"-_", validate=True)
    except binascii.Error:
        raise InvalidCursorError("cursor is not one that query() returned") from None
    body, digest = raw[: _LAYOUT.size], raw[_LAYOUT.size :]
    if digest != _digest(body, binding):
        raise InvalidCursorError(
            "cursor is damaged, or was made for another sort, direction or filter"
        )
    version, segment, value, row_id = _LAYOUT.unpack(body)
    if version != _VERSION:
        raise InvalidCursorError("cursor was made by another version of rowlock")
    return Position(segment, value, row_id.hex())


def _digest(body: bytes, binding: tuple[str | None, ...]) -> bytes:
    return blake2b(body + repr(binding).encode(), digest_size=_DIGEST, person=b"rowlock").digest()
