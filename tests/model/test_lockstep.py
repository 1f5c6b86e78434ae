"""Ways through the model, each step done on a real store too, with the same answer.

First a shortest way to every sort of step, and then random ones.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

import pytest

from rowlock._ids import new_id
from rowlock._rows import TaskRow
from rowlock._store.database import Operation
from rowlock._store.store import Store
from rowlock._store.sweep import Swept
from tests.model.protocol import CANCELLED, RETURNED, Row, cancel, claimable, fits, retry
from tests.model.world import LOST, UNSENT, Action, Kind, Slot, State, World
from tests.support.schedule_node import one
from tests.support.stores import LEASE, at, failure, new_row, open_store, operation, success

WALKS = {"short": 8, "ci": 150, "long": 1500}
STEPS = 80
RETRY_INTERVAL = 1000
RETAIN = 60_000

KINDS = (Kind(1, 1), Kind(1, 0), Kind(None, -1))
SMALL = World(attempts=2, restarts=0, kinds=KINDS)
WORLD = World(attempts=1000, lives=1000, restarts=1000, kinds=KINDS)
OFTEN = 10
# Or most walks would be short.
SELDOM = ("remove", "cancel", "retention", "kill A", "release")


@dataclass
class Lockstep:
    """A store that is asked for what the model does.

    Attributes:
        store: the store.
        state: where the model is.
        milliseconds: the time.
        ids: of each create its task.
        claimed: the rows of claims, by create and attempt.
        sweep: what the sweeper has begun, and read.
        creates: how many creates there were that were not repeated.
    """

    store: Store
    state: State
    milliseconds: int = 0
    ids: dict[int, str] = field(default_factory=dict)
    claimed: dict[tuple[int, int], TaskRow] = field(default_factory=dict)
    sweep: tuple[Operation[Swept], Sequence[Any]] | None = None
    creates: int = 0

    @property
    def now(self) -> datetime:
        return at(self.milliseconds)

    async def step(self, action: Action, after: State) -> None:
        before, self.state = self.state, after
        match action.name:
            case "create" | "create again":
                await self.create(before, again=action.name == "create again")
            case "claim":
                assert action.slot is not None
                assert after.row is not None
                holder = before.holder(action.slot)
                (found,) = await self.store.database.claim(holder, {"t": 1}, LEASE, self.now)
                self.claimed[after.row.life, found.attempt] = found
                expected = (after.row.attempt, after.row.retries, after.row.lost)
                assert (found.attempt, found.retries_remaining, found.lost_workers) == expected
            case "extend" | "finish" | "finish again" | "release":
                assert action.slot is not None
                slot = before.slots[action.slot]
                assert slot is not None
                if action.reply != UNSENT:
                    await self.write(before, action, slot)
            case "sweeper reads":
                sweep = operation(self.store.sweep.leases, 10, self.now)
                self.sweep = sweep, await self.store.database.read(one(*next(sweep)))
                assert len(self.sweep[1]) == 1
            case "sweeper writes":
                await self.sweeper_writes(before)
            case "cancel" | "retry()" | "remove" | "retention":
                assert before.row is not None
                await self.client(action.name, before.row)
            case "it is due":
                self.milliseconds += RETRY_INTERVAL
            case "the lease expires":
                self.milliseconds += LEASE
            case "kill A":
                pass
            case _:
                raise AssertionError(action)
        await self.compare()

    async def create(self, before: State, *, again: bool) -> None:
        after = self.state
        assert after.row is not None
        self.creates += not again
        new = new_row(
            id=new_id(),
            key=f"key {self.creates}",
            retries_remaining=after.kind.retries,
            retain_for=RETAIN if after.kind.retain == 1 else after.kind.retain,
            run_at=self.now,
        )
        task_id = await self.store.tasks.insert(new, self.now)
        if before.row is None:
            assert task_id == new.id
            self.ids[after.row.life] = new.id
        else:
            assert task_id == self.ids[before.row.life]

    async def write(self, before: State, action: Action, slot: Slot) -> None:
        task_id = self.ids[slot.life]
        key, holder = (task_id, slot.held.attempt), slot.held.holder
        row = self.claimed[slot.life, slot.held.attempt]
        if action.name == "extend":
            accepted = (
                task_id in (await self.store.attempts.extend(holder, [key], LEASE, self.now))[0]
            )
        elif action.name == "release":
            accepted = bool((await self.store.attempts.release(holder, [key], self.now))[0])
        else:
            outcome = success(row) if action.ending == RETURNED else failure(row)
            rows = action.reply != LOST
            done = (
                await self.store.attempts.finish(holder, [outcome], rows=rows, now=self.now)
            ).tasks
            accepted = task_id in done
            task, after = done.get(task_id), self.state.row
            if task is not None and after is not None:
                assert task.status == after.status
        assert accepted == fits(before.row, slot.held, WORLD.rules.finish)

    async def sweeper_writes(self, before: State) -> None:
        assert self.sweep is not None
        assert before.read is not None
        operation, rows = self.sweep
        swept = await self.store.database.autocommit(self.rest(operation, rows))
        assert bool(swept.changed) == fits(before.row, before.read[0], WORLD.rules.sweep)

    def rest(self, operation: Operation[Swept], rows: Sequence[Any]) -> Operation[Swept]:
        """What follows the first statement of a sweep, at its own time."""
        try:
            while True:
                statement, parameters = operation.send(rows)
                if "now" in parameters:
                    parameters = {**parameters, "now": self.store.database.codec.instant(self.now)}
                rows = yield statement, parameters
        except StopIteration as stop:
            value: Swept = stop.value
            return value

    async def client(self, name: str, row: Row) -> None:
        task_id = self.ids[row.life]
        if name == "cancel":
            task = await self.store.tasks.cancel(task_id, self.now, running=True)
            assert task is not None
            assert task.status == ("processing" if row.leased else CANCELLED)
        elif name == "retry()":
            assert await self.store.tasks.retry(task_id, self.now) is not None
        elif name == "remove":
            assert await self.store.tasks.remove(task_id)
        else:
            assert await self.store.sweep.retention(10, self.now) == 0
            self.milliseconds += RETAIN
            assert await self.store.sweep.retention(10, self.now) == 1

    async def compare(self) -> None:
        """The rows are the same."""
        row = self.state.row
        if not self.state.lives:
            return
        task = await self.store.tasks.get(self.ids[self.state.lives])
        found = task and (
            task.status,
            task.attempt,
            task.thread_id,
            task.retries_remaining,
            task.date_retain_until is not None,
        )
        assert found == (row and (row.status, row.attempt, row.holder, row.retries, row.dated))

    async def refuse(self) -> None:
        """What the model cannot do the store does not."""
        row = self.state.row
        if not claimable(row):
            assert await self.store.database.claim("nobody", {"t": 1}, LEASE, self.now) == []
        if row is None or not row.expired:
            assert await self.store.sweep.leases(10, self.now) == (0, [], [])
        if row is None or not row.dated:
            assert await self.store.sweep.retention(10, self.now) == 0
        task_id = self.ids.get(self.state.lives, new_id())
        if not cancel(row, WORLD.rules)[1]:
            assert await self.store.tasks.cancel(task_id, self.now, running=True) is None
        if not retry(row, WORLD.rules)[1]:
            assert await self.store.tasks.retry(task_id, self.now) is None
        await self.compare()


Step = tuple[Action, State]
Sort = tuple[object, ...]


def steps(world: World, state: State) -> Iterator[Step]:
    """The steps, but those between the two statements that cancel and remove a row."""
    for action, after in world.steps(state):
        assert isinstance(after, State)
        row = after.row
        if row is not None and row.status == CANCELLED and row.retain == 0:
            after = after._replace(row=None)
        yield action, after


def sort_of(state: State, action: Action) -> Sort | None:
    """What makes a step like another, for the store; None if it is not asked."""
    if action.reply == UNSENT or action.name in ("it is due", "the lease expires", "kill A"):
        return None
    row = state.row
    slot = None if action.slot is None else state.slots[action.slot]
    held = slot and slot.held
    if action.name == "sweeper writes" and state.read is not None:
        held, _ = state.read
    about_row = row and (row.status, row.leased, row.expired, row.asked, row.retain, row.due)
    about_held = row and held and (held.attempt == row.attempt, held.holder == row.holder)
    tries = row and action.name in ("finish", "sweeper writes") and (row.retries, row.lost)
    return action.name, action.ending, about_row, about_held, tries


def tours(world: World) -> Iterator[list[Step]]:
    """Shortest ways that have every sort of step that the world has."""
    came: dict[State, tuple[State, Step] | None] = {State(kind): None for kind in world.kinds}
    states = list(came)
    first: dict[Sort, tuple[State, Step]] = {}
    for state in states:  # it grows meanwhile
        for step in steps(world, state):
            if (sort := sort_of(state, step[0])) is not None:
                first.setdefault(sort, (state, step))
            if step[1] not in came:
                came[step[1]] = state, step
                states.append(step[1])
    seen: set[Sort | None] = set()
    for sort, last in reversed(first.items()):
        if sort not in seen:
            tour: list[Step] = []
            before: tuple[State, Step] | None = last
            while before is not None:
                state, step = before
                seen.add(sort_of(state, step[0]))
                tour.append(step)
                before = came[state]
            yield tour[::-1]


def walk(world: World, luck: random.Random) -> Iterator[Step]:
    """A random way."""
    state = State(luck.choice(world.kinds))
    while True:
        possible = list(steps(world, state))
        weights = [0.2 if action.name in SELDOM else 1.0 for action, _ in possible]
        ((action, state),) = luck.choices(possible, weights)
        yield action, state


async def go(store: Store, way: Sequence[Step]) -> None:
    lockstep = Lockstep(store, State(way[0][1].kind))
    try:
        for number, (action, after) in enumerate(way, 1):
            await lockstep.step(action, after)
            if number % OFTEN == 0 or number == len(way):
                await lockstep.refuse()
    except AssertionError as error:
        error.add_note("in " + ", ".join(str(action) for action, _ in way))
        raise
    for task_id in lockstep.ids.values():
        await store.tasks.remove(task_id)


SETTINGS = {"retry_interval": RETRY_INTERVAL, "max_lost_workers": WORLD.rules.max_lost}


@pytest.mark.slow
async def test_a_store_does_every_sort_of_step(database: str) -> None:
    """Fails where a condition of `rowlock._store.statements` is missing: 14 of 16 mutants tried.

    The other two are those that another condition makes up for: the holder in the fence, and the
    lease in the removal of what is not kept, whose row has no holder either without one.
    """
    ways = list(tours(SMALL))
    print(f"{len(ways)} ways, {sum(map(len, ways))} steps")
    async with open_store(database, **SETTINGS) as store:
        for way in ways:
            await go(store, way)


async def test_a_store_goes_where_the_model_goes(
    database: str, pytestconfig: pytest.Config
) -> None:
    """Fails where the other does, most of the time; it goes on after a removal."""
    async with open_store(database, **SETTINGS) as store:
        for seed in range(WALKS[pytestconfig.getoption("faults", "short")]):
            await go(store, list(islice(walk(WORLD, random.Random(seed)), STEPS)))
