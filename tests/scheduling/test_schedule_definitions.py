"""What declares scheduled tasks: before the queue is open, by several versions, and no longer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rowlock import (
    DatabaseUnavailableError,
    InvalidArgumentError,
    QueueClosedError,
    ScheduledTaskTime,
    TaskQueue,
    TaskScheduler,
)
from rowlock._events import Event, ScheduleReplaced, ScheduleSkipped
from rowlock._store.schedules import Schedules
from rowlock._store.triggers import Triggers
from rowlock._worker.triggers import TriggerLoop
from rowlock._worker.worker import Worker
from rowlock.models import TaskStatus
from tests.scheduling.test_scheduler import DAILY, EVERY_SECOND, once, outcome
from tests.scheduling.test_schedules import MINUTE, instants, next_of, opened, state, tasks
from tests.support.helpers import eventually
from tests.support.stores import START, at, execute

HOURLY = ScheduledTaskTime(interval_hours=1)

# Instants that come too late.


async def test_instants_that_are_too_late_are_left_out(database: str) -> None:
    """Fails if `misfire="skip"` is taken for one of the others, which trigger at least once."""
    async with opened(database) as (store, schedules, triggers):
        await schedules.add(tasks(misfire="skip"), START)
        # Within the grace, which is a minute.
        assert (await triggers.advance([], 9, at(2 * MINUTE))).types == {"t"}
        late = at(9 * MINUTE + 61_000)
        done = await triggers.advance([], 9, late)
        assert (done.found, done.types) == (1, {"t"})
        # What is within it is coalesced; the next one is on the grid.
        assert await instants(store) == [at(MINUTE), at(10 * MINUTE)]
        assert await next_of(schedules) == [at(11 * MINUTE)]
        found = await state(schedules)
        assert found.last_skip_time == at(3 * MINUTE)
        assert found.last_skip_reason == "it was 421000 ms late, more than misfire_grace=60000"
        assert done.skipped == [("s", found.last_skip_reason)]


@pytest.mark.parametrize("grace", [1000, 90_000])
async def test_the_grace_decides(database: str, grace: int) -> None:
    async with opened(database) as (store, schedules, triggers):
        await schedules.add(
            tasks(times=[ScheduledTaskTime(interval_hours=1)], misfire="skip", misfire_grace=grace),
            START,
        )
        now = at(60 * MINUTE + grace)
        assert (await triggers.advance([], 9, now)).types == {"t"}
        now = at(120 * MINUTE + grace + 1)
        done = await triggers.advance([], 9, now)
        assert (done.found, done.types, len(done.skipped)) == (1, set(), 1)
        assert await instants(store) == [at(60 * MINUTE)]
        assert await next_of(schedules) == [at(180 * MINUTE)]
        found = await state(schedules)
        assert (found.misfire, found.misfire_grace) == ("skip", grace)
        assert (found.last_trigger_time, found.last_skip_time) == (
            at(60 * MINUTE),
            at(120 * MINUTE),
        )


async def test_of_several_times_each_is_skipped_by_itself(database: str) -> None:
    missed = ScheduledTaskTime(next_trigger_time=at(5))
    cron = ScheduledTaskTime(cron="*/5 * * * *")
    async with opened(database) as (store, schedules, triggers):
        await schedules.add(tasks(times=[missed, cron], misfire="skip"), START)
        now = START + timedelta(minutes=15, seconds=20)
        done = await triggers.advance([], 9, now)
        assert (len(done.skipped), done.types) == (1, {"t"})
        assert await instants(store) == [START + timedelta(minutes=15)]
        assert await next_of(schedules) == [None, START + timedelta(minutes=20)]
        assert await triggers.next_due([], now) == 280


async def test_a_function_is_not_called_for_what_is_too_late(database: str) -> None:
    seen: list[Event] = []
    calls: list[datetime] = []
    past = datetime.now(UTC) - timedelta(minutes=10)
    time = ScheduledTaskTime(next_trigger_time=past, interval_hours=1)
    async with TaskQueue(database) as queue:
        queue.runtime.events.subscribe(seen.append)
        scheduler = TaskScheduler(queue)
        await scheduler.add_task(
            "s",
            [time],
            lambda due: calls.append(due),
            misfire="skip",
            misfire_grace=timedelta(minutes=5),
        )
        await queue.start()
        await eventually(lambda: any(isinstance(event, ScheduleSkipped) for event in seen))
        found = await scheduler.task_state("s")
        assert found is not None
        assert found.last_skip_time is not None
        assert abs(found.last_skip_time - past) < timedelta(milliseconds=1)
        assert '"misfireGrace":300000' in found.model_dump_json(by_alias=True)
        assert (found.last_trigger_time, calls) == (None, [])
        # Other graces make it another definition, and the same one does not.
        before = await execute(database, "SELECT token FROM rowlock_scheduled_task")
        for grace, same in ((300_000, True), (60_000, False)):
            await scheduler.add_task("s", [time], print, misfire="skip", misfire_grace=grace)
            after = await execute(database, "SELECT token FROM rowlock_scheduled_task")
            assert (before == after) is same


# Two versions of an application.


@asynccontextmanager
async def versions(
    url: str, **settings: Any
) -> AsyncIterator[Sequence[tuple[TaskScheduler, list[str]]]]:
    """Two processes, and what each says of definitions that are replaced."""
    async with TaskQueue(url, **settings) as first, TaskQueue(url, **settings) as second:
        both: list[tuple[TaskScheduler, list[str]]] = []
        for queue in (first, second):
            said: list[str] = []

            def note(event: Event, said: list[str] = said) -> None:
                if isinstance(event, ScheduleReplaced):
                    said.append(f"{event.schedule_id}: {event.whose} ({event.differs})")

            queue.runtime.events.subscribe(note)
            both.append((TaskScheduler(queue), said))
        yield both


@pytest.mark.session
async def test_both_versions_say_that_a_definition_is_replaced(
    database: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if it is said nowhere, or by the one that replaces only."""
    monkeypatch.setattr("rowlock._worker.call_outcomes._COMPARE", 0.05)
    caplog.set_level(logging.WARNING, "rowlock.schedule")
    async with versions(database) as ((old, old_said), (new, new_said)):
        await old._runtime.start()
        await old.add_task("s", [HOURLY], task_type="t")
        await old.add_task("same", [HOURLY], task_type="t")
        await new.add_task("same", [HOURLY], task_type="t")
        await new.add_task("s", [DAILY], task_type="t", priority=3)
        assert new_said == ["s: replaced what another process had added (times, priority)"]
        await eventually(lambda: old_said)
        assert old_said == ["s: another process has replaced it (times, priority)"]
        # It is back, and forth.
        await old.add_task("s", [HOURLY], task_type="t")
        await new.add_task("s", [DAILY], task_type="t", priority=3)
        assert len(old_said) == len(new_said) == 2
    records = [record for record in caplog.records if "version" in record.getMessage()]
    assert {(record.name, record.levelname) for record in records} == {
        ("rowlock.schedule", "WARNING")
    }


