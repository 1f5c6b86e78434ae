"""The plans of every statement over 100,000 rows, and the work that they do.

With the plans' own counters and not only their names: an index that is read from end to end is
no better than the table. `pytest -s` prints the plans.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from rowlock._rows import TaskRow
from rowlock._store.cursor import Position
from rowlock._store.ends import AttemptOutcome, Policy
from rowlock._store.open import database_of
from rowlock._store.paging import Walk, segments
from rowlock._store.postgres import connections as _connections
from rowlock._store.postgres import database as _postgres
from rowlock._store.postgres import driver as _driver
from rowlock._store.postgres.claim import ClaimPositions, ClaimStatements
from rowlock._store.postgres.database import PostgresDatabase
from rowlock._store.postgres.dialect import DIALECT
from rowlock._store.sql import Statement
from rowlock._store.sqlite import claim as _claim
from rowlock._store.sqlite.database import SqliteDatabase
from rowlock._store.sqlite.dialect import DIALECT as _SQLITE
from rowlock._store.store import Store
from rowlock._store.url import async_url
from rowlock.models import SortDirection, SortProperty, TaskStatus
from rowlock.schema import upgrade
from tests.support.postgres_server import temporary_database
from tests.support.stores import LEASE, START, failure, operation, success

CLAIM = ClaimStatements.of(DIALECT)

pytestmark = pytest.mark.timeout(400)

ROWS = 100_000
LIMIT = 10
# One range for each status and each one row more than the page, twice over; and what is
# processing, which is sorted.
MOST_ROWS = 2 * len(TaskStatus) * (LIMIT + 1) + 200
# What the sweeper looks through: all that is held, of which there is no more than workers hold.
# Each execution that is rolled back leaves its version of a row behind.
HELD_ROWS = 200 * 10
MOST_BLOCKS = 200
MOST_BLOCKS_WRITTEN = 1500
# Any scan of the larger ranges takes more than a million.
MOST_STEPS = 40_000

NOW_MICROSECONDS = int((START - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 10**6
MIDDLE_ID = f"{ROWS // 2:032x}"
# 90,000 pending: of type "t" all but 1,800 due tomorrow, and at higher priorities.
STATUS = """
    CASE WHEN i < 90000 THEN 'pending' WHEN i < 90200 THEN 'processing'
         WHEN i < 95000 THEN 'success' WHEN i < 98000 THEN 'failed' ELSE 'cancelled' END
