"""`current_task().progress(…)`: stored soon, before the outcome, and only by who holds the task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rowlock import (
    DatabaseUnavailableError,
    HandlerOptions,
    NewTask,
    RowlockError,
    SizeLimits,
    TaskProgress,
    TaskQueue,
    TaskStatus,
    current_task,
)
from tests.support import cancel_handlers
from tests.support.helpers import eventually
from tests.support.stores import (
    LEASE,
    at,
    claim_one,
    existing,
    insert_and_claim,
    open_store,
    stored,
    success,
)
from tests.worker.test_cancel import (
    HANDLERS,
    TIMEOUT,
    asking,
    ended,
    seen,
    two_nodes,
)
from tests.worker.test_cancel import marks as marks  # the fixture

KINDS = ["async", "thread", "process"]


def handler_of(name: str, kind: Any) -> dict[str, Any]:
    """The handler of that name for a kind, as arguments."""
    return {
        "module": HANDLERS,
        "method": f"{name}_async" if kind == "async" else name,
        "options": HandlerOptions(executor=kind),
    }


async def progress_of(queue: TaskQueue, task_id: str) -> TaskProgress | None:
    task = await queue.get(task_id)
    assert task is not None
    return task.progress


async def reported(queue: TaskQueue, task_id: str, value: Any) -> None:
    async def is_reported() -> bool:
        progress = await progress_of(queue, task_id)
        return progress is not None and progress.value == value

    await eventually(is_reported, timeout=TIMEOUT, message=f"the progress {value!r}")


# The store.


async def test_progress_is_fenced(database: str) -> None:
    """Fails where a stale attempt, or another holder, or a late report changes the row."""
    async with open_store(database) as store:
        first = await insert_and_claim(store)
        await store.attempts.release("worker", [(first.id, 1)], at(0))
        await claim_one(store)
        await store.attempts.progress("worker", {(first.id, 2): '{"value":1}'})
        before = await stored(database)
        await store.attempts.progress("worker", {(first.id, 1): '{"value":2}'})
        await store.attempts.progress("other", {(first.id, 2): '{"value":3}'})
        assert await stored(database) == before
        assert (await existing(store, first.id)).progress == TaskProgress(value=1)


async def test_progress_of_an_ended_task_is_refused(database: str) -> None:
    async with open_store(database) as store:
        row = await insert_and_claim(store)
        await store.attempts.finish("worker", [success(row)], now=at(10))
        before = await stored(database)
        await store.attempts.progress("worker", {(row.id, 1): '{"value":1}'})
        assert await stored(database) == before


async def test_progress_is_no_change_of_the_task(database: str) -> None:
    async with open_store(database) as store:
        row = await insert_and_claim(store)
        before = await existing(store, row.id)
        await store.attempts.progress("worker", {(row.id, 1): '{"value":1,"message":"one"}'})
        task = await existing(store, row.id)
        assert task.progress == TaskProgress(value=1, message="one")
        assert task.model_copy(update={"progress": None}) == before
        assert (await store.sweep.leases(10, at(LEASE - 1)))[0] == 0
        assert (await store.sweep.leases(10, at(LEASE)))[0] == 1


async def test_the_progress_of_many_is_written_at_once(database: str) -> None:
    async with open_store(database) as store:
        rows = [await insert_and_claim(store) for _ in range(3)]
        await store.attempts.progress(
            "worker", {(row.id, 1): f'{{"value":{n}}}' for n, row in enumerate(rows)}
        )
        found = [(await existing(store, row.id)).progress for row in rows]
        assert found == [TaskProgress(value=n) for n in range(3)]


# What handlers report.

SAID: list[dict[str, Any]] = [
    {"value": {"done": 3, "of": [6, None]}, "message": "drei ✓", "checkpoint": {"at": 3}},
    {"value": 0.5},
    {"value": False, "checkpoint": 0},
    {"value": None, "message": ""},
]


@pytest.mark.parametrize("kind", KINDS)
async def test_progress_is_read_while_the_handler_runs(
    database: str, tmp_path: Path, kind: str
) -> None:
    async with two_nodes(database) as (node, other):
        await node.register_handler("t", **handler_of("reports", kind))
        await node.start()
        for n, said in enumerate(SAID):
            marks = tmp_path / str(n)
            marks.mkdir()
            task_id = await other.create("t", asking(marks, **said), retain_for=-1)

            async def is_there(task_id: str = task_id) -> bool:
                return await progress_of(other, task_id) is not None

            await eventually(is_there, timeout=TIMEOUT)
            task = await other.get(task_id)
            assert task is not None
            assert (task.status, task.progress) == ("processing", TaskProgress(**said))
            # The handler waits for this, so it was still running.
            (marks / "go").touch()
            task = await ended(other, task_id)
            assert (task.status, task.progress) == ("success", TaskProgress(**said))
            written = json.loads(task.model_dump_json(by_alias=True))["progress"]
            assert written == {name: part for name, part in said.items() if part is not None}


async def test_json_has_no_progress_where_there_was_none(database: str, marks: Path) -> None:
    async with two_nodes(database) as (node, _):
        await node.register_handler("t", HANDLERS, "polite_async")
        await node.start()
        task = await ended(node, await node.create("t", asking(marks, quick=True), retain_for=-1))
    assert task.progress is None
    assert "progress" not in json.loads(task.model_dump_json(by_alias=True))


@pytest.mark.parametrize("kind", KINDS)
async def test_the_next_attempt_goes_on_from_the_checkpoint(database: str, kind: str) -> None:
    """Fails where a failure, or a report without one, takes the checkpoint away."""
    async with two_nodes(database) as (node, other):
        await node.register_handler("t", **handler_of("resumes", kind))
        await node.start()
        task = await ended(other, await other.create("t", retain_for=-1))
    assert (task.status, task.attempt, task.result) == ("success", 2, {"at": [5]})
    assert task.progress == TaskProgress(value=2, checkpoint={"at": [5]})


async def test_a_checkpoint_is_kept_by_reports_of_the_next_attempt(database: str) -> None:
    async with two_nodes(database) as (node, other):
        await node.register_handler("t", HANDLERS, "resumes_and_reports")
        await node.start()
        task = await ended(other, await other.create("t", retain_for=-1))
    assert task.progress == TaskProgress(value=3, checkpoint={"at": [5]})


@pytest.mark.parametrize(
    "kind",
    [
        "async",
        "thread",
        "process",
    ],
)
async def test_the_last_progress_is_never_lost(database: str, kind: str) -> None:
    """Fails where the outcome is written before the progress: the fence then refuses it."""
    async with two_nodes(database) as (node, other):
        await node.register_handler("t", **handler_of("report_and_end", kind))
        await node.start()
        await other.create_many(NewTask("t", n, retry_count=0, retain_for=-1) for n in range(200))

        async def all_ended() -> bool:
            counts = await other.counts()
            return counts[TaskStatus.FAILED] == counts[TaskStatus.SUCCESS] == 100

        await eventually(all_ended, timeout=2 * TIMEOUT)
        tasks = (await other.query(limit=500)).entities
    assert [task.progress for task in tasks] == [TaskProgress(value=n) for n in range(200)]


async def test_the_last_words_of_a_process_are_kept(database: str) -> None:
    """Fails where the death of a process is handled before what it said is read."""
    async with two_nodes(database) as (node, other):
        await node.register_handler("t", **handler_of("report_and_die", "process"))
        await node.start()
        task = await ended(other, await other.create("t", retry_count=0, retain_for=-1))
    assert (task.status, task.progress) == ("failed", TaskProgress(value="last words"))


@pytest.mark.parametrize("kind", KINDS)
async def test_many_reports_are_few_writes(
    database: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where each report is a write."""
    writes: list[int] = []
    async with two_nodes(database) as (node, other):
        progress = node._store.attempts.progress

        async def counted(holder: str, reports: Any, **options: Any) -> set[str]:
            writes.append(len(reports))
            return await progress(holder, reports, **options)

        monkeypatch.setattr(node.runtime.worker_store.attempts, "progress", counted)
        await node.register_handler("t", **handler_of("reports_often", kind))
        await node.start()
        task = await ended(other, await other.create("t", 10_000, retain_for=-1))
    assert (task.status, task.progress) == ("success", TaskProgress(value=10_000))
    assert 1 <= sum(writes) < 200


