"""What a database refuses for reasons of its own is an error of rowlock, and shows no value."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from rowlock import (
    DatabaseError,
    DatabaseUnavailableError,
    InvalidArgumentError,
    NewTask,
    RowlockError,
    SchemaError,
    TaskQueue,
    schema,
)
from rowlock._store.url import async_url
from tests.executors.test_processes import ended
from tests.support.roles import role
from tests.support.stores import execute

SECRET = "4111-1111-1111-1111"
PAYLOAD = {"card": SECRET}


def trigger(url: str, *, event: str = "INSERT", condition: str = "true") -> list[str]:
    """Statements for a trigger that raises, on PostgreSQL with the payload in its text."""
    if url.startswith("sqlite"):
        condition = "1" if condition == "true" else condition
        return [
            f"CREATE TRIGGER no BEFORE {event} ON rowlock_task WHEN {condition}"
            " BEGIN SELECT RAISE(ABORT, 'no room'); END"
        ]
    return [
        "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no room for %', NEW.payload->>'card'"
        " USING DETAIL = NEW.payload, HINT = NEW.payload; END $$",
        f"CREATE TRIGGER no BEFORE {event} ON rowlock_task FOR EACH ROW"
        f" WHEN ({condition}) EXECUTE FUNCTION no_room()",
    ]


def check(url: str) -> list[str]:
    """Statements for a constraint that no payload fulfils."""
    if url.startswith("sqlite"):
        # SQLite adds none to a table that is there.
        return [
            "CREATE TABLE copy (x, CONSTRAINT small CHECK (length(x) < 3))",
            "CREATE TRIGGER no AFTER INSERT ON rowlock_task"
            " BEGIN INSERT INTO copy VALUES (NEW.payload); END",
        ]
    return ["ALTER TABLE rowlock_task ADD CONSTRAINT small CHECK (length(payload::text) < 3)"]


def missing_table(url: str) -> list[str]:
    """Statements for a trigger that writes into a table that is not there."""
    if url.startswith("sqlite"):
        return [
            "CREATE TABLE audit (x)",
            "CREATE TRIGGER no AFTER INSERT ON rowlock_task"
            " BEGIN INSERT INTO audit VALUES (NEW.payload); END",
            "DROP TABLE audit",
        ]
    return [
        "CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO audit VALUES (NEW.payload); RETURN NEW; END $$",
        "CREATE TRIGGER no BEFORE INSERT ON rowlock_task FOR EACH ROW EXECUTE FUNCTION audit()",
    ]


CASES: dict[str, Any] = {
    "trigger": (trigger, {"sqlite": "trigger", "postgresql": r"RaiseError .*no_room\(\)"}),
    "check": (check, {"sqlite": "CHECK.*small", "postgresql": 'check constraint "small"'}),
    "missing table": (missing_table, {"sqlite": "audit", "postgresql": '"audit" does not exist'}),
}


def shows_no_secret(error: BaseException) -> bool:
    """Neither in its text nor in a traceback, as a log has it."""
    return SECRET not in "".join(traceback.format_exception(error))


async def ways(url: str, queue: TaskQueue) -> AsyncIterator[Any]:
    """Every way to create a task, as a coroutine."""
    yield queue.create("t", PAYLOAD)
    yield queue.create("t", PAYLOAD, key="k")
    yield queue.create_many([NewTask("t", PAYLOAD), NewTask("t", PAYLOAD)])
    yield queue.create_many([NewTask("t", PAYLOAD, key="k")])
    engine = create_async_engine(async_url(url))
    async with engine.connect() as connection:
        yield queue.create("t", PAYLOAD, connection=connection)
    async with AsyncSession(engine) as session:
        yield queue.create_many([NewTask("t", PAYLOAD, key="k")], connection=session)
    await engine.dispose()


async def test_an_index_of_somebody_else(database: str) -> None:
    """Fails where whatever is unique is taken for a key: a retry then never ends."""
    on_postgresql = not database.startswith("sqlite")
    payload = "(payload::text)" if on_postgresql else "payload"
    await execute(
        database, f"CREATE UNIQUE INDEX other ON rowlock_task ({payload}) WHERE status = 'pending'"
    )
    async with TaskQueue(database) as queue:
        first = await queue.create("t", PAYLOAD, retain_for=-1)
        async for way in ways(database, queue):
            with pytest.raises(DatabaseError, match=r"(?i)unique") as error:
                await way
            assert shows_no_secret(error.value)
        assert await queue.cancel(first)
        await queue.create("t", PAYLOAD)
        async with asyncio.timeout(20):
            with pytest.raises(DatabaseError, match=r"(?i)unique"):
                await queue.retry(first)


@pytest.mark.parametrize("case", CASES)
async def test_what_the_database_refuses(database: str, case: str) -> None:
    """Fails where an error of the driver or of SQLAlchemy comes through, which shows the row."""
    statements, reasons = CASES[case]
    for statement in statements(database):
        await execute(database, statement)
    async with TaskQueue(database) as queue:
        async for way in ways(database, queue):
            with pytest.raises(DatabaseError, match=reasons[database.partition(":")[0]]) as error:
                await way
            assert shows_no_secret(error.value)
            assert error.value.__context__ is not None
        assert sum((await queue.counts()).values()) == 0


async def test_those_that_go_together_fare_as_each_would_alone(database: str) -> None:
    """Fails where a refusal counts as a database that is away, and takes the others along."""
    for statement in trigger(database, condition="NEW.type = 'bad'"):
        await execute(database, statement)
    async with TaskQueue(database) as queue:
        done = await asyncio.gather(
            *(queue.create("bad" if n == 3 else "t", PAYLOAD) for n in range(6)),
            return_exceptions=True,
        )
        assert [type(one) for one in done] == [str] * 3 + [DatabaseError] + [str] * 2


async def returns(payload: Any) -> Any:
    return payload


async def test_an_outcome_that_is_refused_fails_its_task(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker goes on, and what is stored and logged shows no value."""
    condition = "NEW.result IS NOT NULL"
    for statement in trigger(database, event="UPDATE", condition=condition):
        await execute(database, statement)
    async with TaskQueue(database) as queue:
        await queue.register_handler("t", __name__, "returns")
        await queue.start()
        task_id = await queue.create("t", PAYLOAD, retry_count=0, retain_for=-1)
        task = await ended(queue, task_id)
    assert task.status == "failed"
    assert task.error is not None
    assert "refused" in task.error.message
    assert SECRET not in task.error.model_dump_json()
    assert SECRET not in caplog.text


