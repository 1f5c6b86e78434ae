"""What real stores did is what the model allows; and a record of anything else is refused."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import ColumnElement, FromClause, and_

from rowlock._store import attempts, ends
from rowlock._store.postgres.dialect import DIALECT as POSTGRESQL
from rowlock._store.sql import HOLDER, Dialect
from rowlock._store.sqlite.dialect import DIALECT as SQLITE
from rowlock._store.tables import task
from tests.model.node import MAX_LOST
from tests.model.protocol import Rules
from tests.model.recorder import read, record
from tests.model.replay import replay
from tests.model.storm import STORES, storm
from tests.support.helpers import eventually
from tests.support.stores import claim_one, failure, new_row, open_store, success

RULES = Rules(max_lost=MAX_LOST)

Record = list[dict[str, Any]]
Fence = Callable[..., ColumnElement[bool]]


async def test_what_stores_do_is_what_the_model_allows(database: str, tmp_path: Path) -> None:
    files = [tmp_path / f"record-{number}" for number in range(STORES)]
    await storm(database, files)
    report = replay(read(files), RULES)
    print(report)
    assert not report.deviations
    # Or it says little.
    for name in ("extend", "finish", "release"):
        assert report.events[name], name
        assert report.events[f"{name} refused"], name
    for name in ("sweep", "cancel", "retry", "remove", "forget", "is not processing"):
        assert report.events[name], name


async def zombie(database: str, directory: Path, other_holder: str = "other") -> Record:
    """A worker stalls past its lease, another takes the task over; both finish, and once more."""
    files = [directory / "one", directory / "other"]
    async with open_store(database, retry_interval=0) as one, open_store(database) as other:
        record(files[0], one)
        record(files[1], other)
        row = new_row(run_at=None, retries_remaining=1)
        await one.tasks.insert(row)
        (first,) = await one.database.claim("one", {"t": 1}, 200)

        async def swept() -> bool:
            return (await other.sweep.leases(10))[0] == 1

        await eventually(swept)
        await one.tasks.retry(row.id)
        (second,) = await other.database.claim(other_holder, {"t": 1}, 60_000)
        await one.attempts.finish("one", [success(first)])
        for _ in range(2):
            await other.attempts.finish(other_holder, [failure(second)])
        await one.tasks.get(row.id)
    return read(files)


# The real code with a broken fence.


def without_attempt(
    dialect: Dialect, batch: FromClause, holder: ColumnElement[Any] = HOLDER
) -> ColumnElement[bool]:
    return and_(
        task.c.id == batch.c.id, task.c.thread_id == holder, task.c.lease_until.is_not(None)
    )


def without_lease(
    dialect: Dialect, batch: FromClause, holder: ColumnElement[Any] = HOLDER
) -> ColumnElement[bool]:
    return and_(
        task.c.id == batch.c.id,
        task.c.attempt == batch.c.attempt,
        task.c.thread_id == holder,
    )


@pytest.fixture
def _statements_anew() -> Iterator[None]:
    """The statements are built again for a test, and after it."""
    for dialect in (POSTGRESQL, SQLITE):
        dialect.groups.clear()
    yield
    for dialect in (POSTGRESQL, SQLITE):
        dialect.groups.clear()


@pytest.mark.usefixtures("_statements_anew")
@pytest.mark.parametrize("fence", [without_attempt, without_lease])
async def test_the_replay_finds_a_broken_fence(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fence: Fence
) -> None:
    for module in (attempts, ends):
        monkeypatch.setattr(module, "fence", fence)
    (deviation,) = replay(await zombie(database, tmp_path, "one"), RULES).deviations
    assert "finish" in str(deviation)
    assert "accepted True" in str(deviation)


# A record that was tampered with.

Change = Callable[[Record], None]


def only(calls: Record, name: str, place: int = 0) -> dict[str, Any]:
    """A call of which it matters, and the place among those of its name."""
    return [call for call in calls if call["name"] == name and call.get("rows") != []][place]


def accept_the_stale_finish(calls: Record) -> None:
    call = only(calls, "finish")
    call["done"] = {call["attempts"][0][0]: "success"}


def refuse_the_good_finish(calls: Record) -> None:
    only(calls, "finish", 1)["done"] = {}


def accept_the_repeated_finish(calls: Record) -> None:
    only(calls, "finish", 2)["done"] = only(calls, "finish", 1)["done"]


def claim_it_twice(calls: Record) -> None:
    calls.append(copy.deepcopy(only(calls, "claim", 1)))


def skip_an_attempt(calls: Record) -> None:
    only(calls, "claim", 1)["rows"][0][1] = 3


def keep_the_try(calls: Record) -> None:
    only(calls, "claim", 1)["rows"][0][2] = 1


def forget_the_lost_worker(calls: Record) -> None:
    only(calls, "claim", 1)["rows"][0][3] = 0


def lengthen_the_lease(calls: Record) -> None:
    only(calls, "claim")["lease"] = 60.0


def create_nothing(calls: Record) -> None:
    calls.remove(only(calls, "insert"))


def lose_the_row(calls: Record) -> None:
    only(calls, "get")["row"] = None


def end_otherwise(calls: Record) -> None:
    only(calls, "get")["row"][0] = "success"


def end_by_nobody(calls: Record) -> None:
    calls.remove(only(calls, "finish", 2))
    calls.remove(only(calls, "finish", 1))
    only(calls, "get")["row"][0] = "failed"


@pytest.mark.parametrize(
    "change",
    [
        accept_the_stale_finish,
        refuse_the_good_finish,
        accept_the_repeated_finish,
        claim_it_twice,
        skip_an_attempt,
        keep_the_try,
        forget_the_lost_worker,
        lengthen_the_lease,
        create_nothing,
        lose_the_row,
        end_otherwise,
        end_by_nobody,
    ],
)
async def test_a_tampered_record_is_refused(
    sqlite_url: str, tmp_path: Path, change: Change
) -> None:
    calls = await zombie(sqlite_url, tmp_path)
    assert not replay(calls, RULES).deviations
    change(calls)
    (deviation,) = replay(calls, RULES).deviations
    print(deviation)


# Calls without an answer.


def unanswered(calls: Record, name: str, place: int = 0) -> None:
    """As if the process had been killed before the answer came, with what it would have said."""
    call = only(calls, name, place)
    asked = {"call", "name", "began", "holder", "lease", "attempts", "endings", "id"}
    if name == "insert":
        asked.add("rows")
    if name == "sweep":
        asked.remove("attempts")
    for field in call.keys() - asked:
        del call[field]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("insert", 0),
        ("claim", 0),
        ("claim", 1),
        ("sweep", -1),
        ("finish", 0),
        ("finish", 1),
        ("finish", 2),
    ],
)
async def test_what_got_no_answer_may_have_been_done(
    sqlite_url: str, tmp_path: Path, name: str, place: int
) -> None:
    calls = await zombie(sqlite_url, tmp_path)
    unanswered(calls, name, place)
    report = replay(calls, RULES)
    assert not report.deviations
    assert report.unanswered == 1


async def test_what_got_no_answer_was_not_done_before_it_was_asked(
    sqlite_url: str, tmp_path: Path
) -> None:
    """Fails if a claim without an answer explains any attempt, whenever that was."""
    calls = await zombie(sqlite_url, tmp_path)
    unanswered(calls, "claim")
    only(calls, "claim")["began"] = calls[-1]["began"]
    assert replay(calls, RULES).deviations


async def test_a_row_of_a_callers_transaction_may_be_there_or_not(
    sqlite_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "record"
    async with open_store(sqlite_url) as store:
        record(file, store)
        for commits in (True, False):
            async with store.database._engine.connect() as connection:
                row = new_row(run_at=None)
                await store.tasks.insert_on(connection, [row])
                await (connection.commit() if commits else connection.rollback())
            assert (await store.tasks.get(row.id) is not None) == commits
            await store.database.claim("worker", {"t": 1}, 60_000)
    report = replay(read([file]), RULES)
    assert not report.deviations
    assert report.events["claim"] == 1


async def test_concurrent_calls_are_put_in_order(sqlite_url: str, tmp_path: Path) -> None:
    """Fails if calls are taken in the order in which they began, or ended."""
    file = tmp_path / "record"
    async with open_store(sqlite_url) as store:
        record(file, store)
        await store.tasks.insert(new_row(run_at=None))
        row = await claim_one(store, now=None, lease=60_000)
        await store.attempts.finish("worker", [success(row)])
        await store.attempts.extend("worker", [(row.id, 1)], 60_000)
        await store.tasks.get(row.id)
    calls = read([file])
    end = calls[-1]["ended"]
    # The extension was refused, and began before the finish that refused it.
    calls[3]["began"] = calls[2]["began"] - 1e-6
    calls[2]["ended"] = end
    assert not replay(calls, RULES).deviations
    calls[3]["ended"] = calls[2]["began"] - 1e-7
    calls[3]["began"] = calls[3]["ended"] - 1e-7
    assert replay(calls, RULES).deviations


async def test_a_line_that_was_cut_is_left_out(sqlite_url: str, tmp_path: Path) -> None:
    file = tmp_path / "record"
    async with open_store(sqlite_url) as store:
        record(file, store)
        await asyncio.gather(*(store.tasks.insert(new_row()) for _ in range(3)))
    file.write_bytes(file.read_bytes()[:-5])
    assert [("ended" in call) for call in read([file])].count(False) == 1
    assert not replay(read([file]), RULES).deviations
