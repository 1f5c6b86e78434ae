"""`cancel(task_id, running=True)`, removal and timeouts of tasks that run."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, cast

import pytest

from rowlock import HandlerOptions, InvalidArgumentError, SizeLimits, Task, TaskQueue, TaskStatus
from rowlock._client.hints import Hints
from rowlock._endings import CANCELLED, HandlerResult
from rowlock._events import Events
from rowlock._executors.handler import Handler
from rowlock._executors.in_process import _Process
from rowlock._executors.messages import CANCEL, RUN, pack
from rowlock._rows import TaskRow
from rowlock._store.ends import AttemptOutcome
from rowlock._store.store import Store
from rowlock._worker.cancels import Cancels
from rowlock._worker.concurrent_pool import ConcurrentPool
from rowlock._worker.held import Held
from rowlock._worker.pool import Job, Pool
from rowlock._worker.slot_pool import SlotPool
from tests.support import cancel_handlers
from tests.support.cancel_handlers import START_GATE
from tests.support.helpers import eventually, hold_claims
from tests.support.pools import Owner, job_for
from tests.support.stores import (
    LEASE,
    at,
    claim_one,
    existing,
    failure,
    insert_and_claim,
    new_row,
    open_store,
    stored,
    success,
)

HANDLERS = "tests.support.cancel_handlers"
TIMEOUT = 30
# For what never comes while a test is expected to fail.
NEVER = 3_600_000
ENDED = (TaskStatus.SUCCESS, TaskStatus.FAILED, TaskStatus.CANCELLED)

# The handler that ends when it is told to, and the executor.
POLITE: dict[str, tuple[str, Any]] = {
    "async": ("polite_async", "async"),
    "thread": ("polite", "thread"),
    "process": ("polite", "process"),
    "async in a process": ("polite_async", "process"),
}


# The store.


async def ask(store: Store, row: TaskRow) -> None:
    task = await store.tasks.cancel(row.id, at(10), running=True)
    assert task is not None
    assert (task.status, task.thread_id, task.date_cancelled) == ("processing", "worker", None)


async def test_a_request_is_seen_by_its_holder_and_attempt_only(database: str) -> None:
    async with open_store(database) as store:
        row = await insert_and_claim(store)
        other = await insert_and_claim(store)
        assert await store.attempts.cancel_requests("worker", [(row.id, 1)]) == set()
        await ask(store, row)
        assert await store.attempts.cancel_requests("worker", [(row.id, 1), (other.id, 1)]) == {
            row.id
        }
        assert await store.attempts.cancel_requests("worker", [(row.id, 2)]) == set()
        assert await store.attempts.cancel_requests("other", [(row.id, 1)]) == set()
        assert (await existing(store, row.id)).date_modified == at(0)


async def finish(store: Store, row: TaskRow, how: str) -> Task:
    """End an attempt whose task was asked to be cancelled."""
    changed: list[Task]
    if how == "release":
        changed = (await store.attempts.release("worker", [(row.id, 1)], at(LEASE)))[0]
    elif how == "sweep":
        found, changed, _ = await store.sweep.leases(10, at(LEASE))
        assert found == 1
    else:
        outcome = {
            "failure": failure(row),
            "final failure": failure(row, retry=False),
            "cancelled": AttemptOutcome(row, CANCELLED),
        }[how]
        done = (await store.attempts.finish("worker", [outcome], now=at(LEASE))).tasks
        changed = [task for task in done.values() if task is not None]
    (task,) = changed
    return task


HOWS = ["failure", "final failure", "release", "sweep", "cancelled"]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("retain_for", [-1, 60_000])
async def test_a_request_is_honoured_whatever_ends_the_attempt(
    database: str, how: str, retain_for: int
) -> None:
    async with open_store(database) as store:
        row = await insert_and_claim(store, retain_for=retain_for, retries_remaining=3)
        await ask(store, row)
        task = await finish(store, row, how)
        assert task == await existing(store, row.id)
        assert (task.status, task.date_cancelled) == ("cancelled", at(LEASE))
        assert (task.date_completed, task.result) == (None, None)
        assert (task.retries_remaining, task.attempt) == (3, 1)
        assert task.date_retain_until == (None if retain_for == -1 else at(LEASE + 60_000))
        assert await store.attempts.cancel_requests("worker", [(row.id, 1)]) == set()
        assert await store.database.claim("worker", {"t": 1}, LEASE, at(NEVER)) == []


@pytest.mark.parametrize("how", HOWS)
async def test_what_is_not_kept_is_removed_at_once(database: str, how: str) -> None:
    """Fails where only the holder's own knowledge of the request removes the row."""
    retries = 0 if how == "final failure" else None
    async with open_store(database) as store:
        row = await insert_and_claim(store, retain_for=0, retries_remaining=retries)
        await ask(store, row)
        task = await finish(store, row, how)
        assert await store.tasks.get(row.id) is None
        assert (task.status, task.date_cancelled) == ("cancelled", at(LEASE))