# PostgreSQL.


READ = "GRANT SELECT ON rowlock_alembic_version TO {role}"


async def test_a_right_that_is_missing_is_named(postgres_url: str) -> None:
    """Fails where the driver's InsufficientPrivilegeError comes through."""
    async with role(postgres_url) as url:
        with pytest.raises(DatabaseError, match=r"for table rowlock_alembic_version.*README"):
            await TaskQueue(url).open()
    async with role(postgres_url, READ) as url, TaskQueue(url) as queue:
        async for way in ways(url, queue):
            with pytest.raises(DatabaseError, match="for table rowlock_task") as error:
                await way
            assert shows_no_secret(error.value)
        for call in (queue.get, queue.remove, queue.cancel):
            with pytest.raises(DatabaseError, match="for table rowlock_task"):
                await call("0" * 32)


async def test_a_schema_that_a_role_may_not_use_is_named(postgres_url: str) -> None:
    """Fails where the role is told to upgrade a schema that is there."""
    await execute(postgres_url, "CREATE SCHEMA hidden")
    for table in ("rowlock_task", "rowlock_scheduled_task", "rowlock_alembic_version"):
        await execute(postgres_url, f"ALTER TABLE {table} SET SCHEMA hidden")
    async with role(postgres_url, "ALTER ROLE {role} SET search_path = hidden") as url:
        with pytest.raises(SchemaError, match=r"is in hidden.*USAGE"):
            await TaskQueue(url).open()
    with pytest.raises(SchemaError, match=r"is in hidden.*search_path"):
        await TaskQueue(postgres_url).open()


