"""What goes between a worker process and its parent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

import pytest

from rowlock import HandlerOptions, SizeLimits
from rowlock._endings import HandlerResult
from rowlock._executors.handler import Handler
from rowlock._executors.in_process import InProcess
from rowlock._executors.messages import (
    Inbox,
    decode_ended,
    decode_run,
    encode_ended,
    encode_run,
    pack,
)
from rowlock._worker.pool import Job, Pool
from tests.support.pools import task_row

INSTANT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


async def test_a_worker_process_loads_no_database() -> None:
    """Fails where it imports what only its parent needs: it starts in twice the time."""
    options = HandlerOptions(executor="process")
    handler = Handler.resolve("t", "tests.support.process_handlers", "database_modules", options)
    executor = InProcess(handler, SizeLimits())
    try:
        await executor.start()
        row = task_row()
        ending = await executor.run(row, Job(row, 0.0, cast(Pool, None)))
        await executor.stop()
    finally:
        await executor.close()
    assert ending == HandlerResult("[]")


@pytest.mark.parametrize("instant", [None, INSTANT])
@pytest.mark.parametrize("text", [None, '{"ž": 1}'])
def test_a_run(text: str | None, instant: datetime | None) -> None:
    row = task_row(payload=text, progress=text, schedule_id=text)
    message = decode_run(encode_run(row, instant))
    assert message == (row.id, "t", 1, text, text, text, instant)


@pytest.mark.parametrize("needs_replacement", [False, True])
@pytest.mark.parametrize(
    "ending",
    [HandlerResult(), HandlerResult("1"), HandlerResult(error="{}", retry=False)],
)
def test_an_end(ending: HandlerResult, needs_replacement: bool) -> None:
    parts = encode_ended(ending, needs_replacement=needs_replacement)
    assert decode_ended(parts) == (ending, needs_replacement)


def test_messages_come_whole_however_they_are_cut() -> None:
    inbox, sent = Inbox(), pack(b"a", b"", b"x" * 300) + pack(b"b")
    found = [message for byte in sent for message in inbox.feed(bytes([byte]))]
    assert found == [[b"a", b"", b"x" * 300], [b"b"]]
