"""What scheduled tasks cost while nothing is due, and how late they trigger when something is."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from statistics import median, quantiles
from typing import Any
from unittest import mock

from benchmarks._counting import counted, transactions_of
from benchmarks._databases import SQLITE, fetch, fresh, kind, session
from benchmarks._report import Report
from rowlock import ScheduledTaskTime, TaskQueue, TaskScheduler
from rowlock._ids import new_id
from rowlock._instants import to_milliseconds
from rowlock._rows import NewRow
from rowlock._scheduling.calls import Function
from rowlock._scheduling.times import StoredTime
from rowlock._store.database import Operation
from rowlock._store.schedules import NewSchedule, Schedules, row_of
from rowlock._store.triggers import Advance, Triggers

_TYPE = "nothing"
_IDLE = 10_000
_DUE = 1_000
_LOOKS = 20
_DAY = timedelta(days=1)
_ROWS = "SELECT count(*) FROM rowlock_task"
# Of the row's insertion, by the clock that its instants are compared to.
_LATENESS = {
    True: "SELECT (date_modified - scheduled_for) / 1e3 FROM rowlock_task ORDER BY id",
    False: "SELECT EXTRACT(EPOCH FROM date_modified - scheduled_for)::float8 * 1000"
    " FROM rowlock_task ORDER BY id",
}


def run(server: str, arguments: argparse.Namespace, report: Report) -> bool:
    """Measure the cost of waiting, then a burst, then one schedule alone."""
    common = {"server": kind(server)}
    nodes = []
    for name, count in (("without a scheduler", 0), (f"{_IDLE:,} idle schedules", _IDLE)):
        with fresh(server) as url:
            nodes.append({"node": name, **asyncio.run(_idle(url, count, arguments.seconds))})
    report.table({"benchmark": "schedules, idle", **common}, nodes)

    bursts = []
    good = True
    for name, functions in (("half of them functions", _DUE // 2), ("all of them tasks", 0)):
        taken = []
        for _ in range(arguments.rounds):
            with fresh(server) as url:
                began, ended, called = asyncio.run(_burst(url, functions))
                taken.append((began, ended))
                ((rows,),) = asyncio.run(fetch(url, _ROWS))
                good = good and (called, rows) == (functions, _DUE - functions)
        last = [ms for _, ms in taken]
        bursts.append(
            {
                f"{_DUE:,} due at once": name,
                "first after ms, median": median(ms for ms, _ in taken),
                "last after ms, median": median(last),
                "min": min(last),
                "max": max(last),
            }
        )
    print()
    report.table({"benchmark": "schedules, burst", **common}, bursts)

    alone = []
    for name, measure in (("function", _lateness_of_calls), ("task", _lateness_of_tasks)):
        with fresh(server) as url:
            late = asyncio.run(measure(url, arguments.times))
        alone.append(
            {
                "every second, one": name,
                "times": len(late),
                "late by ms, median": median(late),
                "p99": quantiles(late, n=100, method="inclusive")[98],
                "max": max(late),
            }
        )
    print()
    report.table({"benchmark": "schedules, lateness", **common}, alone)
    print(f"each of {_DUE:,} due at once triggered {'once' if good else 'NOT ONCE'}")
    return good


async def _idle(url: str, count: int, seconds: float) -> dict[str, Any]:
    async def function() -> None: ...

    with counted() as sent:
        async with TaskQueue(url) as queue, session(url) as ask:
            await queue.register_handler(_TYPE, "benchmarks.handlers", "nothing")
            scheduler = TaskScheduler(queue) if count else None
            if scheduler is not None:
                await _fill(scheduler, count, count // 2, datetime.now(UTC) + _DAY, function)
            await queue.start()
            await asyncio.sleep(2)
            sent.clear()
            transactions = await transactions_of(url, ask)
            began, cpu = time.monotonic(), time.process_time()
            await asyncio.sleep(seconds)
            cpu = time.process_time() - cpu
            minutes = (time.monotonic() - began) / 60
            found = Counter(sent)
            transactions = await transactions_of(url, ask) - transactions
            looks = [await _look(scheduler) for _ in range(_LOOKS)] if scheduler else []
    return {
        "sent/min: scheduler": found["scheduler"] / minutes,
        "queue": found["queue"] / minutes,
        "looks at the file": found["file"] / minutes,
        "server's transactions/min": transactions / minutes,
        "CPU %": 100 * cpu / (60 * minutes),
        "one look ms": median(looks) if looks else 0.0,
    }


async def _look(scheduler: TaskScheduler) -> float:
    began = time.perf_counter()
    await scheduler._triggers.trigger_due()
    return (time.perf_counter() - began) * 1000


async def _burst(url: str, functions: int) -> tuple[float, float, int]:
    """Return after how many milliseconds the first and the last triggered, and the calls."""
    called: list[float] = []
    committed: list[float] = []
    found = 0
    advance = Triggers.advance

    async def function() -> None:
        called.append(time.time())

    async def timed(*args: Any) -> Advance:
        nonlocal found
        done = await advance(*args)
        if done.types:
            committed.append(time.time())
        found += done.found
        return done

    async with TaskQueue(url) as queue:
        scheduler = TaskScheduler(queue)
        due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=4)
        await _fill(scheduler, _DUE, functions, due, function)
        with mock.patch.object(Triggers, "advance", timed):
            await queue.start()
            async with asyncio.timeout(60):
                while found < _DUE or len(called) < functions:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
    triggered = [(instant - due.timestamp()) * 1000 for instant in called + committed]
    return min(triggered), max(triggered), len(called)


async def _lateness_of_calls(url: str, times: int) -> list[float]:
    late: list[float] = []
    enough = asyncio.Event()

    async def function(due: datetime) -> None:
        late.append((time.time() - due.timestamp()) * 1000)
        if len(late) > times:
            enough.set()

    async with TaskQueue(url) as queue:
        await TaskScheduler(queue).add_task("s", [ScheduledTaskTime(interval_seconds=1)], function)
        await queue.start()
        await enough.wait()
    return late[1:]


async def _lateness_of_tasks(url: str, times: int) -> list[float]:
    async with TaskQueue(url) as queue:
        every_second = [ScheduledTaskTime(interval_seconds=1)]
        await TaskScheduler(queue).add_task("s", every_second, task_type=_TYPE)
        await queue.start()
        # Nobody runs them, so each row is as it was inserted.
        await asyncio.sleep(times + 1.5)
    rows = await fetch(url, _LATENESS[url.startswith(SQLITE)])
    return [late for (late,) in rows[1 : times + 1]]


async def _fill(
    scheduler: TaskScheduler,
    count: int,
    functions: int,
    due: datetime,
    function: Callable[..., Any],
) -> None:
    """Add scheduled tasks as `add_task` would, but in one statement."""
    milliseconds = to_milliseconds(due)
    times = [ScheduledTaskTime(next_trigger_time=milliseconds, interval_days=1)]
    every = count // functions if functions else count + 1
    template = NewRow(new_id(), _TYPE, "null", retain_for=-1)
    new = [
        NewSchedule(f"s{n}", times, "coalesce", "allow", template if n % every else None)
        for n in range(1, count + 1)
    ]
    schedules = scheduler._schedules
    await schedules._database.transaction(_insert(schedules, new, milliseconds))
    called = Function.of("function", function)
    scheduler._triggers._functions.update({row.id: called for row in new if row.template is None})


def _insert(schedules: Schedules, new: Sequence[NewSchedule], due: int) -> Operation[None]:
    rows = [
        schedules._rows.with_times(
            row_of(row), [StoredTime(given=time, next=due) for time in row.times]
        )
        for row in new
    ]
    yield schedules._sql.insert, schedules._codec.batch([row._asdict() for row in rows])
