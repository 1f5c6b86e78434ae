"""Points at which a node ends itself, as at a power switch: `--crash claim-sent`.

Of each operation: "before" anything is sent; "sent", that is before COMMIT on SQLite, and on
PostgreSQL when the statement is on its way and nobody will read the answer; "committed", when
the answer is there and nobody has acted upon it. "start-before" is a handler that is not called,
"start-after" one that has begun, and "end-after" one that has returned.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, NoReturn

from rowlock._executors.in_loop import InLoop
from rowlock._store.attempts import Attempts
from rowlock._store.database import Operation
from rowlock._store.postgres import driver as _driver
from rowlock._store.postgres.database import PostgresDatabase
from rowlock._store.sql import Statement
from rowlock._store.sqlite.database import SqliteDatabase
from rowlock._store.sweep import Sweep
from rowlock._store.tasks import Tasks
from tests.faults import handlers
from tests.faults.ledger import Ledger

CRASHED = 9

Crash = Callable[[], NoReturn]

_sending = ContextVar("sending", default=False)

WORKER = [
    f"{operation}-{moment}"
    for operation in ("claim", "finish", "sweep")
    for moment in ("before", "sent", "committed")
]
HANDLER = ["start-before", "start-after", "end-after"]
PRODUCER = [f"create-{moment}" for moment in ("before", "sent", "committed")]

_METHODS = {
    "claim": ((PostgresDatabase, "_claim"), (SqliteDatabase, "_claim")),
    "finish": ((Attempts, "finish"),),
    "sweep": ((Sweep, "leases"),),
    "create": ((Tasks, "insert"),),
}


def arm(point: str, ledger: Ledger) -> None:
    """Have this process end at a point."""

    def crash() -> NoReturn:
        ledger.append("crash", point=point)
        os._exit(CRASHED)

    operation, _, moment = point.partition("-")
    if point == "start-before":
        _patch(InLoop, "run", lambda self, row, link: crash())
    elif operation in ("start", "end"):
        note = {"start": handlers.begin, "end": handlers.end}[operation]

        def noted() -> NoReturn:
            note()
            crash()

        _patch(handlers, note.__name__, noted)
    else:
        for owner, name in _METHODS[operation]:
            _arm_method(owner, name, moment, crash)
        if moment == "sent":
            _arm_sqlite(crash)
            _arm_postgres(crash)


def _arm_method(owner: Any, name: str, moment: str, crash: Crash) -> None:
    original = getattr(owner, name)

    async def armed(self: Any, *arguments: Any, **named: Any) -> Any:
        if moment == "before":
            crash()
        token = _sending.set(moment == "sent")
        answer = await original(self, *arguments, **named)
        _sending.reset(token)
        if moment == "committed" and has_done(answer):
            crash()
        return answer

    _patch(owner, name, armed)


def has_done(answer: Any) -> bool:
    """Whether an operation has changed anything, as its answer tells."""
    return any(answer) if isinstance(answer, tuple) else bool(answer)


def _arm_postgres(crash: Crash) -> None:
    fetch = _driver.Fetch.__call__

    async def send(self: Any, statement: Statement, parameters: Mapping[str, Any]) -> Any:
        if _sending.get() and not statement.sql.lstrip().startswith("SELECT"):
            # So that what is sent is the statement, and not yet the question what it means.
            await self.driver._get_statement(statement.sql, None)
            asyncio.get_running_loop().call_soon(crash)
        return await fetch(self, statement, parameters)

    _patch(_driver.Fetch, "__call__", send)


def _arm_sqlite(crash: Crash) -> None:
    autocommit = SqliteDatabase.autocommit

    def armed(operation: Operation[Any]) -> Operation[Any]:
        answer = yield from operation
        if has_done(answer):
            crash()
        return answer

    async def send(self: SqliteDatabase, operation: Operation[Any]) -> Any:
        return await autocommit(self, armed(operation) if _sending.get() else operation)

    _patch(SqliteDatabase, "autocommit", send)


def _patch(owner: Any, name: str, value: Any) -> None:
    setattr(owner, name, value)