"""
TOMORROW = "i < 90000 AND i % 2 = 1 AND i % 50 <> 1"
# {…} is an instant so many seconds after the start, as each database says it.
COLUMNS = {
    "id": "{id}",
    "type": "CASE WHEN i % 2 = 1 THEN 't' ELSE 'other' END",
    "status": STATUS,
    "priority": f"CASE WHEN {TOMORROW} THEN 5 + i % 3 ELSE i % 2 END",
    "run_at": f"CASE WHEN {TOMORROW} THEN {{tomorrow}} ELSE {{ago}} END",
    "attempt": "CASE WHEN i < 90000 THEN 0 ELSE 1 END",
    "thread_id": "CASE WHEN i < 90000 THEN '0' ELSE 'w' END",
    "lease_until": "CASE WHEN i BETWEEN 90000 AND 90099 THEN {ago}"
    " WHEN i BETWEEN 90100 AND 90199 THEN {tomorrow} END",
    "lost_workers": "0",
    "retries_remaining": "CASE WHEN i % 4 < 2 THEN 0 END",
    "retain_for": "CASE WHEN i % 4 < 2 THEN 0 ELSE -1 END",
    "date_created": "{ago}",
    "date_modified": "{ago}",
    "date_retain_until": "CASE WHEN i >= 90200 AND i % 3 = 0 THEN {ago}"
    " WHEN i >= 90200 AND i % 3 = 1 THEN {tomorrow} END",
}
POSTGRES = {
    "id": "lpad(to_hex(i), 32, '0')::uuid",
    "ago": f"timestamptz '{START.isoformat()}' - i * interval '1 second'",
    "tomorrow": f"timestamptz '{START.isoformat()}' + i * interval '1 second' + interval '1 day'",
}
SQLITE = {
    "id": "printf('%032x', i)",
    "ago": f"{NOW_MICROSECONDS} - i * 1000000",
    "tomorrow": f"{NOW_MICROSECONDS} + (i + 86400) * 1000000",
}


def _insert(dialect: Mapping[str, str], source: str, **instead: str) -> str:
    values = {**COLUMNS, **instead}
    selected = ", ".join(value.format(**dialect) for value in values.values())
    return f"INSERT INTO rowlock_task ({', '.join(values)}) SELECT {selected} FROM {source}"


def _script(url: str, *statements: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


@contextmanager
def _postgres_database(server: str, statistics: str) -> Iterator[str]:
    with temporary_database(server) as url:
        upgrade(url)
        series = f"generate_series(0, {ROWS - 1}) AS i"
        # Otherwise the server would collect statistics by itself at some time.
        frozen = "ALTER TABLE rowlock_task SET (autovacuum_enabled = off)"
        if statistics == "stale":
            values = {name: value.format(**POSTGRES) for name, value in COLUMNS.items()}
            changed = ", ".join(
                f"{name} = {values[name]}"
                for name in COLUMNS
                if name not in ("id", "type", "priority", "run_at")
            )
            _script(
                url,
                frozen,
                _insert(
                    POSTGRES,
                    series,
                    status="'pending'",
                    lease_until="NULL::timestamptz",
                    date_retain_until="NULL::timestamptz",
                    attempt="0",
                    thread_id="'0'",
                ),
                "ANALYZE rowlock_task",
                f"UPDATE rowlock_task SET {changed} FROM generate_series(90000, {ROWS - 1}) AS i"
                " WHERE id = lpad(to_hex(i), 32, '0')::uuid",
                # Dead rows are another matter. This collects no statistics on the columns.
                "VACUUM rowlock_task",
            )
        else:
            if statistics == "empty":
                # As a queue is that keeps nothing, whenever a vacuum comes by.
                _script(
                    url,
                    _insert(POSTGRES, series),
                    "DELETE FROM rowlock_task",
                    "VACUUM ANALYZE rowlock_task",
                )
            _script(url, frozen, _insert(POSTGRES, series))
            if statistics == "fresh":
                _script(url, "VACUUM ANALYZE rowlock_task")
        yield url


@pytest.fixture(scope="module", params=["none", "fresh", "stale", "empty"])
def postgres(
    request: pytest.FixtureRequest, postgres_server_url: str
) -> Iterator[tuple[str, Store]]:
    with _postgres_database(postgres_server_url, request.param) as url:
        store = Store(database_of(async_url(url)), Policy(5000, 5, 0))
        assert isinstance(store.database, PostgresDatabase)
        yield url, store


@pytest.fixture(scope="module", params=["none", "fresh"])
def sqlite(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Store]:
    path = tmp_path_factory.mktemp("explain") / "test.db"
    upgrade(f"sqlite:///{path}")
    series = (
        f"(WITH RECURSIVE s(i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM s WHERE i < {ROWS - 1})"
        " SELECT i FROM s)"
    )
    with closing(sqlite3.connect(path)) as database:
        database.execute(_insert(SQLITE, series))
        database.commit()
        if request.param == "fresh":
            database.execute("ANALYZE")
    store = Store(database_of(async_url(f"sqlite:///{path}")), Policy(5000, 5, 0))
    assert isinstance(store.database, SqliteDatabase)
    return path, store


def _held(first: int, instant: Any) -> list[TaskRow]:
    """Rows as the worker "w" holds them; every other one has no tries left and is not kept."""
    return [
        TaskRow(
            id=f"{i:032x}",
            type="t" if i % 2 else "other",
            attempt=1,
            payload=None,
            retries_remaining=0 if i % 4 < 2 else None,
            retain_for=0 if i % 4 < 2 else -1,
            schedule_id=None,
            scheduled_for=None,
            status="processing",
            thread_id="w",
            retry_interval=None,
            lost_workers=0,
            date_created=instant,
            date_modified=instant,
            date_retain_until=None,
            priority=0,
            run_at=instant,
            key=None,
            result=None,
            error=None,
            progress=None,
            cancel_requested=None,
            date_started=None,
            attempts=None,
        )
        for i in range(first, first + LIMIT)
    ]


# An operation as the store makes it: a generator of statements.
Make = Callable[[Store], Any]


def writes(instant: Any) -> dict[str, Make]:
    """What writes; an instant is a row's, as the driver gives it."""
    rows = _held(90_110, instant)
    attempts = [(row.id, row.attempt) for row in rows]
    kept = [row._replace(retain_for=-1) for row in rows]
    return {
        "sweep": lambda store: operation(store.sweep.leases, LIMIT, START),
        "prune": lambda store: operation(store.sweep.retention, LIMIT, START),
        "succeed": lambda store: finished(store, [success(r) for r in kept], rows=False),
        "succeed, rows": lambda store: finished(store, [success(r) for r in kept]),
        "fail": lambda store: finished(store, [failure(r) for r in kept]),
        "drop": lambda store: finished(store, [success(r._replace(retain_for=0)) for r in rows]),
        "extend": lambda store: operation(store.attempts.extend, "w", attempts, LEASE, START),
        "release": lambda store: operation(store.attempts.release, "w", attempts, START),
        "get": lambda store: operation(store.tasks.get, MIDDLE_ID),
        "retry waiting": lambda store: store.tasks._retry(f"{3:032x}", START),
        "retry ended": lambda store: store.tasks._retry(f"{96_000:032x}", START),
        "cancel, keep": lambda store: operation(store.tasks.cancel, f"{3:032x}", START),
        "cancel, drop": lambda store: operation(store.tasks.cancel, f"{5:032x}", START),
        "cancel, running": lambda store: operation(
            store.tasks.cancel, rows[0].id, START, running=True
        ),
        "progress": lambda store: operation(
            store.attempts.progress, "w", dict.fromkeys(attempts, "{}")
        ),
        "cancel requests": lambda store: operation(store.attempts.cancel_requests, "w", attempts),
        "remove": lambda store: operation(store.tasks.remove, MIDDLE_ID),
    }


