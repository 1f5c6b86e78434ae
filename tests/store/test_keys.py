"""Idempotency keys: each type has its own, and a task keeps its key until it has failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from rowlock import DuplicateKeyError, InvalidArgumentError, NewTask, TaskQueue
from rowlock._store.database import Operation, T
from rowlock._store.tasks import Tasks, TaskStatements
from rowlock._store.url import async_url
from tests.support.helpers import eventually
from tests.support.stores import START, at, claim_one, execute, failure, new_row, open_store

SECONDS = 10


async def count(url: str) -> int:
    ((number,),) = await execute(url, "SELECT count(*) FROM rowlock_task")
    return int(number)


@asynccontextmanager
async def transaction(url: str) -> AsyncIterator[AsyncConnection]:
    """A transaction of the application's."""
    engine = create_async_engine(async_url(url))
    try:
        async with engine.begin() as connection:
            yield connection
    finally:
        await engine.dispose()


async def test_types_share_no_keys(database: str) -> None:
    async with TaskQueue(database) as queue:
        charge = await queue.create("charge", key="order-1")
        mail = await queue.create("mail", key="order-1")
        many = await queue.create_many(
            NewTask(name, key="order-1") for name in ("mail", "charge", "ship", "mail")
        )
    assert charge != mail
    assert many[0] == many[3] == mail
    assert many[1] == charge
    assert await count(database) == 3


@pytest.mark.parametrize("own", [True, False], ids=["own connection", "transaction of the caller"])
async def test_a_duplicate_that_is_to_raise_names_the_task(database: str, own: bool) -> None:
    async with TaskQueue(database) as queue, transaction(database) as connection:
        given: dict[str, Any] = {} if own else {"connection": connection}
        first = await queue.create("t", key="k", on_duplicate="raise", **given)
        with pytest.raises(DuplicateKeyError, match=first) as refused:
            await queue.create("t", key="k", on_duplicate="raise", **given)
        assert refused.value.task_id == first
        assert await queue.create("t", key="k", **given) == first
        assert await queue.create("other", key="k", on_duplicate="raise", **given) != first


@pytest.mark.parametrize("own", [True, False], ids=["own connection", "transaction of the caller"])
async def test_many_with_a_duplicate_that_is_to_raise_store_nothing(
    database: str, own: bool
) -> None:
    """Fails where those before it are stored, also if the caller goes on with the transaction."""
    async with TaskQueue(database) as queue:
        taken = await queue.create("t", key="b")
        async with transaction(database) as connection:
            given: dict[str, Any] = {} if own else {"connection": connection}
            with pytest.raises(DuplicateKeyError) as refused:
                await queue.create_many(
                    [NewTask("t", key=key, on_duplicate="raise") for key in "abc"], **given
                )
            assert refused.value.task_id == taken
            kept = await queue.create("t", key="after", **given)
        assert await queue.get(kept) is not None
        assert await count(database) == 2


async def test_many_with_a_key_twice_that_is_to_raise(database: str) -> None:
    async with TaskQueue(database) as queue:
        with pytest.raises(DuplicateKeyError):
            await queue.create_many([NewTask("t", key="k", on_duplicate="raise")] * 2)
        assert await count(database) == 0


async def test_on_duplicate_is_one_of_two(database: str) -> None:
    async with TaskQueue(database) as queue:
        with pytest.raises(InvalidArgumentError, match="on_duplicate"):
            await queue.create("t", key="k", on_duplicate="replace")  # type: ignore[arg-type]


