"""The store's operations, one by one, on both databases. Nothing here waits for a clock."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from rowlock import NewTask, TaskQueue
from rowlock._ids import id_instant, new_id
from rowlock._rows import HeldRow, TaskRow
from rowlock._store.database import Operation
from rowlock._store.ends import AttemptOutcome, Ends
from rowlock._store.store import Store
from rowlock._store.sweep import Swept
from rowlock._store.url import async_url
from rowlock.errors import InvalidPayloadError, RowlockError
from rowlock.models import Task, TaskStatus
from rowlock.queue import _AHEAD
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
    operation,
    stored,
    success,
)

HOUR = 3_600_000


async def count(url: str) -> int:
    ((rows,),) = await execute(url, "SELECT count(*) FROM rowlock_task")
    return int(rows)


# Creating.


async def test_every_field_comes_back(database: str) -> None:
    async with open_store(database) as store:
        row = new_row(
            type="imäge-\u2028resize",
            payload='{"a":[1,2.5,null,"\u00e9\U0001f600"]}',
            retries_remaining=3,
            retry_interval=3000,
            retain_for=120_000,
            priority=-7,
            run_at=START + timedelta(microseconds=1),
            key="k" * 255,
        )
        assert await store.tasks.insert(row, START) == row.id
        task = await existing(store, row.id)
    assert task.model_dump() == {
        "id": row.id,
        "type": row.type,
        "thread_id": "0",
        "retry_interval": 3000,
        "retries_remaining": 3,
        "date_created": id_instant(row.id),
        "date_modified": START,
        "date_completed": None,
        "date_cancelled": None,
        "date_retain_until": None,
        "status": TaskStatus.PENDING,
        "payload": {"a": [1, 2.5, None, "é😀"]},
        "result": None,
        "error": None,
        "attempt": 0,
        "priority": -7,
        "run_at": START + timedelta(microseconds=1),
        "key": "k" * 255,
        "progress": None,
        "schedule_id": None,
        "scheduled_for": None,
        "date_started": None,
        "attempts": [],
    }


@pytest.mark.parametrize(
    "instant",
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    ],
)
@pytest.mark.parametrize("many", [False, True])
async def test_the_first_and_last_instants_come_back(
    database: str, instant: datetime, many: bool
) -> None:
    async with open_store(database) as store:
        row = new_row(run_at=instant)
        if many:
            await store.tasks.insert_many([row], START)
        else:
            await store.tasks.insert(row, START)
        assert (await existing(store, row.id)).run_at == instant
        assert len(await store.database.claim("w", {"t": 1}, LEASE, START)) == (instant <= START)


async def test_get_of_a_missing_task_is_none(database: str) -> None:
    async with open_store(database) as store:
        assert await store.tasks.get(new_id()) is None


async def test_delay_counts_from_now(database: str) -> None:
    async with open_store(database) as store:
        one = await store.tasks.insert(new_row(run_at=None, delay=1500), START)
        (two,) = await store.tasks.insert_many([new_row(run_at=None, delay=2500)], START)
        (keyed,) = await store.tasks.insert_many([new_row(run_at=None, delay=3500, key="k")], START)
        found = [(await existing(store, i)).run_at for i in (one, two, keyed)]
    assert found == [at(1500), at(2500), at(3500)]


async def test_without_now_the_clock_is_used(database: str) -> None:
    async with open_store(database) as store:
        before = datetime.now(UTC) - timedelta(seconds=1)
        task = await existing(store, await store.tasks.insert(new_row(run_at=None)))
        assert before < task.run_at == task.date_modified < datetime.now(UTC) + timedelta(seconds=1)
        assert await store.database.next_due(["t"]) == 0
        (row,) = await store.database.claim("w", {"t": 1}, LEASE)
        assert row.id == task.id


async def test_a_key_makes_one_row(database: str) -> None:
    async with open_store(database) as store:
        first = await store.tasks.insert(new_row(key="k", payload="1"), START)
        before = await stored(database)
        assert await store.tasks.insert(new_row(key="k", payload="2"), at(1)) == first
        assert (await existing(store, first)).payload == 1
        assert await store.tasks.insert_many([new_row(), new_row(key="k")], START) != []
        other = await store.tasks.insert(new_row(key="K"), START)
        assert other != first
        if database.startswith("sqlite"):
            assert before[0] in await stored(database)
    assert await count(database) == 3


async def test_a_key_holds_until_its_task_has_failed_or_is_gone(database: str) -> None:
    """Fails where a failed task keeps its key, or one that succeeded does not."""
    async with open_store(database) as store:
        first = await store.tasks.insert(new_row(key="k"), START)
        row = await claim_one(store)
        assert await store.tasks.insert(new_row(key="k"), START) == first
        await store.attempts.finish("worker", [success(row)], now=START)
        assert await store.tasks.insert(new_row(key="k"), START) == first
        assert await store.tasks.remove(first)
        second = await store.tasks.insert(new_row(key="k"), START)
        assert second != first
        assert await store.tasks.cancel(second, START)
        third = await store.tasks.insert(new_row(key="k"), START)
        assert third not in (first, second)
        row = await claim_one(store)
        await store.attempts.finish("worker", [failure(row, retry=False)], now=START)
        assert await store.tasks.insert(new_row(key="k"), START) not in (first, second, third)


async def test_an_ended_task_that_is_not_kept_frees_its_key(database: str) -> None:
    async with open_store(database) as store:
        row = await insert_and_claim(store, key="k", retain_for=0)
        await store.attempts.finish("worker", [success(row)], now=START)
        assert await store.tasks.insert(new_row(key="k"), START) != row.id


async def test_a_key_twice_in_one_batch_makes_one_row(database: str) -> None:
    async with open_store(database) as store:
        rows = [new_row(key="a"), new_row(key="b"), new_row(key="a"), new_row(), new_row(key="b")]
        ids = await store.tasks.insert_many(rows, START)
        assert ids == [rows[0].id, rows[1].id, rows[0].id, rows[3].id, rows[1].id]
    assert await count(database) == 3


async def test_creates_with_one_key_at_once_make_one_row(database: str) -> None:
    """Fails on a variant that looks for the key and then inserts."""
    async with open_store(database) as one, open_store(database) as two:
        ids = await asyncio.gather(
            *(
                store.tasks.insert(new_row(key="k"), START)
                for store in (one, two)
                for _ in range(10)
            )
        )
    assert len(set(ids)) == 1
    assert await count(database) == 1


async def test_insert_many_keeps_the_order(database: str) -> None:
    async with open_store(database) as store:
        rows = [new_row(payload=str(number), priority=number % 3) for number in range(5000)]
        ids = await store.tasks.insert_many(rows, START)
        assert ids == [row.id for row in rows] == sorted(ids)
        for number in (0, 1, 2500, 4999):
            task = await existing(store, ids[number])
            assert (task.payload, task.priority, task.run_at) == (number, number % 3, START)
    assert await count(database) == 5000


@pytest.mark.parametrize("key", [None, "k"])
async def test_insert_many_is_all_or_nothing(database: str, key: str | None) -> None:
    """Fails on a variant that inserts row by row without a transaction around them."""
    async with open_store(database) as store:
        row = new_row()
        with pytest.raises(Exception, match=r"(?i)unique"):
            await store.tasks.insert_many([new_row(), row, new_row(key=key), row], START)
        assert await count(database) == 0
        # The connection that failed is not left in a broken transaction.
        await store.tasks.insert_many([row], START)
        with pytest.raises(Exception, match=r"(?i)unique"):
            await store.tasks.insert(row, START)
        await store.tasks.insert(new_row(), START)
    assert await count(database) == 2


async def test_create_many_is_all_or_nothing(database: str) -> None:
    """Also where a wrong one is found after others were sent.

    Fails where what was sent stays, or where the connection that sent it is kept as it is.
    """
    many = 3 * _AHEAD
    async with TaskQueue(database) as queue:
        for key in (None, "k"):
            tasks = [NewTask("t", number, priority=-number) for number in range(many)]
            tasks[-2] = NewTask("t", math.nan, key=key)
            with pytest.raises(InvalidPayloadError):
                await queue.create_many(tasks)
            assert await count(database) == 0
        tasks[-2] = NewTask("t", many - 2)
        ids = await queue.create_many(iter(tasks))
        assert ids == sorted(ids)
        for number in (0, _AHEAD - 1, _AHEAD, many - 1):
            task = await existing(queue._store, ids[number])
            assert (task.payload, task.priority) == (number, -number)
    assert await count(database) == many


@pytest.mark.parametrize("kind", ["connection", "session"])
@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize("key", [None, "k"])
async def test_a_task_shares_the_callers_transaction(
    database: str, kind: str, commits: bool, key: str | None
) -> None:
    """Fails on a variant that creates on a connection of its own, or commits the caller's."""
    await execute(database, "CREATE TABLE orders (number integer)")
    engine = create_async_engine(async_url(database))
    try:
        async with TaskQueue(database) as queue:
            connection: Any = AsyncSession(engine) if kind == "session" else engine.connect()
            async with connection:
                await connection.execute(text("INSERT INTO orders VALUES (1)"))
                one = await queue.create("t", {"n": 1}, key=key, connection=connection)
                many = await queue.create_many(
                    [NewTask("t"), NewTask("t", key=key)], connection=connection
                )
                # Nobody else sees them before the commit.
                assert await queue.get(one) is None
                await (connection.commit() if commits else connection.rollback())
            assert (many[1] == one) == (key is not None)
            found = [await queue.get(i) for i in {one, *many}]
            assert all(task is not None for task in found) == commits
    finally:
        await engine.dispose()
    ((orders,),) = await execute(database, "SELECT count(*) FROM orders")
    assert orders == commits
    assert await count(database) == ((2 if key else 3) if commits else 0)


