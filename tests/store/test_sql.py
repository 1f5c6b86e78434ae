"""Every statement that is sent to a database, as a person can read and paste it.

`sql/postgresql.sql` and `sql/sqlite.sql` are written from the objects that the store sends, by

    ROWLOCK_UPDATE_SQL=1 pytest tests/store/test_sql.py

and compared with them otherwise, so that a review sees each change of a statement.
"""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from rowlock import NewTask, ScheduledTaskTime, TaskQueue, TaskScheduler, TaskStatus
from rowlock._store import paging
from rowlock._store.database import HintKind
from rowlock._store.new_rows import COPY_COLUMNS
from rowlock._store.postgres import connections, driver, listen
from rowlock._store.postgres import database as _postgres
from rowlock._store.postgres.dialect import DIALECT as POSTGRESQL
from rowlock._store.sql import Dialect, Statement, Statements
from rowlock._store.sqlite import driver as _sqlite_driver
from rowlock._store.sqlite import wal
from rowlock._store.sqlite.dialect import DIALECT as SQLITE
from rowlock.models import SortDirection, SortProperty
from tests.store import test_explain as explain
from tests.store import test_schedule_plans as schedule_plans
from tests.support.helpers import eventually
from tests.support.sql_layout import layout

SQL = Path(__file__).parent / "sql"
UPDATE = "ROWLOCK_UPDATE_SQL"
DIALECTS: dict[str, Dialect] = {"postgresql": POSTGRESQL, "sqlite": SQLITE}
ASCENDING, DESCENDING = SortDirection.ASCENDING, SortDirection.DESCENDING
OTHER_WING = {"postgresql": ".sqlite.", "sqlite": ".postgres."}

KEY = {
    "postgresql": ("rowlock_task_pkey", "rowlock_scheduled_task_pkey"),
    "sqlite": ("sqlite_autoindex_rowlock_task_1", "sqlite_autoindex_rowlock_scheduled_task_1"),
}


@dataclass(frozen=True)
class Said:
    """What is said of a statement.

    Attributes:
        sentence: who sends it, and when.
        indexes: which it uses, with commas; "|" stands between those of which the planner takes
            one or the other, as both find the rows at once. KEY and SCHEDULE KEY are primary keys.
    """

    sentence: str
    indexes: str = ""


_TAKEN = "uq_rowlock_task_type_key"
_CLAIM = "ix_rowlock_task_claim"
_PROCESSING = "ix_rowlock_task_processing"
_ONE_RESTING = "KEY | ix_rowlock_task_status_id"
_DUE = "ix_rowlock_scheduled_task_due"