async def test_it_is_seen_without_a_hint_when_it_triggers_and_once(database: str) -> None:
    async with versions(database, notify=False, poll_interval=50) as (
        (old, old_said),
        (new, _),
    ):
        calls: list[int] = []
        await old.add_task("s", [HOURLY], lambda: calls.append(1))
        await new.add_task("s", [EVERY_SECOND], print)
        await old._runtime.start()
        await eventually(lambda: len(calls) >= 2)
        assert old_said == ["s: another process has replaced it (times)"]


async def test_what_a_process_changes_of_its_own_is_no_matter(database: str) -> None:
    """Fails if each change by `add_task` is taken for a conflict."""
    async with versions(database) as ((first, said), _):
        for time in (HOURLY, DAILY, HOURLY):
            await first.add_task("s", [time], task_type="t")
        await first.add_task("s", [HOURLY], print)
        await first.remove_task("s")
        await first.add_task("s", [DAILY], task_type="t", payload={"a": 1})
        await first.pause_task("s")
        await first.resume_task("s")
        await first.add_task("s", [DAILY], task_type="t", payload={"a": 1})
        assert said == []


async def test_the_usual_pass_asks_nothing_more(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if definitions are compared in each pass."""
    looks = passes = 0
    rows, next_due = Schedules.rows, Triggers.next_due

    async def looked(self: Schedules, ids: Any) -> Any:
        nonlocal looks
        looks += 1
        return await rows(self, ids)

    async def passed(self: Triggers, *args: Any) -> Any:
        nonlocal passes
        passes += 1
        return await next_due(self, *args)

    monkeypatch.setattr("rowlock._worker.call_outcomes._COMPARE", 3600)
    monkeypatch.setattr(Schedules, "rows", looked)
    monkeypatch.setattr(Triggers, "next_due", passed)
    async with TaskQueue(database) as queue:
        scheduler = TaskScheduler(queue)
        await scheduler.add_task("s", [EVERY_SECOND], task_type="t", retain_for=-1)
        await queue.start()
        await eventually(lambda: passes >= 6)
    # After the hint of the add; on SQLite each write is one.
    assert looks <= 1


# What is no longer declared.


async def test_only_what_is_declared_is_kept(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "rowlock.schedule")
    async with TaskQueue(database) as queue:
        scheduler = TaskScheduler(queue)
        for name in ("a.1", "a.2", "a.3", "a", "ab.1", "b.1", "A.1", "a%1", "ä.1"):
            await scheduler.add_task(name, [DAILY], print)
        assert await scheduler.only(["a.1", "a.9"], prefix="a.") == ["a.2", "a.3"]
        assert await scheduler.only(iter(["a.1"]), prefix="a.") == []
        assert "a.2, a.3" in caplog.messages[-1]
        assert set(scheduler._triggers._functions) == {
            "a.1",
            "a",
            "ab.1",
            "b.1",
            "A.1",
            "a%1",
            "ä.1",
        }
        assert await scheduler.only([], prefix="a%") == ["a%1"]
        assert await scheduler.only([], prefix="ä") == ["ä.1"]
        left = ["A.1", "a", "a.1", "ab.1", "b.1"]
        assert sorted((await scheduler.tasks_info()).tasks) == left
        assert await scheduler.only(["b.1"], prefix="") == left[:-1]
        assert list((await scheduler.tasks_info()).tasks) == ["b.1"]


async def test_only_refuses_what_it_is_not_told(sqlite_url: str) -> None:
    """Fails if a missing prefix is taken for all, which another application may have added."""
    async with TaskQueue(sqlite_url) as queue:
        scheduler = TaskScheduler(queue)
        await scheduler.add_task("s", [DAILY], print)
        with pytest.raises(TypeError):
            await scheduler.only([])  # type: ignore[call-arg]
        bad: list[tuple[str, Any, Any]] = [
            ("ids", "s", ""), ("ids", None, ""), ("ids", [""], ""), ("ids", [5], ""),
            ("ids", {"s": 1}, ""), ("prefix", [], None), ("prefix", [], 5), ("prefix", [], "\0"),
        ]  # fmt: skip
        for name, ids, prefix in bad:
            with pytest.raises(InvalidArgumentError, match=f"^{name}"):
                await scheduler.only(ids, prefix=prefix)
        assert list((await scheduler.tasks_info()).tasks) == ["s"]


# Before the queue is open, and while it stops.


async def test_what_is_added_before_is_written_when_the_queue_opens(database: str) -> None:
    """Fails if `add_task` needs an open queue, so that a factory cannot add anything."""
    queue = TaskQueue(database)
    scheduler = TaskScheduler(queue)
    seen: list[datetime] = []
    await scheduler.add_task("replaced", [DAILY], task_type="t")
    await scheduler.add_task("replaced", [once()], task_type="u", retain_for=-1)
    await scheduler.add_task("called", [once()], lambda due: seen.append(due))
    with pytest.raises(InvalidArgumentError, match=r"^times"):
        await scheduler.add_task("bad", [], print)
    with pytest.raises(QueueClosedError):
        await scheduler.tasks_info()
    async with queue:
        assert list((await scheduler.tasks_info()).tasks) == ["called", "replaced"]
        assert await execute(database, "SELECT count(*) FROM rowlock_scheduled_task") == [(2,)]
        assert not seen
        await queue.start()
        await eventually(lambda: seen)

        async def made() -> bool:
            return (await queue.counts("u"))[TaskStatus.PENDING] == 1

        await eventually(made)
        assert await outcome(scheduler, "replaced") == "created"
    # With the queue it is closed, and nothing is kept that might never be written.
    with pytest.raises(QueueClosedError):
        await scheduler.add_task("late", [DAILY], print)
    async with queue:
        assert list((await scheduler.tasks_info()).tasks) == ["called", "replaced"]


async def test_an_error_of_the_database_is_one_of_open(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if the queue stays open, or what was kept is lost with the error."""
    queue = TaskQueue(database)
    scheduler = TaskScheduler(queue)
    for name in ("a", "b"):
        await scheduler.add_task(name, [DAILY], print)
    add = Schedules.add

    async def broken(self: Schedules, new: Any, *args: Any) -> Any:
        if new.id == "b":
            raise DatabaseUnavailableError("gone")
        return await add(self, new, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Schedules, "add", broken)
        with pytest.raises(DatabaseUnavailableError, match="gone"):
            await queue.open()
        with pytest.raises(QueueClosedError):
            await queue.counts()
    await scheduler.add_task("c", [DAILY], print)
    async with queue:
        assert list((await scheduler.tasks_info()).tasks) == ["a", "b", "c"]


async def test_what_was_stored_meanwhile_is_not_overwritten_by_what_was_kept(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = TaskQueue(database)
    scheduler = TaskScheduler(queue)
    await scheduler.add_task("a", [DAILY], print)
    await scheduler.add_task("b", [DAILY], print)
    add = Schedules.add

    async def held(self: Schedules, new: Any, *args: Any) -> Any:
        if new.id == "a":
            monkeypatch.setattr(Schedules, "add", add)
            await scheduler.add_task("b", [HOURLY], print)
        return await add(self, new, *args)

    monkeypatch.setattr(Schedules, "add", held)
    async with queue:
        info = await scheduler.tasks_info()
        assert info.tasks["b"][0].interval_hours == 1


async def test_a_scheduler_made_while_the_queue_stops_waits_for_the_next_start(
    database: str,
) -> None:
    """Fails if it is started then, and triggers in a queue that has stopped."""
    gate, begun = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        begun.set()
        await gate.wait()

    calls: list[datetime] = []
    async with TaskQueue(database) as queue:
        await queue.start()
        await TaskScheduler(queue).add_task("slow", [once()], slow)
        await begun.wait()
        stopping = asyncio.ensure_future(queue.stop())
        await eventually(lambda: queue.runtime.worker is not None and queue.runtime.worker.stopping)
        late = TaskScheduler(queue)
        await late.add_task("late", [once()], lambda due: calls.append(due))
        assert not late._triggers._started
        gate.set()
        await stopping
        assert await outcome(late, "late") is None
        await queue.start()
        await eventually(lambda: calls)


async def test_a_scheduler_that_is_made_while_the_queue_starts_is_started_once(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where it is started by whoever makes it, and again by the start."""
    starts: list[object] = []
    start, begin = TriggerLoop.start, Worker.start

    def counted(loop: TriggerLoop) -> None:
        starts.append(loop)
        start(loop)

    async def making(worker: Worker, handlers: Any) -> None:
        TaskScheduler(queue)
        await begin(worker, handlers)

    monkeypatch.setattr(TriggerLoop, "start", counted)
    monkeypatch.setattr(Worker, "start", making)
    async with TaskQueue(database) as queue:
        await queue.start()
        assert len(starts) == 1