async def test_insert_on_does_not_hide_an_error_of_the_callers_transaction(database: str) -> None:
    engine = create_async_engine(async_url(database))
    try:
        async with open_store(database) as store:
            row = new_row()
            async with engine.connect() as connection:
                with pytest.raises(IntegrityError):
                    await store.tasks.insert_on(connection, [row, row], START)
                if not database.startswith("sqlite"):
                    with pytest.raises(DBAPIError):
                        await connection.execute(text("SELECT 1"))
                await connection.rollback()
    finally:
        await engine.dispose()
    assert await count(database) == 0


# Claiming.


async def test_the_order_of_a_claim(database: str) -> None:
    async with open_store(database) as store:
        rows = [
            new_row(priority=0, run_at=at(-5)),
            new_row(priority=9, run_at=at(-1)),
            new_row(priority=9, run_at=at(-3)),
            new_row(priority=-4, run_at=at(-HOUR)),
            new_row(priority=9, run_at=at(-3)),
            new_row(priority=2**31 - 1, run_at=START),
            new_row(priority=-(2**31) + 1, run_at=START),
        ]
        ids = await store.tasks.insert_many(rows, START)
        expected = [ids[number] for number in (5, 2, 4, 1, 0, 3, 6)]
        at_once = [row.id for row in await store.database.claim("w", {"t": 3}, LEASE, START)]
        one_by_one = [
            (await store.database.claim("w", {"t": 1}, LEASE, START))[0].id for _ in range(4)
        ]
        assert at_once + one_by_one == expected
        assert await store.database.claim("w", {"t": 1}, LEASE, START) == []


async def test_a_claim_takes_each_type_as_there_is_room(database: str) -> None:
    async with open_store(database) as store:
        await store.tasks.insert_many(
            [new_row(type=name) for name in "aabbbcc" for _ in range(2)]
            + [new_row(type="A", priority=9)],
            START,
        )
        rows = await store.database.claim("w", {"a": 3, "b": 100, "d": 5}, LEASE, START)
        assert sorted(row.type for row in rows) == ["a"] * 3 + ["b"] * 6
        assert await store.database.claim("w", {}, LEASE, START) == []
        assert len(await store.database.claim("w", {"c": 2000}, LEASE, START)) == 4


