"""A task that is created alone carries its hint; those that follow closely share one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import asyncpg
import pytest
from sqlalchemy import text

from rowlock import DatabaseError, NewTask, TaskQueue
from rowlock._client.hints import Hints
from rowlock._store.database import Hint, HintKind
from rowlock._store.postgres.database import PostgresDatabase
from rowlock._store.postgres.dialect import CHANNEL, DIALECT
from rowlock._store.tasks import TaskStatements
from tests.support.helpers import eventually
from tests.support.stores import execute

LISTENING = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND query LIKE 'LISTEN %'"
)


async def test_a_lone_create_carries_its_hint(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if the hint waits for a round trip of its own, or if each create gives one."""
    heard: list[str] = []
    sent: list[set[str | None]] = []
    hint = PostgresDatabase.hint

    async def spied(database: PostgresDatabase, hints: Iterable[Hint]) -> None:
        sent.append({given.value for given in hints})
        await hint(database, [Hint(HintKind.WORK, value) for value in sent[-1]])

    monkeypatch.setattr(PostgresDatabase, "hint", spied)
    listener = await asyncpg.connect(postgres_url)
    await listener.add_listener(CHANNEL, lambda *args: heard.append(args[3]))
    async with TaskQueue(postgres_url) as queue:
        await queue.create("a")
        await eventually(lambda: heard == ["a"])
        monkeypatch.setattr("rowlock._client.hints._SILENCE", 3600.0)
        for _ in range(20):
            await queue.create("b")
        await eventually(lambda: "b" in heard)
    assert set().union(*sent) == {"b"}
    assert 0 < len(sent) < 20
    await eventually(lambda: len(heard) == 1 + len(sent))
    await listener.close()


async def test_a_task_is_stored_though_its_hint_cannot_be_sent(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if what PostgreSQL says of a full queue of notifications is told to the caller."""
    await execute(
        postgres_url,
        "CREATE FUNCTION no_room() RETURNS void LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE 'too many notifications in the NOTIFY queue' USING ERRCODE = '54000'; END $$",
    )
    statements = TaskStatements.of(DIALECT)
    refused = DIALECT.statement(text("SELECT no_room()"))
    monkeypatch.setattr(statements, "insert_and_notify", refused)
    async with TaskQueue(postgres_url) as queue:
        task_id = await queue.create("a", retain_for=-1)
        assert await queue.get(task_id) is not None


async def test_a_queue_that_is_not_started_hears_what_others_create(database: str) -> None:
    """Fails where only a worker listens."""
    heard: list[str | None] = []
    async with TaskQueue(database) as waiting, TaskQueue(database) as creating:
        hears = {HintKind.WORK: heard.append}
        waiting.runtime.hints.listen(hears)
        await eventually(lambda: heard)  # what was done before it listened gave no hint
        heard.clear()
        await creating.create("a")
        # On SQLite the change of the file says not which.
        await eventually(lambda: heard and set(heard) <= {"a", None})
        waiting.runtime.hints.unlisten(hears)
        await waiting.create("b")
        assert "b" not in heard


async def test_a_queue_that_only_creates_opens_no_connection_to_listen(postgres_url: str) -> None:
    """Fails where the listener starts with the queue."""

    async def listens() -> bool:
        return await execute(postgres_url, LISTENING) != [(0,)]

    async with TaskQueue(postgres_url) as queue:
        await queue.create("a")
        await queue.create_many([NewTask("a")])
        await queue.cancel(await queue.create("b", delay=60_000))
        assert not await listens()
        await queue.start()
        await eventually(listens)


async def test_an_error_of_the_same_kind_as_a_full_queue_of_hints_is_told(
    postgres_url: str,
) -> None:
    """Fails where what the server refuses reaches the caller as an error of rowlock's own use."""
    await execute(
        postgres_url,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE 'too wide' USING ERRCODE = '54000'; END $$",
    )
    await execute(
        postgres_url,
        "CREATE TRIGGER refuse BEFORE INSERT ON rowlock_task"
        " FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    async with TaskQueue(postgres_url) as queue:
        for key in (None, "k"):
            with pytest.raises(DatabaseError, match="54000"):
                await queue.create("a", key=key)


async def test_a_hint_that_cannot_be_sent_keeps_no_other_back(postgres_url: str) -> None:
    """Fails where it is tried again with all that follow, for ever."""
    heard: list[str] = []
    listener = await asyncpg.connect(postgres_url)
    await listener.add_listener(CHANNEL, lambda *args: heard.append(args[3]))
    async with TaskQueue(postgres_url) as queue:
        hints = queue.runtime.hints
        hints.send(Hint(HintKind.CANCEL, "x" * 8000))
        with pytest.raises(DatabaseError):
            await hints.send_unsent()
        hints.send(Hint(HintKind.WORK, "a"))
        await eventually(lambda: "a" in heard)
    await listener.close()


async def test_a_queue_hears_after_a_close_that_was_cancelled(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where the loops of the old one are stopped, and those of the new one with them."""
    heard: list[str | None] = []
    queue = TaskQueue(database)
    await queue.open()
    closing = asyncio.Event()
    close = Hints.close

    async def slow(hints: Hints) -> None:
        await close(hints)
        closing.set()
        await asyncio.sleep(0.05)

    monkeypatch.setattr(Hints, "close", slow)
    task = asyncio.create_task(queue.close())
    await closing.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with queue, TaskQueue(database) as other:
        queue.runtime.hints.listen({HintKind.WORK: heard.append})
        await eventually(lambda: heard)
        heard.clear()
        await other.create("a")
        await eventually(lambda: heard)


async def test_nobody_listens_after_a_stop_that_was_cancelled(database: str) -> None:
    """Fails where that is done by whoever waits for the stop."""
    async with TaskQueue(database) as queue:
        await queue.start()
        worker = queue.runtime.worker
        assert worker is not None
        stopping = asyncio.create_task(queue.stop())
        await eventually(lambda: worker.stopping)
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)
        await eventually(lambda: worker.stopped)
        assert not queue.runtime.hints._listeners