def finished(store: Store, outcomes: Sequence[AttemptOutcome], *, rows: bool = True) -> Any:
    return operation(store.attempts.finish, "w", outcomes, rows=rows, now=START)


def _page(walk: Walk, position: Position | None, store: Store) -> Any:
    return store.pages._page(walk, position, LIMIT)


def pages() -> dict[str, Make]:
    """The first page and one from the middle of each stretch, of each kind of walk."""
    made: dict[str, Make] = {}
    filters: list[TaskStatus | None] = [None, *TaskStatus]
    for sort, direction, task_type, status in product(
        SortProperty, SortDirection, (None, "t"), filters
    ):
        walk = (task_type, status, sort, direction)
        name = f"page {sort} {direction} type={task_type} status={status}"
        made[name] = partial(_page, walk, None)
        for number, part in enumerate(
            segments(sort, status, direction, typed=task_type is not None)
        ):
            value = {
                "date_modified": NOW_MICROSECONDS - ROWS // 2 * 10**6,
                None: 0,
            }[part.order]
            middle = Position(number, value, MIDDLE_ID)
            made[f"{name} from {number}"] = partial(_page, walk, middle)
    return made


# PostgreSQL.


def _literal(value: Any) -> str:
    """A parameter as a literal of no type: the prepared statement says which it has."""
    if value is None:
        return "NULL"
    if isinstance(value, list):
        items = ("NULL" if item is None else json.dumps(item, default=str) for item in value)
        value = "{" + ",".join(items) + "}"
    text = str(value).replace("'", "''")
    return f"'{text}'"


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _read(node: Mapping[str, Any]) -> float:
    removed = sum(value for name, value in node.items() if name.startswith("Rows Removed"))
    return float((node["Actual Rows"] + removed) * node["Actual Loops"])


def _complaints(explained: Mapping[str, Any], most_blocks: int, most_rows: int) -> Iterator[str]:
    plan = explained["Plan"]
    if "JIT" in explained:
        yield "is compiled (JIT), which takes longer than a hundred such statements"
    blocks = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    if blocks > most_blocks:
        yield f"reads {blocks} blocks"
    for node in _nodes(plan):
        kind = node["Node Type"]
        if kind == "Seq Scan" and node["Relation Name"] == "rowlock_task":
            yield "scans the table"
        elif "Scan" in kind and _read(node) > most_rows:
            yield f"{kind} of {node.get('Index Name')} reads {_read(node):.0f} rows"
        elif "Sort" in kind and sum(map(_read, node["Plans"])) > most_rows:
            yield f"{kind} of {sum(map(_read, node['Plans'])):.0f} rows"