COMMON = {
    "common.clock": Said("The bulk insert and the scheduler ask what time it is; a keep-alive."),
    "common.revision": Said("A queue that opens asks whether the schema is there, and new enough."),
    "task.insert": Said("`create` of one task without a key."),
    "task.insert_batch": Said(
        "`create` calls that come together share one statement; the scheduler creates what is due."
    ),
    "task.insert_keyed": Said("`create` of one task with a key.", _TAKEN),
    "task.insert_batch_keyed": Said(
        "`create_many` where a task has a key, and all of it on a connection of the caller's.",
        _TAKEN,
    ),
    "task.with_key": Said("After an insert that a key refused: who has the key.", _TAKEN),
    "task.with_keys": Said("The same for a batch.", _TAKEN),
    "task.get": Said("`get`, and whoever awaits a task.", "KEY"),
    "task.counts": Said(
        "`counts` of all types.",
        f"{_PROCESSING}, ix_rowlock_task_status_id | ix_rowlock_task_status_modified",
    ),
    "task.counts_of_type": Said(
        "`counts` of one type.",
        f"{_PROCESSING}, ix_rowlock_task_type_status_id | ix_rowlock_task_type_status_modified",
    ),
    "task.retry_waiting": Said("`retry`, first: of a task that waits.", _ONE_RESTING),
    "task.retry_ended": Said(
        "`retry`, second: of a task that has ended, unless another has its key.", f"KEY, {_TAKEN}"
    ),
    "task.cancel_keep": Said("`cancel`, first: of a pending task that is kept.", _ONE_RESTING),
    "task.cancel_drop": Said("`cancel`, second: of one that is not kept.", _ONE_RESTING),
    "task.request_cancel": Said("`cancel`, third: of a task that runs.", f"KEY | {_PROCESSING}"),
    "task.remove": Said("`remove`.", "KEY"),
    "end.drop_cancelled": Said(
        "After a failure or a release: remove a task that turned out to be cancelled.",
        _ONE_RESTING,
    ),
    "attempt.succeed": Said("A worker's finishes, those that succeeded.", "KEY"),
    "attempt.succeed_row": Said("The same where a callback wants the tasks.", "KEY"),
    "attempt.fail": Said("A worker's finishes, those that failed.", "KEY"),
    "attempt.drop": Said("A worker's finishes, those that are not kept.", "KEY"),
    "attempt.drop_row": Said("The same where a callback wants the tasks.", "KEY"),
    "attempt.extend": Said("The lease thread, several times in the length of a lease.", "KEY"),
    "attempt.release": Said("A worker that stops, or has claimed more than it can run.", "KEY"),
    "attempt.progress": Said("A worker, for what handlers reported, about once a second.", "KEY"),
    "attempt.held": Said("After a statement that left out locked rows: which are held.", "KEY"),
    "attempt.cancel_requests": Said("A worker, after a hint that some are to be cancelled.", "KEY"),
    "sweep.expired": Said("The sweeper: leases that have run out.", _PROCESSING),
    "sweep.fail": Said("The sweeper: tasks of lost workers, put back or failed.", "KEY"),
    "sweep.drop": Said("The sweeper: tasks of lost workers that are not kept.", "KEY"),
    "sweep.prune": Said("The sweeper: tasks past their retention.", "ix_rowlock_task_retain, KEY"),
    "schedule.insert": Said("`add_task`.", "SCHEDULE KEY"),
    "schedulerow.get": Said(
        "`add_task`, `pause_task`, `resume_task`, `trigger_task`: one row, locked.", "SCHEDULE KEY"
    ),
    "schedule.look": Said("`task_state`.", "SCHEDULE KEY"),
    "schedule.looks": Said("The scheduler: the rows of its own functions.", "SCHEDULE KEY"),
    "schedule.times": Said("`tasks_info`; all rows, in the order of ids.", "SCHEDULE KEY"),
    "schedule.remove": Said("`remove_task`.", "SCHEDULE KEY"),
    "schedule.remove_others": Said(
        "`only`: what no process adds any more. It reads all rows, which are few."
    ),
    "trigger.next_due": Said("The scheduler: how long it may sleep.", _DUE),
    "trigger.due": Said("The scheduler: what is due, locked.", _DUE),
    "trigger.due_here": Said(
        "The scheduler: what is due of functions that few may call.", f"{_DUE} | SCHEDULE KEY"
    ),
    "trigger.statuses": Said(
        'The scheduler, where overlap="skip": how the last tasks stand.', "KEY"
    ),
    "schedulerow.write": Said("Each change of a scheduled task: compare and set.", "SCHEDULE KEY"),
    "trigger.ended": Said("The scheduler: how the call of a function ended.", "SCHEDULE KEY"),
}
WINGS = {
    "postgresql": {
        "task.insert_and_notify": Said("`create` of one task, with its hint to other processes."),
        "claim.claim": Said("A claim with all columns, of tests and of a worker with callbacks.",
                            _CLAIM),
        "claim.claim_to_run": Said("A worker's claim: what it takes to run the tasks.", _CLAIM),
        "claim.next_due": Said("A worker that has found nothing: how long it may sleep.", _CLAIM),
        "listen.notify": Said("A hint that tasks, cancellations or scheduled tasks are there."),
        "listen.notify_on": Said("The same in a transaction of the caller's."),
        "session.look": Said("A queue that opens: where the table is, and whether it can be used."),
        "session.identity": Said("For a connection of the caller's: whose database it finds."),
    },
    "sqlite": {
        "task.insert_and_notify": Said("`create` of one task; others see the change of the file."),
        "claim.top_priority": Said("A claim, first: the next lower priority of a type.", _CLAIM),
        "claim.due": Said("A claim, second: what is due of a type and a priority.", _CLAIM),
        "claim.claim": Said("A claim, last, with all columns.", "KEY"),
        "claim.claim_to_run": Said("A claim, last, with what it takes to run the tasks.", "KEY"),
        "claim.first_due": Said("A worker that has found nothing: how long it may sleep.", _CLAIM),
    },
}  # fmt: skip

