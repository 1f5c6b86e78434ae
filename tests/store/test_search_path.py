"""rowlock's tables in a schema other than public, and engines in place of URLs."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import event, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from rowlock import (
    InvalidArgumentError,
    NewTask,
    ScheduledTaskTime,
    SchemaError,
    TaskQueue,
    TaskScheduler,
    TaskStatus,
    schema,
)
from rowlock._store.url import async_url
from tests.support.helpers import eventually
from tests.support.roles import role
from tests.support.stores import execute

TABLES = {"rowlock_task", "rowlock_scheduled_task", "rowlock_alembic_version"}


@pytest.fixture
def empty(postgres_url: str) -> str:
    """A PostgreSQL database without rowlock's tables."""
    schema.downgrade(postgres_url, "base")
    asyncio.run(execute(postgres_url, "DROP TABLE rowlock_alembic_version"))
    return postgres_url


async def tables(url: str) -> dict[str, set[str]]:
    rows = await execute(
        url, "SELECT schemaname, tablename FROM pg_tables WHERE tablename LIKE 'rowlock%'"
    )
    found: dict[str, set[str]] = {}
    for name, table in rows:
        found.setdefault(name, set()).add(table)
    return found


async def returns(payload: Any) -> Any:
    return payload


async def uses_all_of_it(url: str) -> None:
    engine = create_async_engine(url) if "+asyncpg" in url else None
    async with TaskQueue(engine or url) as queue:
        await queue.register_handler("t", __name__, "returns")
        await queue.start()
        ids = [
            await queue.create("t", 1, retain_for=-1),
            await queue.create("t", 2, retain_for=-1, key="k"),
            *await queue.create_many([NewTask("t", 3, retain_for=-1)]),
        ]
        scheduler = TaskScheduler(queue)
        await scheduler.add_task(
            "s", [ScheduledTaskTime(interval_hours=1)], task_type="t", retain_for=-1
        )
        await scheduler.trigger_task("s")

        async def have_ended() -> bool:
            return (await queue.counts())[TaskStatus.SUCCESS] == len(ids) + 1

        await eventually(have_ended, 30)
    if engine is not None:
        await engine.dispose()


@pytest.mark.parametrize(
    "options", ["-csearch_path=jobs", "-c search_path=jobs", "--search_path=jobs"]
)
async def test_a_schema_named_by_options(empty: str, options: str) -> None:
    """Fails where `options` is dropped by the queue, its lease connection or the schema."""
    await execute(empty, "CREATE SCHEMA jobs")
    url = f"{empty}?options={quote(options, safe='')}"
    await asyncio.to_thread(schema.upgrade, url)
    assert await tables(empty) == {"jobs": TABLES}
    assert await asyncio.to_thread(schema.check, url) == []
    assert await asyncio.to_thread(schema.current, empty) is None
    await uses_all_of_it(url)
    assert await execute(empty, "SELECT count(*) FROM jobs.rowlock_task") == [(4,)]
    await asyncio.to_thread(schema.downgrade, url, "base")
    assert await tables(empty) == {"jobs": {"rowlock_alembic_version"}}


async def test_a_schema_named_by_the_role(empty: str) -> None:
    await execute(empty, "CREATE SCHEMA jobs")
    grants = (
        "GRANT USAGE, CREATE ON SCHEMA jobs TO {role}",
        "ALTER ROLE {role} SET search_path = jobs",
    )
    async with role(empty, *grants) as url:
        await asyncio.to_thread(schema.upgrade, url)
        assert await tables(empty) == {"jobs": TABLES}
        assert await asyncio.to_thread(schema.check, url) == []
        await uses_all_of_it(url)


async def test_two_schemas_of_one_database_are_two_queues(empty: str) -> None:
    urls = []
    for name in ("one", "two"):
        await execute(empty, f"CREATE SCHEMA {name}")
        urls.append(f"{empty}?options=-csearch_path%3D{name}")
    await asyncio.gather(*(asyncio.to_thread(schema.upgrade, url) for url in urls))
    async with TaskQueue(urls[0]) as one, TaskQueue(urls[1]) as two:
        task_id = await one.create("t")
        assert await two.get(task_id) is None
        assert await one.get(task_id) is not None
        engine = create_async_engine(async_url(empty))
        async with engine.connect() as connection:
            await connection.execute(text("SET search_path = one"))
            with pytest.raises(InvalidArgumentError, match="another schema"):
                await two.create("t", connection=connection)
            await one.create("t", connection=connection)
        await engine.dispose()
    assert await tables(empty) == {"one": TABLES, "two": TABLES}


async def test_a_schema_that_is_not_there(empty: str) -> None:
    url = f"{empty}?options=-csearch_path%3Dabsent"
    with pytest.raises(SchemaError, match="no schema has been selected to create in"):
        await asyncio.to_thread(schema.upgrade, url)
    with pytest.raises(SchemaError, match=r"options=-csearch_path%3Dabsent"):
        await TaskQueue(url).open()


# Engines.


def engine_on(url: str) -> AsyncEngine:
    if url.startswith("sqlite"):
        return create_async_engine(async_url(url))
    # Where only its arguments say where the tables are.
    return create_async_engine(
        async_url(url), connect_args={"server_settings": {"search_path": "jobs"}}
    )


async def test_the_schema_of_an_engine(database_url: str) -> None:
    """Fails where the engine's URL is taken and its arguments are not."""
    if not database_url.startswith("sqlite"):
        await execute(database_url, "CREATE SCHEMA jobs")
    engine = engine_on(database_url)
    async with engine.connect() as kept:
        # In the engine's own loop, with connections of it in use.
        await kept.execute(text("SELECT 1"))
        await kept.rollback()
        assert await asyncio.to_thread(schema.current, engine) is None
        await asyncio.to_thread(schema.upgrade, engine)
        schema.upgrade(engine)
        assert schema.current(engine) == schema.head()
        assert await asyncio.to_thread(schema.check, engine) == []
        await kept.execute(text("SELECT 1"))
    async with TaskQueue(engine) as queue:
        await queue.create("t")
    if not database_url.startswith("sqlite"):
        assert await tables(database_url) == {"jobs": TABLES}
        locks = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"
        database = "(SELECT oid FROM pg_database WHERE datname = current_database())"
        assert await execute(database_url, f"{locks} AND database = {database}") == []
    schema.downgrade(engine, "base")
    assert schema.current(engine) is None
    await engine.dispose()


async def test_an_engine_that_gets_its_password_by_an_event(postgres_url: str) -> None:
    """Fails where an engine of its own is made of the URL."""
    url = async_url(postgres_url)
    wrong = make_url(url).set(database="absent")
    engine = create_async_engine(wrong)

    @event.listens_for(engine.sync_engine, "do_connect")
    def say(dialect: Any, record: Any, arguments: Any, named: dict[str, Any]) -> None:
        named["database"] = url.database

    assert await asyncio.to_thread(schema.current, engine) == schema.head()
    await asyncio.to_thread(schema.upgrade, engine)
    await engine.dispose()