async def test_a_full_high_priority_does_not_hide_the_lower(database: str) -> None:
    """Fails on a variant that looks at the highest priority only, where all wait for later."""
    async with open_store(database) as store:
        await store.tasks.insert_many(
            [new_row(priority=9, run_at=at(HOUR)) for _ in range(20)]
            + [new_row(priority=number) for number in (3, -3)],
            START,
        )
        rows = await store.database.claim("w", {"t": 5}, LEASE, START)
        assert [row.priority for row in rows] == [3, -3]


async def test_nothing_is_claimed_before_it_is_due(database: str) -> None:
    async with open_store(database) as store:
        await store.tasks.insert(new_row(run_at=at(10)), START)
        early = at(10) - timedelta(microseconds=1)
        assert await store.database.claim("w", {"t": 1}, LEASE, early) == []
        assert len(await store.database.claim("w", {"t": 1}, LEASE, at(10))) == 1


async def test_what_a_claim_writes(database: str) -> None:
    async with open_store(database) as store:
        await store.tasks.insert(new_row(payload="[1]"), START)
        row = await claim_one(store, holder="host:1", now=at(5))
        task = await existing(store, row.id)
        assert (row.attempt, row.thread_id, row.status) == (1, "host:1", "processing")
        assert row.payload == "[1]"
        assert (task.status, task.thread_id, task.attempt) == (TaskStatus.PROCESSING, "host:1", 1)
        assert task.date_modified == at(5)
        assert store.database.codec.task(row) == task
        # The lease ends at its very microsecond.
        assert await store.sweep.leases(9, at(5 + LEASE) - timedelta(microseconds=1)) == (0, [], [])
        assert (await store.sweep.leases(9, at(5 + LEASE)))[0] == 1
        again = await claim_one(store, holder="host:2", now=at(HOUR))
        assert (again.id, again.attempt, again.thread_id) == (row.id, 2, "host:2")


async def test_claimers_at_once_never_share_a_task(database: str) -> None:
    """Fails on a variant that chooses candidates and then updates them by id."""
    async with open_store(database) as one, open_store(database) as two:
        ids = await one.tasks.insert_many([new_row(priority=n % 3) for n in range(200)], START)
        claims = await asyncio.gather(
            *(
                store.database.claim(f"{name}{n}", {"t": 7}, LEASE, START)
                for n in range(20)
                for name, store in (("one", one), ("two", two))
            )
        )
        rest = await one.database.claim("rest", {"t": 300}, LEASE, START)
    taken = [row.id for rows in [*claims, rest] for row in rows]
    assert sorted(taken) == ids
    assert all(row.attempt == 1 for rows in [*claims, rest] for row in rows)


async def test_next_due(database: str) -> None:
    async with open_store(database) as store:
        assert await store.database.next_due(["t"], START) is None
        assert await store.database.next_due([], START) is None
        await store.tasks.insert(new_row(run_at=at(2500), priority=5), START)
        await store.tasks.insert(new_row(run_at=at(1500), priority=-5), START)
        await store.tasks.insert(new_row(type="u", run_at=at(500)), START)
        assert await store.database.next_due(["t"], START) == pytest.approx(1.5)
        assert await store.database.next_due(["t", "u", "v"], START) == pytest.approx(0.5)
        assert await store.database.next_due(["t"], at(9000)) == 0
        await store.database.claim("w", {"t": 9}, LEASE, at(9000))
        assert await store.database.next_due(["t"], START) is None


# The fence.

Act = Callable[[Store, TaskRow], Awaitable[bool]]


async def _succeed(store: Store, row: TaskRow) -> bool:
    return bool((await store.attempts.finish(row.thread_id, [success(row)], now=at(60_000))).tasks)


async def _succeed_without_rows(store: Store, row: TaskRow) -> bool:
    return bool(
        (
            await store.attempts.finish(row.thread_id, [success(row)], rows=False, now=at(60_000))
        ).tasks
    )


async def _succeed_and_drop(store: Store, row: TaskRow) -> bool:
    outcome = success(row._replace(retain_for=0))
    return bool((await store.attempts.finish(row.thread_id, [outcome], now=at(60_000))).tasks)


async def _fail(store: Store, row: TaskRow) -> bool:
    return bool((await store.attempts.finish(row.thread_id, [failure(row)], now=at(60_000))).tasks)


async def _fail_at_last(store: Store, row: TaskRow) -> bool:
    return bool(
        (
            await store.attempts.finish(row.thread_id, [failure(row, retry=False)], now=at(60_000))
        ).tasks
    )


async def _fail_and_drop(store: Store, row: TaskRow) -> bool:
    outcome = failure(row._replace(retain_for=0), retry=False)
    return bool((await store.attempts.finish(row.thread_id, [outcome], now=at(60_000))).tasks)


async def _extend(store: Store, row: TaskRow) -> bool:
    return bool(
        (await store.attempts.extend(row.thread_id, [(row.id, row.attempt)], HOUR, now=at(60_000)))[
            0
        ]
    )


async def _release(store: Store, row: TaskRow) -> bool:
    return bool(
        (await store.attempts.release(row.thread_id, [(row.id, row.attempt)], now=at(60_000)))[0]
    )


ACTS: list[Act] = [
    _succeed,
    _succeed_without_rows,
    _succeed_and_drop,
    _fail,
    _fail_at_last,
    _fail_and_drop,
    _extend,
    _release,
]


async def _wrong_attempt(store: Store, row: TaskRow) -> TaskRow:
    return row._replace(attempt=row.attempt + 1)


async def _earlier_attempt(store: Store, row: TaskRow) -> TaskRow:
    return row._replace(attempt=row.attempt - 1)


async def _wrong_holder(store: Store, row: TaskRow) -> TaskRow:
    return row._replace(thread_id="other")


async def _wrong_id(store: Store, row: TaskRow) -> TaskRow:
    return row._replace(id=new_id())


async def _released(store: Store, row: TaskRow) -> TaskRow:
    await store.attempts.release(row.thread_id, [(row.id, row.attempt)], START)
    return row


