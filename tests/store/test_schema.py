from __future__ import annotations

import asyncio
import inspect
import json
import logging
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest
from alembic import command, context
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import URL, Connection, make_url, text
from sqlalchemy import inspect as reflect
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from typer.testing import CliRunner

from rowlock import schema
from rowlock._store import migrate as _migrate
from rowlock._store import tables as _tables
from rowlock._store.migrate import Migrations
from rowlock._store.postgres import migrate as _postgres_migrate
from rowlock._store.url import async_url, default_database, shown
from rowlock.cli.db import db
from rowlock.errors import (
    DatabaseUnavailableError,
    InvalidArgumentError,
    RowlockError,
    SchemaError,
)
from tests.sample_app.tables import metadata as sample_metadata

T = TypeVar("T")
SAMPLE_APP = Path(__file__).parents[1] / "sample_app"

# A file URI, because root may write to a file whatever its mode is.
READ_ONLY = "?mode=ro&uri=true"


def run(url: str, work: Callable[[Connection], T]) -> T:
    async def connected() -> T:
        engine = create_async_engine(async_url(url), poolclass=NullPool)
        async with engine.begin() as connection:
            return await connection.run_sync(work)

    return asyncio.run(connected())


def execute(url: str, statement: str) -> None:
    run(url, lambda connection: connection.execute(text(statement)))


def rows(url: str, statement: str) -> list[Any]:
    return run(url, lambda connection: list(connection.execute(text(statement))))


def tables(url: str) -> set[str]:
    return run(url, lambda connection: set(reflect(connection).get_table_names()))


def catalog(url: str) -> list[Any]:
    """What the database itself says of rowlock's tables; not the order of columns.

    No statement depends on that, and a column that comes back is the last one.
    """
    if url.startswith("sqlite"):
        columns = rows(
            url,
            'SELECT t.name, c.name, c.type, c."notnull", c.dflt_value, c.pk'
            " FROM sqlite_master AS t JOIN pragma_table_info(t.name) AS c"
            " WHERE t.type = 'table' AND t.name <> 'rowlock_alembic_version' ORDER BY 1, 2",
        )
        indexes = rows(
            url,
            "SELECT name, sql FROM sqlite_master"
            " WHERE type <> 'table' AND tbl_name <> 'rowlock_alembic_version' ORDER BY name",
        )
        return [*columns, *((name, " ".join(str(sql).split())) for name, sql in indexes)]
    return [
        *rows(
            url,
            "SELECT table_name, column_name, data_type, is_nullable,"
            " column_default, collation_name FROM information_schema.columns"
            " WHERE table_schema = 'public' AND table_name <> 'rowlock_alembic_version'"
            " ORDER BY 1, 2",
        ),
        *rows(
            url,
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'"
            " AND tablename <> 'rowlock_alembic_version' ORDER BY 1",
        ),
        *rows(
            url,
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE connamespace = 'public'::regnamespace"
            " AND conrelid::regclass::text <> 'rowlock_alembic_version' ORDER BY 1",
        ),
        *rows(
            url,
            "SELECT relname, reloptions FROM pg_class WHERE relname ~ '^rowlock.*task$'"
            " AND relnamespace = 'public'::regnamespace ORDER BY 1",
        ),
    ]


def test_upgrade_and_downgrade_and_upgrade(database_url: str) -> None:
    assert schema.current(database_url) is None

    schema.upgrade(database_url)
    assert schema.current(database_url) == schema.head()
    assert schema.check(database_url) == []

    schema.downgrade(database_url, "base")
    assert schema.current(database_url) is None
    assert tables(database_url) == {_tables.VERSION_TABLE}
    first, *others = schema.check(database_url)
    assert first == f"the revision is none, the newest is {schema.head()}"
    assert sorted(others) == sorted(
        [
            *[f"add_table {name}" for name in _tables.metadata.tables],
            *[
                f"add_index {index.name}"
                for table in _tables.metadata.tables.values()
                for index in table.indexes
            ],
        ]
    )

    schema.upgrade(database_url)
    schema.upgrade(database_url)
    assert schema.check(database_url) == []


