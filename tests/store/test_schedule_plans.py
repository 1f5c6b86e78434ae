"""The plans of the statements on 100,000 scheduled tasks, as `test_explain` has those on tasks."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rowlock._store.database import Database
from rowlock._store.ends import Policy
from rowlock._store.open import database_of
from rowlock._store.postgres import driver as _driver
from rowlock._store.postgres.database import PostgresDatabase
from rowlock._store.schedule_rows import ScheduleRow, ScheduleRows
from rowlock._store.schedules import NewSchedule, Schedules, row_of
from rowlock._store.sqlite.database import SqliteDatabase
from rowlock._store.store import Store
from rowlock._store.triggers import CallOutcome, Trigger, Triggers
from rowlock._store.url import async_url
from rowlock._worker.triggers import _BATCH
from rowlock.schedule_models import ScheduledTaskTime
from rowlock.schema import upgrade
from tests.store import test_explain as explain
from tests.store.test_explain import MODES, MOST_STEPS, ROWS
from tests.support.postgres_server import temporary_database
from tests.support.stores import START, at, new_row, operation

pytestmark = pytest.mark.timeout(400)

# Of functions that nobody adds any more, and of those that this node has added.
ORPHAN = "i % 20 = 7"
PAUSED = "i % 20 = 8"
DUE_TASK = "i % 1000 = 1"
DUE_FUNCTION = "i % 1000 = 3"
STARTED = "i % 100 = 5"
ORPHANS = ROWS // 20
OURS = [f"{i:032x}" for i in range(ROWS) if i % 1000 == 3 or i % 100 == 5]
TASKS = 1000
# What looks for due ones reads each orphan and each of our ids once, and nothing that waits. It
# reads as many blocks at most: the index has not the order of the table.
MOST_READ = ORPHANS + 2 * len(OURS)
MOST_BLOCKS_WRITTEN = 2500
MOST_STEPS_LOOKING = MOST_STEPS + 15 * MOST_READ

# Braces are doubled for each `format`.
TIME = f'"given":{{{{"intervalDays":1}}}},"next":{int(START.timestamp() * 1000)}'
COLUMNS = {
    "id": "{name}",
    "token": "{id}",
    "times": f"'[{{{{{TIME}}}}}]'",
    "next_trigger": f"CASE WHEN {PAUSED} THEN NULL WHEN {ORPHAN} THEN {{long_ago}}"
    f" WHEN {DUE_TASK} OR {DUE_FUNCTION} THEN {{ago}} ELSE {{tomorrow}} END",
    "paused_since": f"CASE WHEN {PAUSED} THEN {{ago}} END",
    "misfire": "'coalesce'",
    "overlap": "'allow'",
    "task_type": f"CASE WHEN i % 2 = 0 OR {DUE_TASK} THEN 't' END",
    "template": f"CASE WHEN i % 2 = 0 OR {DUE_TASK} THEN {{options}} END",
    "last_trigger": "{ago}",
    "last_outcome": f"CASE WHEN {STARTED} THEN 'started' ELSE 'success' END",
    "last_task_id": f"CASE WHEN i % 2 = 0 OR {DUE_TASK} THEN {{last}} END",
}
POSTGRES = {
    **explain.POSTGRES,
    "name": "lpad(to_hex(i), 32, '0')",
    "options": "'{}'::json",
    "last": f"lpad(to_hex(i % {TASKS}), 32, '0')::uuid",
    "long_ago": f"{explain.POSTGRES['ago']} - interval '10 days'",
}
SQLITE = {
    **explain.SQLITE,
    "name": explain.SQLITE["id"],
    "options": "'{}'",
    "last": f"printf('%032x', i % {TASKS})",
    "long_ago": f"{explain.SQLITE['ago']} - 864000000000",
}


def _values(dialect: Mapping[str, str], **instead: str) -> dict[str, str]:
    return {name: text.format(**dialect) for name, text in {**COLUMNS, **instead}.items()}


def _insert(dialect: Mapping[str, str], source: str, **instead: str) -> str:
    values = _values(dialect, **instead)
    return (
        f"INSERT INTO rowlock_scheduled_task ({', '.join(values)})"
        f" SELECT {', '.join(values.values())} FROM {source}"
    )


@pytest.fixture(scope="module", params=["none", "fresh", "stale"])
def postgres(
    request: pytest.FixtureRequest, postgres_server_url: str
) -> Iterator[tuple[str, Database]]:
    series = f"generate_series(0, {ROWS - 1}) AS i"
    tables = "rowlock_task", "rowlock_scheduled_task"
    with temporary_database(postgres_server_url) as url:
        upgrade(url)
        script = [f"ALTER TABLE {table} SET (autovacuum_enabled = off)" for table in tables]
        script.append(explain._insert(POSTGRES, f"generate_series(0, {TASKS - 1}) AS i"))
        if request.param == "stale":
            # Collected while all were tasks that wait.
            then = {"next_trigger": "{tomorrow}", "paused_since": "NULL::timestamptz"}
            then |= {"task_type": "'t'", "last_task_id": "NULL::uuid"}
            values = _values(POSTGRES)
            changed = ", ".join(f"{name} = {values[name]}" for name in then)
            script += [
                _insert(POSTGRES, series, **then),
                "ANALYZE rowlock_scheduled_task",
                f"UPDATE rowlock_scheduled_task SET {changed} FROM {series}"
                f" WHERE id = {POSTGRES['name']}",
                # As in `test_explain`: dead rows are another matter.
                "VACUUM rowlock_scheduled_task",
            ]
        else:
            script.append(_insert(POSTGRES, series))
        if request.param == "fresh":
            script += [f"VACUUM ANALYZE {table}" for table in tables]
        explain._script(url, *script)
        store = Store(database_of(async_url(url)), Policy(5000, 5, 0))
        assert isinstance(store.database, PostgresDatabase)
        yield url, store.database


@pytest.fixture(scope="module", params=["none", "fresh"])
def sqlite(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Database]:
    path = tmp_path_factory.mktemp("plans") / "test.db"
    upgrade(f"sqlite:///{path}")
    series = (
        "(WITH RECURSIVE s(i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM s WHERE i < {} - 1)"
        " SELECT i FROM s)"
    )
    with closing(sqlite3.connect(path)) as database:
        database.execute(explain._insert(SQLITE, series.format(TASKS)))
        database.execute(_insert(SQLITE, series.format(ROWS)))
        database.commit()
        if request.param == "fresh":
            database.execute("ANALYZE")
    store = Store(database_of(async_url(f"sqlite:///{path}")), Policy(5000, 5, 0))
    assert isinstance(store.database, SqliteDatabase)
    return path, store.database


Operations = Mapping[str, Callable[[], Any]]


def _found_and_written(triggers: Triggers, ours: Sequence[str]) -> Any:
    done = yield from operation(triggers.advance, ours, _BATCH, START)
    assert done.found == _BATCH
    assert not done.damaged


def _written(database: Database, rows: Sequence[ScheduleRow]) -> Any:
    written = yield from ScheduleRows(database).write(rows)
    assert len(written) == len(rows)


def looks(database: Database) -> Operations:
    """What looks for what is due, behind all that nobody can call."""
    triggers = Triggers(database)
    return {
        "next due": partial(operation, triggers.next_due, OURS, START),
        "next due, no functions": partial(operation, triggers.next_due, [], START),
        "advance": partial(_found_and_written, triggers, OURS),
        "advance, no functions": partial(_found_and_written, triggers, []),
    }


def others(database: Database) -> Operations:
    """What is about rows that are known."""
    schedules, triggers = Schedules(database), Triggers(database)
    waiting, paused = (f"{ROWS // 2 + i:032x}" for i in (2, 8))
    started = range(5, _BATCH * 100, 100)
    ends = [
        CallOutcome(Trigger(f"{i:032x}", START - timedelta(seconds=i)), "success", None)
        for i in started
    ]
    instant = database.codec.to_time(START)
    times = [ScheduledTaskTime(interval_hours=1)]
    new = partial(NewSchedule, times=times, misfire="coalesce", overlap="allow")
    changed = [
        row_of(new(f"{i:032x}", template=None))._replace(token=f"{i:032x}", next_trigger=instant)
        for i in started
    ]
    return {
        "add": partial(operation, schedules.add, new("new", template=new_row()), START),
        "change": partial(operation, schedules.add, new(waiting, template=new_row()), START),
        "state": partial(operation, schedules.state, waiting),
        "pause": partial(operation, schedules.pause, waiting, START),
        "resume": partial(schedules._resume, paused, at(5)),
        "trigger": partial(operation, triggers.trigger, waiting, False, START),
        "write": partial(_written, database, changed),
        "ended": partial(operation, triggers.record, ends),
        "remove": partial(operation, schedules.remove, waiting),
    }


@pytest.mark.parametrize("mode", MODES)
def test_postgres_looks(
    postgres: tuple[str, Database], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, database = postgres
    monkeypatch.setattr(explain, "MOST_ROWS", MOST_READ)
    complaints = asyncio.run(
        explain._check_postgres(url, mode, _driver.BEGIN, looks(database), MOST_READ)
    )
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("mode", MODES)
def test_postgres_others(postgres: tuple[str, Database], mode: str) -> None:
    url, database = postgres
    complaints = asyncio.run(
        explain._check_postgres(url, mode, _driver.BEGIN, others(database), MOST_BLOCKS_WRITTEN)
    )
    assert not complaints, "\n".join(complaints)


def test_sqlite_looks(sqlite: tuple[Path, Database], monkeypatch: pytest.MonkeyPatch) -> None:
    path, database = sqlite
    monkeypatch.setattr(explain, "MOST_STEPS", MOST_STEPS_LOOKING)
    complaints = explain._check_sqlite(path, looks(database))
    assert not complaints, "\n".join(complaints)


def test_sqlite_others(sqlite: tuple[Path, Database]) -> None:
    path, database = sqlite
    complaints = explain._check_sqlite(path, others(database))
    assert not complaints, "\n".join(complaints)