async def _released_and_claimed_by_another(store: Store, row: TaskRow) -> TaskRow:
    await _released(store, row)
    await claim_one(store, holder="other")
    return row


async def _released_and_claimed_by_itself(store: Store, row: TaskRow) -> TaskRow:
    await _released(store, row)
    await claim_one(store, holder=row.thread_id)
    return row


async def _swept(store: Store, row: TaskRow) -> TaskRow:
    assert (await store.sweep.leases(9, at(LEASE)))[0] == 1
    return row


async def _swept_and_claimed_by_another(store: Store, row: TaskRow) -> TaskRow:
    await _swept(store, row)
    await claim_one(store, holder="other", now=at(HOUR))
    return row


async def _swept_and_claimed_by_itself(store: Store, row: TaskRow) -> TaskRow:
    await _swept(store, row)
    await claim_one(store, holder=row.thread_id, now=at(HOUR))
    return row


async def _swept_and_cancelled(store: Store, row: TaskRow) -> TaskRow:
    await _swept(store, row)
    assert await store.tasks.cancel(row.id, at(LEASE))
    return row


async def _removed(store: Store, row: TaskRow) -> TaskRow:
    assert await store.tasks.remove(row.id)
    return row


async def _removed_and_made_again(store: Store, row: TaskRow) -> TaskRow:
    # A repeat of the create: the same key, a new id.
    assert await store.tasks.remove(row.id)
    await store.tasks.insert(new_row(key="k"), START)
    await claim_one(store, holder=row.thread_id)
    return row


async def _succeeded(store: Store, row: TaskRow) -> TaskRow:
    assert (await store.attempts.finish(row.thread_id, [success(row)], now=START)).tasks
    return row


async def _failed(store: Store, row: TaskRow) -> TaskRow:
    assert (
        await store.attempts.finish(row.thread_id, [failure(row, retry=False)], now=START)
    ).tasks
    return row


async def _failed_and_waits(store: Store, row: TaskRow) -> TaskRow:
    assert (await store.attempts.finish(row.thread_id, [failure(row)], now=START)).tasks
    return row


async def _failed_and_claimed_by_itself(store: Store, row: TaskRow) -> TaskRow:
    await _failed_and_waits(store, row)
    await claim_one(store, holder=row.thread_id, now=at(HOUR))
    return row


MOVES: list[Callable[[Store, TaskRow], Awaitable[TaskRow]]] = [
    _wrong_attempt,
    _earlier_attempt,
    _wrong_holder,
    _wrong_id,
    _released,
    _released_and_claimed_by_another,
    _released_and_claimed_by_itself,
    _swept,
    _swept_and_claimed_by_another,
    _swept_and_claimed_by_itself,
    _swept_and_cancelled,
    _removed,
    _removed_and_made_again,
    _succeeded,
    _failed,
    _failed_and_waits,
    _failed_and_claimed_by_itself,
]


@pytest.mark.parametrize("move", MOVES, ids=lambda move: move.__name__)
async def test_a_late_write_is_refused_and_changes_nothing(
    database: str, move: Callable[[Store, TaskRow], Awaitable[TaskRow]]
) -> None:
    """Fails where a write is guarded by id, by status, by holder or by attempt alone.

    Guarded by status or id: every move that ends in another claim. By holder: the claims "by
    itself". By attempt: the wrong holder, and the task made again. Without a status: the moves
    that end in a status at the same attempt.
    """
    async with open_store(database) as store:
        row = await move(store, await insert_and_claim(store, key="k"))
        before = await stored(database)
        for act in ACTS:
            assert not await act(store, row), act.__name__
            assert await stored(database) == before, act.__name__


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
async def test_the_same_write_in_time_is_accepted(database: str, act: Act) -> None:
    """Fails where the fence refuses everything: without this the test above proves nothing."""
    async with open_store(database) as store:
        row = await insert_and_claim(store)
        before = await stored(database)
        assert await act(store, row)
        assert await stored(database) != before


async def test_in_one_batch_only_what_is_held_is_written(database: str) -> None:
    """Fails on a variant that takes the batch's row count for success of all."""
    async with open_store(database) as store:
        await store.tasks.insert_many(
            [new_row(retain_for=-1 if n % 2 else 0, payload=str(n)) for n in range(12)], START
        )
        rows = await store.database.claim("worker", {"t": 12}, LEASE, START)
        assert await store.tasks.remove(rows[0].id)
        assert (
            len(
                (await store.attempts.release("worker", [(rows[1].id, 1), (rows[2].id, 1)], START))[
                    0
                ]
            )
            == 2
        )
        make: list[Callable[[TaskRow], AttemptOutcome]] = [
            success,
            failure,
            lambda row: failure(row, retry=False),
        ]
        outcomes = [make[number % 3](row) for number, row in enumerate(rows)]
        done = (await store.attempts.finish("worker", outcomes, now=at(1))).tasks
        assert done.keys() == {row.id for row in rows[3:]}
        for outcome in outcomes[3:]:
            task = done[outcome.row.id]
            assert task is not None
            kept = await store.tasks.get(task.id)
            if outcome.drops:
                assert kept is None
                assert task.status in (TaskStatus.SUCCESS, TaskStatus.FAILED)
                assert task.date_completed == at(1)
            else:
                assert task == kept
        kept_extended = (
            await store.attempts.extend("worker", [(row.id, 1) for row in rows], LEASE, at(1))
        )[0]
        assert kept_extended == set()


async def test_an_empty_batch_is_no_error(database: str) -> None:
    async with open_store(database) as store:
        assert (await store.attempts.finish("w", [], now=START)).tasks == {}


async def test_an_answer_without_rows_says_the_same(database: str) -> None:
    async with open_store(database) as store:
        await store.tasks.insert_many([new_row(retain_for=0), new_row()], START)
        dropped, kept = await store.database.claim("w", {"t": 2}, LEASE, START)
        lost = kept._replace(id=new_id())
        outcomes = [success(dropped), success(kept), success(lost)]
        done = (await store.attempts.finish("w", outcomes, rows=False, now=START)).tasks
        assert done == {dropped.id: None, kept.id: None}


