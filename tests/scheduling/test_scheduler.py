"""TaskScheduler in a process: arguments, functions, starting and stopping, what others change."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rowlock import (
    InvalidArgumentError,
    QueueClosedError,
    ScheduledTaskTime,
    TaskQueue,
    TaskScheduler,
    TaskStatus,
)
from rowlock._events import Event, ScheduleFailed
from rowlock._store.triggers import Triggers
from tests.support.helpers import eventually
from tests.support.stores import execute

EVERY_SECOND = ScheduledTaskTime(interval_seconds=1)
DAILY = ScheduledTaskTime(interval_days=1)


def once(delay: float = 0.0) -> ScheduledTaskTime:
    return ScheduledTaskTime(next_trigger_time=datetime.now(UTC) + timedelta(seconds=delay))


@asynccontextmanager
async def started(url: str, **settings: Any) -> AsyncIterator[tuple[TaskQueue, TaskScheduler]]:
    async with TaskQueue(url, **settings) as queue:
        scheduler = TaskScheduler(queue)
        await queue.start()
        yield queue, scheduler


async def outcome(scheduler: TaskScheduler, task_id: str) -> str | None:
    found = await scheduler.task_state(task_id)
    return None if found is None else found.last_outcome


# Bad input.

BAD_TIMES: list[tuple[str, Any]] = [
    ("times", None),
    ("times", []),
    ("times", "daily"),
    ("times", {"intervalDays": 1}),
    ("times", 5),
    ("times", [EVERY_SECOND] * 101),
    ("times.0", [ScheduledTaskTime()]),
    ("times.0", [None]),
    ("times.0", ["daily"]),
    ("times.1", [EVERY_SECOND, ScheduledTaskTime()]),
    ("times.0.interval_days", [{"interval_days": 0}]),
    ("times.0.interval_days", [{"interval_days": -1}]),
    ("times.0.interval_hours", [{"interval_hours": 1.5}]),
    ("times.0.interval_minutes", [{"interval_minutes": math.nan}]),
    ("times.0.interval_minutes", [{"interval_minutes": math.inf}]),
    ("times.0.interval_minutes", [{"interval_minutes": 2**63}]),
    ("times.0.interval_seconds", [{"interval_seconds": 0}]),
    ("times.0.interval_seconds", [{"interval_seconds": True}]),
    ("times.0.interval_seconds", [{"interval_seconds": "1"}]),
    ("times.0.interval_seconds", [ScheduledTaskTime.model_construct(interval_seconds=0)]),
    ("times.0", [{"interval_days": 36_501}]),
    ("times.0.next_trigger_time", [{"next_trigger_time": datetime(2027, 1, 1)}]),
    ("times.0.next_trigger_time", [{"next_trigger_time": -1}]),
    ("times.0.next_trigger_time", [{"next_trigger_time": 2**60}]),
    ("times.0.next_trigger_time", [{"next_trigger_time": "2027-01-01T00:00:00Z"}]),
    ("times.0", [{"cron": "* * * *"}]),
    ("times.0", [{"cron": "61 * * * *"}]),
    ("times.0.cron", [{"cron": ""}]),
    ("times.0", [{"cron": "0 0 30 2 *"}]),
    ("times.0", [{"cron": "* * * * *", "interval_days": 1}]),
    ("times.0", [{"cron": "* * * * *", "timezone": "Mars/Olympus"}]),
    ("times.0", [{"cron": "* * * * *", "timezone": "../../etc/passwd"}]),
    ("times.0.timezone", [{"cron": "* * * * *", "timezone": ""}]),
    ("times.0", [{"cron": "* * * * *", "timezone": "localtime"}]),
    ("times.0", [{"interval_days": 1, "timezone": "UTC"}]),
    ("times.0.every", [{"every": 1}]),
]
BAD_OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("task_id", {"task_id": ""}),
    ("task_id", {"task_id": "x" * 256}),
    ("task_id", {"task_id": "a\0b"}),
    ("task_id", {"task_id": "\ud800"}),
    ("task_id", {"task_id": 5}),
    ("task_callback", {"task_callback": None}),
    ("task_callback", {"task_callback": 5}),
    ("task_callback", {"task_type": "t"}),
    ("payload", {"payload": {}}),
    ("retry_count", {"retry_count": 1}),
    ("retain_for", {"retain_for": -1}),
    ("overlap", {"overlap": "skip"}),
    ("misfire_grace", {"misfire_grace": 5000}),
    ("misfire_grace", {"misfire": "skip", "misfire_grace": 999}),
    ("misfire_grace", {"misfire": "skip", "misfire_grace": 1e6}),
    ("misfire", {"misfire": None}),
    ("overlap", {"overlap": ["skip"]}),
    ("task_type", {"task_callback": None, "task_type": ""}),
    ("payload", {"task_callback": None, "task_type": "t", "payload": math.nan}),
    ("retry_count", {"task_callback": None, "task_type": "t", "retry_count": -1}),
    ("retain_for", {"task_callback": None, "task_type": "t", "retain_for": -2}),
    ("priority", {"task_callback": None, "task_type": "t", "priority": 2**31}),
    ("delay", {"task_callback": None, "task_type": "t", "delay": 1.5}),
]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [*((name, {"times": times}) for name, times in BAD_TIMES), *BAD_OTHERS],
    ids=lambda value: ascii(value)[:40],
)
async def test_bad_arguments_are_refused_before_sql(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, name: str, arguments: dict[str, Any]
) -> None:
    async def sent(*args: object) -> None:
        raise AssertionError("SQL was sent")

    async with TaskQueue(sqlite_url) as queue:
        scheduler = TaskScheduler(queue)
        monkeypatch.setattr(queue._store.database, "transaction", sent)
        good: dict[str, Any] = {"task_id": "s", "times": [EVERY_SECOND], "task_callback": print}
        with pytest.raises(InvalidArgumentError) as info:
            await scheduler.add_task(**{**good, **arguments})
        assert str(info.value).startswith(name), str(info.value)
        assert not scheduler._triggers._functions
        if "times" in arguments:
            with pytest.raises(InvalidArgumentError):
                TaskScheduler.preview(arguments["times"])


async def test_bad_ids_are_refused_before_sql(sqlite_url: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^queue"):
        TaskScheduler(sqlite_url)  # type: ignore[arg-type]
    async with TaskQueue(sqlite_url) as queue:
        scheduler = TaskScheduler(queue)
        for call in (
            scheduler.remove_task,
            scheduler.task_state,
            scheduler.pause_task,
            scheduler.resume_task,
            scheduler.trigger_task,
        ):
            for bad in ("", "x" * 256, "a\0", None, 5):
                with pytest.raises(InvalidArgumentError, match=r"^task_id"):
                    await call(bad)  # type: ignore[arg-type]
    for count in (0, -1, 10_001, 1.0, None):
        with pytest.raises(InvalidArgumentError, match=r"^count"):
            TaskScheduler.preview([EVERY_SECOND], count)  # type: ignore[arg-type]


async def test_a_closed_queue(sqlite_url: str) -> None:
    queue = TaskQueue(sqlite_url)
    scheduler = TaskScheduler(queue)
    async with queue:
        pass
    for call in (
        scheduler.add_task("s", [EVERY_SECOND], print),
        scheduler.remove_task("s"),
        scheduler.only([], prefix=""),
        scheduler.tasks_info(),
        scheduler.task_state("s"),
        scheduler.trigger_task("s"),
    ):
        with pytest.raises(QueueClosedError):
            await call


def test_preview() -> None:
    now = datetime.now(UTC)
    seen = TaskScheduler.preview([{"cron": "0 9 * * MON-FRI", "timezone": "Europe/Berlin"}], 5)
    assert len(seen) == 5
    assert seen == sorted(seen)
    assert all(now < instant for instant in seen)
    assert {instant.weekday() for instant in seen} == {0, 1, 2, 3, 4}
    assert TaskScheduler.preview([once(-5)]) == []
    start = datetime(2100, 1, 1, tzinfo=UTC)
    time = ScheduledTaskTime(next_trigger_time=start, interval_hours=12)
    assert TaskScheduler.preview([time, time], 3) == [
        start + timedelta(hours=hours) for hours in (0, 12, 24)
    ]


# Functions.


async def test_functions_of_every_kind(database: str) -> None:
    seen: dict[str, Any] = {}

    async def coroutine() -> None:
        seen["coroutine"] = threading.current_thread()

    def function() -> None:
        seen["function"] = threading.current_thread()

    async def with_instant(due: datetime) -> None:
        seen["instant"] = due

    class Callable_:
        async def __call__(self, due: datetime) -> None:
            seen["object"] = due

    instant = once()
    async with started(database) as (_, scheduler):
        callbacks: list[Callable[..., Any]] = [coroutine, function, with_instant, Callable_()]
        for number, callback in enumerate(callbacks):
            await scheduler.add_task(str(number), [instant], callback)
        await eventually(lambda: len(seen) == 4)
        for number in range(4):

            async def ended(name: str = str(number)) -> bool:
                return await outcome(scheduler, name) == "success"

            await eventually(ended)
    assert seen["coroutine"] is threading.main_thread()
    assert seen["function"] is not threading.main_thread()
    assert seen["instant"] == seen["object"]
    assert (seen["instant"].timestamp() * 1000) == instant.next_trigger_time


class Stray(BaseException):
    """Not an Exception."""


def raising(error: BaseException, asynchronous: bool) -> Callable[[], Any]:
    def function() -> None:
        raise error

    async def coroutine() -> None:
        raise error

    return coroutine if asynchronous else function


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_what_a_function_raises_disturbs_nothing(database: str, asynchronous: bool) -> None:
    """Fails if a StopIteration or a CancelledError of a function is passed on as it is."""
    errors = [
        ValueError("no"),
        StopIteration(),
        asyncio.CancelledError(),
        Stray(),
        SystemExit(3),
        TimeoutError(),
    ]
    failed: set[str] = set()

    def note(event: Event) -> None:
        if isinstance(event, ScheduleFailed):
            failed.add(event.schedule_id)

    calls: list[int] = []
    async with started(database) as (queue, scheduler):
        queue.runtime.events.subscribe(note)
        await scheduler.add_task("good", [EVERY_SECOND], lambda: calls.append(1))
        for number, error in enumerate(errors):
            await scheduler.add_task(str(number), [once()], raising(error, asynchronous))
        names = {str(number) for number in range(len(errors))}
        await eventually(lambda: failed == names)

        async def all_failed() -> bool:
            return {await outcome(scheduler, name) for name in names} == {"failed"}

        await eventually(all_failed)
        await eventually(lambda: calls)
        found = await scheduler.task_state("0")
        assert found is not None
        assert found.last_error is not None
        assert (found.last_error.name, found.last_error.message) == ("ValueError", "no")


async def test_one_call_at_a_time(database: str) -> None:
    """Fails if what is due is taken although the function runs."""
    running = most = calls = 0
    gate = asyncio.Event()

    async def slow() -> None:
        nonlocal running, most, calls
        running, calls = running + 1, calls + 1
        most = max(most, running)
        await gate.wait()
        running -= 1

    start = datetime.now(UTC) - timedelta(seconds=3)
    time = ScheduledTaskTime(next_trigger_time=start, interval_seconds=1)
    async with started(database) as (_, scheduler):
        await scheduler.add_task("s", [time], slow, misfire="catch_up")
        await eventually(lambda: calls == 1)
        assert await scheduler.trigger_task("s") is False
        found = await scheduler.task_state("s")
        assert found is not None
        # What waits for its turn is still in the table, where another process can take it.
        assert found.times[0].next_trigger_time == int(start.timestamp() * 1000) + 1000
        gate.set()
        await eventually(lambda: calls >= 4)
    assert most == 1


async def test_by_hand_and_by_the_clock_at_once(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if a call can begin while what the clock has triggered is not yet called."""
    calls: list[datetime] = []
    taken = asyncio.Event()
    by_hand: asyncio.Task[bool] | None = None
    advance = Triggers.advance

    async def note(due: datetime) -> None:
        calls.append(due)

    async def held(self: Triggers, *args: Any) -> Any:
        done = await advance(self, *args)
        taken.set()
        while by_hand is None or not (by_hand.done() or scheduler._triggers._triggering._waiters):
            await asyncio.sleep(0)
        return done

    monkeypatch.setattr(Triggers, "advance", held)
    async with started(database) as (_, scheduler):
        await scheduler.add_task("s", [once()], note)
        await taken.wait()
        by_hand = asyncio.create_task(scheduler.trigger_task("s"))
        triggered = 1 + await by_hand
        await eventually(lambda: len(calls) == triggered)


