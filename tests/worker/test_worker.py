"""The worker: handlers, retries, leases, stopping, hints, callbacks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rowlock import DatabaseUnavailableError, HandlerOptions, NewTask, Task, TaskQueue, TaskStatus
from rowlock._events import AttemptLost
from rowlock._rows import ClaimedRow
from tests.support import worker_handlers
from tests.support.helpers import eventually, hold_claims
from tests.support.stores import open_store

HANDLERS = "tests.support.worker_handlers"


@asynccontextmanager
async def open_queue(database: str, **settings: Any) -> AsyncIterator[TaskQueue]:
    worker_handlers.started.clear()
    worker_handlers.gate = asyncio.Event()
    options = {"retry_interval": 10, "lease": 1000, "sweep_interval": 100, **settings}
    async with TaskQueue(database, **options) as queue:
        yield queue


async def ended(queue: TaskQueue, task_id: str) -> Task:
    async def has_ended() -> bool:
        task = await queue.get(task_id)
        assert task is not None
        return task.status not in (TaskStatus.PENDING, TaskStatus.PROCESSING)

    await eventually(has_ended, timeout=20)
    task = await queue.get(task_id)
    assert task is not None
    return task


@pytest.mark.parametrize(
    ("handler", "result"),
    [("echo", {"a": [1, None]}), ("in_thread", [{"a": [1, None]}, 1]), ("nothing", None)],
)
async def test_runs_each_kind_of_handler(database: str, handler: str, result: Any) -> None:
    async with open_queue(database) as queue:
        await queue.register_handler("t", HANDLERS, handler)
        await queue.start()
        task = await ended(queue, await queue.create("t", {"a": [1, None]}, retain_for=-1))
    assert (task.status, task.result, task.attempt) == ("success", result, 1)
    assert task.date_completed == task.date_modified
    assert task.thread_id != "0"


async def test_failures_are_retried_and_then_final(database: str) -> None:
    async with open_queue(database) as queue:
        await queue.register_handler("fail", HANDLERS, "fail")
        await queue.register_handler("leave", HANDLERS, "leave")
        await queue.start()
        retried = await queue.create("fail", "again", retry_count=2, retain_for=-1)
        final = await queue.create("fail", "final", retry_count=2, retain_for=-1)
        left = await queue.create("leave", retry_count=0, retain_for=-1)
        task = await ended(queue, retried)
        assert (task.status, task.attempt, task.retries_remaining) == ("failed", 3, 0)
        assert task.error is not None
        assert task.error.properties == {"payload": "again"}
        assert task.error.source == f"{HANDLERS}.fail"
        assert (await ended(queue, final)).attempt == 1
        task = await ended(queue, left)
        assert task.error is not None
        assert task.error.name == "SystemExit"


@pytest.mark.parametrize("kind", ["bytes", "nul", "nan"])
async def test_a_result_that_is_not_json_fails_the_attempt(database: str, kind: str) -> None:
    async with open_queue(database) as queue:
        await queue.register_handler("t", HANDLERS, "not_json")
        await queue.start()
        task = await ended(queue, await queue.create("t", kind, retry_count=0, retain_for=-1))
    assert task.status == "failed"
    assert task.error is not None
    assert task.error.name == "InvalidPayloadError"


async def test_timeout_fails_the_attempt(database: str) -> None:
    async with open_queue(database) as queue:
        await queue.register_handler(
            "t", HANDLERS, "sleep_long", options=HandlerOptions(timeout=20)
        )
        await queue.start()
        task = await ended(queue, await queue.create("t", retry_count=0, retain_for=-1))
    assert task.error is not None
    assert task.error.name == "TimeoutError"


async def test_a_thousand_tasks_run_once_each_on_two_workers(database: str) -> None:
    """Fails on a claim that does not mark what it takes."""
    async with open_queue(database) as queue, TaskQueue(database) as other:
        for each in (queue, other):
            await each.register_handler("t", HANDLERS, "echo")
            await each.start()
        ids = await queue.create_many(NewTask("t", n, retain_for=-1) for n in range(1000))

        async def all_done() -> bool:
            return (await queue.counts())[TaskStatus.SUCCESS] == 1000

        await eventually(all_done, timeout=30)
    assert sorted(worker_handlers.started) == sorted((task_id, 1) for task_id in ids)


@pytest.mark.session
async def test_a_handler_that_blocks_the_loop_keeps_its_lease(database: str) -> None:
    """Fails where leases are extended in the loop: the other queue's sweeper takes the task."""
    async with open_queue(database) as queue:
        await queue.register_handler("t", HANDLERS, "block_loop")
        await queue.start()
        sweeping = await asyncio.create_subprocess_exec(*sweeper_process(database))
        try:
            task = await ended(queue, await queue.create("t", 3.0, retain_for=-1))
        finally:
            sweeping.terminate()
            await sweeping.wait()
    assert (task.status, task.attempt) == ("success", 1)
    assert len(worker_handlers.started) == 1