async def _explain(
    connection: asyncpg.Connection,
    mode: str,
    statement: Statement,
    parameters: Mapping[str, Any],
) -> Mapping[str, Any]:
    """The plan of the very text that the library sends, prepared as the driver prepares it."""
    given = ", ".join(map(_literal, _driver.in_order(statement, parameters)))
    execute = "EXECUTE explained" + (f"({given})" if given else "")
    await connection.execute(f"PREPARE explained AS {statement.sql}")
    try:
        if mode == "auto":
            # The server decides at the sixth time whether a plan without parameters will do.
            for _ in range(5):
                await connection.execute("SAVEPOINT once")
                await connection.execute(execute)
                await connection.execute("ROLLBACK TO once")
        text = await connection.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {execute}"
        )
    finally:
        await connection.execute("DEALLOCATE explained")
    explained: Mapping[str, Any] = json.loads(text)[0]
    return explained


async def _check_postgres(
    url: str,
    mode: str,
    begin: str,
    operations: Mapping[str, Callable[[], Any]],
    most_blocks: int,
) -> list[str]:
    complaints: list[str] = []
    connection = await asyncpg.connect(url)
    try:
        # As the library does on connections of its own.
        await connection.execute("; ".join(f"SET {name}" for name in _connections.PLANNER))
        await connection.execute(f"SET plan_cache_mode = {mode}")
        for name, make in operations.items():
            operation = make()
            await connection.execute(begin)
            try:
                statement, parameters = next(operation)
                while True:
                    forms = {name: statement}
                    if statement.is_on_batch:
                        forms[f"{name}, skipping what is locked"] = statement.skipping
                    for form, sent in forms.items():
                        await connection.execute("SAVEPOINT before")
                        explained = await _explain(connection, mode, sent, parameters)
                        await connection.execute("ROLLBACK TO before")
                        print(f"\n### PostgreSQL, {mode}: {form}\n{sent.sql}")
                        print(json.dumps(explained, indent=1))
                        most_rows = HELD_ROWS if name == "sweep" else MOST_ROWS
                        found = _complaints(explained, most_blocks, most_rows)
                        complaints += [f"{form}: {complaint}" for complaint in found]
                    arguments = _driver.in_order(statement, parameters)
                    rows = await connection.fetch(statement.sql, *arguments)
                    statement, parameters = operation.send(rows)
            except StopIteration:
                pass
            finally:
                await connection.execute("ROLLBACK")
    finally:
        await connection.close()
    return complaints


def _one(statement: Statement, parameters: Mapping[str, Any]) -> Any:
    yield statement, parameters


def _postgres_claims() -> dict[str, Callable[[], Any]]:
    common = {"holder": "w", "lease": LEASE, "now": START}
    rooms: dict[str, Mapping[str, int]] = {
        "claim": {"t": LIMIT},
        "claim, two types": {"t": LIMIT, "other": LIMIT},
        "claim, nothing there": {"none": LIMIT},
        "claim, many types": {"t": 1, "other": 1, **{f"type {n}": 1 for n in range(40)}},
    }
    remembered = {
        "types": ["t", "none"],
        "wholes": [False, True],
        "lane_types": ["t"] * 2,
        "lane_priorities": [6, 1],
        "lane_sinces": [START - timedelta(hours=1)] * 2,
    }
    made: dict[str, Callable[[], Any]] = {}
    for name, room in rooms.items():
        parameters = {**ClaimPositions().scan_from(room), "rooms": list(room.values()), **common}
        made[name] = partial(_one, CLAIM.claim, parameters)
    made["claim, remembered"] = partial(
        _one, CLAIM.claim, {**remembered, "rooms": [LIMIT] * 2, **common}
    )
    due = {**ClaimPositions().scan_from(["t", "other", "none"]), "now": START}
    made["next due"] = partial(_one, CLAIM.next_due, due)
    made["next due, remembered"] = partial(_one, CLAIM.next_due, {**remembered, "now": START})
    return made


# The first executions, those after them, and what a server may be set to.
MODES = ["force_custom_plan", "auto", "force_generic_plan"]


# The pages come first: what is rolled back leaves dead entries in the indexes.