@pytest.mark.parametrize("make", [success, partial(failure, retry=False), failure])
@pytest.mark.parametrize("retain_for", [0, -1])
@pytest.mark.parametrize("asked", [False, True])
async def test_what_was_claimed_to_run_is_told_whole_at_its_end(
    database: str, make: Callable[[HeldRow], AttemptOutcome], retain_for: int, asked: bool
) -> None:
    """Fails where what the claim left out is missing in what its end is told with."""
    given: dict[str, Any] = {
        "retain_for": retain_for,
        "retries_remaining": 3,
        "key": "k",
        "payload": "[1]",
    }
    told = []
    for rows in (True, False):
        async with open_store(database, retry_interval=0) as store:
            row = await insert_and_claim(store, **given)
            await store.attempts.finish("worker", [failure(row)], now=START)
            claim = store.database.claim if rows else store.database.claim_to_run
            held: Sequence[HeldRow] = await claim("worker", {"t": 1}, LEASE, START)
            assert isinstance(held[0], TaskRow) == rows
            await store.attempts.progress("worker", {(row.id, 2): '{"value":0.5,"message":null}'})
            if asked:
                await store.tasks.cancel(row.id, START, running=True)
            done = (await store.attempts.finish("worker", [make(held[0])], now=at(1))).tasks
            task = done[row.id]
            assert task is not None
            told.append(task.model_dump(exclude={"id", "date_created"}))
            await store.tasks.remove(row.id)
    assert told[0] == told[1]
    assert (told[0]["key"], told[0]["payload"], told[0]["attempt"]) == ("k", [1], 2)


# How an attempt ends.


@pytest.mark.parametrize("retain_for", [0, -1, 120_000])
@pytest.mark.parametrize("ends", ["success", "failed", "cancelled", "swept"])
async def test_retention_counts_from_the_end(database: str, ends: str, retain_for: int) -> None:
    async with open_store(database, max_lost_workers=1) as store:
        task_id = await store.tasks.insert(new_row(retain_for=retain_for), START)
        if ends == "cancelled":
            task = await store.tasks.cancel(task_id, at(50))
            moment = "date_cancelled"
        else:
            row = await claim_one(store)
            if ends == "swept":
                _, (task,), _ = await store.sweep.leases(1, at(LEASE))
            else:
                outcome = success(row) if ends == "success" else failure(row, retry=False)
                task = ((await store.attempts.finish("worker", [outcome], now=at(50))).tasks)[
                    task_id
                ]
            moment = "date_completed"
        now = at(LEASE if ends == "swept" else 50)
        assert task is not None
        assert task.status == {"swept": "failed"}.get(ends, ends)
        assert (getattr(task, moment), task.date_modified) == (now, now)
        assert {task.date_completed, task.date_cancelled} == {now, None}
        until = now + timedelta(milliseconds=retain_for) if retain_for > 0 else None
        assert task.date_retain_until == until
        kept = await store.tasks.get(task_id)
        assert kept == (None if retain_for == 0 else task)
        if until is not None:
            assert await store.sweep.retention(9, until - timedelta(microseconds=1)) == 0
            assert await store.sweep.retention(9, until) == 1
        elif retain_for < 0:
            assert await store.sweep.retention(9, START + timedelta(days=3650)) == 0
        assert (await store.tasks.get(task_id) is None) == (retain_for >= 0)


async def test_success_stores_the_result_and_clears_the_error(database: str) -> None:
    async with open_store(database) as store:
        row = await insert_and_claim(store)
        await store.attempts.finish("worker", [failure(row)], now=START)
        waiting = await existing(store, row.id)
        assert waiting.error is not None
        assert (waiting.error.name, waiting.error.message) == ("ValueError", "no")
        row = await claim_one(store, holder="second", now=at(HOUR))
        done = (
            await store.attempts.finish("second", [success(row, '{"a":1}')], now=at(HOUR))
        ).tasks
        task = await existing(store, row.id)
        assert done == {row.id: task}
        assert (task.status, task.result, task.error) == (TaskStatus.SUCCESS, {"a": 1}, None)
        # The last holder stays named.
        assert (task.thread_id, task.attempt) == ("second", 2)


@pytest.mark.parametrize("own", [None, 0, 3000])
async def test_a_failure_waits_for_the_next_try(database: str, own: int | None) -> None:
    async with open_store(database, retry_interval=7000) as store:
        row = await insert_and_claim(store, retries_remaining=2, retry_interval=own, retain_for=0)
        done = (await store.attempts.finish("worker", [failure(row)], now=at(100))).tasks
        task = await existing(store, row.id)
        assert done == {row.id: task}
        assert (task.status, task.thread_id, task.retries_remaining) == ("pending", "0", 1)
        assert task.run_at == at(100 + (7000 if own is None else own))
        assert (task.date_completed, task.date_retain_until) == (None, None)


@pytest.mark.parametrize(
    ("how", "times", "most"), [("failed", 1, 11), ("lost", 1, 20), ("lost", 3, 40)]
)
async def test_what_failed_together_does_not_come_back_together(
    database: str, how: str, times: int, most: int
) -> None:
    """Fails where all wait the same: what runs beside a deadly task is lost as often as it is."""
    async with open_store(database, retry_interval=10_000) as store:
        store.ends.spread = Ends.spread
        ids = await store.tasks.insert_many([new_row(retain_for=-1) for _ in range(100)], START)
        for time in range(times):
            rows = await store.database.claim("worker", {"t": 100}, LEASE, at(time * HOUR))
            now = at(time * HOUR + LEASE)
            if how == "failed":
                await store.attempts.finish("worker", [failure(row) for row in rows], now=now)
            else:
                await store.sweep.leases(100, now)
        waits = [((await existing(store, each)).run_at - now).total_seconds() for each in ids]
    assert 10 <= min(waits) < (10 + most) / 2 < max(waits) <= most
    assert len(set(waits)) > 50


