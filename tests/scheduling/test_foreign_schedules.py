"""Rows of scheduled tasks that this process does not understand: left alone, and left to others."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from rowlock import ScheduledTaskTime, TaskQueue, TaskScheduler
from rowlock._events import Event, ScheduleDamaged, ScheduleUnread
from rowlock._scheduling.times import NotUnderstoodError, StoredTime, read_times
from rowlock._store.schedules import Schedules
from rowlock._store.triggers import Advance, Left, Triggers
from tests.scheduling.test_schedule_storm import tasks_in
from tests.scheduling.test_schedules import MINUTE, created, next_of, state, tasks
from tests.support.helpers import eventually
from tests.support.stores import START, at, execute, open_store

DUE = int(START.timestamp() * 1000) + MINUTE


def times(given: Any = None, **more: Any) -> str:
    given = {"intervalMinutes": 1} if given is None else given
    return "times = '" + json.dumps([{"given": given, "next": DUE, **more}]) + "'"


# What a newer version, or a host with more time zones, may have written.
FOREIGN = {
    "field of a time": times({"intervalMinutes": 1, "jitter": 5}),
    "field beside it": times(anchor=5),
    "another kind of time": times({"rrule": "FREQ=DAILY"}),
    "longer interval": times({"intervalDays": 40_000}),
    "cron syntax": times({"cron": "@daily"}),
    "cron term": times({"cron": "0 0 15W * *"}),
    "zone": times({"cron": "* * * * *", "timezone": "Mars/Olympus"}),
    "misfire": "misfire = 'ask'",
    "overlap": "overlap = 'queue'",
    "option": """template = '{"priority": 3, "flavour": "new"}'""",
    "text": """template = '{"priority": "high"}'""",
    "no value": """template = '{"retain_for": null}'""",
    "large": """template = '{"retries_remaining": 2147483648}'""",
}
foreign = pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN.keys())


@asynccontextmanager
async def with_a_foreign_row(url: str, change: str) -> AsyncIterator[tuple[Schedules, Triggers]]:
    """One scheduled task that this process does not understand, and one that it does."""
    async with open_store(url) as store:
        schedules = Schedules(store.database)
        await schedules.add(tasks("foreign"), START)
        await schedules.add(tasks("own"), START)
        await execute(url, f"UPDATE rowlock_scheduled_task SET {change} WHERE id = 'foreign'")
        yield schedules, Triggers(store.database)


async def row(url: str, schedule_id: str = "foreign") -> tuple[Any, ...]:
    (found,) = await execute(
        url, f"SELECT * FROM rowlock_scheduled_task WHERE id = '{schedule_id}'"
    )
    return tuple(str(value) for value in found)


@foreign
async def test_it_is_left_as_it_is_and_does_not_keep_others_waiting(
    database: str, change: str
) -> None:
    """Fails if it is put aside; and if it is found again and again."""
    async with with_a_foreign_row(database, change) as (schedules, triggers):
        before = await row(database)
        done = await triggers.advance([], 9, at(MINUTE))
        assert [name for name, _ in done.unread] == ["foreign"]
        assert not done.damaged
        assert await row(database) == before
        assert [task.schedule_id for task in await created(schedules._database)] == ["own"]
        # It is due still, but not for this process.
        assert await triggers.next_due([], at(MINUTE)) == 60
        assert await triggers.advance([], 9, at(MINUTE)) == Advance()
        assert await Triggers(schedules._database).next_due([], at(MINUTE)) == 0


@foreign
async def test_what_is_asked_of_it_is_answered_and_destroys_nothing(
    database: str, change: str
) -> None:
    """Fails if a resume, which cannot tell the next instant, writes the row."""
    async with with_a_foreign_row(database, change) as (schedules, triggers):
        found = await state(schedules, "foreign")
        assert found.unreadable
        assert found.paused_since is None
        assert [time.next_trigger_time for time in found.times] == [DUE]
        assert (await schedules.times())["foreign"] == found.times
        assert await schedules.pause("foreign", at(5))
        paused = await row(database)
        with pytest.raises(NotUnderstoodError):
            await schedules.resume("foreign", at(10))
        assert await row(database) == paused
        # By hand it triggers where that asks for nothing else than its times.
        done = await triggers.trigger("foreign", False, at(20))
        assert bool(done.types) == (change.startswith(("times", "misfire")))
        text = "SELECT CAST(times AS TEXT) FROM rowlock_scheduled_task WHERE id = 'foreign'"
        (kept,) = await execute(database, text)
        if change.startswith("times"):
            assert f"times = '{kept[0]}'" == change
        assert (await schedules.add(tasks("foreign"), at(30))).replaced is not None
        found = await state(schedules, "foreign")
        assert (found.unreadable, found.paused_since) == (None, at(5))


async def test_it_triggers_where_it_is_understood_and_again_here(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if it is left out by its id, whatever becomes of it."""
    blind = True

    def read(text: str) -> list[StoredTime]:
        if blind:
            raise NotUnderstoodError("no zones here")
        return read_times(text)

    monkeypatch.setattr("rowlock._store.schedule_rows.read_times", read)
    async with open_store(database) as store:
        schedules = Schedules(store.database)
        here, elsewhere = Triggers(store.database), Triggers(store.database)
        await schedules.add(tasks(), START)
        assert (await here.advance([], 9, at(MINUTE))).unread == [("s", "no zones here")]
        blind = False
        # Others trigger it.
        assert await here.advance([], 9, at(MINUTE)) == Advance()
        assert (await elsewhere.advance([], 9, at(MINUTE))).types == {"t"}
        assert await next_of(schedules) == [at(2 * MINUTE)]
        # It is another row now, which is tried anew.
        assert (await here.advance([], 9, at(2 * MINUTE))).types == {"t"}