def test_each_revision_undoes_what_it_did(database_url: str) -> None:
    states = [catalog(database_url)]
    revisions = [
        script.revision for script in ScriptDirectory(schema.migrations_path()).walk_revisions()
    ]
    for revision in reversed(revisions):
        schema.upgrade(database_url, revision)
        states.append(catalog(database_url))
    for revision in [*revisions[1:], "base"]:
        states.pop()
        schema.downgrade(database_url, revision)
        assert catalog(database_url) == states[-1]


BEFORE_TEMPLATES = """
    INSERT INTO rowlock_scheduled_task (id, token, times, misfire, overlap, task_type, payload,
        retries_remaining, retry_interval, retain_for, priority, delay, misfire_grace)
    VALUES
    ('call', '00000000000000000000000000000000', '[]', 'coalesce', 'allow', NULL, NULL,
        NULL, NULL, 0, 0, 0, NULL),
    ('default', '00000000000000000000000000000001', '[]', 'skip', 'skip', 't', '{"a" : 1e300}',
        NULL, NULL, -2, 0, 0, 1000),
    ('each', '00000000000000000000000000000002', '[ ]', 'catch_up', 'allow', 'u', 'null',
        2147483647, 3153600000000, -1, -2147483647, 3153600000000, NULL)
"""
OPTIONS = ("retries_remaining", "retry_interval", "retain_for", "priority", "delay")
ROWS_BEFORE = (
    "SELECT id, CAST(token AS text), CAST(times AS text), misfire, overlap, task_type,"
    " CAST(payload AS text), retries_remaining, retry_interval, retain_for, priority, delay,"
    " misfire_grace FROM rowlock_scheduled_task ORDER BY id"
)
TEMPLATES = "SELECT CAST(template AS text) FROM rowlock_scheduled_task ORDER BY id"


def test_options_of_scheduled_tasks_survive_both_ways(database_url: str) -> None:
    schema.upgrade(database_url, "0008")
    execute(database_url, BEFORE_TEMPLATES.replace(":", "\\:"))
    before = rows(database_url, ROWS_BEFORE)
    for _ in range(2):
        schema.upgrade(database_url, "0009")
        templates = [row[0] for row in rows(database_url, TEMPLATES)]
        assert templates[0] is None
        assert [json.loads(text) for text in templates[1:]] == [
            dict(zip(OPTIONS, row[7:12], strict=True)) for row in before[1:]
        ]
        schema.downgrade(database_url, "0008")
        assert rows(database_url, ROWS_BEFORE) == before


def test_options_that_a_template_leaves_out_are_the_defaults(database_url: str) -> None:
    schema.upgrade(database_url, "0008")
    execute(database_url, BEFORE_TEMPLATES.replace(":", "\\:"))
    before = rows(database_url, ROWS_BEFORE)
    schema.upgrade(database_url, "0009")
    execute(database_url, "UPDATE rowlock_scheduled_task SET template = '{}' WHERE id = 'default'")
    schema.downgrade(database_url, "0008")
    assert rows(database_url, ROWS_BEFORE) == before


def test_the_migrated_schema_is_the_declared_one(database_url: str) -> None:
    schema.upgrade(database_url)
    migrated = catalog(database_url)
    differences = run(
        database_url,
        lambda connection: compare_metadata(
            MigrationContext.configure(connection, opts={"version_table": _tables.VERSION_TABLE}),
            _tables.metadata,
        ),
    )
    schema.downgrade(database_url, "base")
    run(database_url, _tables.metadata.create_all)

    assert differences == []
    assert migrated == catalog(database_url)
    assert len(migrated) > 7


def test_the_queue_and_the_migrations_agree_on_the_revision() -> None:
    revisions = [
        script.revision for script in ScriptDirectory(schema.migrations_path()).walk_revisions()
    ]
    assert schema.head() == _tables.REVISION
    assert revisions[::-1] == [f"{number:04}" for number in range(1, len(revisions) + 1)]


