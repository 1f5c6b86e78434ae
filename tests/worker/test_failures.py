"""What is kept and said of attempts that were no success."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import timedelta
from typing import Any

import pytest

from rowlock import HandlerError, Task, TaskAttempt, TaskQueue
from rowlock._endings import CANCELLED, HandlerResult, brief, describe
from rowlock._rows import KEEP_IF_FAILED, MOST_ATTEMPTS, TaskRow
from rowlock._store.ends import AttemptOutcome
from rowlock._store.store import Store
from rowlock._worker.failures import trace
from rowlock.models import SizeLimits, TaskError
from tests.support.helpers import eventually
from tests.support.stores import (
    LEASE,
    START,
    at,
    claim_one,
    execute,
    existing,
    failure,
    insert_and_claim,
    new_row,
    open_store,
    success,
)

DAY = 86_400_000


async def fails(payload: Any) -> None:
    raise ValueError("the reason")


async def fails_twice(payload: Any) -> str:
    from rowlock import current_task

    if current_task().attempt < 3:
        raise KeyError("not yet")
    return "done"


async def gives_up(payload: Any) -> None:
    try:
        raise OSError("the cause")
    except OSError as error:
        raise HandlerError("it is no use", retry=False) from error


async def too_long(payload: Any) -> None:
    await asyncio.Event().wait()


def exits(payload: Any) -> None:
    import os

    os._exit(3)


# What a task keeps of its attempts.


async def lose(store: Store, row: TaskRow) -> None:
    assert (await store.sweep.leases(9, at(LEASE))).found == 1


async def fail(store: Store, row: TaskRow) -> None:
    await store.attempts.finish("worker", [failure(row)], now=at(LEASE))


async def time_out(store: Store, row: TaskRow) -> None:
    ending = HandlerResult(error='{"name":"TimeoutError","message":"late"}', late=True)
    await store.attempts.finish("worker", [AttemptOutcome(row, ending)], now=at(LEASE))


async def cancel(store: Store, row: TaskRow) -> None:
    await store.attempts.finish("worker", [AttemptOutcome(row, CANCELLED)], now=at(LEASE))


async def release(store: Store, row: TaskRow) -> None:
    key = (row.id, row.attempt)
    await store.attempts.release("worker", [key], at(LEASE), begun={key})


async def release_cancelled(store: Store, row: TaskRow) -> None:
    await store.tasks.cancel(row.id, at(1), running=True)
    await release(store, row)


@pytest.mark.parametrize(
    ("end", "outcome", "error"),
    [
        (fail, "failed", "ValueError"),
        (time_out, "timeout", "TimeoutError"),
        (lose, "lost", "LeaseLostError"),
        (cancel, "cancelled", None),
        (release, "released", None),
        (release_cancelled, "cancelled", None),
    ],
)
async def test_what_ends_an_attempt_keeps_it(
    database: str, end: Any, outcome: str, error: str | None
) -> None:
    """Fails where it goes into a statement of its own, which a crash may come before."""
    async with open_store(database) as store:
        row = await insert_and_claim(store)
        assert (await existing(store, row.id)).date_started == START
        await end(store, row)
        (kept,) = (await existing(store, row.id)).attempts
    assert (kept.attempt, kept.worker, kept.started, kept.ended, kept.outcome) == (
        1,
        "worker",
        START,
        at(LEASE),
        outcome,
    )
    assert (kept.error and kept.error.name) == error


async def test_a_success_keeps_what_failed_before_and_adds_nothing(database: str) -> None:
    async with open_store(database, retry_interval=0) as store:
        row = await insert_and_claim(store)
        await store.attempts.finish("worker", [failure(row)], now=at(5))
        row = await claim_one(store, holder="other", now=at(10))
        (done,) = (await store.attempts.finish("other", [success(row)], now=at(20))).tasks.values()
        assert done is not None
        assert done == await existing(store, row.id)
    assert done.error is None
    assert done.date_started == at(10)
    assert [(kept.attempt, kept.worker) for kept in done.attempts] == [(1, "worker")]


async def test_what_was_only_claimed_ahead_is_no_attempt_that_is_kept(database: str) -> None:
    """Fails where each put back counts: it would push out what failed."""
    async with open_store(database) as store:
        row = await insert_and_claim(store)
        await store.attempts.release("worker", [(row.id, 1)], at(1))
        assert (await existing(store, row.id)).attempts == []


async def test_the_last_twenty_are_kept(database: str) -> None:
    async with open_store(database, retry_interval=0) as store:
        await store.tasks.insert(new_row(), START)
        for number in range(MOST_ATTEMPTS + 5):
            row = await claim_one(store, now=at(number))
            await store.attempts.finish("worker", [failure(row)], now=at(number))
        task = await existing(store, row.id)
    assert [kept.attempt for kept in task.attempts] == list(range(6, MOST_ATTEMPTS + 6))


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("retain_for", [0, -1])
async def test_the_last_failure_is_told_with_its_attempts(
    database: str, retain_for: int, rows: bool
) -> None:
    """Fails where a row that is removed at once forgets them."""
    async with open_store(database, retry_interval=0) as store:
        row = await insert_and_claim(store, retain_for=retain_for, retries_remaining=1)
        await store.attempts.finish("worker", [failure(row)], now=at(1))
        row = await claim_one(store, now=at(2))
        done = await store.attempts.finish("worker", [failure(row)], rows=rows, now=at(3))
    task = done.tasks[row.id]
    assert task is not None or not rows
    if task is not None:
        assert task.status == "failed"
        assert [(kept.attempt, kept.ended) for kept in task.attempts] == [(1, at(1)), (2, at(3))]


async def test_attempts_that_nobody_of_rowlock_has_written_do_no_harm(database: str) -> None:
    """Fails where one of them makes the whole batch of outcomes fail."""
    spoiled = ["null", "17", '"text"', "{}"]
    if database.startswith("sqlite"):
        spoiled += ["not JSON", '[1, "x"]']
    async with open_store(database) as store:
        await store.tasks.insert_many([new_row() for _ in spoiled], START)
        rows = await store.database.claim("worker", {"t": 100}, LEASE, START)
        for row, text in zip(rows, spoiled, strict=True):
            literal = text.replace("'", "''")
            where = f"WHERE id = '{row.id}'"
            await execute(
                database,
                f"UPDATE rowlock_task SET attempts = '{literal}' {where}"
                + ("" if database.startswith("sqlite") else " RETURNING id"),
            )
        await store.attempts.finish("worker", [failure(row) for row in rows], now=at(1))
        for row in rows:
            (kept,) = (await existing(store, row.id)).attempts
            assert kept.outcome == "failed"


def test_a_long_error_is_kept_cut_short() -> None:
    def deep(level: int) -> None:
        if level:
            deep(level - 1)
        raise ValueError("x" * 9000)

    try:
        try:
            deep(30)
        except ValueError as error:
            raise HandlerError("y" * 9000, properties={"z": "z" * 5000}) from error
    except HandlerError as error:
        whole = describe(error, "module.handler", SizeLimits(error_bytes=100_000))
    short = brief(whole)
    assert short is not None
    assert len(whole) > 20_000 > 6000 > len(short)
    kept = TaskError.model_validate_json(short)
    assert (kept.name, kept.source) == ("HandlerError", "module.handler")
    assert kept.cause is not None
    assert kept.cause.name == "ValueError"
    assert brief('{"name":"ValueError","message":"short"}') is None


# How long a failed task is kept.


@pytest.mark.parametrize("make", [success, failure], ids=["success", "failure"])
@pytest.mark.parametrize("keep", [DAY, 0, -1])
async def test_without_retain_for_a_failed_task_is_kept(
    database: str, keep: int, make: Any
) -> None:
    """Fails where it is as with 0, which was given on purpose."""
    async with open_store(database, keep_failed=keep) as store:
        row = await insert_and_claim(store, retain_for=KEEP_IF_FAILED, retries_remaining=0)
        done = await store.attempts.finish("worker", [make(row)], now=at(1))
        task = await store.tasks.get(row.id)
        assert (task is None) == (make is success)
        if task is not None:
            assert task == done.tasks[row.id]
            until = None if keep < 0 else at(1) + timedelta(milliseconds=keep)
            assert task.date_retain_until == until
            assert await store.sweep.retention(9, at(DAY)) == (keep == 0)


async def test_without_retain_for_a_lost_task_is_kept(database: str) -> None:
    async with open_store(database, keep_failed=DAY) as store:
        row = await insert_and_claim(store, retain_for=KEEP_IF_FAILED, retries_remaining=0)
        (task,) = (await store.sweep.leases(9, at(LEASE))).changed
        assert (task.status, task.date_retain_until) == ("failed", at(LEASE + DAY))
        assert await store.tasks.get(row.id) == task


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("held", [True, False])
async def test_without_retain_for_a_cancelled_task_is_removed(
    database: str, held: bool, asked: bool
) -> None:
    async with open_store(database, keep_failed=DAY) as store:
        await store.tasks.insert(new_row(retain_for=KEEP_IF_FAILED, retries_remaining=0), START)
        if not held:
            (task_id,) = [row[0] for row in await execute(database, "SELECT id FROM rowlock_task")]
            task = await store.tasks.cancel(str(task_id).replace("-", ""), at(1))
        else:
            row = await claim_one(store)
            if asked:
                await store.tasks.cancel(row.id, at(1), running=True)
            ending = HandlerResult(error='{"name":"E","message":"m"}') if asked else CANCELLED
            task = (
                await store.attempts.finish("worker", [AttemptOutcome(row, ending)], now=at(2))
            ).tasks[row.id]
        assert task is not None
        assert task.status == "cancelled"
        assert await execute(database, "SELECT id FROM rowlock_task") == []


async def test_a_failed_task_that_was_kept_can_be_retried(database: str) -> None:
    async with open_store(database, keep_failed=DAY) as store:
        row = await insert_and_claim(store, retain_for=KEEP_IF_FAILED, retries_remaining=0)
        await store.attempts.finish("worker", [failure(row)], now=at(1))
        assert await store.tasks.retry(row.id, at(2)) is not None
        again = await claim_one(store, now=at(3))
        assert again.id == row.id
        await store.attempts.finish("worker", [success(again)], now=at(4))
        assert await store.tasks.get(row.id) is None


# What is logged.


def records(caplog: pytest.LogCaptureFixture, task_id: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if getattr(record, "task_id", None) == task_id]


async def ended(queue: TaskQueue, task_id: str) -> Task:
    async def over() -> bool:
        task = await queue.get(task_id)
        return task is not None and task.status not in ("pending", "processing")

    await eventually(over)
    task = await queue.get(task_id)
    assert task is not None
    return task


async def test_a_failed_attempt_is_logged(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """A WARNING where it is tried again, an ERROR with the traceback where it is not."""
    caplog.set_level(logging.INFO, "rowlock")
    async with TaskQueue(database) as queue:
        await queue.register_handler("fails", __name__, "fails")
        await queue.start()
        assert queue.runtime.worker is not None
        holder = queue.runtime.worker.holder
        task_id = await queue.create("fails", retry_count=1, retry_interval=20, retain_for=-1)
        await ended(queue, task_id)
        await eventually(lambda: len(records(caplog, task_id)) == 2)
    again, last = records(caplog, task_id)
    assert (again.levelname, last.levelname) == ("WARNING", "ERROR")
    for number, record in enumerate((again, last), 1):
        assert record.name == "rowlock.task"
        fields = vars(record)
        assert (fields["task_type"], fields["attempt"]) == ("fails", number)
        assert fields["worker"] == holder
        assert "ValueError: the reason" in record.getMessage()
    assert "again in 0.0 s" in again.getMessage()
    assert "Traceback" not in again.getMessage()
    assert "in fails\n" in last.getMessage()
    # One line of code for all failures: error trackers group by it.
    assert "%(task_id)s" in str(last.msg)


async def test_a_failure_with_the_defaults_is_seen_and_kept(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with TaskQueue(database) as queue:
        await queue.register_handler("gives_up", __name__, "gives_up")
        await queue.start()
        task_id = await queue.create("gives_up")
        task = await ended(queue, task_id)
        await eventually(lambda: records(caplog, task_id))
    assert task.date_retain_until is not None
    kept_for = task.date_retain_until - task.date_modified
    assert kept_for == timedelta(days=7)
    (record,) = records(caplog, task_id)
    text = record.getMessage()
    assert record.levelname == "ERROR"
    assert text.index("OSError: the cause") < text.rindex("HandlerError: it is no use")


@pytest.mark.parametrize("retain_for", [0, -1])
@pytest.mark.parametrize(("handler", "name"), [("exits", "lost"), ("too_long", "timeout")])
async def test_what_killed_the_last_attempt_is_logged(
    database: str,
    caplog: pytest.LogCaptureFixture,
    handler: str,
    name: str,
    retain_for: int,
) -> None:
    """Fails where only what a handler raised is seen, or only what is kept."""
    async with TaskQueue(database) as queue:
        await queue.register_handler(
            "t",
            "tests.worker.test_failures",
            handler,
            options={"timeout": 400} if name == "timeout" else {},
        )
        await queue.start()
        task_id = await queue.create("t", retry_count=0, retain_for=retain_for)
        await eventually(lambda: records(caplog, task_id), timeout=30)
        task = await queue.get(task_id)
    (record,) = records(caplog, task_id)
    assert record.levelname == "ERROR"
    expected = {"lost": "exited with status 3", "timeout": "timeout of 400 ms"}[name]
    assert expected in record.getMessage()
    if retain_for:
        assert task is not None
        assert [kept.outcome for kept in task.attempts] == [name]


async def test_a_lost_attempt_is_logged_by_whose_sweeper_found_it(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_store(database) as store, TaskQueue(database, sweep_interval=50) as queue:
        await store.tasks.insert_many(
            [new_row(run_at=None), new_row(run_at=None, retries_remaining=0)]
        )
        again, last = await store.database.claim("worker", {"t": 2}, lease=1)
        await queue.start()
        await eventually(lambda: records(caplog, again.id) and records(caplog, last.id))
    (warning,), (error,) = records(caplog, again.id), records(caplog, last.id)
    assert (warning.levelname, error.levelname) == ("WARNING", "ERROR")
    assert "worker worker was lost while it held attempt 1" in warning.getMessage()


async def test_a_success_erases_no_trace_of_what_failed_before(database: str) -> None:
    async with TaskQueue(database, retry_interval=0) as queue:
        await queue.register_handler("t", __name__, "fails_twice")
        await queue.start()
        task = await ended(queue, await queue.create("t", retain_for=-1))
    assert (task.status, task.result, task.error) == ("success", "done", None)
    assert [(kept.attempt, kept.outcome) for kept in task.attempts] == [
        (1, "failed"),
        (2, "failed"),
    ]
    for kept in task.attempts:
        assert kept.error is not None
        assert kept.error.name == "KeyError"
        assert kept.error.stack is not None
    shown = json.loads(task.model_dump_json(by_alias=True))
    assert shown["attempts"][0]["outcome"] == "failed"
    assert shown["dateStarted"].endswith("Z")


async def test_a_worker_says_what_it_is_and_what_it_did(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "rowlock")
    async with TaskQueue(database) as queue:
        await queue.register_handler("good", __name__, "fails_twice")
        await queue.register_handler("exits", __name__, "exits", options={"max_worker_count": 1})
        await queue.start()
        task_id = await queue.create("good", retry_interval=0, retain_for=-1)
        await ended(queue, task_id)
    lines = [record.getMessage() for record in caplog.records if record.name == "rowlock.worker"]
    began, *_, ended_line = lines
    assert "good (async, 100 workers), exits (process, 1 worker)" in began
    assert "schema 00" in began
    assert ("sqlite:///" if database.startswith("sqlite") else "postgresql://") in began
    assert "1 succeeded, 0 failed, 2 to be tried again" in ended_line


def test_a_trace_reads_as_pythons() -> None:
    cause = TaskError(name="OSError", message="disk", stack='  File "a.py", line 1, in f\n')
    text = trace(TaskError(name="ValueError", message="bad", cause=cause))
    assert text == (
        'Traceback (most recent call last):\n  File "a.py", line 1, in f\nOSError: disk\n\n'
        "This led to the following exception:\n\nValueError: bad"
    )


def test_a_trace_has_notes_and_members() -> None:
    member = TaskError(name="KeyError", message="'a'", notes=["of order 7"])
    text = trace(TaskError(name="ExceptionGroup", message="two", notes=["note"], errors=[member]))
    assert text == "ExceptionGroup: two\nnote\n  | 1. KeyError: 'a'\n  | of order 7"


def test_an_attempt_is_in_the_schema() -> None:
    fields = TaskAttempt.model_json_schema(by_alias=True)["properties"]
    assert set(fields) == {"attempt", "worker", "started", "ended", "outcome", "error"}