async def test_a_function_may_remove_its_task(database: str) -> None:
    removed = asyncio.Event()
    async with started(database) as (_, scheduler):

        async def last() -> None:
            assert await scheduler.remove_task("s")
            removed.set()

        await scheduler.add_task("s", [EVERY_SECOND], last)
        await scheduler.trigger_task("s")
        await removed.wait()
        assert (await scheduler.tasks_info()).tasks == {}
        assert await scheduler.trigger_task("s") is False


# Starting and stopping.


async def test_nothing_triggers_while_the_queue_is_not_started(database: str) -> None:
    seen = asyncio.Event()

    async def note() -> None:
        seen.set()

    async with TaskQueue(database) as queue:
        scheduler = TaskScheduler(queue)
        await scheduler.add_task("c", [once()], note)
        await scheduler.add_task("t", [DAILY], task_type="t", retain_for=-1)
        with pytest.raises(QueueClosedError):
            await scheduler.trigger_task("c")
        assert await scheduler.trigger_task("t")
        assert (await queue.counts())[TaskStatus.PENDING] == 1
        assert await outcome(scheduler, "c") is None
        for _ in range(2):
            await queue.start()
            await asyncio.wait_for(seen.wait(), 10)
            await queue.stop()
            seen.clear()
            await scheduler.add_task("c", [once()], note)