def sweeper_process(database: str) -> list[str]:
    import sys

    program = (
        "import asyncio, sys\n"
        "from rowlock import TaskQueue\n"
        "async def main():\n"
        "    async with TaskQueue(sys.argv[1], sweep_interval=50) as queue:\n"
        "        await queue.start()\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    return [sys.executable, "-c", program, database]


async def test_a_stale_attempt_writes_nothing(database: str) -> None:
    """The same process holds both attempts. Fails on a finish fenced by status and holder only."""
    worker_handlers.gates.update({1: asyncio.Event(), 2: asyncio.Event()})
    async with open_queue(database, lease=60_000) as queue, open_store(database) as store:
        await queue.register_handler("t", HANDLERS, "attempt_after_gate")
        await queue.start()
        task_id = await queue.create("t", retain_for=-1)
        await eventually(lambda: worker_handlers.started == [(task_id, 1)])
        found, _, _ = await store.sweep.leases(10, datetime.now(UTC) + timedelta(hours=1))
        assert found == 1
        assert await queue.retry(task_id)
        await eventually(lambda: worker_handlers.started == [(task_id, 1), (task_id, 2)])

        lost: list[AttemptLost] = []
        queue.runtime.events.subscribe(
            lambda event: lost.append(event) if isinstance(event, AttemptLost) else None
        )
        worker_handlers.gates[1].set()
        await eventually(lambda: bool(lost))
        task = await queue.get(task_id)
        assert task is not None
        assert (task.status, task.attempt, task.result) == ("processing", 2, None)
        worker_handlers.gates[2].set()
        assert (await ended(queue, task_id)).result == 2
    assert lost == [AttemptLost(task_id, 1)]


async def test_stop_puts_back_what_still_runs(database: str) -> None:
    async with open_queue(database, stop_timeout=50) as queue:
        await queue.register_handler(
            "t", HANDLERS, "wait_for_gate", options=HandlerOptions(max_worker_count=2)
        )
        await queue.start()
        ids = [await queue.create("t", retry_count=1, retain_for=-1) for _ in range(5)]
        await eventually(lambda: len(worker_handlers.started) == 2)
        await queue.stop()
        tasks = [await queue.get(task_id) for task_id in ids]
        assert [task.status for task in tasks if task] == ["pending"] * 5
        assert [task.retries_remaining for task in tasks if task] == [1] * 5
        assert [task.thread_id for task in tasks if task] == ["0"] * 5


@pytest.mark.session
async def test_others_are_told_of_what_is_put_back(database: str) -> None:
    """Fails where a worker that waits finds it with its next poll."""
    async with (
        open_queue(database, stop_timeout=0) as queue,
        TaskQueue(database, poll_interval=3_600_000) as other,
    ):
        await queue.register_handler("t", HANDLERS, "wait_for_gate")
        await queue.start()
        task_id = await queue.create("t", 1)
        await eventually(lambda: worker_handlers.started == [(task_id, 1)])
        for task_type in ("t", "warm"):
            await other.register_handler(task_type, HANDLERS, "echo")
        await other.start()
        # The second one it finds because it is told.
        for _ in range(2):
            await ended(other, await queue.create("warm", retain_for=-1))
        await queue.stop()
        await eventually(lambda: (task_id, 2) in worker_handlers.started)


async def test_stop_lets_what_runs_finish(database: str) -> None:
    async with open_queue(database) as queue:
        await queue.register_handler("t", HANDLERS, "wait_for_gate")
        await queue.start()
        task_id = await queue.create("t", retain_for=-1)
        await eventually(lambda: len(worker_handlers.started) == 1)
        stopping = asyncio.create_task(queue.stop())
        await asyncio.sleep(0)
        worker_handlers.gate.set()
        await stopping
        task = await queue.get(task_id)
    assert task is not None
    assert task.result == "late"


async def test_callbacks_come_in_order_also_for_removed_rows(database: str) -> None:
    seen: list[tuple[str, str, int]] = []

    async def changed(task: Task) -> None:
        await asyncio.sleep(0)
        seen.append((task.id, task.status, task.attempt))
        raise RuntimeError("a callback's error changes nothing")

    async with open_queue(database) as queue:
        await queue.register_handler("fail", HANDLERS, "fail", changed)
        await queue.register_handler("echo", HANDLERS, "echo", changed)
        await queue.start()
        failing = await queue.create("fail", "x", retry_count=1)
        good = await queue.create("echo", "x")
        await eventually(lambda: len(seen) == 6)
        later = await queue.create("echo", "x", delay=60_000)
        assert await queue.cancel(later)
    by_task = {task_id: [s for s in seen if s[0] == task_id] for task_id in (failing, good, later)}
    assert [status for _, status, _ in by_task[failing]] == [
        "processing",
        "pending",
        "processing",
        "failed",
    ]
    assert [status for _, status, _ in by_task[good]] == ["processing", "success"]
    assert [status for _, status, _ in by_task[later]] == ["cancelled"]


async def test_work_is_found_without_hints(database: str) -> None:
    async with (
        open_queue(database, notify=False, poll_interval=50) as queue,
        TaskQueue(database, notify=False) as client,
    ):
        await queue.register_handler("t", HANDLERS, "echo")
        await queue.start()
        task = await ended(queue, await client.create("t", 1, retain_for=-1))
    assert task.result == 1


@pytest.mark.session
async def test_a_hint_wakes_a_worker_that_would_not_poll(database: str) -> None:
    """Fails on a worker that does not look for what others created."""
    async with (
        open_queue(database, poll_interval=3_600_000) as queue,
        TaskQueue(database) as client,
    ):
        await queue.register_handler("t", HANDLERS, "echo")
        await queue.start()
        for n in range(3):
            task = await ended(queue, await client.create("t", n, retain_for=-1))
            assert task.result == n


async def test_unregistered_types_are_left_alone(database: str) -> None:
    async with open_queue(database) as queue:
        await queue.register_handler("t", HANDLERS, "echo")
        await queue.start()
        other = await queue.create("other", 1)
        await ended(queue, await queue.create("t", 1, retain_for=-1))
        await queue.unregister_handler("t")
        left = await queue.create("t", 2)
        for task_id in (other, left):
            task = await queue.get(task_id)
            assert task is not None
            assert (task.status, task.attempt) == ("pending", 0)


said: list[str] = []


async def says(payload: Any) -> None:
    said.append("begun")


async def test_what_was_claimed_begins_before_anything_is_asked_for(database: str) -> None:
    """Fails where a question is on its way first: 0.3 ms for which each lone task waits."""
    said.clear()
    async with TaskQueue(database) as queue:
        await queue.register_handler("t", __name__, "says")
        await queue.start()
        store = queue.runtime.worker._store  # type: ignore[union-attr]
        database_of, next_due = store.database, store.database.next_due
        claim = database_of.claim_to_run

        async def claims(*args: Any) -> list[ClaimedRow]:
            rows = await claim(*args)
            said.extend(["claimed"] * len(rows))
            return rows

        async def asks(*args: Any, **named: Any) -> float | None:
            said.append("asked")
            return await next_due(*args, **named)

        database_of.claim_to_run = claims  # type: ignore[method-assign]
        database_of.next_due = asks  # type: ignore[method-assign]
        for count in range(1, 6):
            await queue.create("t")
            await eventually(lambda count=count: said.count("begun") == count)  # type: ignore[misc]
            await eventually(lambda: said[-1] == "asked")
    places = [place for place, what in enumerate(said) if what == "claimed"]
    assert [said[place + 1] for place in places] == ["begun"] * 5


async def test_whoever_looks_during_a_claim_sees_what_comes_after(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Fails where a change is told from what was claimed before anybody wanted to see it."""
    seen: list[Task] = []

    async def see(task: Task) -> None:
        seen.append(task)

    async with open_queue(database) as queue:
        await queue.register_handler("t", HANDLERS, "echo")
        await queue.start()
        taken, gate = hold_claims(monkeypatch, queue)
        task_id = await queue.create("t", {"a": 1})
        await taken.wait()
        await queue.register_handler("t", HANDLERS, "echo", see)
        gate.set()
        await eventually(lambda: len(seen) == 3)
    # What was claimed for the handler before is put back.
    assert [task.status for task in seen] == ["pending", "processing", "success"]
    assert all((task.id, task.payload) == (task_id, {"a": 1}) for task in seen)
    assert not caplog.records


async def test_no_claim_of_an_unregistered_type_is_under_way(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails on an `unregister_handler` that does not wait for the claim that is under way."""
    sent, gate = asyncio.Event(), asyncio.Event()
    async with open_queue(database) as queue:
        await queue.register_handler("t", HANDLERS, "echo")
        await queue.start()
        claim = queue.runtime.worker_store.database._claim

        async def slow_claim(*arguments: Any, **options: Any) -> Any:
            sent.set()
            await gate.wait()
            return await claim(*arguments, **options)

        monkeypatch.setattr(queue.runtime.worker_store.database, "_claim", slow_claim)
        await queue.create("t", 1)
        await sent.wait()
        unregistering = asyncio.create_task(queue.unregister_handler("t"))
        left = await queue.create("t", 2)
        assert not unregistering.done()
        gate.set()
        await unregistering
        task = await queue.get(left)
        assert task is not None
        assert task.status == "pending"


async def test_survives_the_loss_of_every_connection(postgres_url: str) -> None:
    """Fails on a worker that ends, or stays deaf, when its connections are cut."""
    import asyncpg

    async with open_queue(postgres_url) as queue:
        await queue.register_handler("t", HANDLERS, "echo")
        await queue.start()
        admin = await asyncpg.connect(postgres_url)
        try:
            for n in range(3):
                await admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )

                async def created(n: int = n) -> bool:
                    try:
                        await queue.create("t", n, retain_for=-1, key=str(n))
                    except Exception:
                        return False
                    return True

                await eventually(created)

            async def all_done() -> bool:
                try:
                    return (await queue.counts())[TaskStatus.SUCCESS] == 3
                except DatabaseUnavailableError:  # a connection of the pool that was cut
                    return False

            await eventually(all_done, timeout=20)
        finally:
            await admin.close()


def test_import_loads_nothing_heavy() -> None:
    import subprocess
    import sys

    program = (
        "import sys; from rowlock import TaskQueue; heavy = {'alembic', 'typer', 'rich',"
        " 'asyncpg', 'aiosqlite', 'sqlalchemy.dialects.postgresql', 'rowlock._worker.worker',"
        " 'rowlock._executors.base'}; print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


async def test_no_type_fills_every_claim(database: str) -> None:
    """Fails where each claim begins with the same types."""
    async with open_queue(database, lease=60_000) as queue:
        options = HandlerOptions(max_worker_count=1000)
        for task_type in ("a", "b", "c", "few"):
            await queue.register_handler(task_type, HANDLERS, "echo", options=options)
        await queue.create_many([NewTask("abc"[n % 3], n) for n in range(12_000)])
        few = await queue.create("few")
        await queue.start()
        await eventually(lambda: len(worker_handlers.started) == 12_001, timeout=60)
    assert worker_handlers.started.index((few, 1)) < 6000