async def test_row_level_security(postgres_url: str) -> None:
    rights = (READ, "GRANT ALL ON rowlock_task TO {role}")
    await execute(postgres_url, "ALTER TABLE rowlock_task ENABLE ROW LEVEL SECURITY")
    async with role(postgres_url, *rights) as url, TaskQueue(url) as queue:
        for way in (
            queue.create("t", PAYLOAD),
            queue.create_many([NewTask("t", PAYLOAD, key="k")]),
        ):
            with pytest.raises(DatabaseError, match=r"row-level security policy") as error:
                await way
            assert shows_no_secret(error.value)
        # COPY, which goes by no policy.
        with pytest.raises(DatabaseError, match="row-level security"):
            await queue.create_many([NewTask("t", PAYLOAD)])


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_that_is_not_utf8(postgres_server_url: str, encoding: str) -> None:
    """Fails where it opens, and the first character that it lacks is an error of the driver's."""
    name = f"rl_{secrets.token_hex(8)}"
    await execute(
        postgres_server_url,
        f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0",
    )
    url = make_url(postgres_server_url).set(database=name).render_as_string(hide_password=False)
    try:
        for attempt in (TaskQueue(url).open(), asyncio.to_thread(schema.upgrade, url)):
            with pytest.raises(DatabaseError, match=f"encoding {encoding}.*UTF8"):
                await attempt
        assert await execute(url, "SELECT count(*) FROM pg_tables WHERE tablename ~ 'rowlock'") == [
            (0,)
        ]
    finally:
        await execute(postgres_server_url, f"DROP DATABASE {name} WITH (FORCE)")


PARTS = {
    "partitioned": [
        "ALTER TABLE rowlock_task RENAME TO old",
        "CREATE TABLE rowlock_task (LIKE old) PARTITION BY LIST (status)",
    ],
    "child": ["CREATE TABLE archive () INHERITS (rowlock_task)"],
    "view": [
        "ALTER TABLE rowlock_task RENAME TO old",
        "CREATE VIEW rowlock_task AS SELECT * FROM old",
    ],
}


@pytest.mark.parametrize("kind", PARTS)
async def test_a_table_of_several_parts_is_refused(postgres_url: str, kind: str) -> None:
    """Fails where it opens: a claim names rows by ctid, which other parts have too."""
    for statement in PARTS[kind]:
        await execute(postgres_url, statement)
    with pytest.raises(SchemaError, match="must be one table"):
        await TaskQueue(postgres_url).open()


async def test_a_table_that_is_a_part_is_one_table(postgres_url: str) -> None:
    await execute(postgres_url, "CREATE TABLE all_tasks (LIKE rowlock_task)")
    await execute(postgres_url, "ALTER TABLE rowlock_task INHERIT all_tasks")
    async with TaskQueue(postgres_url) as queue:
        await queue.create("t")


# Connections and engines of the application.


async def test_a_pool_that_is_used_up_is_told_as_that(postgres_url: str) -> None:
    """Fails where it is told as a timeout of the database, or as SQLAlchemy's own error.

    On SQLite a queue has connections of its own.
    """
    await use_up(postgres_url, pool_timeout=0.1)


