"""One node of the storm: `python -m tests.support.schedule_node DATABASE DIRECTORY …`.

It adds scheduled tasks, tells by a file in the directory that it has, triggers until SIGTERM,
and drains. `--variant` breaks rowlock in this process; `--crash` ends it in the midst of a trigger.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from rowlock import DatabaseUnavailableError, ScheduledTaskTime, TaskQueue, TaskScheduler
from rowlock._instants import to_milliseconds
from rowlock._scheduling.calls import Calls
from rowlock._store.database import Operation, T
from rowlock._store.schedule_rows import ScheduleRowStatements
from rowlock._store.schedules import Added, NewSchedule, Schedules
from rowlock._store.sql import Dialect, Statement
from rowlock._store.triggers import Advance, Triggers, TriggerStatements
from tests.support.stores import operation

CRASHED = 9


def names(kind: str, count: int) -> list[str]:
    """The ids of the scheduled tasks of a kind, "task" or "call"."""
    return [f"{kind}-{number:03}" for number in range(count)]


def recorder(history: int, name: str) -> Callable[[datetime], Awaitable[None]]:
    """A function that first of all records its call, in one write."""

    async def record(due: datetime) -> None:
        line = f"{name} {to_milliseconds(due)} {os.getpid()} {time.time()}\n"
        os.write(history, line.encode())

    return record


async def run(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    history = os.open(arguments.directory / "history", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    times = [ScheduledTaskTime.model_validate_json(arguments.time)]
    async with TaskQueue(arguments.database) as queue:
        scheduler = TaskScheduler(queue)
        await queue.start()
        for name in names("task", arguments.tasks):
            await scheduler.add_task(name, times, task_type="t", retain_for=-1, misfire="catch_up")
        for name in names("call", arguments.calls):
            await scheduler.add_task(name, times, recorder(history, name), misfire="catch_up")
        # Renamed, so that who sees it sees what it says.
        ready = arguments.directory / f"ready-{os.getpid()}"
        ready.with_suffix(".new").write_text(str(time.time()))
        ready.with_suffix(".new").rename(ready)
        await stop.wait()
        await queue.stop()


# The broken variants.


def no_compare_and_set() -> None:
    """Read the due rows without a lock, before the transaction; write whatever the token is."""
    build, build_rows = TriggerStatements.__init__, ScheduleRowStatements.__init__

    def unlocked(self: TriggerStatements, dialect: Dialect) -> None:
        build(self, dialect)
        self.due.sql = self.due.sql.replace(" FOR UPDATE SKIP LOCKED", "")

    def uncompared(self: ScheduleRowStatements, dialect: Dialect) -> None:
        build_rows(self, dialect)
        write, found, compared = self.write.sql.partition(" AND rowlock_scheduled_task.token = ")
        assert found
        table = compared.partition(".token ")[2]
        self.write.sql = f"{write} {table}"

    add, original = Schedules.add, Triggers.advance

    async def persist(self: Schedules, new: NewSchedule, now: datetime | None = None) -> Added:
        # Writes that have not locked their rows before lock them in any order.
        while True:
            with suppress(DatabaseUnavailableError):
                return await add(self, new, now)

    async def advance(
        self: Triggers,
        ours: Iterable[str],
        limit: int,
        now: datetime | None = None,
        rooms: Sequence[tuple[Iterable[str], int]] = (),
    ) -> Advance:
        advancing = operation(original.__get__(self), ours, limit, now, rooms)
        rows = await self._database.read(one(*next(advancing)))
        return await self._database.transaction(rest(advancing, rows))

    patch(TriggerStatements, "__init__", unlocked)
    patch(ScheduleRowStatements, "__init__", uncompared)
    patch(Schedules, "add", persist)
    patch(Triggers, "advance", advance)


def one(statement: Statement, parameters: Mapping[str, Any]) -> Operation[Sequence[Any]]:
    return (yield statement, parameters)


def rest(begun: Operation[T], rows: Sequence[Any]) -> Operation[T]:
    try:
        request = begun.send(rows)
        while True:
            request = begun.send((yield request))
    except StopIteration as stop:
        value: T = stop.value
        return value


def two_transactions() -> None:
    """Commit the advance by itself, and insert its tasks in another transaction."""
    original, create = Triggers.advance, Triggers._create
    later: list[tuple[Sequence[Any], Any]] = []

    def postpone(self: Triggers, tasks: Sequence[Any], now: Any) -> Operation[None]:
        later.append((tasks, now))
        return
        yield

    async def advance(
        self: Triggers,
        ours: Iterable[str],
        limit: int,
        now: datetime | None = None,
        rooms: Sequence[tuple[Iterable[str], int]] = (),
    ) -> Advance:
        done = await original(self, ours, limit, now, rooms)
        while later:
            await self._database.transaction(create(self, *later.pop()))
        return done

    patch(Triggers, "_create", postpone)
    patch(Triggers, "advance", advance)


def crash_before_tasks() -> None:
    """End when the advance is written, in whichever transaction, and its tasks are not."""

    def end(self: Triggers, tasks: Sequence[Any], now: Any) -> Operation[None]:
        if tasks:
            os._exit(CRASHED)
        return
        yield

    patch(Triggers, "_create", end)


def crash_before_calls() -> None:
    """End when the trigger is committed and no function is called yet."""

    def end(*arguments: object) -> None:
        os._exit(CRASHED)

    patch(Calls, "start", end)


def patch(owner: type, name: str, value: object) -> None:
    setattr(owner, name, value)


CRASHES = {"before-tasks": crash_before_tasks, "before-calls": crash_before_calls}
VARIANTS = {"no-compare-and-set": no_compare_and_set, "two-transactions": two_transactions}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.schedule_node")
    parser.add_argument("database")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--time", required=True, help="a ScheduledTaskTime as JSON")
    parser.add_argument("--tasks", type=int, default=0)
    parser.add_argument("--calls", type=int, default=0)
    parser.add_argument("--variant", choices=VARIANTS)
    parser.add_argument("--crash", choices=CRASHES)
    arguments = parser.parse_args()
    # First, so that a variant moves the crash with what it moves.
    if arguments.crash is not None:
        CRASHES[arguments.crash]()
    if arguments.variant is not None:
        VARIANTS[arguments.variant]()
    asyncio.run(run(arguments))


if __name__ == "__main__":
    main()