# What has no parameters, and is no statement on a table.
SCRIPTS = {
    "postgresql": {
        "; ".join(f"SET {setting}" for setting in connections.PLANNER): "A new connection.",
        "; ".join(
            f"SET {setting}" for setting in (*connections.PLANNER, "lock_timeout = 1000")
        ): "A new connection of a worker.",
        driver.BEGIN: "Before a bulk insert.",
        _postgres._BEGIN_TOGETHER: "Before what is true together or not at all.",
        _postgres._BEGIN_SORTED: "Before a page.",
        "COMMIT": "After it.",
        f"COPY rowlock_task({', '.join(COPY_COLUMNS)}) FROM STDIN (FORMAT binary)": (
            "`create_many` without keys."
        ),
        **{
            f'{verb} "{channel}"': f"The listener, {when} for {what}."
            for verb, when in (("LISTEN", "from now on"), ("UNLISTEN", "no longer"))
            for channel, what in (
                (listen.CHANNELS[HintKind.WORK], "tasks"),
                (listen.CHANNELS[HintKind.CANCEL], "requests to cancel"),
                (listen.CHANNELS[HintKind.SCHEDULES], "scheduled tasks"),
            )
        },
        "SHOW transaction_read_only": "The listener, every ten seconds: is the server the primary?",
    },
    "sqlite": {
        _sqlite_driver.FILES: "A queue that opens: which file it is.",
        f"PRAGMA busy_timeout = {_sqlite_driver.BUSY_TIMEOUT_MS}": "A new connection.",
        "PRAGMA journal_mode = WAL": "The connection that writes, first.",
        "PRAGMA synchronous = FULL": "The connection that writes: what is committed is on disk.",
        f"PRAGMA journal_size_limit = {wal.USUAL_BYTES}": "The connection that writes.",
        "BEGIN IMMEDIATE": "Before all that writes.",
        "COMMIT": "After it.",
        "ROLLBACK": "After it, where it was refused.",
        "PRAGMA data_version": "The watcher: has another connection committed?",
        "PRAGMA wal_checkpoint(PASSIVE)": "After a commit that left the log long.",
        "PRAGMA wal_autocheckpoint = 0": "While a reader keeps the log from being cut.",
        "PRAGMA wal_autocheckpoint = 1000": "When it does no more.",
    },
}


def statements(name: str) -> dict[str, Statement]:
    """All that are sent to a database, by name: the very objects that the store has."""
    found: dict[str, Statement] = {}
    # They are in the order in which modules were imported.
    for kind in sorted(Statements.__subclasses__(), key=lambda kind: kind.__name__):
        if OTHER_WING[name] in kind.__module__ or not kind.__module__.startswith("rowlock."):
            continue
        group = kind.__name__.removesuffix("Statements").lower()
        for attribute, statement in vars(kind.of(DIALECTS[name])).items():
            if not isinstance(statement, Statement):
                continue
            found[f"{group}.{attribute}"] = statement
            # SQLite locks no row.
            if statement.is_on_batch and statement.skipping.sql != statement.sql:
                found[f"{group}.{attribute}, without what others have locked"] = statement.skipping
    return found