async def test_tries_are_bounded(database: str) -> None:
    async with open_store(database) as store:
        await store.tasks.insert(new_row(retries_remaining=2, retry_interval=0), START)
        statuses = []
        for _ in range(3):
            row = await claim_one(store)
            (task,) = (
                (await store.attempts.finish("worker", [failure(row)], now=START)).tasks
            ).values()
            assert task is not None
            statuses.append((task.status, task.retries_remaining))
        assert statuses == [("pending", 1), ("pending", 0), ("failed", 0)]
        assert await store.database.claim("w", {"t": 1}, LEASE, at(HOUR)) == []


async def test_no_retries_and_retries_for_ever(database: str) -> None:
    async with open_store(database) as store:
        row = await insert_and_claim(store, retries_remaining=0)
        await store.attempts.finish("worker", [failure(row)], now=START)
        assert (await existing(store, row.id)).status is TaskStatus.FAILED
        row = await insert_and_claim(store, retries_remaining=None, retry_interval=0)
        for attempt in range(1, 30):
            assert row.attempt == attempt
            await store.attempts.finish("worker", [failure(row)], now=START)
            assert (await existing(store, row.id)).retries_remaining is None
            row = await claim_one(store)


async def test_a_waiting_task_is_never_forgotten(database: str) -> None:
    """Fails on a variant that counts retention from the creation or the first failure."""
    async with open_store(database) as store:
        row = await insert_and_claim(store, retain_for=1)
        await store.attempts.finish("worker", [failure(row)], now=START)
        new = await store.tasks.insert(new_row(retain_for=1, run_at=at(10 * HOUR)), START)
        assert await store.sweep.retention(9, at(100 * HOUR)) == 0
        # An ended task that goes back to pending is waiting again.
        again = await store.tasks.insert(new_row(retain_for=HOUR), START)
        assert await store.tasks.cancel(again, START)
        assert await store.tasks.retry(again, at(1))
        assert await store.sweep.retention(9, at(100 * HOUR)) == 0
        assert len([await existing(store, i) for i in (row.id, new, again)]) == 3


async def test_release_costs_no_try(database: str) -> None:
    async with open_store(database) as store:
        row = await insert_and_claim(store, retries_remaining=1, run_at=at(-9))
        (task,) = (await store.attempts.release("worker", [(row.id, 1)], at(4)))[0]
        assert task == await existing(store, row.id)
        assert (task.status, task.thread_id, task.retries_remaining) == ("pending", "0", 1)
        assert (task.run_at, task.attempt, task.error) == (at(-9), 1, None)
        # It can be claimed at once, and the attempt goes on rising.
        assert (await claim_one(store, now=at(4))).attempt == 2


# retry, cancel, remove.


async def _in_status(store: Store, status: str) -> str:
    if status == "missing":
        return new_id()
    if status == "waiting":
        return await store.tasks.insert(new_row(run_at=at(HOUR), retries_remaining=0), START)
    task_id = await store.tasks.insert(new_row(retries_remaining=0, retain_for=HOUR), START)
    if status == "cancelled":
        assert await store.tasks.cancel(task_id, START)
    elif status != "due":
        row = await claim_one(store)
        if status == "success":
            await store.attempts.finish("worker", [success(row)], now=START)
        elif status == "failed":
            await store.attempts.finish("worker", [failure(row)], now=START)
    return task_id


@pytest.mark.parametrize(
    ("status", "possible"),
    [
        ("waiting", True),
        ("failed", True),
        ("cancelled", True),
        ("due", False),
        ("processing", False),
        ("success", False),
        ("missing", False),
    ],
)
async def test_retry(database: str, status: str, possible: bool) -> None:
    async with open_store(database) as store:
        task_id = await _in_status(store, status)
        before = await stored(database)
        task = await store.tasks.retry(task_id, at(100))
        assert (task is not None) == possible
        if task is None:
            assert await stored(database) == before
            return
        assert task == await existing(store, task_id)
        assert (task.status, task.thread_id, task.run_at) == ("pending", "0", at(100))
        assert (task.date_completed, task.date_cancelled, task.date_retain_until) == (None,) * 3
        # At least one try: it runs, whatever its retries.
        row = await claim_one(store, now=at(100))
        assert row.id == task_id
        # And a second retry of what is due changes nothing.
        assert await store.tasks.retry(task_id, at(100)) is None


@pytest.mark.parametrize(
    ("status", "possible"),
    [
        ("waiting", True),
        ("due", True),
        ("processing", False),
        ("success", False),
        ("failed", False),
        ("cancelled", False),
        ("missing", False),
    ],
)
async def test_cancel(database: str, status: str, possible: bool) -> None:
    """Fails on a variant that cancels over a terminal status or a running attempt."""
    async with open_store(database) as store:
        task_id = await _in_status(store, status)
        before = await stored(database)
        task = await store.tasks.cancel(task_id, at(100))
        assert (task is not None) == possible
        if task is None:
            assert await stored(database) == before
            return
        assert task == await existing(store, task_id)
        assert (task.status, task.date_cancelled) == ("cancelled", at(100))
        assert await store.database.claim("w", {"t": 1}, LEASE, at(HOUR * 9)) == []


@pytest.mark.parametrize(
    "status", ["waiting", "due", "processing", "success", "failed", "cancelled", "missing"]
)
async def test_remove(database: str, status: str) -> None:
    async with open_store(database) as store:
        task_id = await _in_status(store, status)
        other = await store.tasks.insert(new_row(run_at=at(HOUR)), START)
        assert await store.tasks.remove(task_id) == (status != "missing")
        assert await store.tasks.get(task_id) is None
        assert not await store.tasks.remove(task_id)
        assert await store.tasks.get(other) is not None


