"""What is too slow in one statement goes in several; a claim is bounded in bytes."""

from __future__ import annotations

import asyncio
import json

import pytest
from sqlalchemy import make_url

from rowlock import DatabaseUnavailableError, NewTask, TaskQueue, TaskStatus
from rowlock import _batch_size as batch_size
from rowlock._batch_size import BatchSize, StatementTooSlowError
from rowlock._store.database import MOST_BYTES_OF_A_CLAIM
from tests.support.helpers import eventually
from tests.support.stores import LEASE, START, execute, new_row, open_store

# Each row with a result, or of type "slow", takes its time to write.
SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END'
"""


async def gives(payload: object) -> str:
    await asyncio.sleep(0.2)
    return "done"


async def hangs(payload: object) -> str:
    return "too slow"


async def make_slow(url: str, condition: str, *, on: str = "UPDATE", seconds: float = 0.01) -> None:
    """Let each such write of a row take so long, and a statement no longer than 200 ms."""
    await execute(url, SLOW.replace("0.01", str(seconds)))
    await execute(
        url,
        f"CREATE TRIGGER slow BEFORE {on} ON rowlock_task FOR EACH ROW"
        f" WHEN ({condition}) EXECUTE FUNCTION slow()",
    )
    name = make_url(url).database
    await execute(url, f"ALTER DATABASE {name} SET statement_timeout = '200ms'")


def test_a_size_is_halved_and_grows_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_size, "_GROWS_AFTER", 0.0)
    size = BatchSize(100)
    for sent, expected in ((40, 20), (20, 10), (1, 1), (1, 1)):
        with pytest.raises(StatementTooSlowError), size.statement(sent):
            raise StatementTooSlowError("slow")
        assert size.rows == expected
    for expected in (2, 4, 8, 16, 32, 64, 100, 100):
        with size.statement(1):
            pass
        assert size.rows == expected


def test_a_size_does_not_grow_at_once() -> None:
    """Fails where every second statement is too slow again, and waits for its timeout."""
    size = BatchSize(100)
    with pytest.raises(StatementTooSlowError), size.statement(100):
        raise StatementTooSlowError("slow")
    with size.statement(50):
        pass
    assert size.rows == 50


async def test_outcomes_that_are_too_slow_together_are_written(postgres_url: str) -> None:
    """Fails where the same batch is sent again and again: none is ever stored."""
    await make_slow(postgres_url, "NEW.result IS NOT NULL")
    async with TaskQueue(postgres_url) as queue:
        await queue.register_handler("t", __name__, "gives")
        await queue.create_many(NewTask("t", retry_count=0, retain_for=-1) for _ in range(60))
        await queue.start()

        async def done() -> bool:
            return (await queue.counts())[TaskStatus.SUCCESS] == 60

        await eventually(done, timeout=30)
        tasks = (await queue.query(limit=100)).entities
    assert {task.attempt for task in tasks} == {1}


async def test_an_outcome_that_is_too_slow_by_itself_keeps_no_other_from_being_written(
    postgres_url: str,
) -> None:
    """Fails where the first of the list is tried for ever, and the others behind it never."""
    await make_slow(postgres_url, "NEW.type = 'hangs' AND NEW.status = 'success'", seconds=5)
    async with TaskQueue(postgres_url, stop_timeout=100) as queue:
        await queue.register_handler("hangs", __name__, "hangs")
        await queue.register_handler("t", __name__, "gives")
        await queue.start()
        await queue.create("hangs", retain_for=-1)
        ids = await queue.create_many(NewTask("t", retain_for=-1) for _ in range(20))

        async def done() -> bool:
            tasks = [await queue.get(task_id) for task_id in ids]
            return all(task is not None and task.status == "success" for task in tasks)

        await eventually(done, timeout=30)


async def test_claims_that_are_too_slow_take_fewer(postgres_url: str) -> None:
    await make_slow(postgres_url, "NEW.status = 'processing' AND OLD.status = 'pending'")
    async with TaskQueue(postgres_url) as queue:
        await queue.register_handler("t", __name__, "gives")
        await queue.create_many(NewTask("t", retain_for=-1) for _ in range(100))
        await queue.start()

        async def done() -> bool:
            return (await queue.counts())[TaskStatus.SUCCESS] == 100

        await eventually(done, timeout=30)


async def test_creates_that_are_too_slow_together_are_stored(postgres_url: str) -> None:
    """Fails where the group fails as a whole, or is sent again as it was."""
    await make_slow(postgres_url, "NEW.type = 't'", on="INSERT")
    async with TaskQueue(postgres_url) as queue:
        ids = await asyncio.gather(*(queue.create("t") for _ in range(60)))
        assert (await queue.counts())[TaskStatus.PENDING] == 60
    assert len(set(ids)) == 60


async def test_a_create_that_is_too_slow_by_itself_fails_alone(postgres_url: str) -> None:
    await make_slow(postgres_url, "NEW.type = 'bad'", on="INSERT", seconds=5)
    async with TaskQueue(postgres_url) as queue:
        # The first goes alone; the others are a group.
        names = ["t", *["t"] * 5, "bad", *["t"] * 5]
        answers = await asyncio.gather(
            *(queue.create(name) for name in names), return_exceptions=True
        )
        failed = [answer for answer in answers if isinstance(answer, BaseException)]
        assert len(failed) == 1
        assert isinstance(failed[0], DatabaseUnavailableError)
        assert (await queue.counts())[TaskStatus.PENDING] == len(names) - 1


async def test_leases_that_are_too_slow_together_are_extended(postgres_url: str) -> None:
    """Fails where the whole of what a worker holds is sent in one statement, for ever."""
    await make_slow(postgres_url, "NEW.lease_until > OLD.lease_until AND NEW.type = 'long'")
    async with TaskQueue(postgres_url, lease=9000, sweep_interval=200) as queue:
        await queue.register_handler("long", "tests.store.test_connections", "waits")
        await queue.start()
        await queue.create_many(NewTask("long", 12, retain_for=-1) for _ in range(60))

        async def done() -> bool:
            return (await queue.counts())[TaskStatus.SUCCESS] == 60

        await eventually(done, timeout=40)
        tasks = (await queue.query(limit=100)).entities
    assert {task.attempt for task in tasks} == {1}


# Bytes.


@pytest.mark.parametrize("types", [1, 3])
async def test_a_claim_ends_with_the_row_that_fills_it(database: str, types: int) -> None:
    """Fails where 1,000 payloads come in one answer, whatever their size is."""
    size = 250_000
    payload = json.dumps("x" * (size - 2))
    fit = -(-MOST_BYTES_OF_A_CLAIM // size)
    names = [f"t{number % types}" for number in range(fit + 5)]
    async with open_store(database) as store:
        await store.tasks.insert_many(
            [new_row(type=name, payload=payload) for name in names], START
        )
        rooms = {f"t{number}": 1000 for number in range(types)}
        first = await store.database.claim("w", rooms, LEASE, START)
        assert len(first) == fit
        assert len(await store.database.claim("w", rooms, LEASE, START)) == 5


async def test_a_payload_that_fills_a_claim_by_itself_is_claimed(database: str) -> None:
    """Fails where what is too large for the bound is left for ever."""
    async with open_store(database) as store:
        large = json.dumps("x" * MOST_BYTES_OF_A_CLAIM)
        await store.tasks.insert_many([new_row(payload=large), new_row(payload=None)], START)
        assert len(await store.database.claim("w", {"t": 10}, LEASE, START)) == 1
        assert len(await store.database.claim("w", {"t": 10}, LEASE, START)) == 1


async def test_a_payload_counts_as_it_comes_over_the_link(database: str) -> None:
    """Fails where it counts as the table stores it, compressed."""
    async with open_store(database) as store:
        payload = json.dumps([0] * 120_000)
        rows = [new_row(payload=payload) for _ in range(60)]
        await store.tasks.insert_many(rows, START)
        claimed = await store.database.claim("w", {"t": 100}, LEASE, START)
        assert len(claimed) < 60