async def test_stop_waits_for_calls_and_records_them(database: str) -> None:
    begun = asyncio.Event()

    async def slow() -> None:
        begun.set()
        await asyncio.sleep(0.2)

    async with TaskQueue(database) as queue:
        scheduler = TaskScheduler(queue)
        await queue.start()
        await scheduler.add_task("s", [once()], slow)
        await begun.wait()
        await queue.stop()
        assert await outcome(scheduler, "s") == "success"


@pytest.mark.parametrize("hurried", [False, True])
async def test_stop_ends_although_functions_do_not(database: str, hurried: bool) -> None:
    """Fails if a `def` runs in an executor's thread, which the process waits for."""
    begun: list[str] = []
    free = threading.Event()

    async def deaf() -> None:
        begun.append("deaf")
        while not free.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    async def long() -> None:
        begun.append("long")
        await asyncio.sleep(60)

    def blocked() -> None:
        begun.append("blocked")
        free.wait()

    queue = TaskQueue(database, stop_timeout=60_000 if hurried else 100)
    async with queue:
        scheduler = TaskScheduler(queue)
        await queue.start()
        for name, function in (("deaf", deaf), ("long", long), ("blocked", blocked)):
            await scheduler.add_task(name, [once()], function)
        await eventually(lambda: len(begun) == 3)
        before = time.monotonic()
        stopping = asyncio.ensure_future(queue.stop())
        await asyncio.sleep(0)
        if hurried:
            await queue.stop()
        await stopping
        assert time.monotonic() - before < 30
        assert await outcome(scheduler, "long") == "failed"
        free.set()
        for call in scheduler._triggers._calls._running.values():
            call.cancel()