async def test_a_pool_that_waits_longer_than_rowlock(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where nobody looks why there was no connection in time."""
    monkeypatch.setattr("rowlock._store.postgres.connections.CONNECT_TIMEOUT", 0.1)
    await use_up(postgres_url, pool_timeout=20.0)


async def use_up(database: str, pool_timeout: float) -> None:
    engine = create_async_engine(
        async_url(database), pool_size=2, max_overflow=0, pool_timeout=pool_timeout
    )
    queue = TaskQueue(engine, notify=False)
    async with engine.connect(), engine.connect():
        with pytest.raises(DatabaseUnavailableError, match="engine is used up") as error:
            await queue.open()
        assert "QueuePool" not in str(error.value)
    async with queue:
        await queue.create("t")
    await engine.dispose()


async def test_a_pool_without_a_bound_is_not_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rowlock._store.postgres.connections.CONNECT_TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        engine = create_async_engine(
            f"postgresql+asyncpg://127.0.0.1:{port}/name?ssl=disable", max_overflow=-1
        )
        with pytest.raises(DatabaseUnavailableError, match=r"no connection within 0\.1 s"):
            await TaskQueue(engine).open()
        await engine.dispose()


async def test_a_connection_of_another_kind_of_database(sqlite_url: str, postgres_url: str) -> None:
    """Fails where SQLAlchemy compiles the statement for the other kind, and nobody knows why."""
    for own, other in ((sqlite_url, postgres_url), (postgres_url, sqlite_url)):
        engine = create_async_engine(async_url(other))
        async with TaskQueue(own) as queue:
            for taken in (engine.connect(), AsyncSession(engine)):
                async with taken as connection:
                    with pytest.raises(InvalidArgumentError, match=r"^connection: of "):
                        await queue.create("t", PAYLOAD, connection=connection)
        await engine.dispose()


async def test_a_connection_of_another_database(
    database: str, postgres_server_url: str, tmp_path: Path
) -> None:
    """Fails where the task is stored where no worker of the queue looks, or an error hides it."""
    if database.startswith("sqlite"):
        other = f"sqlite:///{tmp_path}/other.db"
        await asyncio.to_thread(schema.upgrade, other)
    else:
        name = f"rl_{secrets.token_hex(8)}"
        # A copy: the tables have the same oids.
        template = make_url(database).database
        await execute(postgres_server_url, f"CREATE DATABASE {name} TEMPLATE {template}")
        other = make_url(database).set(database=name).render_as_string(hide_password=False)
    engine, own = create_async_engine(async_url(other)), create_async_engine(async_url(database))
    async with TaskQueue(database) as queue:
        for _ in range(2):
            async with engine.connect() as connection:
                with pytest.raises(InvalidArgumentError, match="another database"):
                    await queue.create("t", PAYLOAD, connection=connection)
        async with own.begin() as connection:
            task_id = await queue.create("t", connection=connection)
        assert await queue.get(task_id) is not None
    await engine.dispose()
    await own.dispose()
    if not database.startswith("sqlite"):
        await execute(postgres_server_url, f"DROP DATABASE {name} WITH (FORCE)")


async def test_a_connection_is_looked_at_once(database: str, monkeypatch: Any) -> None:
    engine = create_async_engine(async_url(database))
    async with TaskQueue(database) as queue:
        asked: list[Any] = []
        store: Any = queue._store
        identity = store.database.identity

        async def counted(connection: Any = None) -> Any:
            asked.append(connection)
            return await identity(connection)

        monkeypatch.setattr(store.database, "identity", counted)
        for _ in range(3):
            async with engine.begin() as connection:
                await queue.create("t", connection=connection)
                await queue.create("t", connection=connection)
        # Of the one connection of the pool, and of the store, which knows its file on SQLite.
        assert len(asked) == 1 + database.startswith("postgresql")
    await engine.dispose()


async def test_tables_that_were_made_anew_are_the_queues(database: str) -> None:
    """Fails where what the queue has once seen is for ever its database."""
    engine = create_async_engine(async_url(database))
    async with TaskQueue(database) as queue:
        async with engine.begin() as connection:
            await queue.create("t", connection=connection)
        await engine.dispose()
        if not database.startswith("sqlite"):
            await asyncio.to_thread(schema.downgrade, database, "base")
            await asyncio.to_thread(schema.upgrade, database)
        async with engine.begin() as connection:
            task_id = await queue.create("t", connection=connection)
        assert await queue.get(task_id) is not None
    await engine.dispose()


async def test_a_connection_that_cannot_be_used(database: str) -> None:
    engine = create_async_engine(async_url(database))
    async with TaskQueue(database) as queue:
        connection = await engine.connect()
        await connection.close()
        with pytest.raises(InvalidArgumentError, match=r"^connection: "):
            await queue.create("t", PAYLOAD, connection=connection)
        async with engine.connect() as connection:
            with pytest.raises(Exception, match="nowhere"):
                await connection.execute(text("SELECT * FROM nowhere"))
            if not database.startswith("sqlite"):
                with pytest.raises(DatabaseError, match="transaction is aborted") as error:
                    await queue.create("t", PAYLOAD, connection=connection)
                assert shows_no_secret(error.value)
            await connection.rollback()
            await queue.create("t", PAYLOAD, connection=connection)
    await engine.dispose()


async def test_a_connection_that_is_lost(postgres_url: str) -> None:
    engine = create_async_engine(async_url(postgres_url))
    async with TaskQueue(postgres_url) as queue, engine.connect() as connection:
        pid = await connection.scalar(text("SELECT pg_backend_pid()"))
        await execute(postgres_url, f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(DatabaseUnavailableError) as error:
            await queue.create("t", PAYLOAD, connection=connection)
        assert shows_no_secret(error.value)
    await engine.dispose()


async def test_an_engine_that_renames_tables_is_refused(database: str) -> None:
    """Fails where the queue's own statements go one way and SQLAlchemy's the other."""
    engine = create_async_engine(async_url(database))
    tenant = engine.execution_options(schema_translate_map={None: "tenant"})
    for refused in (
        lambda: TaskQueue(tenant),
        lambda: schema.upgrade(tenant),
        lambda: schema.check(tenant),
    ):
        with pytest.raises(InvalidArgumentError, match="schema_translate_map"):
            refused()
    harmless = engine.execution_options(schema_translate_map={"shop": "tenant"})
    async with TaskQueue(harmless) as queue:
        # Of a connection it says where the caller's tables are, and not the queue's.
        async with tenant.connect() as connection:
            task_id = await queue.create("t", connection=connection)
            await queue.create("t", key="k", connection=connection)
            await connection.commit()
        assert await queue.get(task_id) is not None
    await engine.dispose()


def test_an_engine_of_another_driver_is_refused() -> None:
    class Other:
        name, driver = "mysql", "aiomysql"

    engine = create_async_engine("sqlite+aiosqlite:///a.db")
    engine.sync_engine.dialect = Other()  # type: ignore[assignment]
    with pytest.raises(InvalidArgumentError, match="mysql by aiomysql"):
        TaskQueue(engine)


# The command.

WORKER = """
from rowlock import TaskQueue

async def handler(payload):
    pass

async def queue():
    queue = TaskQueue()
    await queue.register_handler("t", __name__, "handler")
    return queue
"""


def start_worker(folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    (folder / "application.py").write_text(WORKER)
    return subprocess.run(
        [sys.executable, "-m", "rowlock", "worker", "application:queue"],
        cwd=folder,
        env=os.environ | {"ROWLOCK_DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("fault", ["rights", "parts", "parameter", "option"])
async def test_a_worker_that_cannot_start_says_why_in_a_line(
    postgres_url: str, tmp_path: Path, fault: str
) -> None:
    """Fails where it ends with a traceback."""
    async with role(postgres_url) as url:
        if fault == "parts":
            await execute(postgres_url, "CREATE TABLE archive () INHERITS (rowlock_task)")
            url = postgres_url
        elif fault == "parameter":
            url = f"{postgres_url}?sslmode=requird"
        elif fault == "option":
            url = f"{postgres_url}?options=nonsense"
        answer = await asyncio.to_thread(start_worker, tmp_path, url)
    assert answer.returncode == 1
    assert answer.stderr.startswith("Error: "), answer.stderr
    assert answer.stderr.count("\n") == 1, answer.stderr


def test_the_tree() -> None:
    for error in (DatabaseError, DatabaseUnavailableError, SchemaError):
        assert error.__base__ is RowlockError


def test_a_driver_error_is_none_of_these() -> None:
    assert not issubclass(asyncpg.PostgresError, RowlockError)
    assert not issubclass(sqlite3.Error, RowlockError)