def pages(name: str) -> dict[str, tuple[Statement, str]]:
    """The statements of page walks with their indexes; of statuses that differ in nothing one."""
    found: dict[str, tuple[Statement, str]] = {}
    seen: set[str] = set()
    statements = paging.PageStatements.of(DIALECTS[name])
    for typed, sort, status in product((False, True), SortProperty, (None, *TaskStatus)):
        for segment in paging.segments(sort, status, ASCENDING, typed=typed):
            order = ("id",) if segment.order is None else (segment.order, "id")
            statement = statements.page(order, segment.statuses, typed, ASCENDING)
            descending = statements.page(order, segment.statuses, typed, DESCENDING)
            assert descending.sql == mirrored(statement.sql)
            sql, which = statement.sql, ", ".join(segment.statuses) or "any status"
            if len(segment.statuses) == 1 and TaskStatus.PROCESSING not in segment.statuses:
                which = "a status"
                sql = sql.replace(f"('{segment.statuses[0]}'", "('a status'")
            if sql in seen:
                continue
            seen.add(sql)
            of = "of a type, " if typed else ""
            found[f"page by {' and '.join(order)}, {of}{which}"] = (
                statement,
                _page_indexes(segment, typed),
            )
    return found


def mirrored(sql: str) -> str:
    """The page that goes the other way."""
    sql = sql.replace(") > (", ") < (").replace(") <= (", ") >= (")
    return re.sub(
        r"(?<=ORDER BY )[^()]+?(?=\s+LIMIT)", lambda m: m[0].replace(",", " DESC,") + " DESC", sql
    )


def _page_indexes(segment: paging.Segment, typed: bool) -> str:
    suffix = "id" if segment.order is None else "modified"
    resting = f"ix_rowlock_task_{'type_' * typed}status_{suffix}"
    used = [_PROCESSING] * (TaskStatus.PROCESSING in segment.statuses)
    used += [resting] * bool({*segment.statuses} - {TaskStatus.PROCESSING})
    return ", ".join(used) or "KEY"


def said(name: str) -> dict[str, Said]:
    return {**COMMON, **WINGS[name]}


def readable(name: str, statement: Statement) -> str:
    """A statement to be pasted, with names for its parameters."""
    if name == "postgresql":
        sql = re.sub(r"\$(\d+)", lambda m: f":'{statement.names[int(m[1]) - 1]}'", statement.sql)
    else:
        sql = re.sub(r":(\w+)", lambda m: str(statement.constants.get(m[1], m[0])), statement.sql)
    return f"{layout(sql)};"


def golden(name: str) -> str:
    """The text of a golden file."""
    parts = [HEADERS[name]]
    for script, sentence in SCRIPTS[name].items():
        parts.append("\n".join([f"-- {sentence}", *(f"{layout(s)};" for s in script.split("; "))]))
    for title, statement in statements(name).items():
        about = said(name)[title.partition(",")[0]]
        parts.append(_entry(title, about, readable(name, statement), name))
    for title, (statement, indexes) in pages(name).items():
        about = Said("`query`; descending with < and >= for > and <=, and DESC.", indexes)
        parts.append(_entry(title, about, readable(name, statement), name))
    return "\n\n".join(parts) + "\n"


def _entry(title: str, about: Said, sql: str, name: str) -> str:
    using = _resolved(about.indexes, name).replace(" | ", " or ") or "none"
    return f"-- {title}\n-- {about.sentence}\n-- Index: {using}.\n{sql}"


def _resolved(indexes: str, name: str) -> str:
    task, schedule = KEY[name]
    return indexes.replace("SCHEDULE KEY", schedule).replace("KEY", task)


