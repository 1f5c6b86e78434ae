"""Messages between a worker process and its parent: a few byte strings with their lengths."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

_LENGTH = Struct("<I")


def pack(*parts: bytes) -> bytes:
    """Return a message."""
    body = b"".join(_LENGTH.pack(len(part)) + part for part in parts)
    return _LENGTH.pack(len(body)) + body


class Inbox:
    """Takes bytes as they come, and gives whole messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[list[bytes]]:
        """Add bytes; yield each message that is complete, as the list of its parts."""
        self._buffer += data
        while len(self._buffer) >= 4:
            end = 4 + _LENGTH.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[4:end])
            del self._buffer[:end]
            parts = []
            place = 0
            while place < len(body):
                start = place + 4
                place = start + _LENGTH.unpack_from(body, place)[0]
                parts.append(body[start:place])
            yield parts
