"""Scheduled tasks in the database: what triggers when, what is kept, what one row can spoil."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rowlock._rows import KEEP_IF_FAILED
from rowlock._store.database import Database, Operation
from rowlock._store.paging import Pages
from rowlock._store.schedules import NewSchedule, Schedules
from rowlock._store.store import Store
from rowlock._store.triggers import CATCH_UP, Advance, CallOutcome, Trigger, Triggers
from rowlock.models import (
    SortDirection,
    SortProperty,
    Task,
)
from rowlock.schedule_models import ScheduledTaskState, ScheduledTaskTime
from tests.support.stores import START, at, execute, new_row, open_store

MINUTE = 60_000
EVERY_MINUTE = ScheduledTaskTime(interval_minutes=1)
DAILY = ScheduledTaskTime(interval_days=1)


def tasks(
    schedule_id: str = "s",
    times: Sequence[ScheduledTaskTime] = (EVERY_MINUTE,),
    *,
    misfire: str = "coalesce",
    misfire_grace: int | None = None,
    overlap: str = "allow",
    **row: Any,
) -> NewSchedule:
    """A scheduled task that creates tasks of type "t"."""
    template = new_row(run_at=None, **row)
    return NewSchedule(schedule_id, times, misfire, overlap, template, misfire_grace)


def calls(
    schedule_id: str = "s",
    times: Sequence[ScheduledTaskTime] = (EVERY_MINUTE,),
    *,
    misfire: str = "coalesce",
) -> NewSchedule:
    """A scheduled task that calls a function."""
    return NewSchedule(schedule_id, times, misfire, "allow", None)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[Store, Schedules, Triggers]]:
    async with open_store(url) as store:
        yield store, Schedules(store.database), Triggers(store.database)


async def state(schedules: Schedules, schedule_id: str = "s") -> ScheduledTaskState:
    found = await schedules.state(schedule_id)
    assert found is not None
    return found


async def next_of(schedules: Schedules, schedule_id: str = "s") -> list[datetime | None]:
    return [
        None
        if time.next_trigger_time is None
        else datetime.fromtimestamp(time.next_trigger_time / 1000, UTC)
        for time in (await state(schedules, schedule_id)).times
    ]


async def created(store: Store | Database) -> list[Task]:
    database = store.database if isinstance(store, Store) else store
    page = await Pages(database).page(
        None, None, SortProperty.DATE_CREATED, SortDirection.ASCENDING, None, 500
    )
    return page.entities


async def instants(store: Store) -> list[datetime | None]:
    return [task.scheduled_for for task in await created(store)]


# Adding.


async def test_the_first_instant_is_an_interval_from_now_or_the_one_given(database: str) -> None:
    async with opened(database) as (_, schedules, triggers):
        given = ScheduledTaskTime(next_trigger_time=at(5), interval_days=1)
        assert (await schedules.add(calls(times=[EVERY_MINUTE, given, DAILY]), START)).changed
        assert await next_of(schedules) == [at(MINUTE), at(5), at(24 * 60 * MINUTE)]
        assert await triggers.next_due(["s"], START) == 0.005
        assert await triggers.next_due(["s"], at(5)) == 0


async def test_the_same_times_keep_their_instants_and_others_replace_them(database: str) -> None:
    async with opened(database) as (_, schedules, _):
        await schedules.add(tasks(times=[DAILY, EVERY_MINUTE]), START)
        kept = await next_of(schedules)
        assert not (await schedules.add(tasks(times=[DAILY, EVERY_MINUTE]), at(30_000))).changed
        assert await next_of(schedules) == kept
        changed = await schedules.add(tasks(times=[DAILY, EVERY_MINUTE], priority=7), at(30_000))
        assert changed.changed
        assert await next_of(schedules) == kept
        assert (await schedules.add(tasks(times=[EVERY_MINUTE, DAILY]), at(30_000))).changed
        assert await next_of(schedules) == [at(90_000), at(24 * 60 * MINUTE + 30_000)]


async def test_a_one_off_that_has_triggered_stays_so(database: str) -> None:
    once = ScheduledTaskTime(next_trigger_time=at(5))
    async with opened(database) as (store, schedules, triggers):
        await schedules.add(tasks(times=[once]), START)
        for now in (at(5), at(6)):
            await triggers.advance([], 9, now)
        assert not (await schedules.add(tasks(times=[once]), at(7))).changed
        assert await triggers.next_due(["s"], at(8)) is None
        assert await instants(store) == [at(5)]
        assert (await schedules.times())["s"] == [ScheduledTaskTime()]


async def test_what_it_does_is_changed_with_the_next_add(database: str) -> None:
    async with opened(database) as (store, schedules, triggers):
        await schedules.add(calls(), START)
        await schedules.add(tasks(payload='{"a":1}', priority=3, retain_for=5, delay=10), START)
        done = await triggers.advance([], 9, at(MINUTE))
        (task,) = await created(store)
        assert done == Advance(found=1, types={"t"})
        assert (task.type, task.payload, task.priority, task.run_at) == (
            "t", {"a": 1}, 3, at(MINUTE + 10),
        )  # fmt: skip
        assert (task.schedule_id, task.scheduled_for) == ("s", at(MINUTE))
        assert (task.status, task.thread_id, task.attempt) == ("pending", "0", 0)
        (row,) = await store.database.claim("w", {"t": 1}, 1000, at(MINUTE + 10))
        assert row.retain_for == 5
        await schedules.add(calls(), START)
        assert (await state(schedules)).task_type is None


async def test_many_add_the_same_at_once(database: str) -> None:
    async with opened(database) as (_, first, _), opened(database) as (_, second, _):
        for name in map(str, range(20)):
            changed = await asyncio.gather(
                *(schedules.add(tasks(name), START) for schedules in (first, second) * 3)
            )
            assert sorted(added.changed for added in changed) == [False] * 5 + [True]


async def test_it_stays_paused_and_keeps_its_history_when_it_is_added_again(database: str) -> None:
    async with opened(database) as (_, schedules, triggers):
        await schedules.add(tasks(), START)
        await triggers.advance([], 9, at(MINUTE))
        before = await state(schedules)
        assert before.last_trigger_time == at(MINUTE)
        assert await schedules.pause("s", at(MINUTE))
        for times in ([EVERY_MINUTE], [DAILY]):
            await schedules.add(tasks(times=times), at(MINUTE + 1))
            after = await state(schedules)
            assert after.paused_since == at(MINUTE)
            assert after.last_task_id == before.last_task_id
            assert await triggers.next_due(["s"], at(10 * MINUTE)) is None


# Triggering.


@pytest.mark.parametrize("kind", [tasks, calls])
async def test_it_stays_on_the_grid(database: str, kind: Any) -> None:
    async with opened(database) as (_, schedules, triggers):
        await schedules.add(kind(), START)
        for number in range(1, 4):
            late = at(number * MINUTE + 777 * number)
            assert (await triggers.advance(["s"], 9, late)).found == 1
            assert (await triggers.advance(["s"], 9, late)).found == 0
            assert (await state(schedules)).last_trigger_time == at(number * MINUTE)
            assert await next_of(schedules) == [at((number + 1) * MINUTE)]


async def test_missed_instants_are_coalesced(database: str) -> None:
    async with opened(database) as (store, schedules, triggers):
        await schedules.add(tasks(), START)
        await triggers.advance([], 9, at(5 * MINUTE))
        assert await instants(store) == [at(MINUTE)]
        assert await next_of(schedules) == [at(6 * MINUTE)]


async def test_missed_instants_are_caught_up_in_bounded_steps(database: str) -> None:
    missed = CATCH_UP + 7
    async with opened(database) as (store, schedules, triggers):
        await schedules.add(tasks(misfire="catch_up"), START)
        now = at(missed * MINUTE)
        assert [(await triggers.advance([], 9, now)).found for _ in range(3)] == [1, 1, 0]
        assert await instants(store) == [at(n * MINUTE) for n in range(1, missed + 1)]


async def test_a_function_catches_up_one_by_one(database: str) -> None:
    async with opened(database) as (_, schedules, triggers):
        await schedules.add(calls(misfire="catch_up"), START)
        due = []
        while (done := await triggers.advance(["s"], 9, at(3 * MINUTE))).found:
            due += done.triggers
        assert due == [Trigger("s", at(number * MINUTE)) for number in (1, 2, 3)]


async def test_times_of_one_task_trigger_independently(database: str) -> None:
    other = ScheduledTaskTime(next_trigger_time=at(MINUTE), interval_minutes=2)
    async with opened(database) as (store, schedules, triggers):
        await schedules.add(tasks(times=[EVERY_MINUTE, other]), START)
        await triggers.advance([], 9, at(MINUTE))
        assert await instants(store) == [at(MINUTE)] * 2
        assert await next_of(schedules) == [at(2 * MINUTE), at(3 * MINUTE)]


async def test_a_function_triggers_only_where_it_was_added(database: str) -> None:
    async with opened(database) as (_, schedules, triggers):
        await schedules.add(calls("mine"), START)
        await schedules.add(calls("other"), START)
        now = at(MINUTE)
        assert await triggers.next_due([], now) is None
        assert (await triggers.advance([], 9, now)).found == 0
        assert (await triggers.advance(["mine"], 9, now)).triggers == [Trigger("mine", now)]
        assert await triggers.next_due(["other"], now) == 0


async def test_a_batch_is_bounded(database: str) -> None:
    async with opened(database) as (store, schedules, triggers):
        for name in "abcde":
            await schedules.add(tasks(name), START)
        assert [(await triggers.advance([], 2, at(MINUTE))).found for _ in range(4)] == [
            2,
            2,
            1,
            0,
        ]
        assert len(await created(store)) == 5


async def test_nodes_that_look_at_once_trigger_once(database: str) -> None:
    """Fails if the due rows are read without a lock and written without a compare-and-set."""
    async with opened(database) as (store, first, one), opened(database) as (_, _, other):
        names = [f"{number:02}" for number in range(30)]
        for name in names:
            await first.add(tasks(name) if int(name) % 2 else calls(name), START)
        called: list[Trigger] = []
        for number in range(1, 6):
            done = await asyncio.gather(
                *(node.advance(names, 100, at(number * MINUTE)) for node in (one, other) * 3)
            )
            called += [trigger for advance in done for trigger in advance.triggers]
        assert len(set(called)) == len(called) == 15 * 5
        found = [(task.schedule_id, task.scheduled_for) for task in await created(store)]
        assert len(set(found)) == len(found) == 15 * 5


async def test_a_row_that_changed_is_not_written(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if the write does not compare the token."""
    async with opened(database) as (store, schedules, triggers):
        await schedules.add(tasks("a"), START)
        await schedules.add(tasks("b"), START)
        advanced = Triggers._advanced

        def meanwhile(self: Triggers, row: Any, *args: Any) -> Any:
            return advanced(self, row._replace(token="f" * 32) if row.id == "a" else row, *args)

        monkeypatch.setattr(Triggers, "_advanced", meanwhile)
        await triggers.advance([], 9, at(MINUTE))
        assert [task.schedule_id for task in await created(store)] == ["b"]
        assert await next_of(schedules, "a") == [at(MINUTE)]