# Who may not report.


@pytest.mark.parametrize("how", ["remove", "release"])
async def test_a_thread_that_lost_its_task_is_told(database: str, marks: Path, how: str) -> None:
    """Fails where a handler in a thread cannot know that nobody wants it to go on."""
    async with two_nodes(database, lease=1000) as (node, other), open_store(database) as store:
        await node.register_handler("t", **handler_of("reports_until_lost", "thread"))
        await node.start()
        task_id = await other.create("t", asking(marks), retain_for=-1)
        await seen(marks / "began")
        if how == "remove":
            assert await other.remove(task_id)
        else:
            assert node.runtime.worker is not None
            assert await store.attempts.release(node.runtime.worker.holder, [(task_id, 1)])
        try:
            await seen(marks / "LeaseLostError")
        finally:
            (marks / "release").touch()
        if how == "release":
            task = await ended(other, task_id)
            assert (task.attempt, task.result) == (2, "second")


async def test_a_handler_that_was_given_up_is_told(database: str, marks: Path) -> None:
    async with two_nodes(database) as (node, other):
        options = HandlerOptions(cancel_timeout=50)
        await node.register_handler("t", HANDLERS, "reports_after_cancellation", options=options)
        await node.start()
        task_id = await other.create("t", asking(marks), retain_for=-1)
        await seen(marks / "began")
        assert await other.cancel(task_id, running=True)
        try:
            task = await ended(other, task_id)
        finally:
            (marks / "release").touch()
        await seen(marks / "returned")
        assert (marks / "LeaseLostError").exists()
        assert await other.get(task_id) == task
    assert (task.status, task.progress) == ("cancelled", None)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_no_json_is_refused(database: str, kind: str) -> None:
    """Fails where a report is checked only when it is stored, and takes others with it."""
    refused = {
        **dict.fromkeys(
            [
                "nan",
                "object",
                "nul",
                "nul in the message",
                "surrogate",
                "surrogate in the checkpoint",
                "large",
                "large checkpoint",
                "deep",
            ],
            "InvalidPayloadError",
        ),
        "message": "InvalidArgumentError",
    }
    limits = SizeLimits(progress_bytes=200, depth=8)
    async with two_nodes(database, limits=limits) as (node, other):
        await node.register_handler("t", **handler_of("bad", kind))
        await node.start()
        ids = {name: await other.create("t", name, retain_for=-1) for name in refused}
        allowed = await other.create("t", "as deep as may be", retain_for=-1)
        for name, task_id in ids.items():
            task = await ended(other, task_id)
            assert (name, task.result, task.progress) == (name, refused[name], None)
        task = await ended(other, allowed)
        assert task.result == "none"
        assert task.progress is not None