HEADERS = {
    "postgresql": """\
-- What rowlock sends to PostgreSQL. Written by tests/store/test_sql.py; do not edit.
--
-- Paste a statement in psql after its parameters: \\set id '0198…'. A parameter `now` that is not
-- given is \\set now now. What begins with all_ is an array: \\set all_id '{…}'.
-- What changes the schema is shown by `rowlock db sql`.""",
    "sqlite": """\
-- What rowlock sends to SQLite. Written by tests/store/test_sql.py; do not edit.
--
-- Paste a statement in sqlite3 after its parameters: .parameter set :id "'0198…'". Instants are
-- microseconds since 1970. A batch is a JSON array of objects.
-- What changes the schema is shown by `rowlock db sql`.""",
}


@pytest.mark.parametrize("name", DIALECTS)
def test_the_golden_file_is_what_is_sent(name: str) -> None:
    path = SQL / f"{name}.sql"
    if os.environ.get(UPDATE):
        path.write_text(golden(name))
    assert path.read_text() == golden(name), f"{UPDATE}=1 writes it anew; read what has changed"


@pytest.mark.parametrize("name", DIALECTS)
def test_each_statement_has_a_sentence(name: str) -> None:
    assert {title.partition(",")[0] for title in statements(name)} == said(name).keys()


# Which indexes they use.

ROWS = range(80_000, 100_000)
SCHEDULES = range(5_000)


def used(name: str, plans: Mapping[str, str], claimed: Mapping[str, str]) -> Iterator[str]:
    """What a plan and what is said of it have not in common."""
    for title, plan in plans.items():
        found = set(re.findall(r"\w+_rowlock_\w+|rowlock_\w+_pkey", plan))
        groups = filter(None, _resolved(claimed[title], name).split(", "))
        wanted = [set(group.split(" | ")) for group in groups]
        if not all(group & found for group in wanted) or found - set().union(*wanted):
            yield f"{title} uses {found}, not {wanted}: {plan}"


def claims_of(name: str) -> dict[str, tuple[Statement, str]]:
    every = {
        title: (statement, said(name)[title.partition(",")[0]].indexes)
        for title, statement in statements(name).items()
        # SQLite does not tell which index found a conflict.
        if not (name == "sqlite" and statement.sql.startswith("INSERT"))
    }
    return {**every, **pages(name)}


def test_postgresql_uses_the_indexes_that_are_named(postgres_url: str) -> None:
    claims = claims_of("postgresql")
    series = "generate_series({}, {}) AS i"

    async def plans() -> dict[str, str]:
        connection = await asyncpg.connect(postgres_url)
        try:
            rows = series.format(ROWS[0], ROWS[-1])
            await connection.execute(explain._insert(explain.POSTGRES, rows))
            rows = series.format(SCHEDULES[0], SCHEDULES[-1])
            await connection.execute(schedule_plans._insert(schedule_plans.POSTGRES, rows))
            await connection.execute("ANALYZE")
            await connection.execute("; ".join(f"SET {name}" for name in connections.PLANNER))
            found = {}
            for title, (statement, _) in claims.items():
                begin = _postgres._BEGIN_SORTED if title.startswith("page") else driver.BEGIN
                await connection.execute(begin)
                await connection.execute(f"PREPARE sent AS {statement.sql}")
                nothing = ", ".join(["NULL"] * len(statement.names))
                arguments = f"({nothing})" if nothing else ""
                plan = await connection.fetch(f"EXPLAIN EXECUTE sent{arguments}")
                found[title] = "\n".join(row[0] for row in plan)
                await connection.execute("DEALLOCATE sent; ROLLBACK")
            return found
        finally:
            await connection.close()

    complaints = list(
        used("postgresql", asyncio.run(plans()), {title: i for title, (_, i) in claims.items()})
    )
    assert not complaints, "\n".join(complaints)