@pytest.mark.parametrize("retain_for", [-1, 0])
async def test_a_success_of_the_holder_wins(database: str, retain_for: int) -> None:
    async with open_store(database) as store:
        row = await insert_and_claim(store, retain_for=retain_for)
        await ask(store, row)
        done = (await store.attempts.finish("worker", [success(row)], now=at(20))).tasks
        task = done[row.id]
        assert task is not None
        assert (task.status, task.result, task.date_cancelled) == ("success", "done", None)
        assert await store.attempts.cancel_requests("worker", [(row.id, 1)]) == set()


@pytest.mark.parametrize("retain_for", [-1, 0])
async def test_a_stale_attempt_cancels_nothing(database: str, retain_for: int) -> None:
    """Fails where the outcome "cancelled" is not fenced by holder and attempt."""
    async with open_store(database) as store:
        first = await insert_and_claim(store, retain_for=retain_for)
        await store.attempts.release("worker", [(first.id, 1)], at(0))
        second = await claim_one(store)
        await ask(store, second)
        before = await stored(database)
        assert (
            await store.attempts.finish("worker", [AttemptOutcome(first, CANCELLED)], now=at(20))
        ).tasks == {}
        assert (
            await store.attempts.finish("other", [AttemptOutcome(second, CANCELLED)], now=at(20))
        ).tasks == {}
        assert (await store.attempts.release("worker", [(first.id, 1)], at(20)))[0] == []
        assert await stored(database) == before


async def test_nothing_of_a_request_is_left_after_a_retry(database: str) -> None:
    """Fails where the end of an attempt leaves the request in the row."""
    async with open_store(database) as store:
        for how in HOWS:
            row = await insert_and_claim(store)
            await ask(store, row)
            await finish(store, row, how)
            assert await store.tasks.retry(row.id, at(0)) is not None
            again = await claim_one(store)
            assert (again.id, again.attempt, again.cancel_requested) == (row.id, 2, None)
            assert await store.attempts.cancel_requests("worker", [(row.id, 2)]) == set()
            done = (await store.attempts.finish("worker", [failure(again)], now=at(20))).tasks
            task = done[row.id]
            assert task is not None
            assert task.status == "pending"
            assert await store.tasks.cancel(row.id, at(30)) is not None


async def test_a_success_leaves_no_request(database: str) -> None:
    async with open_store(database) as store:
        row = await insert_and_claim(store)
        await ask(store, row)
        await store.attempts.finish("worker", [success(row)], now=at(20))
        (values,) = await stored(database)
        assert "cancelled" not in str(values)
        assert await store.attempts.cancel_requests("worker", [(row.id, 1)]) == set()


async def test_without_running_a_processing_task_is_left_alone(database: str) -> None:
    async with open_store(database) as store:
        row = await insert_and_claim(store)
        before = await stored(database)
        assert await store.tasks.cancel(row.id, at(10)) is None
        assert await stored(database) == before