async def test_cancel_and_claim_at_once_never_both_win(database: str) -> None:
    """Fails on a variant of either that reads the status first and writes by id."""
    async with open_store(database) as one, open_store(database) as two:
        ids = await one.tasks.insert_many([new_row() for _ in range(60)], START)
        claims = [one.database.claim("w", {"t": 1}, LEASE, START) for _ in ids]
        cancels = [two.tasks.cancel(task_id, START) for task_id in ids]
        results: list[Any] = await asyncio.gather(*claims, *cancels)
        claimed = {row.id for rows in results[:60] for row in rows}
        cancelled = {task.id for task in results[60:] if task is not None}
        assert not claimed & cancelled
        for task_id in ids:
            task = await existing(one, task_id)
            assert (task.status == "processing") == (task_id in claimed)
            assert (task.status == "cancelled") == (task_id in cancelled)


# The sweeper.


async def test_only_expired_leases_are_swept(database: str) -> None:
    """Fails on a sweep by status, which would take live attempts from their workers."""
    async with open_store(database) as store:
        ids = await store.tasks.insert_many([new_row() for _ in range(5)], START)
        short = await store.database.claim("short", {"t": 2}, 1000, START)
        await store.database.claim("long", {"t": 2}, 2000, START)
        found, changed, _ = await store.sweep.leases(9, at(1000))
        assert found == 2
        assert {task.id for task in changed} == {row.id for row in short}
        statuses = [(await existing(store, i)).status for i in ids]
        assert statuses == ["pending", "pending", "processing", "processing", "pending"]
        assert await store.sweep.leases(9, at(1000)) == (0, [], [])


async def test_a_lost_worker_counts_as_a_try_and_is_named(database: str) -> None:
    async with open_store(database, retry_interval=7000) as store:
        row = await insert_and_claim(store, holder="host:77", retries_remaining=1)
        found, (task,), _ = await store.sweep.leases(9, at(LEASE))
        assert (found, task) == (1, await existing(store, row.id))
        assert (task.status, task.thread_id, task.retries_remaining) == ("pending", "0", 0)
        assert task.run_at == at(LEASE + 7000)
        assert task.error is not None
        assert task.error.name == "LeaseLostError"
        assert "host:77" in task.error.message
        await claim_one(store, now=at(HOUR))
        _, (task,), _ = await store.sweep.leases(9, at(2 * HOUR))
        assert (task.status, task.date_completed) == ("failed", at(2 * HOUR))
        assert task.error is not None
        assert task.error.name == "LeaseLostError"


@pytest.mark.parametrize("bound", [1, 3])
async def test_lost_workers_are_bounded_with_unlimited_retries(database: str, bound: int) -> None:
    """Fails on a variant that bounds lost workers by the retries alone."""
    async with open_store(database, retry_interval=0, max_lost_workers=bound) as store:
        await store.tasks.insert(new_row(retries_remaining=None), START)
        for number in range(1, bound + 1):
            row = await claim_one(store, now=at(number * HOUR))
            _, (task,), _ = await store.sweep.leases(9, at(number * HOUR + LEASE))
            assert (task.status == "failed") == (number == bound)
        # A retry by hand starts the count again.
        assert await store.tasks.retry(row.id, at(100 * HOUR))
        await claim_one(store, now=at(100 * HOUR))
        _, (task,), _ = await store.sweep.leases(9, at(101 * HOUR))
        assert (task.status == "failed") == (bound == 1)


async def test_a_handlers_failure_is_no_lost_worker(database: str) -> None:
    async with open_store(database, retry_interval=0, max_lost_workers=2) as store:
        row = await insert_and_claim(store)
        await store.sweep.leases(9, at(LEASE))
        for number in range(1, 6):
            row = await claim_one(store, now=at(number * HOUR))
            await store.attempts.finish("worker", [failure(row)], now=at(number * HOUR))
        assert (await existing(store, row.id)).status == "pending"


async def test_the_last_lost_worker_drops_what_is_not_kept(database: str) -> None:
    async with open_store(database, max_lost_workers=2, retry_interval=0) as store:
        row = await insert_and_claim(store, holder="one", retain_for=0)
        _, (task,), _ = await store.sweep.leases(9, at(LEASE))
        assert task.status == "pending"
        await claim_one(store, holder="two", now=at(HOUR))
        found, (task,), _ = await store.sweep.leases(9, at(2 * HOUR))
        assert found == 1
        assert (task.status, task.date_completed, task.attempt) == ("failed", at(2 * HOUR), 2)
        assert task.error is not None
        assert "two" in task.error.message
        assert await store.tasks.get(row.id) is None


async def test_an_extended_lease_is_not_swept(database: str) -> None:
    async with open_store(database) as store:
        row = await insert_and_claim(store)
        assert (await store.attempts.extend("worker", [(row.id, 1)], LEASE, at(LEASE - 1)))[0] == {
            row.id
        }
        # An extension is a sign of life, not a change of the task.
        assert (await existing(store, row.id)).date_modified == START
        assert await store.sweep.leases(9, at(2 * LEASE - 2)) == (0, [], [])
        assert (await store.sweep.leases(9, at(2 * LEASE - 1)))[0] == 1


async def test_an_expired_lease_that_nobody_swept_may_be_extended(database: str) -> None:
    async with open_store(database) as store:
        row = await insert_and_claim(store)
        assert (await store.attempts.extend("worker", [(row.id, 1)], LEASE, at(HOUR)))[0] == {
            row.id
        }
        assert await store.sweep.leases(9, at(HOUR)) == (0, [], [])


async def test_sweep_takes_a_bounded_batch(database: str) -> None:
    async with open_store(database) as store:
        await store.tasks.insert_many([new_row() for _ in range(25)], START)
        await store.database.claim("w", {"t": 25}, LEASE, START)
        found = [(await store.sweep.leases(10, at(LEASE)))[0] for _ in range(4)]
        assert found == [10, 10, 5, 0]