async def test_what_fails_only_here_is_left_to_others(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if an error of this process, as of files that cannot be opened, puts a row aside."""

    def broken(*args: object) -> None:
        raise OSError(24, "Too many open files")

    async with open_store(database) as store:
        schedules = Schedules(store.database)
        await schedules.add(tasks(), START)
        before = await row(database, "s")
        with monkeypatch.context() as patch:
            patch.setattr("rowlock._scheduling.plan.following", broken)
            done = await Triggers(store.database).advance([], 9, at(MINUTE))
        assert [name for name, _ in done.unread] == ["s"]
        assert await row(database, "s") == before
        assert (await Triggers(store.database).advance([], 9, at(MINUTE))).types == {"t"}


# In a process.


@asynccontextmanager
async def watched(url: str, **settings: Any) -> AsyncIterator[tuple[TaskScheduler, list[Event]]]:
    events: list[Event] = []
    async with TaskQueue(url, **settings) as queue:
        queue.runtime.events.subscribe(events.append)
        yield TaskScheduler(queue), events


async def count(url: str, task_type: str) -> int:
    ((found,),) = await execute(
        url, f"SELECT count(*) FROM rowlock_task WHERE status = 'pending' AND type = '{task_type}'"
    )
    return int(found)


def said(events: list[Event], kind: type[ScheduleUnread | ScheduleDamaged]) -> list[str]:
    return [event.schedule_id for event in events if isinstance(event, kind)]


def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    passes = 0
    advance = Triggers.advance

    async def count(self: Triggers, *args: Any) -> Advance:
        nonlocal passes
        passes += 1
        return await advance(self, *args)

    monkeypatch.setattr(Triggers, "advance", count)
    return lambda: passes


async def test_it_is_said_once_and_costs_no_looks(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if a row that is due and is not taken is looked for again at once."""
    past = ScheduledTaskTime(next_trigger_time=START.replace(year=2020), interval_minutes=1)
    passes = counted(monkeypatch)
    async with watched(database) as (scheduler, events):
        for name in ("a", "b", "c"):
            await scheduler.add_task(name, [past], task_type="t")
        await execute(database, "UPDATE rowlock_scheduled_task SET misfire = 'ask'")
        await scheduler.add_task("own", [ScheduledTaskTime(interval_seconds=1)], task_type="u")
        await scheduler._runtime.start()

        async def triggered() -> bool:
            return await count(database, "u") >= 3

        await eventually(triggered, timeout=20)
        assert sorted(said(events, ScheduleUnread)) == ["a", "b", "c"]
        assert passes() < 20
        assert not await count(database, "t")
        # Again after a while, for what is missing may be there then.
        scheduler._triggers._read_again_at = 0.0
        before = passes()
        scheduler._triggers._loop.wake()
        await eventually(lambda: passes() > before)
        await scheduler._runtime.stop()
        assert sorted(said(events, ScheduleUnread)) == ["a", "b", "c"]


async def test_a_resume_that_cannot_be_is_logged(database: str) -> None:
    async with watched(database) as (scheduler, events):
        await scheduler.add_task("s", [ScheduledTaskTime(interval_days=1)], task_type="t")
        await execute(
            database, f"UPDATE rowlock_scheduled_task SET {FOREIGN['zone']}, paused_since = NULL"
        )
        assert await scheduler.pause_task("s")
        assert await scheduler.resume_task("s") is False
        assert said(events, ScheduleUnread) == ["s"]
        info = (await scheduler.tasks_info()).model_dump_json(by_alias=True)
        assert json.loads(info) == {
            "tasks": {
                "s": [{"nextTriggerTime": DUE, "cron": "* * * * *", "timezone": "Mars/Olympus"}]
            }
        }
        found = await scheduler.task_state("s")
        assert found is not None
        assert "'Mars/Olympus' is not known here" in (found.unreadable or "")


def test_what_is_left_is_bounded() -> None:
    left = Left()
    for number in range(12_000):
        left.add(f"{number:032x}")
    assert left.is_full
    assert len(list(left)) == 10_000
    assert f"{0:032x}" not in list(left)
    left.clear()
    assert not list(left)


# What no version can have written.


@pytest.mark.parametrize(
    "damage",
    [
        "times = '5'",
        "times = '[5]'",
        """times = '[{"given":5,"next":1}]'""",
        """times = '[{"given":{"intervalDays":1},"next":"soon"}]'""",
        "times = '[null]'",
    ],
    ids=["number", "numbers", "given", "next", "null"],
)
async def test_a_damaged_row_is_paused_said_and_can_be_resumed(database: str, damage: str) -> None:
    """Fails if it is shown as if it were to trigger, or cannot be resumed."""
    time = ScheduledTaskTime(next_trigger_time=START.replace(year=2020), interval_days=1)
    async with watched(database) as (scheduler, events):
        await scheduler.add_task("s", [time], task_type="t", retain_for=-1)
        (good,) = await execute(
            database, "SELECT CAST(times AS TEXT), next_trigger FROM rowlock_scheduled_task"
        )
        await execute(database, f"UPDATE rowlock_scheduled_task SET {damage}")
        await scheduler._runtime.start()
        await eventually(lambda: said(events, ScheduleDamaged) == ["s"])
        found = await scheduler.task_state("s")
        assert found is not None
        assert isinstance(found.paused_since, datetime)
        assert (found.last_outcome, found.unreadable, found.times) == ("damaged", None, [])
        assert found.last_error is not None
        assert found.last_error.message.startswith("times")
        assert (await scheduler.tasks_info()).tasks == {"s": []}
        assert await scheduler.resume_task("s") is False
        assert await scheduler.trigger_task("s") is False
        # Mended by hand.
        await execute(database, f"UPDATE rowlock_scheduled_task SET times = '{good[0]}'")
        assert await scheduler.resume_task("s") is True
        found = await scheduler.task_state("s")
        assert found is not None
        assert (found.paused_since, found.last_outcome, found.last_error) == (None, None, None)
        assert found.times[0].next_trigger_time
        assert found.last_skip_reason == "it was paused"


async def test_what_a_version_before_has_put_aside_can_be_resumed(database: str) -> None:
    """Fails if only what is called paused can be: it stopped rows without saying so."""
    async with open_store(database) as store:
        schedules = Schedules(store.database)
        await schedules.add(tasks(), START)
        await execute(database, "UPDATE rowlock_scheduled_task SET next_trigger = NULL")
        assert await schedules.resume("s", at(3 * MINUTE))
        assert not await schedules.resume("s", at(3 * MINUTE))
        assert await next_of(schedules) == [at(3 * MINUTE)]


async def test_a_row_that_another_hand_made_due_is_paused_and_resumed(database: str) -> None:
    async with open_store(database) as store:
        schedules, triggers = Schedules(store.database), Triggers(store.database)
        await schedules.add(tasks(), START)
        earlier = schedules._codec.to_time(at(5))
        shown = f"'{earlier}'" if isinstance(earlier, datetime) else earlier
        await execute(database, f"UPDATE rowlock_scheduled_task SET next_trigger = {shown}")
        assert [name for name, _ in (await triggers.advance([], 9, at(10))).damaged] == ["s"]
        assert (await state(schedules)).paused_since == at(10)
        assert await schedules.resume("s", at(20))
        assert await next_of(schedules) == [at(MINUTE)]
        assert (await triggers.advance([], 9, at(MINUTE))).types == {"t"}


def test_time_zones_come_with_rowlock() -> None:
    """Fails if they depend on the host, where an image without them stops what names a zone."""
    with (Path(__file__).parents[2] / "pyproject.toml").open("rb") as file:
        dependencies = tomllib.load(file)["project"]["dependencies"]
    assert [name for name in dependencies if name.startswith("tzdata")] == ["tzdata"]


# Between processes.


@pytest.mark.slow
async def test_a_process_without_time_zones_leaves_them_to_others(
    database: str, tmp_path: Path
) -> None:
    """Fails where a row whose zone is not known here is put aside as damaged.

    It looks as often as the other one, and is often the first to find what is due.
    """
    (tmp_path / "tzdata").mkdir()
    (tmp_path / "tzdata" / "__init__.py").touch()
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    arguments = ["--time", '{"intervalHours": 1}', "--tasks", "1"]
    blind = subprocess.Popen(
        [sys.executable, "-m", "tests.support.schedule_node", database, str(tmp_path), *arguments],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONTZPATH": "", "PYTHONPATH": path},
    )
    names = [f"zoned-{number}" for number in range(20)]
    try:
        async with TaskQueue(database) as queue:
            scheduler = TaskScheduler(queue)
            each_second = ScheduledTaskTime(cron="* * * * * *", timezone="Europe/Berlin")
            for name in names:
                await scheduler.add_task(name, [each_second], task_type=name, misfire="catch_up")
            await eventually(lambda: list(tmp_path.glob("ready-*")), 60)
            # Only the blind one looks.
            await asyncio.sleep(3)
            assert blind.poll() is None
            states = [await scheduler.task_state(name) for name in names]
            await queue.start()

            async def all_triggered() -> bool:
                found = await tasks_in(database)
                return all(len(found.get(name, [])) >= 6 for name in names)

            await eventually(all_triggered, 60)
    finally:
        blind.terminate()
        assert blind.wait(30) == 0
    assert [state is not None and state.last_outcome for state in states] == [None] * len(names)
    found = await tasks_in(database)
    for name in names:
        instants = sorted(found[name])
        assert instants == [instants[0] + 1000 * number for number in range(len(instants))]