@pytest.mark.parametrize("retain_for", [-1, 0, 60_000])
async def test_running_cancels_a_pending_task_like_any(database: str, retain_for: int) -> None:
    async with open_store(database) as store:
        task_id = await store.tasks.insert(new_row(retain_for=retain_for), at(0))
        task = await store.tasks.cancel(task_id, at(10), running=True)
        assert task is not None
        assert (task.status, task.date_cancelled) == ("cancelled", at(10))
        assert task.date_retain_until == (at(60_010) if retain_for == 60_000 else None)
        assert (await store.tasks.get(task_id) is None) == (retain_for == 0)


async def test_running_leaves_ended_tasks_alone(database: str) -> None:
    async with open_store(database) as store:
        rows = [await insert_and_claim(store) for _ in range(3)]
        outcomes = [
            success(rows[0]),
            failure(rows[1], retry=False),
            AttemptOutcome(rows[2], CANCELLED),
        ]
        await store.attempts.finish("worker", outcomes, now=at(10))
        before = await stored(database)
        for row in rows:
            assert await store.tasks.cancel(row.id, at(20), running=True) is None
        assert await store.tasks.cancel("0" * 32, at(20), running=True) is None
        assert await stored(database) == before


async def test_asking_twice_is_harmless(database: str) -> None:
    async with open_store(database) as store:
        row = await insert_and_claim(store)
        await ask(store, row)
        await ask(store, row)
        assert await store.attempts.cancel_requests("worker", [(row.id, 1)]) == {row.id}
        assert (await finish(store, row, "failure")).status == "cancelled"
        assert await store.tasks.cancel(row.id, at(LEASE + 1), running=True) is None


# Two nodes.


@asynccontextmanager
async def two_nodes(database: str, **settings: Any) -> AsyncIterator[tuple[TaskQueue, TaskQueue]]:
    """A node for the handlers, and another one on the same database."""
    cancel_handlers.cancelled.clear()
    options = {"retry_interval": 10, "stop_timeout": 1000, **settings}
    async with TaskQueue(database, **options) as node, TaskQueue(database, **options) as other:
        yield node, other


async def ended(queue: TaskQueue, task_id: str) -> Task:
    found: list[Task] = []

    async def has_ended() -> bool:
        task = await queue.get(task_id)
        assert task is not None
        found[:] = [task]
        return task.status in ENDED

    await eventually(has_ended, timeout=TIMEOUT)
    return found[0]


async def seen(path: Path) -> None:
    await eventually(path.exists, timeout=TIMEOUT, message=f"the mark {path.name}")


async def gone(pid: int) -> None:
    def is_gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    await eventually(is_gone, timeout=TIMEOUT, message=f"the end of process {pid}")


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """Where handlers leave their marks."""
    path = tmp_path / "marks"
    path.mkdir()
    return path


def asking(marks: Path, **more: Any) -> dict[str, Any]:
    return {"marks": str(marks), **more}


@pytest.mark.parametrize("kind", POLITE)
@pytest.mark.parametrize(
    "notify",
    [pytest.param(True, id="hints", marks=pytest.mark.session), pytest.param(False, id="polling")],
)
async def test_a_task_is_cancelled_from_another_node(
    database: str, marks: Path, kind: str, notify: bool
) -> None:
    """With hints: fails where none reaches the holder, which would not poll in time."""
    handler, executor = POLITE[kind]
    interval = NEVER if notify else 50
    async with two_nodes(database, notify=notify, poll_interval=interval) as (node, other):
        options = HandlerOptions(executor=executor, cancel_timeout=NEVER)
        await node.register_handler("t", HANDLERS, handler, options=options)
        await node.start()
        task_id = await other.create("t", asking(marks), retry_count=5, retain_for=-1)
        await seen(marks / "began")
        assert await other.cancel(task_id, running=True)
        task = await ended(other, task_id)
        assert (marks / "cancelled").exists()
        assert (marks / "finally").exists() == ("async" in kind)
        assert cancel_handlers.cancelled == ([task_id] if kind == "async" else [])
    assert (task.status, task.attempt, task.retries_remaining) == ("cancelled", 1, 5)
    assert (task.date_cancelled, task.date_completed) == (task.date_modified, None)
    assert (task.result, task.error) == (None, None)