async def test_no_task_no_advance(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails if the advance is committed before the tasks are inserted."""

    def broken(self: Triggers, tasks: Sequence[Any], now: Any) -> Operation[None]:
        raise ZeroDivisionError
        yield

    async with opened(database) as (store, schedules, triggers):
        await schedules.add(tasks(), START)
        with monkeypatch.context() as patch:
            patch.setattr(Triggers, "_create", broken)
            with pytest.raises(ZeroDivisionError):
                await triggers.advance([], 9, at(MINUTE))
        assert await next_of(schedules) == [at(MINUTE)]
        # A server may take a moment to see that the connection has gone, and passes locks by.
        async with asyncio.timeout(10):
            while not (await triggers.advance([], 9, at(MINUTE))).found:
                await asyncio.sleep(0.01)
        assert await instants(store) == [at(MINUTE)]


# The overlap rule.


async def test_a_task_is_left_out_while_the_last_one_has_not_ended(database: str) -> None:
    async with opened(database) as (store, schedules, triggers):
        await schedules.add(tasks(overlap="skip"), START)
        await triggers.advance([], 9, at(MINUTE))
        (first,) = await created(store)
        await triggers.advance([], 9, at(2 * MINUTE))
        await store.database.claim("w", {"t": 1}, 10 * MINUTE, at(2 * MINUTE))
        done = await triggers.advance([], 9, at(3 * MINUTE))
        found = await state(schedules)
        assert done == Advance(found=1)
        assert (found.last_trigger_time, found.last_skip_time) == (at(MINUTE), at(3 * MINUTE))
        assert found.last_skip_reason == f"task {first.id} was processing"
        await store.tasks.remove(first.id)
        await triggers.advance([], 9, at(4 * MINUTE))
        assert await instants(store) == [at(4 * MINUTE)]


async def test_a_caught_up_task_is_not_beside_its_predecessor(database: str) -> None:
    async with opened(database) as (store, schedules, triggers):
        await schedules.add(tasks(overlap="skip", misfire="catch_up"), START)
        await triggers.advance([], 9, at(5 * MINUTE))
        assert await instants(store) == [at(MINUTE)]
        assert (await state(schedules)).last_skip_time == at(5 * MINUTE)


async def test_the_overlap_rule_is_of_each_schedule(database: str) -> None:
    async with opened(database) as (store, schedules, triggers):
        await schedules.add(tasks("a", overlap="skip"), START)
        await schedules.add(tasks("b", overlap="skip"), START)
        await schedules.add(tasks("c"), START)
        await triggers.advance([], 9, at(MINUTE))
        await triggers.advance([], 9, at(2 * MINUTE))
        assert sorted(str(task.schedule_id) for task in await created(store)) == list("abcc")


async def test_the_overlap_rule_holds_for_who_waits_for_the_row(database: str) -> None:
    """Fails on PostgreSQL if the last task is looked at by the statement that locks the row."""
    async with opened(database) as (store, first, one), opened(database) as (_, _, other):
        for name in map(str, range(10)):
            await first.add(tasks(name, overlap="skip"), START)
            await asyncio.gather(
                *(node.trigger(name, False, at(1)) for node in (one, other) * 2),
                *(node.advance([], 9, at(MINUTE)) for node in (one, other)),
            )
        found = [task.schedule_id for task in await created(store)]
        assert len(found) == len(set(found)) == 10


# Pause, resume, trigger, remove, and how calls ended.


async def test_a_pause_leaves_instants_out(database: str) -> None:
    once = ScheduledTaskTime(next_trigger_time=at(90_000))
    later = ScheduledTaskTime(next_trigger_time=at(20 * MINUTE))
    async with opened(database) as (store, schedules, triggers):
        await schedules.add(tasks(times=[EVERY_MINUTE, once, later], misfire="catch_up"), START)
        assert await schedules.pause("s", at(30_000))
        assert not await schedules.pause("s", at(31_000))
        assert (await triggers.advance([], 9, at(10 * MINUTE))).found == 0
        assert await schedules.resume("s", at(10 * MINUTE))
        assert not await schedules.resume("s", at(10 * MINUTE))
        assert await next_of(schedules) == [at(10 * MINUTE), None, at(20 * MINUTE)]
        found = await state(schedules)
        assert found.paused_since is None
        assert found.last_skip_reason == "it was paused"
        await triggers.advance([], 9, at(10 * MINUTE))
        assert await instants(store) == [at(10 * MINUTE)]


async def test_a_trigger_by_hand_leaves_the_grid_alone(database: str) -> None:
    async with opened(database) as (store, schedules, triggers):
        await schedules.add(tasks("t"), START)
        await schedules.add(calls("c"), START)
        assert await triggers.trigger("t", False, at(10)) == Advance(found=1, types={"t"})
        assert await triggers.trigger("c", False, at(10)) == Advance()
        done = await triggers.trigger("c", True, at(10))
        assert done == Advance(found=1, triggers=[Trigger("c", at(10))])
        assert await triggers.trigger("none", True, at(10)) == Advance()
        assert await instants(store) == [at(10)]
        assert await next_of(schedules, "t") == await next_of(schedules, "c") == [at(MINUTE)]
        await schedules.pause("t", at(11))
        assert (await triggers.trigger("t", False, at(12))).types
        assert (await state(schedules, "t")).paused_since == at(11)


async def test_what_is_not_there(database: str) -> None:
    async with opened(database) as (_, schedules, _):
        assert await schedules.state("s") is None
        assert await schedules.times() == {}
        for act in (schedules.pause, schedules.resume, schedules.remove):
            assert not await act("s")
        await schedules.add(calls(), START)
        assert await schedules.remove("s")
        assert await schedules.state("s") is None


async def test_the_end_of_a_call_is_kept_unless_it_was_triggered_again(database: str) -> None:
    async with opened(database) as (_, schedules, triggers):
        await schedules.add(calls(), START)
        (first,) = (await triggers.advance(["s"], 9, at(MINUTE))).triggers
        assert (await state(schedules)).last_outcome == "started"
        error = '{"name":"ValueError","message":"no"}'
        await triggers.record([CallOutcome(first, "failed", error)])
        found = await state(schedules)
        assert found.last_outcome == "failed"
        assert found.last_error is not None
        assert found.last_error.message == "no"
        (second,) = (await triggers.advance(["s"], 9, at(2 * MINUTE))).triggers
        await triggers.record([CallOutcome(first, "failed", error)])
        assert (await state(schedules)).last_outcome == "started"
        await triggers.record([CallOutcome(second, "success", None)])
        found = await state(schedules)
        assert (found.last_outcome, found.last_error) == ("success", None)


# Rows that rowlock has not written.


@pytest.mark.parametrize(
    "damage",
    [
        "times = '[]'",
        "times = '{}'",
        """times = '[{"given":{},"next":1}]'""",
        """times = '[{"given":{"intervalDays":1},"next":-99999999999999999}]'""",
        f"times = '{'[' * 5000}{']' * 5000}'",
        "template = NULL",
        "template = '5'",
    ],
    ids=[
        *("empty", "object", "nothing", "instant", "deep"),
        *("no template", "number"),
    ],
)
async def test_a_damaged_row_is_put_aside(database: str, damage: str) -> None:
    async with opened(database) as (store, schedules, triggers):
        await schedules.add(tasks("bad"), START)
        await schedules.add(tasks("good"), START)
        await execute(database, f"UPDATE rowlock_scheduled_task SET {damage} WHERE id = 'bad'")
        done = await triggers.advance([], 9, at(MINUTE))
        assert [name for name, _ in done.damaged] == ["bad"]
        assert [task.schedule_id for task in await created(store)] == ["good"]
        assert await triggers.next_due([], at(MINUTE)) == 60
        assert set(await schedules.times()) == {"bad", "good"}
        found = await state(schedules, "bad")
        assert found.last_error is not None
        assert found.last_error.source == "rowlock"
        assert (found.last_outcome, found.paused_since) == ("damaged", at(MINUTE))
        assert not await schedules.resume("bad", at(MINUTE))
        assert await triggers.trigger("bad", True, at(MINUTE)) == Advance()
        await schedules.add(tasks("bad"), at(MINUTE))
        found = await state(schedules, "bad")
        assert (found.last_outcome, found.last_error, found.paused_since) == (None, None, None)
        # Times that can be read keep their instants.
        first = at(MINUTE) if damage.startswith("template") else at(2 * MINUTE)
        assert await next_of(schedules, "bad") == [first]


async def test_a_damaged_template_is_put_aside_by_hand_too(database: str) -> None:
    """Fails if it is tried by the INSERT, whose error costs all of a pass its tasks."""
    async with opened(database) as (store, schedules, triggers):
        await schedules.add(tasks(), START)
        await execute(database, "UPDATE rowlock_scheduled_task SET template = '[]'")
        done = await triggers.trigger("s", False, at(5))
        assert done == Advance(damaged=[("s", "template: it is no JSON object")])
        found = await state(schedules)
        assert (found.last_outcome, found.paused_since) == ("damaged", at(5))
        assert await created(store) == []


async def test_an_option_that_is_absent_has_its_default(database: str) -> None:
    async with opened(database) as (store, schedules, triggers):
        options: dict[str, Any] = {
            "retries_remaining": 2,
            "retry_interval": 7,
            "retain_for": 5,
            "priority": 3,
        }
        await schedules.add(tasks(**options, delay=10), START)
        text = "SELECT CAST(template AS text) FROM rowlock_scheduled_task"
        ((stored,),) = await execute(database, text)
        assert json.loads(stored) == {**options, "delay": 10}
        await execute(database, """UPDATE rowlock_scheduled_task SET template = '{"delay": 0}'""")
        await triggers.advance([], 9, at(MINUTE))
        (row,) = await store.database.claim("w", {"t": 1}, 1000, at(MINUTE))
        assert (row.retries_remaining, row.retry_interval, row.retain_for, row.priority) == (
            None, None, KEEP_IF_FAILED, 0,
        )  # fmt: skip
        assert row.run_at == store.database.codec.to_time(at(MINUTE))


async def test_the_same_options_in_other_words_are_no_change(database: str) -> None:
    """Fails if a template that a migration has written is replaced, and that is logged."""
    other = '{"priority" : 3, "retain_for" : -1, "retry_interval" : null}'
    async with opened(database) as (_, schedules, _):
        await schedules.add(tasks(priority=3), START)
        await execute(database, f"UPDATE rowlock_scheduled_task SET template = '{other}'")
        assert not (await schedules.add(tasks(priority=3), at(5))).changed
        added = await schedules.add(tasks(priority=4), at(5))
        before, after = added.replaced, added.definition
        assert before is not None
        assert [name for name in before if before[name] != after[name]] == ["priority"]


async def test_the_clock_is_the_database_s(database: str) -> None:
    async with opened(database) as (_, schedules, triggers):
        before = datetime.now(UTC)
        await schedules.add(calls())
        (due,) = await next_of(schedules)
        assert due is not None
        assert abs(due - before - timedelta(minutes=1)) < timedelta(seconds=30)
        wait = await triggers.next_due(["s"])
        assert wait is not None
        assert 0 < wait <= 60