def test_check_names_what_is_different(database_url: str) -> None:
    schema.upgrade(database_url)
    execute(database_url, "DROP INDEX ix_rowlock_task_retain")
    execute(database_url, "ALTER TABLE rowlock_task DROP COLUMN lost_workers")
    execute(database_url, "ALTER TABLE rowlock_task ADD COLUMN extra integer")
    assert sorted(schema.check(database_url)) == [
        "add_column rowlock_task.lost_workers",
        "add_index ix_rowlock_task_retain",
        "remove_column rowlock_task.extra",
    ]


def test_check_names_a_column_that_is_different(postgres_url: str) -> None:
    execute(postgres_url, "ALTER TABLE rowlock_task ALTER thread_id DROP NOT NULL")
    assert schema.check(postgres_url) == [
        "modify_nullable rowlock_task.thread_id: True is to be False"
    ]


def test_looking_at_a_missing_file_does_not_create_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/absent.db"
    assert schema.current(url) is None
    assert schema.check(url) == ["there is no such file"]
    with pytest.raises(SchemaError, match="there is no such file"):
        schema.downgrade(url, "base")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_upgrade_creates_is_in_wal_mode(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new.db"
    schema.upgrade(url)
    assert rows(url, "PRAGMA journal_mode") == [("wal",)]


def test_an_existing_file_keeps_its_journal_mode(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    execute(url, "CREATE TABLE orders (id integer)")
    schema.upgrade(url)
    assert rows(url, "PRAGMA journal_mode") == [("delete",)]


def test_a_percent_sign_in_the_path_of_the_package(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = shutil.copytree(schema.migrations_path(), tmp_path / "100%(here)s")
    monkeypatch.setattr(_migrate, "migrations_path", lambda: odd)
    schema.upgrade(database_url)
    assert schema.current(database_url) == schema.head()


async def test_the_functions_can_be_called_where_a_loop_runs(database_url: str) -> None:
    schema.upgrade(database_url)
    assert await asyncio.to_thread(schema.check, database_url) == []


async def test_threads_of_one_process_upgrade_at_once(database_url: str) -> None:
    await asyncio.gather(*(asyncio.to_thread(schema.upgrade, database_url) for _ in range(4)))
    assert schema.check(database_url) == []


def test_logging_is_left_alone(database_url: str) -> None:
    def state() -> list[Any]:
        loggers = [logging.getLogger(name) for name in (None, "alembic", "rowlock")]
        return [(one.level, one.disabled, list(one.handlers)) for one in loggers]

    before = state()
    schema.upgrade(database_url)
    assert state() == before


@pytest.mark.parametrize("dialect", ["postgresql", "sqlite"])
def test_sql_from_the_head_changes_nothing(dialect: Any) -> None:
    assert "rowlock" not in schema.sql(dialect, start=schema.head())


def test_sql_runs_on_an_empty_database(database_url: str) -> None:
    if database_url.startswith("sqlite"):
        with closing(sqlite3.connect(str(make_url(database_url).database))) as connection:
            connection.executescript(schema.sql("sqlite"))
    else:

        async def run_script() -> None:
            connection = await asyncpg.connect(database_url)
            # One by one, as psql does: indexes are built outside of transactions.
            for statement in schema.sql("postgresql").split(";"):
                if statement.strip():
                    await connection.execute(statement)
            await connection.close()

        asyncio.run(run_script())
    assert schema.current(database_url) == schema.head()
    assert schema.check(database_url) == []
    schema.upgrade(database_url)


# A user's own application


def sample_app(url: str, directory: Path) -> Config:
    config = Config(attributes={"url": async_url(url)})
    config.set_main_option("script_location", str(directory))
    return config


@pytest.fixture
def sample_migrations(tmp_path: Path) -> Path:
    return shutil.copytree(SAMPLE_APP / "migrations", tmp_path / "sample_app")


def autogenerate(config: Config) -> str:
    script = command.revision(config, "next", autogenerate=True, rev_id="a2")
    assert isinstance(script, Script)
    return inspect.getsource(script.module.upgrade)


def test_autogenerate_of_a_user_leaves_rowlock_alone(
    database_url: str, sample_migrations: Path
) -> None:
    config = sample_app(database_url, sample_migrations)
    command.upgrade(config, "head")
    schema.upgrade(database_url)
    command.check(config)
    assert "op." not in autogenerate(config)


def test_autogenerate_of_a_user_without_the_filter_drops_rowlock(
    database_url: str, sample_migrations: Path
) -> None:
    env = sample_migrations / "env.py"
    env.write_text(env.read_text().replace("include_name=ignore_rowlock(),", ""))
    config = sample_app(database_url, sample_migrations)
    command.upgrade(config, "head")
    schema.upgrade(database_url)
    proposed = autogenerate(config)
    for name in [*_tables.metadata.tables, _tables.VERSION_TABLE]:
        assert f"op.drop_table('{name}')" in proposed


def test_a_users_own_filter_is_asked_about_everything_else() -> None:
    asked: list[str | None] = []

    def own(name: str | None, kind: Any, parents: Any) -> bool:
        asked.append(name)
        return name != "legacy"

    include = schema.ignore_rowlock(own)
    names = ["rowlock_task", "orders", "legacy", _tables.VERSION_TABLE]
    assert [include(name, "table", {}) for name in names] == [False, True, False, False]
    assert include("rowlock_task", "column", {"table_name": "orders"})
    assert asked == ["orders", "legacy", "rowlock_task"]


def test_a_users_tables_survive(database_url: str, sample_migrations: Path) -> None:
    command.upgrade(sample_app(database_url, sample_migrations), "head")
    execute(database_url, "INSERT INTO orders VALUES (1, 'Ada')")
    before = tables(database_url)

    schema.upgrade(database_url)
    assert schema.check(database_url) == []
    schema.downgrade(database_url, "base")

    assert rows(database_url, "SELECT * FROM orders") == [(1, "Ada")]
    assert rows(database_url, "SELECT * FROM alembic_version") == [("a1",)]
    assert tables(database_url) == before | {_tables.VERSION_TABLE}
    assert set(sample_metadata.tables) < before


def test_a_migration_of_a_user_is_not_disturbed(database_url: str, sample_migrations: Path) -> None:
    config = sample_app(database_url, sample_migrations)
    with EnvironmentContext(config, ScriptDirectory.from_config(config)):
        with pytest.raises(SchemaError, match="another Alembic application"):
            schema.upgrade(database_url)
        assert context.config is config


# Errors


def one_line(error: pytest.ExceptionInfo[RowlockError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert "secret" not in message
    return message


@pytest.mark.parametrize(
    ("database", "allowed"),
    [
        ("mysql://ada:secret@host/name", "unknown scheme 'mysql'"),
        ("postgresql+psycopg://ada:secret@host/name", "unknown scheme 'postgresql+psycopg'"),
        ("", "not a database URL"),
        ("secret", "not a database URL"),
        ("postgresql://ada:secret@host:port/name", "not HOST or HOST:PORT"),
        ("postgresql://ada:secret@host:70000/name", "1 to 65535"),
        ("postgresql://ada:secret@host/name?colour=secret", "unknown parameter 'colour'"),
        (None, "NoneType is not a URL"),
        ("sqlite://", "needs a file"),
        ("sqlite:///", "needs a file"),
        ("sqlite://file.db", "needs a file"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite+aiosqlite:///file::memory:?cache=shared&uri=true", "in memory"),
        ("sqlite:///file:name?mode=memory&uri=true", "in memory"),
    ],
)
def test_a_bad_url(database: Any, allowed: str) -> None:
    for function in (schema.upgrade, schema.current, schema.check, async_url):
        with pytest.raises(InvalidArgumentError, match=r"^database: ") as error:
            function(database)
        assert allowed in one_line(error)


@pytest.mark.parametrize(
    ("database", "expected"),
    [
        ("sqlite+aiosqlite:////a.db", "sqlite+aiosqlite:////a.db"),
        ("postgres://ada:pw@host:1/a", "postgresql+asyncpg://ada:pw@host:1/a"),
        ("postgresql://host/a?sslmode=require", "postgresql+asyncpg://host/a?sslmode=require"),
        ("postgresql+asyncpg:///a?host=/run", "postgresql+asyncpg:///a?host=%2Frun"),
        (URL.create("postgresql", host="host"), "postgresql+asyncpg://host"),
    ],
)
def test_a_plain_url_gets_the_async_driver(database: str | URL, expected: str) -> None:
    assert async_url(database).render_as_string(hide_password=False) == expected


def test_messages_show_neither_user_nor_password_nor_parameters() -> None:
    url = make_url("postgresql+asyncpg://ada:secret@host:1/name?password=secret")
    assert shown(url) == "postgresql://host:1/name"


def test_the_default_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROWLOCK_DATABASE_URL", raising=False)
    assert default_database() == "sqlite:///rowlock.db"
    monkeypatch.setenv("ROWLOCK_DATABASE_URL", "sqlite:///other.db")
    assert default_database() == "sqlite:///other.db"


def unavailable(url: str) -> str:
    """The message, the same from each function."""
    messages = set()
    for function in (schema.upgrade, schema.current, schema.check):
        with pytest.raises(DatabaseUnavailableError) as error:
            function(url)
        messages.add(one_line(error))
    assert len(messages) == 1
    return messages.pop()


def test_a_server_that_is_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    message = unavailable(f"postgresql://ada:secret@127.0.0.1:{port}/name")
    assert message.startswith(f"postgresql://127.0.0.1:{port}/name: ")
    assert "refused" in message or "Connect" in message


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Migrations, "connect_timeout", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert "no answer within 0.2 s" in unavailable(f"postgresql://127.0.0.1:{port}/name")


def test_a_database_that_is_not_there(postgres_server_url: str) -> None:
    url = make_url(postgres_server_url).set(database="absent")
    assert 'database "absent" does not exist' in unavailable(
        url.render_as_string(hide_password=False)
    )


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "corrupt.db").write_bytes(b"no database, " * 1000)
    assert "file is not a database" in unavailable(f"sqlite:///{tmp_path}/corrupt.db")


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailableError, match="unable to open database file") as error:
        schema.upgrade(f"sqlite:///{tmp_path}/absent/new.db")
    one_line(error)


@pytest.mark.parametrize("content", ["", "CREATE TABLE orders (id integer)"])
def test_a_file_that_is_read_only(tmp_path: Path, content: str) -> None:
    with closing(sqlite3.connect(tmp_path / "test.db")) as connection:
        connection.execute(content)
    url = f"sqlite:///file:{tmp_path}/test.db{READ_ONLY}"
    assert schema.current(url) is None
    with pytest.raises(DatabaseUnavailableError, match="readonly") as error:
        schema.upgrade(url)
    one_line(error)


@pytest.fixture
def occupied(database_url: str) -> Iterator[str]:
    """A database that another one upgrades and does not come to an end."""
    if database_url.startswith("sqlite"):
        path = str(make_url(database_url).database)
        with closing(sqlite3.connect(path, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            yield database_url
        return
    with asyncio.Runner() as runner:
        server = runner.run(asyncpg.connect(database_url))
        runner.run(server.execute(f"SELECT pg_advisory_lock({_postgres_migrate.ADVISORY_LOCK})"))
        yield database_url
        runner.run(server.close())


def test_waiting_for_another_upgrade_ends(occupied: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Migrations, "lock_timeout", 0.3)
    with pytest.raises(
        DatabaseUnavailableError, match=r"database is locked|has been upgrading it for 0\.3 s"
    ) as error:
        schema.upgrade(occupied)
    one_line(error)


def test_a_migration_that_fails_changes_nothing(database_url: str) -> None:
    # The last index of the first revision, so that everything before it has been made.
    execute(database_url, "CREATE TABLE orders (key integer)")
    execute(database_url, "CREATE INDEX uq_rowlock_task_key ON orders (key)")
    with pytest.raises(SchemaError, match="already exists") as error:
        schema.upgrade(database_url)
    one_line(error)
    assert tables(database_url) == {"orders"}


def test_a_database_of_a_newer_rowlock(database_url: str) -> None:
    """Fails where Alembic is asked for a revision that only the newer one has."""
    schema.upgrade(database_url)
    execute(database_url, "UPDATE rowlock_alembic_version SET version_num = '9999'")
    before = catalog(database_url)
    schema.upgrade(database_url)
    assert schema.current(database_url) == "9999"
    assert catalog(database_url) == before
    code, output, errors = invoke(database_url, "upgrade")
    assert (code, errors) == (0, "")
    assert output.startswith("9999 (of a newer rowlock than this one")
    assert invoke(database_url, "current")[:2] == (0, output)
    with pytest.raises(SchemaError, match="9999, of a newer rowlock") as error:
        schema.downgrade(database_url, "base")
    one_line(error)


def test_a_revision_of_somebody_else_is_none_of_a_newer_rowlock(database_url: str) -> None:
    schema.upgrade(database_url)
    execute(database_url, "UPDATE rowlock_alembic_version SET version_num = 'a1b2'")
    with pytest.raises(SchemaError, match="a1b2") as error:
        schema.upgrade(database_url)
    one_line(error)


def test_a_revision_that_is_not_known(database_url: str) -> None:
    for change in (schema.upgrade, schema.downgrade):
        with pytest.raises(
            InvalidArgumentError, match=r"^revision: 'x'; allowed are base, head, 0001"
        ):
            change(database_url, "x")
    with pytest.raises(InvalidArgumentError, match=r"^start: 'x'"):
        schema.sql("sqlite", start="x")
    with pytest.raises(InvalidArgumentError, match=r"^dialect: 'mysql'"):
        schema.sql("mysql")  # type: ignore[arg-type]


def test_a_downgrade_to_a_revision_that_was_never_reached(database_url: str) -> None:
    schema.upgrade(database_url)
    schema.downgrade(database_url, "base")
    with pytest.raises(SchemaError):
        schema.downgrade(database_url, "0001")


# The commands


def invoke(url: str, *arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(db, arguments, env={"ROWLOCK_DATABASE_URL": url})
    return result.exit_code, result.stdout, result.stderr


def test_the_commands(database_url: str) -> None:
    head = schema.head()
    assert invoke("", "upgrade", "--database", database_url) == (0, f"{head} (head)\n", "")
    assert invoke(database_url, "current") == (0, f"{head} (head)\n", "")
    assert invoke(database_url, "check") == (0, "", "")
    assert invoke(database_url, "sql", "--from", "current")[0] == 0
    assert invoke(database_url, "downgrade", "base") == (0, "none\n", "")
    code, output, _ = invoke(database_url, "check")
    assert (code, output.splitlines()[0]) == (1, f"the revision is none, the newest is {head}")
    code, output, _ = invoke(database_url, "sql", "0001")
    dialect = "sqlite" if "sqlite" in database_url else "postgresql"
    assert (code, output) == (0, schema.sql(dialect, "0001"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "arguments", [["upgrade"], ["downgrade", "base"], ["current"], ["check"], ["sql"]]
)
def test_a_command_reports_an_error_in_one_line(arguments: list[str]) -> None:
    code, output, error = invoke("mysql://ada:secret@host/name", *arguments)
    assert (code, output) == (1, "")
    assert error.startswith("Error: database: unknown scheme 'mysql'")
    assert error.count("\n") == 1
    assert "secret" not in error