@pytest.mark.parametrize("kind", ["async", "thread", "process"])
async def test_the_node_that_ran_it_tells_and_goes_on(
    database: str, marks: Path, kind: str
) -> None:
    """The callbacks come once each, where the change was made; the slot works again."""
    told: list[tuple[str, str]] = []
    told_other: list[tuple[str, str]] = []
    handler, executor = POLITE[kind]
    async with two_nodes(database) as (node, other):
        options = HandlerOptions(executor=executor, max_worker_count=1)
        for queue, calls in ((node, told), (other, told_other)):

            def changed(task: Task, calls: list[tuple[str, str]] = calls) -> None:
                calls.append((task.id, task.status))

            await queue.register_handler("t", HANDLERS, handler, changed, options)
        await node.start()
        task_id = await other.create("t", asking(marks))
        await seen(marks / "began")
        assert await other.cancel(task_id, running=True)
        following = await other.create("t", asking(marks, quick=True), retain_for=-1)
        assert (await ended(other, following)).result == "done"
        await eventually(lambda: len(told) == 4, timeout=TIMEOUT)
        assert await other.get(task_id) is None
    assert [status for each, status in told if each == task_id] == ["processing", "cancelled"]
    assert [status for each, status in told if each == following] == ["processing", "success"]
    assert told_other == []


@pytest.mark.parametrize("kind", ["async", "thread", "process"])
async def test_a_cancelled_task_is_run_again_by_retry(
    database: str, marks: Path, kind: str
) -> None:
    """Fails where the request, or the cancellation of the slot, reaches the next attempt."""
    handler, executor = POLITE[kind]
    async with two_nodes(database) as (node, other):
        options = HandlerOptions(executor=executor, max_worker_count=1)
        await node.register_handler("t", HANDLERS, handler, options=options)
        await node.start()
        task_id = await other.create("t", asking(marks), retain_for=-1)
        await seen(marks / "began")
        assert await other.cancel(task_id, running=True)
        assert (await ended(other, task_id)).status == "cancelled"
        (marks / "go").touch()
        assert await other.retry(task_id)
        task = await ended(other, task_id)
    assert (task.status, task.attempt, task.result) == ("success", 2, "done")
    assert task.date_cancelled is None


async def test_a_node_cancels_its_own_task_without_hints(database: str, marks: Path) -> None:
    async with two_nodes(database, notify=False, poll_interval=NEVER) as (node, _):
        await node.register_handler("t", HANDLERS, "polite_async")
        await node.start()
        task_id = await node.create("t", asking(marks), retain_for=-1)
        await seen(marks / "began")
        assert not await node.cancel(task_id)
        assert await node.cancel(task_id, running=True)
        assert (await ended(node, task_id)).status == "cancelled"
        assert not await node.cancel(task_id, running=True)


@pytest.mark.parametrize("handler", ["sleeps", "sleeps_async"])
async def test_a_process_that_does_not_end_is_killed(
    database: str, marks: Path, handler: str
) -> None:
    # The `async def` ends at once by its CancelledError, and its process lives.
    async with two_nodes(database) as (node, other):
        options = HandlerOptions(executor="process", cancel_timeout=200, max_worker_count=1)
        await node.register_handler("t", HANDLERS, handler, options=options)
        await node.register_handler("next", HANDLERS, "polite", options=options)
        await node.start()
        task_id = await other.create("t", asking(marks), retain_for=-1)
        await seen(marks / "began")
        assert await other.cancel(task_id, running=True)
        task = await ended(other, task_id)
        assert (task.status, task.error) == ("cancelled", None)
        if handler == "sleeps":
            await gone(int((marks / "began").read_text()))
            (marks / "began").unlink()
            # The type has a new process.
            again = await other.create("t", asking(marks))
            await seen(marks / "began")
            assert await other.cancel(again, running=True)