def test_there_is_no_task_outside_a_handler() -> None:
    with pytest.raises(RowlockError, match="handler"):
        current_task()


async def test_there_is_no_task_in_a_hook(sqlite_url: str, marks: Path) -> None:
    """Fails where `shutdown_method` sees, and may report for, the last task of its worker."""
    cancel_handlers.hooks.clear()
    async with two_nodes(sqlite_url) as (node, _):
        options = HandlerOptions(
            max_worker_count=1, initialise_method="hook", shutdown_method="hook"
        )
        await node.register_handler("t", HANDLERS, "polite_async", options=options)
        await node.start()
        await ended(node, await node.create("t", asking(marks, quick=True), retain_for=-1))
    assert cancel_handlers.hooks == ["RowlockError", "RowlockError"]


async def test_a_thread_left_behind_reports_for_no_other_task(sqlite_url: str, marks: Path) -> None:
    """Fails where the parent takes a report for the task that runs by now."""
    async with two_nodes(sqlite_url) as (node, other):
        options = HandlerOptions(executor="process", max_worker_count=1)
        await node.register_handler("t", HANDLERS, "leaves_a_thread", options=options)
        await node.start()
        first = await other.create("t", asking(marks), retain_for=-1)
        assert (await ended(other, first)).result == "done"
        second = await other.create("t", asking(marks, next=True), retain_for=-1)
        task = await ended(other, second)
        assert (task.result, task.progress) == ("done", None)


# When a worker stops, and when the database is away.


async def test_a_stop_keeps_the_progress_of_what_it_puts_back(database: str, marks: Path) -> None:
    """Fails where a task goes back to pending before its progress is written."""
    async with two_nodes(database, stop_timeout=0) as (node, other):
        await node.register_handler("t", HANDLERS, "reports_twice")
        await node.start()
        task_id = await other.create("t", asking(marks), retain_for=-1)
        await reported(other, task_id, 1)
        # So soon after the first that it is not yet written.
        (marks / "first").touch()
        await seen(marks / "second")
        await node.stop()
        task = await other.get(task_id)
        assert task is not None
        assert (task.status, task.attempt) == ("pending", 1)
        assert task.progress == TaskProgress(value=2, checkpoint=[2])


@pytest.mark.parametrize("kind", KINDS)
async def test_a_database_that_is_away_for_a_while(
    database: str, marks: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where a report that could not be stored is dropped, or disturbs the handler."""
    tries: list[Any] = []
    async with two_nodes(database) as (node, other):
        progress = node._store.attempts.progress

        async def away_twice(holder: str, reports: Any, **options: Any) -> set[str]:
            tries.append(reports)
            if len(tries) <= 2:
                raise DatabaseUnavailableError("away")
            return await progress(holder, reports, **options)

        monkeypatch.setattr(node.runtime.worker_store.attempts, "progress", away_twice)
        await node.register_handler("t", **handler_of("reports", kind))
        await node.start()
        task_id = await other.create("t", asking(marks, value=1), retain_for=-1)
        await reported(other, task_id, 1)
        assert len(tries) == 3
        (marks / "go").touch()
        task = await ended(other, task_id)
    assert (task.status, task.attempt, task.result) == ("success", 1, "done")
    assert task.progress == TaskProgress(value=1)


async def test_an_outcome_waits_for_a_progress_that_cannot_be_stored(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where the outcome is written although the progress before it was not."""
    tries = 0
    async with two_nodes(database) as (node, other):
        progress = node._store.attempts.progress

        async def away_twice(holder: str, reports: Any, **options: Any) -> set[str]:
            nonlocal tries
            tries += 1
            if tries <= 2:
                raise DatabaseUnavailableError("away")
            return await progress(holder, reports, **options)

        monkeypatch.setattr(node.runtime.worker_store.attempts, "progress", away_twice)
        await node.register_handler("t", HANDLERS, "report_and_end_async")
        await node.start()
        task = await ended(other, await other.create("t", 2, retain_for=-1))
    assert (task.status, task.progress) == ("success", TaskProgress(value=2))
