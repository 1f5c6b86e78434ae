"""Points at which a node ends itself, as at a power switch: `--crash claim-sent`.

Of each operation: "before" anything is sent; "sent", that is before COMMIT on SQLite, and on
PostgreSQL when the statement is on its way and nobody will read the answer; "committed", when
the answer is there and nobody has acted upon it. "start-before" is a handler that is not called,
"start-after" one that has begun, and "end-after" one that has returned.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Generator, Mapping
from contextvars import ContextVar
from typing import Any, NoReturn

from rowlock._executors.base import InLoop
from rowlock._store.postgres import connections as _connections
from rowlock._store.postgres.database import PostgresStore
from rowlock._store.sqlite.database import SqliteStore
from rowlock._store.statements import Statement
from rowlock._store.store import Store
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
    "claim": ("claim", (PostgresStore, SqliteStore)),
    "finish": ("finish", (Store,)),
    "sweep": ("sweep", (Store,)),
    "create": ("insert", (PostgresStore, Store)),
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
        name, stores = _METHODS[operation]
        for store in stores:
            _arm_method(store, name, moment, crash)
        if moment == "sent":
            _arm_sqlite(f"_{name}", crash)
            _arm_postgres(crash)


def _arm_method(store: Any, name: str, moment: str, crash: Crash) -> None:
    original = getattr(store, name)

    async def armed(self: Store, *arguments: Any, **named: Any) -> Any:
        if moment == "before":
            crash()
        token = _sending.set(moment == "sent")
        answer = await original(self, *arguments, **named)
        _sending.reset(token)
        if moment == "committed" and has_done(answer):
            crash()
        return answer

    _patch(store, name, armed)


def has_done(answer: Any) -> bool:
    """Whether an operation has changed anything, as its answer tells."""
    return any(answer) if isinstance(answer, tuple) else bool(answer)


def _arm_postgres(crash: Crash) -> None:
    fetch = _connections.Fetch.__call__

    async def send(self: Any, statement: Statement, parameters: Mapping[str, Any]) -> Any:
        if _sending.get() and not statement.sql.lstrip().startswith("SELECT"):
            # So that what is sent is the statement, and not yet the question what it means.
            await self.driver._get_statement(statement.sql, None)
            asyncio.get_running_loop().call_soon(crash)
        return await fetch(self, statement, parameters)

    _patch(_connections.Fetch, "__call__", send)


def _arm_sqlite(name: str, crash: Crash) -> None:
    original = getattr(SqliteStore, name)

    def armed(*arguments: Any, **named: Any) -> Generator[Any, Any, Any]:
        answer = yield from original(*arguments, **named)
        if has_done(answer):
            crash()
        return answer

    _patch(SqliteStore, name, armed)


def _patch(owner: Any, name: str, value: Any) -> None:
    setattr(owner, name, value)
