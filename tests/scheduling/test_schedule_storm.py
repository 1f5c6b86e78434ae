"""Processes that trigger the same scheduled tasks, and are killed and started again meanwhile.

By default 5 seconds and 20 scheduled tasks; with `--faults=ci` 1,000 instants are due, with
`--faults=long` 10,000. The daily task restarts 5, 10 or 40 times.

Broken variants, which `tests.support.schedule_node` makes, and what the storm said to them:

- "no-compare-and-set", the due rows read without a lock before the transaction and written
  whatever their token is: failed every time on both databases, with about as many doubled
  instants as there are instants. `test_a_lack_of_compare_and_set_is_found` needs no kill.
- "two-transactions", the advance committed by itself and its tasks inserted in a second one:
  needs a kill between the two. The default size never met one in three runs on each database,
  the real size did in one of two (100 missing). So a node ends itself there, in
  `test_a_crash_between_two_transactions_loses_tasks`; where it is one transaction, the same
  crash loses nothing.
"""

from __future__ import annotations

import glob
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rowlock import ScheduledTaskTime
from rowlock._instants import to_milliseconds
from rowlock._store.schedules import Schedules
from tests.support.helpers import eventually
from tests.support.schedule_node import CRASHED, names
from tests.support.stores import execute, open_store

SEED = 9
PATIENCE = 60.0
INTERVAL = 1000
# A node that is killed may have waited so many seconds for the CPU between trigger and call.
SLACK = 1.0

DAY = 86_400_000
FAKETIME_VARIABLE = "ROWLOCK_TEST_FAKETIME"
FAKETIME_PATTERNS = (
    "/usr/lib/*/faketime/libfaketime.so.1",
    "/usr/lib*/faketime/libfaketime.so.1",
    "/usr/local/lib/faketime/libfaketime.so.1",
)


pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]


def present() -> int:
    return int(time.time() * 1000)


def milliseconds(value: Any) -> int:
    """An instant as one of the databases has it."""
    return value // 1000 if isinstance(value, int) else to_milliseconds(value)


# The nodes.


@dataclass(frozen=True, slots=True)
class Kill:
    """A node was killed, between two instants in seconds."""

    began: float
    ended: float


