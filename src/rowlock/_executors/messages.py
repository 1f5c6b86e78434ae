"""Messages between a worker process and its parent: a kind and its parts, all of them bytes.

The parent sends SETUP, then RUN for one task at a time, CANCEL for the task that runs, and STOP.
The worker process answers SETUP with READY, RUN with BEGUN and ENDED, STOP with STOPPED; FAILED is
the answer where a hook raises. PROGRESS and LOG come at any time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypedDict

from rowlock._endings import HandlerResult

if TYPE_CHECKING:
    from rowlock._rows import HeldRow

SETUP: Final = b"setup"
"""A `Setup` as JSON."""

RUN: Final = b"run"
"""A `Run`: see `encode_run`."""

CANCEL: Final = b"cancel"
"""Nothing."""

STOP: Final = b"stop"
"""Nothing."""

READY: Final = b"ready"
"""The process id of the process that runs handlers, in decimal digits."""

BEGUN: Final = b"begun"
"""Nothing: a worker process that ends before it costs the task no try."""

PROGRESS: Final = b"progress"
"""The JSON text of a progress."""

ENDED: Final = b"ended"
"""How the handler ended: see `encode_ended`."""

STOPPED: Final = b"stopped"
"""Nothing."""

FAILED: Final = b"failed"
"""The JSON text of the `TaskError` that a hook, or the start, has raised."""

LOG: Final = b"log"
"""A log record as JSON: see `logs.encode`."""


class Setup(TypedDict):
    """What a worker process needs to know before its first task."""

    stdout: int | None
    argv: list[str]
    main_path: str | None
    task_type: str
    module: str
    method: str
    options: dict[str, Any]
    limits: dict[str, Any]
    logging: dict[str, Any]


class Run(NamedTuple):
    """What a handler needs of a row as it was claimed, under the same names."""

    id: str
    type: str
    attempt: int
    payload: str | None
    progress: str | None
    schedule_id: str | None
    scheduled_for: datetime | None


def encode_run(row: HeldRow, scheduled_for: datetime | None) -> list[bytes]:
    """Return the parts of a RUN."""
    return [
        row.id.encode(),
        row.type.encode(),
        b"%d" % row.attempt,
        _bytes(row.payload),
        _bytes(row.progress),
        _bytes(row.schedule_id),
        b"" if scheduled_for is None else scheduled_for.isoformat().encode(),
    ]


def decode_run(parts: Sequence[bytes]) -> Run:
    """Return what the parts of a RUN say."""
    task_id, task_type, attempt, payload, progress, schedule_id, scheduled_for = parts
    return Run(
        task_id.decode(),
        task_type.decode(),
        int(attempt),
        _text(payload),
        _text(progress),
        _text(schedule_id),
        datetime.fromisoformat(scheduled_for.decode()) if scheduled_for else None,
    )


def encode_ended(ending: HandlerResult, *, needs_replacement: bool) -> list[bytes]:
    """Return the parts of an ENDED."""
    return [
        _bytes(ending.result),
        _bytes(ending.error),
        b"retry" if ending.retry else b"",
        b"replace" if needs_replacement else b"",
    ]


def decode_ended(parts: Sequence[bytes]) -> tuple[HandlerResult, bool]:
    """Return how the handler ended, and whether its process is to be replaced."""
    result, error, retry, replace = parts
    return HandlerResult(_text(result), _text(error), retry=bool(retry)), bool(replace)


def _bytes(text: str | None) -> bytes:
    return b"" if text is None else text.encode()


def _text(data: bytes) -> str | None:
    return data.decode() if data else None


_LENGTH = Struct("<I")


def pack(kind: bytes, *parts: bytes) -> bytes:
    """Return a message with its length, and that of each part."""
    body = b"".join(_LENGTH.pack(len(part)) + part for part in (kind, *parts))
    return _LENGTH.pack(len(body)) + body


class Inbox:
    """Takes bytes as they come, and gives whole messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[list[bytes]]:
        """Add bytes; yield each message that is complete: its kind and its parts."""
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