@pytest.mark.parametrize("mode", MODES)
def test_postgres_pages(postgres: tuple[str, Store], mode: str) -> None:
    """Fails where a page costs more than its rows, as by a sort, or by compiling its plan."""
    url, store = postgres
    operations = {name: partial(make, store) for name, make in pages().items()}
    complaints = asyncio.run(
        _check_postgres(url, mode, _postgres._BEGIN_SORTED, operations, MOST_BLOCKS)
    )
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("mode", MODES)
def test_postgres_writes(postgres: tuple[str, Store], mode: str) -> None:
    url, store = postgres
    operations: dict[str, Callable[[], Any]] = {
        **{name: partial(make, store) for name, make in writes(START).items()},
        **_postgres_claims(),
    }
    complaints = asyncio.run(
        _check_postgres(url, mode, _driver.BEGIN, operations, MOST_BLOCKS_WRITTEN)
    )
    assert not complaints, "\n".join(complaints)


# SQLite.


def _check_sqlite(path: Path, operations: Mapping[str, Callable[[], Any]]) -> list[str]:
    complaints: list[str] = []
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        ticks: list[None] = []
        for name, make in operations.items():
            operation = make()
            database.execute("BEGIN IMMEDIATE")
            ticks.clear()
            try:
                statement, parameters = next(operation)
                while True:
                    given = {**parameters, **statement.constants}
                    plan: Sequence[str] = [
                        row[3]
                        for row in database.execute(f"EXPLAIN QUERY PLAN {statement.sql}", given)
                    ]
                    print(f"\n### SQLite: {name}\n{statement.sql}", *plan, sep="\n")
                    # A full walk of an index is a scan too.
                    complaints += [
                        f"{name}: {step}" for step in plan if step.startswith("SCAN rowlock_task")
                    ]
                    database.set_progress_handler(lambda: ticks.append(None), 10)
                    rows = database.execute(statement.sql, given).fetchall()
                    database.set_progress_handler(None, 0)
                    statement, parameters = operation.send(rows)
            except StopIteration:
                pass
            finally:
                database.execute("ROLLBACK")
            print(f"{len(ticks) * 10} steps")
            if len(ticks) * 10 > MOST_STEPS:
                complaints.append(f"{name}: {len(ticks) * 10} steps of the virtual machine")
    return complaints


def test_sqlite_writes(sqlite: tuple[Path, Store]) -> None:
    path, store = sqlite
    claim = {"holder": "w", "lease": LEASE, "now": NOW_MICROSECONDS}
    operations: dict[str, Callable[[], Any]] = {
        **{name: partial(make, store) for name, make in writes(NOW_MICROSECONDS).items()},
        "claim": lambda: _claim.claim_rows(TaskRow, {"t": LIMIT}, claim),
        "claim, two types": lambda: _claim.claim_rows(TaskRow, {"t": LIMIT, "other": LIMIT}, claim),
        "claim, nothing there": lambda: _claim.claim_rows(TaskRow, {"none": LIMIT}, claim),
        "next due": lambda: _claim.next_due(["t", "other", "none"], NOW_MICROSECONDS),
    }
    complaints = _check_sqlite(path, operations)
    assert not complaints, "\n".join(complaints)


def test_sqlite_pages(sqlite: tuple[Path, Store]) -> None:
    path, store = sqlite
    operations = {name: partial(make, store) for name, make in pages().items()}
    complaints = _check_sqlite(path, operations)
    assert not complaints, "\n".join(complaints)


def test_the_measure_sees_a_scan(sqlite: tuple[Path, Store]) -> None:
    """Fails where the tests above cannot fail: a walk by OFFSET, and a count of a status."""
    path, _ = sqlite
    sorted_in_memory = _SQLITE.statement(
        text("SELECT * FROM rowlock_task ORDER BY date_modified LIMIT 10")
    )
    by_offset = _SQLITE.statement(
        text("SELECT id FROM rowlock_task WHERE id > '' ORDER BY id LIMIT 10 OFFSET 50000")
    )
    complaints = _check_sqlite(
        path,
        {"sort": lambda: _one(sorted_in_memory, {}), "offset": lambda: _one(by_offset, {})},
    )
    assert any(c.startswith("sort: SCAN rowlock_task") for c in complaints)
    assert any(c.startswith("offset: ") and c.endswith("machine") for c in complaints)
