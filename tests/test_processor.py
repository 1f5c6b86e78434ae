"""Where more is ready to run than there are processors, statements do not overlap."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rowlock import TaskQueue
from rowlock._processor import Processor
from rowlock._statements import TaskRow
from rowlock._store import Store
from tests.helpers import eventually


@pytest.mark.parametrize(
    ("ran", "waited", "crowded"),
    [(50, 100, True), (50, 80, False), (6, 100, True), (4, 100, False), (0, 0, False)],
)
def test_who_waits_far_longer_than_it_runs_is_crowded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ran: int, waited: int, crowded: bool
) -> None:
    """Of 100 ms it ran for some and was ready for others."""
    file, now = tmp_path / "schedstat", 1000.0
    monkeypatch.setattr("rowlock._processor._STATISTICS", file)
    monkeypatch.setattr("rowlock._processor.time.monotonic", lambda: now)
    file.write_text("7000000 9000000 3\n")
    processor = Processor()
    file.write_text(f"{7_000_000 + ran * 1_000_000} {9_000_000 + waited * 1_000_000} 5\n")
    now += 0.09
    assert not processor.is_crowded()  # it was asked too soon to know
    now += 0.01
    assert processor.is_crowded() is crowded
    now += 0.09
    assert processor.is_crowded() is crowded
    now += 0.01
    assert not processor.is_crowded()  # it did nothing since


@pytest.mark.parametrize("content", [None, "", "something else\n"])
def test_where_nothing_is_known_nothing_is_crowded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    file, now = tmp_path / "schedstat", 1000.0
    monkeypatch.setattr("rowlock._processor._STATISTICS", file)
    monkeypatch.setattr("rowlock._processor.time.monotonic", lambda: now)
    if content is not None:
        file.write_text(content)
    processor = Processor()
    now += 1
    assert not processor.is_crowded()


@pytest.mark.parametrize("crowded", [True, False])
async def test_a_claim_waits_for_a_finish_only_where_it_is_crowded(
    database: str, monkeypatch: pytest.MonkeyPatch, crowded: bool
) -> None:
    """Fails if it always waits, and if it never does."""
    monkeypatch.setattr(Processor, "is_crowded", lambda self: crowded)
    finishing, gate = asyncio.Event(), asyncio.Event()
    claims = 0
    claim, finish = Store.claim, Store.finish

    async def held(self: Store, *arguments: Any, **options: Any) -> Any:
        finishing.set()
        await gate.wait()
        return await finish(self, *arguments, **options)

    async with TaskQueue(database, notify=False) as queue:
        kind = type(queue._store)
        claim = kind.claim

        async def counted(
            self: Store, holder: str, rooms: Mapping[str, int], *rest: Any
        ) -> list[TaskRow]:
            nonlocal claims
            claims += 1
            return await claim(self, holder, rooms, *rest)

        monkeypatch.setattr(kind, "claim", counted)
        monkeypatch.setattr(kind, "finish", held)
        await queue.register_handler("t", "tests.worker_handlers", "nothing")
        await queue.start()
        worker = queue._worker
        assert worker is not None
        await queue.create("t")
        await finishing.wait()
        before = claims
        await queue.create("t")
        if crowded:
            await eventually(lambda: worker._turns._waiters)
            assert claims == before
            gate.set()
        await eventually(lambda: claims > before)
        gate.set()

        async def none_left() -> bool:
            return not any((await queue.counts()).values())

        await eventually(none_left)