@pytest.mark.parametrize("handler", ["deaf_async", "deaf"])
async def test_a_handler_that_does_not_end_is_given_up(
    database: str, marks: Path, handler: str
) -> None:
    """Fails where the late result is stored, or the slot is lost or used before its time."""
    executor: Literal["async", "thread"] = "thread" if handler == "deaf" else "async"
    async with two_nodes(database) as (node, other):
        options = HandlerOptions(executor=executor, cancel_timeout=50, max_worker_count=1)
        await node.register_handler("t", HANDLERS, handler, options=options)
        await node.start()
        task_id = await other.create("t", asking(marks), retain_for=-1)
        await seen(marks / "began")
        assert await other.cancel(task_id, running=True)
        try:
            # It has not returned: the mark that it waits for is still to come.
            cancelled = await ended(other, task_id)
            assert cancelled.status == "cancelled"
            following = await other.create("t", asking(marks, quick=True), retain_for=-1)
        finally:
            (marks / "release").touch()
        task = await ended(other, following)
        assert (task.status, task.result) == ("success", True if handler == "deaf" else "done")
        assert (marks / "returned").exists()
        assert await other.get(task_id) == cancelled


@pytest.mark.parametrize(
    ("handler", "executor"),
    [
        ("returns_async", "async"),
        ("returns_async", "process"),
        ("breaks_async", "async"),
        ("breaks_async", "process"),
        ("breaks", "thread"),
        ("breaks", "process"),
    ],
)
async def test_whatever_the_handler_does_once_it_is_told(
    sqlite_url: str, marks: Path, handler: str, executor: Any
) -> None:
    """It returns, or raises an error of its own: the task is cancelled, and not tried again."""
    async with two_nodes(sqlite_url) as (node, other):
        options = HandlerOptions(executor=executor, cancel_timeout=NEVER)
        await node.register_handler("t", HANDLERS, handler, options=options)
        await node.start()
        task_id = await other.create("t", asking(marks), retain_for=-1)
        await seen(marks / "began")
        assert await other.cancel(task_id, running=True)
        task = await ended(other, task_id)
    assert (task.status, task.attempt, task.result) == ("cancelled", 1, None)
    assert task.error is None