def test_sqlite_uses_the_indexes_that_are_named(sqlite_url: str) -> None:
    claims = claims_of("sqlite")
    series = (
        "(WITH RECURSIVE s(i) AS (VALUES ({}) UNION ALL SELECT i + 1 FROM s WHERE i < {})"
        " SELECT i FROM s)"
    )
    found = {}
    with closing(sqlite3.connect(sqlite_url.partition("///")[2])) as file:
        file.execute(explain._insert(explain.SQLITE, series.format(ROWS[0], ROWS[-1])))
        rows = series.format(SCHEDULES[0], SCHEDULES[-1])
        file.execute(schedule_plans._insert(schedule_plans.SQLITE, rows))
        file.commit()
        file.execute("ANALYZE")
        for title, (statement, _) in claims.items():
            parameters = dict.fromkeys(re.findall(r":(\w+)", statement.sql))
            plan = file.execute(f"EXPLAIN QUERY PLAN {statement.sql}", parameters)
            found[title] = "\n".join(row[3] for row in plan)
    complaints = list(used("sqlite", found, {title: i for title, (_, i) in claims.items()}))
    assert not complaints, "\n".join(complaints)


# Nothing else is sent.


HANDLERS = "tests.support.worker_handlers"


async def use(url: str) -> None:
    """Do a little of everything."""
    scheduled = asyncio.Event()

    async with TaskQueue(url) as queue:
        scheduler = TaskScheduler(queue)
        times = [ScheduledTaskTime(next_trigger_time=4_000_000_000_000)]
        await scheduler.add_task("a", times, scheduled.set)
        await scheduler.add_task("b", times, task_type="other")
        await queue.register_handler("echo", HANDLERS, "echo")
        await queue.register_handler("fail", HANDLERS, "fail")
        await queue.start()
        for kind in ("echo", "fail"):
            kept, _ = [
                await queue.create(kind, {}, retain_for=retain_for, retry_count=0)
                for retain_for in (-1, 0)
            ]
        await queue.create("other", key="k", delay=60_000)
        many = await queue.create_many([NewTask("other", retain_for=-1) for _ in range(5)])
        await scheduler.trigger_task("a")
        await scheduler.trigger_task("b")
        await scheduler.pause_task("b")
        await scheduler.resume_task("b")
        await scheduler.tasks_info()
        await scheduler.task_state("a")
        await scheduler.remove_task("b")
        await asyncio.wait_for(scheduled.wait(), 30)

        async def has_failed() -> bool:
            task = await queue.get(kept)
            return task is not None and task.status is TaskStatus.FAILED

        await eventually(has_failed)
        await queue.query("other")
        await queue.cancel(many[0])
        await queue.retry(many[0])
        await queue.remove(many[1])
        await queue.counts()
        await queue.counts("other")


async def test_nothing_else_is_sent(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a statement is sent that the golden files do not have."""
    sent: set[str] = set()

    def noting(original: Any) -> Any:
        async def note(connection: Any, sql: str, *arguments: Any, **options: Any) -> Any:
            sent.add(sql)
            return await original(connection, sql, *arguments, **options)

        return note

    name = "postgresql" if database.startswith("postgresql") else "sqlite"
    if name == "postgresql":
        for method in ("fetch", "execute"):
            original = getattr(asyncpg.Connection, method)

            monkeypatch.setattr(asyncpg.Connection, method, noting(original))
    else:

        class Noting(sqlite3.Connection):
            def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
                sent.add(sql)
                return super().execute(sql, *args)

        connect = sqlite3.connect
        monkeypatch.setattr(sqlite3, "connect", partial(connect, factory=Noting))
    await use(database)
    known = {statement.sql for statement in statements(name).values()}
    known |= {statement.sql for statement, _ in pages(name).values()}
    # SQLAlchemy asks a server for its version when it connects first.
    unknown = sent - known - SCRIPTS[name].keys() - {"BEGIN;", "ROLLBACK;"}
    assert not unknown, "\n".join(unknown)
