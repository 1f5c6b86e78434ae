"""Where more is ready to run than there are processors, statements do not overlap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rowlock import NewTask, TaskQueue, TaskStatus
from rowlock._rows import ClaimedRow
from rowlock._store.attempts import Attempts, Finished
from rowlock._store.database import Database
from rowlock._store.ends import AttemptOutcome
from rowlock._worker.contention import CpuPressure
from tests.support.helpers import eventually


@pytest.mark.parametrize(
    ("ran", "waited", "crowded"),
    [(50, 100, True), (50, 80, False), (6, 100, True), (4, 100, False), (0, 0, False)],
)
def test_who_waits_far_longer_than_it_runs_is_crowded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ran: int, waited: int, crowded: bool
) -> None:
    """Of 100 ms it ran for some and was ready for others."""
    file, now = tmp_path / "schedstat", 1000.0
    monkeypatch.setattr("rowlock._worker.contention._STATISTICS", file)
    monkeypatch.setattr("rowlock._worker.contention.time.monotonic", lambda: now)
    file.write_text("7000000 9000000 3\n")
    processor = CpuPressure()
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
    monkeypatch.setattr("rowlock._worker.contention._STATISTICS", file)
    monkeypatch.setattr("rowlock._worker.contention.time.monotonic", lambda: now)
    if content is not None:
        file.write_text(content)
    processor = CpuPressure()
    now += 1
    assert not processor.is_crowded()


class Watched:
    """A queue whose claims are counted, and whose writes of outcomes wait for the gate."""

    def __init__(self, queue: TaskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
        self.claims = 0
        self.batches: list[int] = []
        self.gate = asyncio.Event()
        kind = type(queue._store.database)
        claim, finish = kind.claim_to_run, Attempts.finish

        async def counted(database: Database, *arguments: Any) -> list[ClaimedRow]:
            self.claims += 1
            return await claim(database, *arguments)

        async def held(
            attempts: Attempts, holder: str, outcomes: Sequence[AttemptOutcome], **options: Any
        ) -> Finished:
            self.batches.append(len(outcomes))
            await self.gate.wait()
            return await finish(attempts, holder, outcomes, **options)

        monkeypatch.setattr(kind, "claim_to_run", counted)
        monkeypatch.setattr(Attempts, "finish", held)


@asynccontextmanager
async def finishing(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[TaskQueue, Watched]]:
    """A started queue that is about to write its first outcome."""
    async with TaskQueue(database, notify=False) as queue:
        watched = Watched(queue, monkeypatch)
        await queue.register_handler("t", "tests.support.worker_handlers", "echo")
        await queue.start()
        await queue.create("t", "x" * 20, retain_for=-1)
        await eventually(lambda: watched.batches)
        try:
            yield queue, watched
        finally:
            watched.gate.set()


def waits(queue: TaskQueue) -> bool:
    """Whether somebody waits for a turn."""
    assert queue.runtime.worker is not None
    return bool(queue.runtime.worker.claims._gate._lock._waiters)


@pytest.mark.parametrize("crowded", [True, False])
async def test_a_claim_waits_for_a_finish_only_where_it_is_crowded(
    database: str, monkeypatch: pytest.MonkeyPatch, crowded: bool
) -> None:
    """Fails if it always waits, and if it never does."""
    monkeypatch.setattr(CpuPressure, "is_crowded", lambda self: crowded)
    monkeypatch.setattr("rowlock._worker.contention._LONGEST", 60)
    async with finishing(database, monkeypatch) as (queue, watched):
        before = watched.claims
        await queue.create("t")
        if crowded:
            await eventually(lambda: waits(queue))
            assert watched.claims == before
            watched.gate.set()
        await eventually(lambda: watched.claims > before)


async def test_what_hangs_does_not_keep_the_turn(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if a claim waits for its turn without end."""
    monkeypatch.setattr(CpuPressure, "is_crowded", lambda self: True)
    async with finishing(database, monkeypatch) as (queue, watched):
        before = watched.claims
        await queue.create("t")
        await eventually(lambda: watched.claims > before)


async def test_nothing_is_claimed_after_a_stop_for_which_the_turn_came_too_late(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if it is asked only before the turn whether the worker stops."""
    monkeypatch.setattr(CpuPressure, "is_crowded", lambda self: True)
    monkeypatch.setattr("rowlock._worker.contention._LONGEST", 60)
    async with finishing(database, monkeypatch) as (queue, watched):
        before = watched.claims
        await queue.create("t")
        await eventually(lambda: waits(queue))
        stopping = asyncio.create_task(queue.stop())
        await asyncio.sleep(0)
        watched.gate.set()
        await stopping
        assert watched.claims == before


async def test_large_results_are_written_in_several_batches(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if only their number bounds a batch."""
    monkeypatch.setattr("rowlock._worker.finishes.FINISH_LENGTH", 30)
    monkeypatch.setattr(CpuPressure, "is_crowded", lambda self: False)
    async with finishing(database, monkeypatch) as (queue, watched):
        await queue.create_many(NewTask("t", "x" * 20, retain_for=-1) for _ in range(5))
        worker = queue.runtime.worker
        assert worker is not None
        await eventually(lambda: len(worker.finishes._outcomes) == 6)
        watched.gate.set()

        async def all_done() -> bool:
            return (await queue.counts())[TaskStatus.SUCCESS] == 6

        await eventually(all_done)
        assert watched.batches == [1, 2, 2, 1]