async def test_a_task_whose_worker_still_starts(
    database: str, marks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has been claimed and waits; it is cancelled without having begun."""
    monkeypatch.setenv(START_GATE, str(marks / "start"))
    async with two_nodes(database) as (node, other):
        options = HandlerOptions(
            executor="process", max_worker_count=1, initialise_method="wait_to_start"
        )
        await node.register_handler("t", HANDLERS, "polite", options=options)
        await node.start()
        task_id = await other.create("t", asking(marks), retain_for=-1)

        async def claimed() -> bool:
            task = await other.get(task_id)
            return task is not None and task.attempt > 0

        await eventually(claimed, timeout=TIMEOUT)
        assert await other.cancel(task_id, running=True)
        assert (await ended(other, task_id)).status == "cancelled"
        (marks / "start").touch()
        following = await other.create("t", asking(marks, quick=True), retain_for=-1)
        assert (await ended(other, following)).status == "success"
    assert not (marks / "began").exists()


async def test_a_task_whose_holder_has_died(database: str) -> None:
    async with two_nodes(database, sweep_interval=100) as (node, other):
        async with open_store(database) as store:
            task_id = await store.tasks.insert(new_row(run_at=None))
            await store.database.claim("gone", {"t": 1}, 1)
        assert await other.cancel(task_id, running=True)
        await node.start()
        task = await ended(other, task_id)
    assert (task.status, task.thread_id, task.attempt) == ("cancelled", "gone", 1)
    assert task.date_cancelled is not None


async def test_running_must_be_a_bool(sqlite_url: str) -> None:
    async with TaskQueue(sqlite_url) as queue:
        task_id = await queue.create("t")
        for bad in ("x", 1, None):
            with pytest.raises(InvalidArgumentError, match="running"):
                await queue.cancel(task_id, running=bad)  # type: ignore[arg-type]
        task = await queue.get(task_id)
        assert task is not None
        assert task.status == "pending"


@pytest.mark.session
async def test_a_request_while_the_claim_is_under_way(
    database: str, marks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where the hint is dropped because the worker does not yet know what it holds."""
    hints: list[str | None] = []
    looks = 0
    hint, hear = Cancels.hint, Hints.hear

    def hinted(cancels: Cancels, holder: str | None) -> None:
        hints.append(holder)
        hint(cancels, holder)

    async def watched(hints: Hints) -> float:
        nonlocal looks
        delay = await hear(hints)
        looks += 1
        return delay

    monkeypatch.setattr(Cancels, "hint", hinted)
    monkeypatch.setattr(Hints, "hear", watched)
    # No extension of a lease, which on SQLite is a hint by itself.
    async with two_nodes(database, poll_interval=NEVER, lease=NEVER) as (node, other):
        await node.register_handler("t", HANDLERS, "polite_async")
        await node.start()
        taken, gate = hold_claims(monkeypatch, node)
        task_id = await other.create("t", asking(marks), retain_for=-1)
        await taken.wait()
        assert await other.cancel(task_id, running=True)
        assert node.runtime.worker is not None
        holder, before = node.runtime.worker.holder, looks
        # On SQLite the hint names nobody; of two looks the second began after the request.
        await eventually(lambda: holder in hints or looks >= before + 2, timeout=TIMEOUT)
        gate.set()
        await seen(marks / "began")
        await eventually((marks / "cancelled").exists, timeout=TIMEOUT)


async def test_a_busy_worker_looks_no_longer_than_it_has_to(database: str) -> None:
    """Fails where it looks again for as long as it holds anything that was claimed just now."""
    async with open_store(database) as store:
        held = Held("me", store.attempts, Events(), 60_000)
        cancels = Cancels(store.attempts, held, Events(), 60)
        cancels.hint(None)
        for _ in range(8):
            job = Job(await insert_and_claim(store), time.monotonic(), cast(Pool, None))
            held.jobs[job.key] = job
            if await cancels.handle_cancel_requests():
                return
    pytest.fail("it looks for ever")


# One pool.


def payload_json(marks: Path) -> str:
    return f'{{"marks":"{marks}"}}'


async def test_a_task_that_waits_for_a_slot_is_cancelled_at_once(tmp_path: Path) -> None:
    owner = Owner()
    handler = Handler.resolve("t", HANDLERS, "polite_async", HandlerOptions(max_worker_count=1))
    pool = ConcurrentPool(handler, SizeLimits(), owner)
    first, second = (tmp_path / "first", tmp_path / "second")
    first.mkdir()
    second.mkdir()
    runs, waits = (job_for(pool, payload=payload_json(path)) for path in (first, second))
    pool.submit(runs)
    pool.submit(waits)
    await seen(first / "began")
    pool.cancel(waits)
    assert owner.endings == [(waits, CANCELLED)]
    pool.cancel(waits)
    (first / "go").touch()
    await eventually(lambda: len(owner.endings) == 2, timeout=TIMEOUT)
    await pool.close()
    assert owner.endings == [(waits, CANCELLED), (runs, HandlerResult(result='"done"'))]
    assert not (second / "began").exists()


@pytest.mark.parametrize("handler", ["polite", "polite_async"])
async def test_a_process_that_is_told_at_once(
    tmp_path: Path, handler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where a request that comes with the task is lost: the process is then killed."""
    send = _Process.send
    held: list[bytes] = []

    def send_together(process: _Process, kind: bytes, *parts: bytes) -> None:
        # The two messages come to the child in one read, as they may if it is slow.
        if kind == RUN:
            held[:] = [pack(kind, *parts)]
            asyncio.get_running_loop().call_soon(pool.cancel, job)
        elif kind == CANCEL:
            stdin: Any = process._transport.get_pipe_transport(0)
            stdin.write(held.pop() + pack(kind, *parts))
        else:
            send(process, kind, *parts)

    monkeypatch.setattr(_Process, "send", send_together)
    owner = Owner()
    options = HandlerOptions(executor="process", max_worker_count=1, cancel_timeout=5000)
    pool = SlotPool(Handler.resolve("t", HANDLERS, handler, options), SizeLimits(), owner)
    for n in range(3):
        path = tmp_path / str(n)
        path.mkdir()
        job = job_for(pool, payload=payload_json(path))
        pool.submit(job)
        await eventually(owner.endings.copy, timeout=TIMEOUT)
        assert owner.endings.pop() == (job, CANCELLED)
        # An `async def` need not even begin.
        told = (path / "cancelled").exists() or not (path / "began").exists()
        if not told:
            break
    await pool.close()
    assert told


# Removal.


async def test_the_process_of_a_removed_task_is_ended(database: str, marks: Path) -> None:
    """Fails where a lost attempt is only dropped, and its process goes on."""
    async with two_nodes(database, lease=1000) as (node, other):
        options = HandlerOptions(executor="process", max_worker_count=1)
        await node.register_handler("t", HANDLERS, "sleeps", options=options)
        await node.start()
        task_id = await other.create("t", asking(marks), retain_for=-1)
        await seen(marks / "began")
        assert await other.remove(task_id)
        assert await other.get(task_id) is None
        await gone(int((marks / "began").read_text()))
        assert await other.get(task_id) is None


# Timeouts.


@pytest.mark.parametrize(
    ("handler", "executor"),
    [("sleeps_async", "async"), ("deaf", "thread"), ("sleeps", "process")],
)
async def test_a_timeout_fails_each_try(
    postgres_url: str, marks: Path, handler: str, executor: Any
) -> None:
    async with two_nodes(postgres_url) as (node, other):
        options = HandlerOptions(executor=executor, timeout=100)
        await node.register_handler("t", HANDLERS, handler, options=options)
        await node.start()
        task_id = await other.create("t", asking(marks), retry_count=1, retain_for=-1)
        task = await ended(other, task_id)
        (marks / "release").touch()
    assert (task.status, task.attempt, task.retries_remaining) == ("failed", 2, 0)
    assert task.error is not None
    assert task.error.name == "TimeoutError"
    assert task.error.source == f"{HANDLERS}.{handler}"
    assert task.result is None


async def test_a_thread_that_timed_out_keeps_its_slot(postgres_url: str, marks: Path) -> None:
    """Fails where the slot is used before the handler has returned, or its result is stored."""
    async with two_nodes(postgres_url) as (node, other):
        options = HandlerOptions(executor="thread", timeout=100, max_worker_count=1)
        await node.register_handler("t", HANDLERS, "deaf", options=options)
        await node.register_handler("other", HANDLERS, "polite_async")
        await node.start()
        task_id = await other.create("t", asking(marks), retry_count=0, retain_for=-1)
        failed = await ended(other, task_id)
        following = await other.create("t", asking(marks, quick=True), retain_for=-1)
        # Once this has run, the worker has had the occasion to run the one before it.
        unrelated = await other.create("other", asking(marks, quick=True), retain_for=-1)
        assert (await ended(other, unrelated)).status == "success"
        (marks / "release").touch()
        # It tells whether the first handler had returned.
        assert (await ended(other, following)).result is True
        assert await other.get(task_id) == failed
    assert (failed.status, failed.attempt) == ("failed", 1)


async def test_a_thread_that_timed_out_is_told(sqlite_url: str, marks: Path) -> None:
    """Fails where `cancelled` stays False, and the handler keeps its slot for ever."""
    async with two_nodes(sqlite_url) as (node, other):
        options = HandlerOptions(executor="thread", timeout=100, max_worker_count=1)
        await node.register_handler("t", HANDLERS, "tells_late", options=options)
        await node.start()
        task_id = await other.create("t", asking(marks), retry_count=0, retain_for=-1)
        assert (await ended(other, task_id)).status == "failed"
        try:
            await eventually((marks / "told").exists, timeout=TIMEOUT)
        finally:
            (marks / "release").touch()