# What others change.


@pytest.mark.parametrize("notify", [pytest.param(True, marks=pytest.mark.session), False])
async def test_what_another_process_adds_triggers_here(database: str, notify: bool) -> None:
    settings: dict[str, Any] = {"notify": notify, "poll_interval": 50 if not notify else 1000}
    async with (
        started(database, **settings) as (queue, _),
        TaskQueue(database, **settings) as other,
    ):
        await TaskScheduler(other).add_task("s", [once(0.2)], task_type="t", retain_for=-1)

        async def created() -> int:
            return (await queue.counts("t"))[TaskStatus.PENDING]

        await eventually(created, timeout=5)


async def test_a_process_runs_what_its_schedule_creates(database: str) -> None:
    async with started(database) as (queue, scheduler):
        seen: list[Any] = []
        await queue.register_handler("t", "tests.support.worker_handlers", "echo", seen.append)
        await scheduler.add_task(
            "s", [once()], task_type="t", payload={"a": 1}, retain_for=-1, retry_count=0
        )
        await eventually(lambda: seen and seen[-1].status == "success")
        assert seen[-1].schedule_id == "s"


async def test_locked_rows_are_left_to_their_holder(postgres_url: str) -> None:
    """Fails if a look waits for locks, or is repeated at once while they are held."""
    import asyncpg

    looks = 0
    async with started(postgres_url) as (queue, scheduler):
        await scheduler.add_task("held", [once(0.3)], task_type="t", retain_for=-1)
        advance = Triggers.advance

        async def counted(self: Triggers, *args: Any) -> Any:
            nonlocal looks
            looks += 1
            return await advance(self, *args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Triggers, "advance", counted)
            connection = await asyncpg.connect(postgres_url)
            async with connection.transaction():
                await connection.execute("SELECT * FROM rowlock_scheduled_task FOR UPDATE")
                await eventually(lambda: looks >= 6)
                await scheduler.add_task("free", [once()], task_type="u", retain_for=-1)

                async def created() -> int:
                    return (await queue.counts("u"))[TaskStatus.PENDING]

                await eventually(created)
                assert (await queue.counts("t"))[TaskStatus.PENDING] == 0
            await connection.close()

        async def held() -> int:
            return (await queue.counts("t"))[TaskStatus.PENDING]

        await eventually(held)
    assert looks < 200


async def test_the_database_goes_away_and_comes_back(database: str) -> None:
    """A pass that fails is repeated, and what was not recorded is recorded then."""
    async with started(database) as (_, scheduler):
        seen = asyncio.Event()

        async def note() -> None:
            seen.set()

        await execute(database, "ALTER TABLE rowlock_scheduled_task RENAME TO away")
        scheduler._triggers._loop.wake()
        await execute(database, "ALTER TABLE away RENAME TO rowlock_scheduled_task")
        await scheduler.add_task("s", [once()], note)
        await asyncio.wait_for(seen.wait(), 10)

        async def recorded() -> bool:
            return await outcome(scheduler, "s") == "success"

        await eventually(recorded)