@dataclass
class Nodes:
    """Node processes on one database, and what they have done.

    Attributes:
        environments: of each of them, what it has beside this process's.
        start: the first instant of all the scheduled tasks; None for daily ones without one.
        tasks: how many scheduled tasks create tasks.
        calls: how many call a function.
        options: of the nodes.
    """

    url: str
    directory: Path
    environments: Sequence[Mapping[str, str]] = ({},)
    start: int | None = field(default_factory=lambda: math.ceil(time.time()) * 1000)
    tasks: int = 10
    calls: int = 10
    options: Sequence[str] = ()
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def launch(self, place: int) -> None:
        given = (
            ScheduledTaskTime(interval_days=1)
            if self.start is None
            else ScheduledTaskTime(next_trigger_time=self.start, interval_seconds=INTERVAL // 1000)
        )
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.support.schedule_node"),
                    *(self.url, str(self.directory)),
                    *("--time", given.model_dump_json(by_alias=True, exclude_none=True)),
                    *("--tasks", str(self.tasks), "--calls", str(self.calls), *self.options),
                ],
                cwd=Path(__file__).parents[2],
                env={**os.environ, **self.environments[place]},
                stderr=log,
            )
        self.running[place : place + 1] = [process]

    def clock(self, place: int) -> float | None:
        """What the clock of a node said when it was ready, None if it is not."""
        ready = self.directory / f"ready-{self.running[place].pid}"
        return float(ready.read_text()) if ready.exists() else None

    def ready(self) -> list[int]:
        """The places of the nodes that are. None may have ended by itself."""
        codes = [process.poll() for process in self.running]
        assert all(code is None for code in codes), f"{codes}: {self.log()}"
        return [place for place in range(len(codes)) if self.clock(place) is not None]

    async def all_ready(self) -> None:
        await eventually(lambda: len(self.ready()) == len(self.running), PATIENCE, "ready")

    def kill(self, place: int) -> None:
        began = time.time()
        self.running[place].kill()
        self.running[place].wait()
        self.kills.append(Kill(began, time.time()))

    async def end(self, code: int = 0) -> None:
        """Wait until all have ended with this code."""
        await eventually(lambda: None not in [node.poll() for node in self.running], PATIENCE)
        codes = {node.returncode for node in self.running}
        assert codes == {code}, f"{codes}: {self.log()}"

    async def drain(self) -> None:
        for node in self.running:
            node.send_signal(signal.SIGTERM)
        await self.end()

    async def finish(self, until: int | None = None) -> Figures:
        """Wait until all has triggered after an instant, by default now; stop, and count."""
        await self.all_ready()
        instant = present() if until is None else until

        async def caught_up() -> bool:
            self.ready()
            rows = await rows_of(self.url)
            return len(rows) == len(self.ids) and all(
                row.last_trigger >= instant for row in rows.values()
            )

        await eventually(caught_up, PATIENCE, "caught up")
        await self.drain()
        return await self.count()

    async def count(self) -> Figures:
        """Compare what was done with the grid, from the first instant to the last triggered."""
        assert self.start is not None
        figures = Figures(kills=len(self.kills))
        rows = await rows_of(self.url)
        created = await tasks_in(self.url)
        called = calls_in(self.directory)
        for name in self.ids:
            row, calls = rows[name], called.get(name, [])
            is_task = name.startswith("task")
            seen = created.get(name, []) if is_task else [instant for instant, _ in calls]
            kind = figures.tasks if is_task else figures.calls
            grid = range(self.start, max([row.last_trigger, *seen]) + 1, INTERVAL)
            missing = sorted(set(grid) - set(seen))
            kind.instants += len(grid)
            kind.doubled += sum(times - 1 for times in Counter(seen).values())
            kind.missing += len(missing)
            if not is_task:
                figures.unexplained += unexplained(missing, dict(calls), self.kills)
            if (
                not set(seen) <= set(grid)
                or grid[-1] > present()
                or row.last_trigger != grid[-1]
                or row.next_trigger != grid[-1] + INTERVAL
                or row.last_outcome != ("created" if is_task else "success")
            ):
                figures.wrong.append(f"{name}: {row}, last seen {max(seen, default=None)}")
        figures.seconds = time.monotonic() - self.began
        print(f"{self.url.partition(':')[0]}, {len(self.running)} nodes: {figures}")
        return figures

    @property
    def ids(self) -> list[str]:
        return [*names("task", self.tasks), *names("call", self.calls)]

    def log(self) -> str:
        return (self.directory / "log").read_text()[-10_000:]


@contextmanager
def launched(nodes: Nodes) -> Iterator[Nodes]:
    """Launch all nodes, and leave none."""
    try:
        for place in range(len(nodes.environments)):
            nodes.launch(place)
        yield nodes
    finally:
        for process in nodes.running:
            process.kill()
            process.wait()


# What they have done.


@dataclass
class Count:
    """What became of the instants of scheduled tasks of one kind."""

    instants: int = 0
    doubled: int = 0
    missing: int = 0

    def __str__(self) -> str:
        return f"{self.instants} instants, {self.doubled} doubled, {self.missing} missing"


@dataclass
class Figures:
    """What a storm has done.

    Attributes:
        tasks: of scheduled tasks that create tasks.
        calls: of those that call a function.
        unexplained: how many of the missing calls no kill accounts for.
        wrong: the scheduled tasks whose row does not fit what they did.
        kills: how many nodes were killed.
        seconds: how long it took.
    """

    tasks: Count = field(default_factory=Count)
    calls: Count = field(default_factory=Count)
    unexplained: int = 0
    wrong: list[str] = field(default_factory=list)
    kills: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"tasks: {self.tasks}; calls: {self.calls} ({self.unexplained} without a kill); "
            f"{len(self.wrong)} rows wrong; {self.kills} kills; {self.seconds:.1f} s"
        )

    def assert_right(self) -> None:
        assert (self.tasks.doubled, self.tasks.missing) == (0, 0)
        assert (self.calls.doubled, self.unexplained) == (0, 0)
        assert not self.wrong