@pytest.mark.parametrize("retain_for", [-1, 0])
@pytest.mark.parametrize("retries", [None, 0])
async def test_sweepers_at_once_put_each_task_back_once(
    database: str, retain_for: int, retries: int | None
) -> None:
    """Fails on a sweep that does not check the lease and the attempt again as it writes."""
    async with open_store(database) as one, open_store(database) as two:
        ids = await one.tasks.insert_many(
            [new_row(retries_remaining=retries, retain_for=retain_for) for _ in range(60)], START
        )
        await one.database.claim("w", {"t": 60}, LEASE, START)
        passes = await asyncio.gather(
            *(store.sweep.leases(500, at(LEASE)) for _ in range(5) for store in (one, two))
        )
        changed = [task.id for swept in passes for task in swept.changed]
        assert sorted(changed) == ids
        if retries is None:
            lost = await execute(database, "SELECT DISTINCT lost_workers FROM rowlock_task")
            assert lost == [(1,)]


async def test_sweep_and_extension_at_once_agree(database: str) -> None:
    """Fails on a sweep that reads what has expired and then writes by id and attempt."""
    async with open_store(database) as one, open_store(database) as two:
        await one.tasks.insert_many([new_row() for _ in range(40)], START)
        rows = await one.database.claim("w", {"t": 40}, LEASE, START)
        extends = [two.attempts.extend("w", [(row.id, 1)], HOUR, at(LEASE)) for row in rows]
        sweeps = [one.sweep.leases(7, at(LEASE)) for _ in range(8)]
        results: list[Any] = await asyncio.gather(*extends, *sweeps)
        extended = set().union(*(kept for kept, _ in results[:40]))
        swept = {task.id for done in results[40:] for task in done.changed}
        assert not extended & swept
        for row in rows:
            held = (await existing(one, row.id)).status == "processing"
            assert held == (row.id not in swept)


async def _sweep_with_a_pause(
    store: Store, meanwhile: Callable[[], Awaitable[object]], now: datetime
) -> list[Task]:
    """Sweep in two transactions: what has expired is read, and later written."""
    sweep = operation(store.sweep.leases, 9, now)

    def read() -> Operation[Sequence[Any]]:
        rows = yield next(sweep)
        return rows

    rows = await store.database.autocommit(read())
    assert len(rows) == 1
    await meanwhile()

    def write() -> Operation[Swept]:
        answer = rows
        while True:
            try:
                step = sweep.send(answer)
            except StopIteration as stop:
                done: Swept = stop.value
                return done
            answer = yield step

    swept = await store.database.autocommit(write())
    return swept.changed


@pytest.mark.parametrize("retries", [None, 0])
@pytest.mark.parametrize("retain_for", [-1, 0])
@pytest.mark.parametrize("what", ["extended", "put back", "claimed again", "claimed by itself"])
async def test_what_happens_while_a_sweep_pauses_is_kept(
    database: str, what: str, retain_for: int, retries: int | None
) -> None:
    """Fails where it writes by id, by status, or without looking at the clock again."""
    async with open_store(database, retry_interval=0) as store:
        row = await insert_and_claim(store, retain_for=retain_for, retries_remaining=retries)

        async def meanwhile() -> None:
            if what == "extended":
                attempts = [(row.id, row.attempt)]
                assert (await store.attempts.extend("worker", attempts, LEASE, at(LEASE)))[0] == {
                    row.id
                }
            else:
                assert (await store.attempts.release("worker", [(row.id, row.attempt)], at(LEASE)))[
                    0
                ]
                if what != "put back":
                    holder = "worker" if what == "claimed by itself" else "other"
                    # Its lease, too, has run out.
                    await claim_one(store, holder=holder, now=at(LEASE), lease=0)
            before.extend(await stored(database))

        before: list[tuple[Any, ...]] = []
        assert await _sweep_with_a_pause(store, meanwhile, at(LEASE)) == []
        assert await stored(database) == before


async def test_forget_takes_a_bounded_batch_of_the_oldest(database: str) -> None:
    async with open_store(database) as store:
        ids = await store.tasks.insert_many(
            [new_row(retain_for=1000 + n) for n in range(25)], START
        )
        for task_id in reversed(ids):
            assert await store.tasks.cancel(task_id, START)
        kept = await store.tasks.insert(new_row(retain_for=-1), START)
        assert await store.sweep.retention(10, at(HOUR)) == 10
        assert [await store.tasks.get(i) is None for i in ids] == [True] * 10 + [False] * 15
        assert [await store.sweep.retention(10, at(HOUR)) for _ in range(3)] == [10, 5, 0]
        assert await store.tasks.get(kept) is not None


async def test_counts(database: str) -> None:
    async with open_store(database) as store:
        assert await store.tasks.counts(None) == {}
        await store.tasks.insert_many([new_row() for _ in range(4)] + [new_row(type="u")], START)
        first, second = await store.database.claim("worker", {"t": 2}, LEASE, START)
        await store.attempts.finish("worker", [success(first)], now=START)
        await store.attempts.finish("worker", [failure(second, retry=False)], now=START)
        assert await store.tasks.counts(None) == {"pending": 3, "success": 1, "failed": 1}
        assert await store.tasks.counts("t") == {"pending": 2, "success": 1, "failed": 1}
        assert await store.tasks.counts("v") == {}


async def test_a_sibling_is_another_store_on_the_same_database(database: str) -> None:
    async with open_store(database) as store:
        sibling = store.sibling()
        await sibling.database.open()
        try:
            task_id = await sibling.tasks.insert(new_row(), START)
            assert await store.tasks.get(task_id) == await sibling.tasks.get(task_id)
        finally:
            await sibling.database.close()
        assert (await existing(store, task_id)).id == task_id


async def test_operations_cancelled_half_way_leave_the_store_usable(database: str) -> None:
    """Fails on a variant that gives a connection back with its transaction open."""
    async with open_store(database) as store:
        for delay in range(12):
            running = asyncio.create_task(  # noqa: RUF006 - awaited below
                store.tasks.insert_many([new_row() for _ in range(300)], START)
            )
            await asyncio.sleep(delay / 1000)
            running.cancel()
            (ended,) = await asyncio.gather(running, return_exceptions=True)
            assert isinstance(ended, list | asyncio.CancelledError | RowlockError), ended
        assert await store.tasks.insert(new_row(), START)
    assert (await count(database) - 1) % 300 == 0