async def test_many_keys_are_no_round_trip_each(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where each row is a statement: 20,000 of them took 20,000 round trips."""
    statements = 0
    insert_each = Tasks._insert_each

    def counted(self: Tasks, *arguments: object) -> Operation[T]:
        nonlocal statements
        operation: Operation[T] = insert_each(self, *arguments)  # type: ignore[arg-type,assignment]
        answer = None
        while True:
            try:
                step = operation.send(answer)  # type: ignore[arg-type]
            except StopIteration as stop:
                result: T = stop.value
                return result
            statements += 1
            answer = yield step

    async with TaskQueue(database) as queue:
        before = await queue.create_many(NewTask("t", key=str(n)) for n in range(0, 5000, 2))
        monkeypatch.setattr(Tasks, "_insert_each", counted)
        ids = await queue.create_many(NewTask("t", key=str(n)) for n in range(5000))
    assert ids[::2] == before
    assert len(set(ids)) == 5000 == await count(database)
    assert statements <= 10


@pytest.mark.parametrize("many", [True, False])
async def test_a_key_that_becomes_free_at_that_moment_makes_a_new_row(
    database: str, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    """Fails where the look after a refused insert finds nobody, and gives up or returns None."""
    async with open_store(database) as store:
        first = await store.tasks.insert(new_row(key="k"), START)

        def gone(operation: Operation[T]) -> Operation[T]:
            """Between the insert and the look the other task has gone."""
            answer = yield next(operation)
            assert not answer
            yield TaskStatements.of(store.database.dialect).remove, {"id": first}
            while True:
                try:
                    step = operation.send(answer)
                except StopIteration as stop:
                    result: T = stop.value
                    return result
                answer = yield step

        row = new_row(key="k")
        if many:
            assert await store.database.transaction(
                gone(store.tasks._insert_each([row], START))
            ) == [row.id]
        else:
            assert await store.database.transaction(gone(store.tasks._insert(row, START))) == row.id
        assert await store.tasks.get(row.id) is not None


async def test_a_retry_whose_key_was_taken_is_refused(database: str) -> None:
    """Fails where it breaks the index with an error of the driver, or takes the key away."""
    async with TaskQueue(database) as queue, open_store(database) as store:
        failed = await store.tasks.insert(new_row(key="k", retries_remaining=0), START)
        await store.attempts.finish("worker", [failure(await claim_one(store))], now=at(1))
        newer = await queue.create("t", key="k")
        with pytest.raises(DuplicateKeyError) as refused:
            await queue.retry(failed)
        assert refused.value.task_id == newer
        assert await queue.remove(newer)
        assert await queue.retry(failed)
        assert await queue.create("t", key="k") == failed


async def test_retries_of_two_tasks_with_one_key_at_once(database: str) -> None:
    """One of them is refused. Fails where the loser of the race hears of an index."""
    async with open_store(database) as one, open_store(database) as two:
        for _ in range(8):
            ids = []
            for _ in range(2):
                ids.append(await one.tasks.insert(new_row(key="k"), START))
                await one.tasks.cancel(ids[-1], START)
            answers = await asyncio.gather(
                one.tasks.retry(ids[0], START),
                two.tasks.retry(ids[1], START),
                return_exceptions=True,
            )
            (refused,) = [answer for answer in answers if isinstance(answer, BaseException)]
            assert isinstance(refused, DuplicateKeyError)
            assert refused.task_id in ids
            for task_id in ids:
                await one.tasks.remove(task_id)


async def test_a_keyed_create_locks_no_row_that_is_there(postgres_url: str) -> None:
    """Fails with DO UPDATE: the row stayed locked until the caller's transaction ended."""
    async with TaskQueue(postgres_url) as queue:
        first = await queue.create("t", key="k", retain_for=-1)
        async with transaction(postgres_url) as connection:
            assert await queue.create("t", key="k", connection=connection) == first
            ids = await queue.create_many(
                [NewTask("t", key="k"), NewTask("t", key="new")], connection=connection
            )
            assert ids[0] == first
            async with asyncio.timeout(SECONDS):
                assert await queue.cancel(first)


async def test_a_create_waits_for_who_is_about_to_take_its_key(postgres_url: str) -> None:
    """Fails where it makes a second row, or fails after the lock timeout of a worker."""
    async with TaskQueue(postgres_url) as queue:
        async with transaction(postgres_url) as connection:
            first = await queue.create("t", key="k", connection=connection)
            second = asyncio.create_task(queue.create("t", key="k"))

            async def waits() -> bool:
                waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'transactionid'"
                return bool(await execute(postgres_url, waiting))

            await eventually(waits)
        assert await second == first