@dataclass(frozen=True, slots=True)
class Row:
    """What the table says of a scheduled task."""

    last_trigger: int
    last_outcome: str
    next_trigger: int


async def rows_of(url: str) -> dict[str, Row]:
    """The scheduled tasks that have triggered."""
    found = await execute(
        url,
        "SELECT id, last_trigger, last_outcome, next_trigger FROM rowlock_scheduled_task"
        " WHERE last_trigger IS NOT NULL",
    )
    return {
        name: Row(milliseconds(last), outcome, milliseconds(following))
        for name, last, outcome, following in found
    }


async def tasks_in(url: str) -> dict[str, list[int]]:
    """For each scheduled task the instants that have created a task."""
    found: dict[str, list[int]] = {}
    for name, instant in await execute(url, "SELECT schedule_id, scheduled_for FROM rowlock_task"):
        found.setdefault(name, []).append(milliseconds(instant))
    return found


def calls_in(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """For each scheduled task the instants for which its function was called, and when it was."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in (directory / "history").read_text().splitlines():
        name, instant, _, moment = line.split()
        found.setdefault(name, []).append((int(instant), float(moment)))
    return found


def unexplained(missing: Sequence[int], moments: Mapping[int, float], kills: Sequence[Kill]) -> int:
    """How many missing calls of a function are left if each kill accounts for one.

    A node triggered the instant and was killed before it called the function. So the kill came
    after the instant, and hardly later than the function's next call.
    """
    left = list(kills)
    unmatched = 0
    for instant in missing:
        latest = SLACK + min((at for later, at in moments.items() if later > instant), default=0)
        able = [kill for kill in left if instant / 1000 <= kill.ended and kill.began <= latest]
        if able:
            left.remove(min(able, key=lambda kill: kill.ended))
        else:
            unmatched += 1
    return unmatched


# The storm.


async def storm(
    url: str, directory: Path, count: int, *, seconds: float, schedules: int
) -> Figures:
    """Kill some of so many nodes at random for so many seconds, and count."""
    random_ = random.Random(SEED)
    half = schedules // 2
    nodes = Nodes(url, directory, [{} for _ in range(count)], tasks=half, calls=half)
    with launched(nodes):
        await nodes.all_ready()
        end = time.time() + seconds
        while (moment := min(end, next_kill(random_))) < end:
            await passed(moment)
            await eventually(nodes.ready, PATIENCE)
            place = random_.choice(nodes.ready())
            nodes.kill(place)
            nodes.launch(place)
        await passed(end)
        return await nodes.finish()


def next_kill(random_: random.Random) -> float:
    """An instant soon; every other time it is one at which there is much to trigger."""
    moment = time.time() + random_.uniform(0.1, 0.6)
    return moment if random_.random() < 0.5 else math.ceil(moment) + random_.uniform(0, 0.03)


async def passed(moment: float) -> None:
    await eventually(lambda: time.time() >= moment, PATIENCE)


async def test_each_instant_triggers_once(
    database: str, tmp_path: Path, size: Callable[..., int]
) -> None:
    count = 4 if database.startswith("sqlite") else 8
    seconds, schedules = size(short=5, ci=10, long=100), size(short=20, ci=100)
    figures = await storm(database, tmp_path, count, seconds=seconds, schedules=schedules)
    figures.assert_right()


async def test_a_lack_of_compare_and_set_is_found(database: str, tmp_path: Path) -> None:
    nodes = Nodes(database, tmp_path, [{}] * 4, options=("--variant", "no-compare-and-set"))
    (tmp_path / "history").touch()

    async def both_doubled() -> bool:
        created = (await tasks_in(database)).values()
        called = [[instant for instant, _ in calls] for calls in calls_in(tmp_path).values()]
        return all(any(len(set(seen)) < len(seen) for seen in kind) for kind in (created, called))

    with launched(nodes):
        # Whether two nodes come to an instant at the same time is left to chance.
        await eventually(both_doubled, PATIENCE)
        figures = await nodes.finish()
    assert figures.tasks.doubled > 0
    assert figures.calls.doubled > 0


# A crash in the midst of a trigger, which the storm meets too rarely.


async def crash(database: str, directory: Path, *options: str) -> Figures:
    """Let a node crash at its first trigger, and another go on."""
    start = present() // 1000 * 1000 - 5 * INTERVAL
    nodes = Nodes(database, directory, start=start, tasks=3, calls=3, options=options)
    before = time.time()
    with launched(nodes):
        await nodes.end(CRASHED)
        nodes.kills.append(Kill(before, time.time()))
        nodes.options = ()
        nodes.launch(0)
        return await nodes.finish(start + 4 * INTERVAL)


async def test_a_crash_before_the_tasks_loses_nothing(database: str, tmp_path: Path) -> None:
    figures = await crash(database, tmp_path, "--crash", "before-tasks")
    figures.assert_right()
    assert figures.calls.missing == 0


async def test_a_crash_between_two_transactions_loses_tasks(database: str, tmp_path: Path) -> None:
    options = ("--crash", "before-tasks", "--variant", "two-transactions")
    figures = await crash(database, tmp_path, *options)
    assert figures.tasks.missing > 0


async def test_a_crash_before_the_call_loses_that_call(database: str, tmp_path: Path) -> None:
    figures = await crash(database, tmp_path, "--crash", "before-calls")
    figures.assert_right()
    assert figures.calls.missing > 0


def test_a_kill_accounts_for_one_call_of_its_time() -> None:
    calls = {1000: 1.01, 4000: 4.01, 5000: 5.01}
    for moments, left in (([], 2), ([2.1], 1), ([2.1, 3.1], 0), ([1.5, 3.1], 1), ([2.1, 6.0], 1)):
        kills = [Kill(moment, moment + 0.01) for moment in moments]
        assert unexplained([2000, 3000], calls, kills) == left


# Clocks, and daily tasks.


def faketime() -> str:
    named = os.environ.get(FAKETIME_VARIABLE)
    found = [named] if named else [path for it in FAKETIME_PATTERNS for path in glob.glob(it)]
    if not found:
        pytest.skip(f"no libfaketime in the usual directories, nor in {FAKETIME_VARIABLE}")
    assert Path(found[0]).exists(), f"{FAKETIME_VARIABLE}: there is no {found[0]}"
    return found[0]


async def test_clocks_that_are_two_hours_apart(postgres_url: str, tmp_path: Path) -> None:
    """Fails if a node goes by its own clock."""
    environments = [
        {"LD_PRELOAD": faketime(), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        for offset in ("-1h", "+1h")
    ]
    with launched(Nodes(postgres_url, tmp_path, environments)) as nodes:
        await nodes.all_ready()
        slow, fast = nodes.clock(0), nodes.clock(1)
        assert slow is not None
        assert fast is not None
        assert abs(fast - slow - 7200) < PATIENCE
        figures = await nodes.finish(present() + 2 * INTERVAL)
    figures.assert_right()
    assert figures.calls.missing == 0


async def test_a_daily_task_stays_daily_however_often_its_process_restarts(
    database: str, tmp_path: Path, size: Callable[..., int]
) -> None:
    """Fails if times that are given again replace what is stored."""
    nodes = Nodes(database, tmp_path, start=None, tasks=1, calls=1)
    before = present()
    seen = []
    with launched(nodes):
        async with open_store(database) as store:
            for restart in range(size(short=5, ci=10, long=40) + 1):
                if restart:
                    if restart % 2:
                        nodes.kill(0)
                    else:
                        await nodes.drain()
                    nodes.launch(0)
                await nodes.all_ready()
                times = await Schedules(store.database).times()
                seen.append(
                    {name: [time.next_trigger_time for time in times[name]] for name in nodes.ids}
                )
    assert all(each == seen[0] for each in seen)
    for (instant,) in seen[0].values():
        assert instant is not None
        assert 0 <= instant - before - DAY < PATIENCE * 1000
