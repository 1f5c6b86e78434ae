"""The operations of the queue as a state machine: a model and both databases in lockstep."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from hypothesis import strategies as st

from rowlock._endings import HandlerResult
from rowlock._rows import NewRow, TaskRow
from rowlock._store.ends import AttemptOutcome
from rowlock._store.store import Store
from rowlock.errors import DuplicateKeyError
from rowlock.models import SortDirection, SortProperty, Task, TaskStatus
from tests.properties.model import Attempt, End, Model
from tests.properties.pair import Pair, comparable
from tests.store.test_paging import brute_force
from tests.support.stores import at

TYPES = ("a", "b")
HOLDERS = ("one", "two")
LEASE = 1000
ERROR = '{"name":"ValueError","message":"no"}'
LOTS = 500

# Counted from the newest: an attempt that is held is worth more than one that has long ended.
picks = st.sampled_from([0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 5, 8, 13])
seconds = st.sampled_from([0, 0, 1, 500, 1000, 3000, 5000, 20_000])
kept = st.sampled_from([0, -1, 2000])
retries = st.sampled_from([None, 0, 1, 2])
templates = st.fixed_dictionaries(
    {
        "type": st.sampled_from(TYPES),
        "payload": st.sampled_from([None, "null", "1", '{"a":[1e300,-0.0]}']),
        "retries_remaining": retries,
        "retry_interval": st.sampled_from([None, 0, 700]),
        "retain_for": kept,
        "priority": st.sampled_from([0, 0, 5, -5]),
        "wait": st.none() | st.sampled_from([-1000, 0, 2000]),
        "delay": st.sampled_from([0, 1500]),
        "key": st.sampled_from([None, None, "k", "l"]),
    }
)
some = st.lists(picks, min_size=1, max_size=4)
strangers = st.sampled_from([False, False, False, False, True])
endings = st.sampled_from(["success", "success", "failure", "failure", "final", "cancelled"])


Step = tuple[str, dict[str, Any]]


def rule(
    weight: int = 1, **arguments: st.SearchStrategy[Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Mark a step of programs, taken as often as its weight says.

    Not of `hypothesis.stateful`, which took half of its steps from the rules without arguments:
    few of its programs came as far as a lost worker.
    """

    def mark(function: Callable[..., None]) -> Callable[..., None]:
        kind = st.tuples(st.just(function.__name__), st.fixed_dictionaries(arguments))
        _STEPS.extend([kind] * weight)
        return function

    return mark


_STEPS: list[st.SearchStrategy[Step]] = []


class Lockstep:
    """Each rule does the same on the model and on both databases, and compares the answers."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.model = Model()
        self.milliseconds = 0
        self.ids: list[str] = []
        # Each attempt that was ever claimed, as both databases gave it.
        self.claims: list[list[TaskRow]] = []
        pair.clear()

    def run(self, program: Iterable[Step]) -> None:
        for name, arguments in program:
            getattr(self, name)(**arguments)
            self.compare()

    @property
    def now(self) -> datetime:
        return at(self.milliseconds)

    def same(self, expected: Any, found: Any) -> None:
        assert self._shown(found) == self._shown(expected)

    def _shown(self, answer: Any) -> Any:
        if isinstance(answer, list):
            return [self._shown(each) for each in answer]
        if not isinstance(answer, Task):
            return answer
        # The attempts are compared between the databases, and tested by themselves.
        update: dict[str, Any] = {"attempts": []}
        if answer.id not in self.model.rows:
            # Until when a row that is gone was to be kept means nothing.
            update["date_retain_until"] = None
        return answer.model_copy(update=update)

    def new(self, given: dict[str, Any]) -> NewRow:
        values = dict(given)
        wait = values.pop("wait")
        number = len(self.ids)
        # Several of one millisecond, and not all in the order of their creation.
        task_id = f"{1_800_000_000_000 + number // 3:012x}{(number * 7) % 11:04x}{number:016x}"
        self.ids.append(task_id)
        run_at = None if wait is None else at(self.milliseconds + wait)
        return NewRow(id=task_id, run_at=run_at, **values)

    def pick(self, number: int, claimed: bool) -> str:
        if claimed and self.claims:
            return self.claims[-1 - number % len(self.claims)][0].id
        return self.ids[-1 - number % len(self.ids)] if self.ids else "0" * 32

    def claimed(self, numbers: list[int]) -> list[list[TaskRow]]:
        """Some attempts, of which at most one is of each task."""
        chosen = [self.claims[-1 - number % len(self.claims)] for number in numbers if self.claims]
        return list({both[0].id: both for both in chosen}.values())

    def held_by(self, claims: list[list[TaskRow]], stranger: bool) -> tuple[str, list[Attempt]]:
        """Who holds the first of them, or somebody else; and their attempts."""
        holder = claims[0][0].thread_id
        if stranger:
            holder = HOLDERS[holder == HOLDERS[0]]
        return holder, [(both[0].id, both[0].attempt) for both in claims]

    @rule(by=seconds)
    def pass_time(self, by: int) -> None:
        self.milliseconds += by

    @rule(2, given=st.lists(templates, min_size=1, max_size=3), holder=st.sampled_from(HOLDERS))
    def insert_and_claim(self, given: list[dict[str, Any]], holder: str) -> None:
        """Else few programs get far."""
        self.insert_many([{**each, "wait": None, "delay": 0} for each in given], False)
        self.claim(holder, dict.fromkeys(TYPES, 4), LEASE)

    @rule()
    def lose_all(self) -> None:
        self.milliseconds += LEASE
        self.sweep()

    @rule(given=templates)
    def insert(self, given: dict[str, Any]) -> None:
        new, now = self.new(given), self.now
        found = self.pair.both(lambda store: store.tasks.insert(new, now))
        self.same(self.model.insert(new, now), found)

    @rule(given=st.lists(templates, min_size=1, max_size=4), keyless=st.booleans())
    def insert_many(self, given: list[dict[str, Any]], keyless: bool) -> None:
        news = [self.new({**each, "key": None} if keyless else each) for each in given]
        now = self.now
        if keyless and len(news) % 2:
            self.pair.both(lambda store: store.tasks.insert_group(news, now))
            found = [new.id for new in news]
        else:
            found = self.pair.both(lambda store: store.tasks.insert_many(news, now))
        self.same([self.model.insert(new, now) for new in news], found)

    @rule(
        holder=st.sampled_from(HOLDERS),
        rooms=st.dictionaries(st.sampled_from(TYPES), st.integers(1, 4), min_size=1),
        lease=st.sampled_from([LEASE, 4000]),
    )
    def claim(self, holder: str, rooms: dict[str, int], lease: int) -> None:
        now = self.now
        due = self.pair.both(lambda store: store.database.next_due(rooms, now))
        assert due == self.model.next_due(rooms, now)
        claimed = self.pair.each(lambda store: store.database.claim(holder, rooms, lease, now))
        sqlite, postgresql = (
            [comparable(store, row) for row in rows]
            for store, rows in zip(self.pair.stores, claimed, strict=True)
        )
        assert sqlite == postgresql
        store = self.pair.stores[0]
        found = [store.database.codec.task(row) for row in claimed[0]]
        self.same(self.model.claim(holder, rooms, lease, now), found)
        self.claims += map(list, zip(*claimed, strict=True))

    @rule(
        4,
        numbers=some,
        ending=endings,
        rows=st.booleans(),
        stranger=strangers,
    )
    def finish(self, numbers: list[int], ending: str, rows: bool, stranger: bool) -> None:
        claims = self.claimed(numbers)
        if not claims:
            return
        holder, attempts = self.held_by(claims, stranger)
        now = self.now
        ends, said = [], []
        for task_id, attempt in attempts:
            result = '{"done":true}' if ending == "success" else None
            error = ERROR if ending in ("failure", "final") else None
            # A worker ends only those as cancelled that it was asked to.
            row = self.model.rows.get(task_id)
            asked = ending == "cancelled" and row is not None and row.cancel_requested is not None
            said.append(HandlerResult(result, error, retry=ending != "final", cancelled=asked))
            ends.append(End((task_id, attempt), result, error, ending != "final", asked))

        async def act(store: Store) -> dict[str, Task | None]:
            place = self.pair.stores.index(store)
            outcomes = [
                AttemptOutcome(both[place], end) for both, end in zip(claims, said, strict=True)
            ]
            return (await store.attempts.finish(holder, outcomes, rows=rows, now=now)).tasks

        found = self.pair.both(act)
        expected = self.model.finish(holder, ends, now)
        assert found.keys() == expected.keys()
        for task_id, task in found.items():
            # Without rows only those that the database has to tell are told.
            if task is not None or rows:
                self.same(expected[task_id], task)

    @rule(numbers=some, stranger=strangers)
    def extend(self, numbers: list[int], stranger: bool) -> None:
        if claims := self.claimed(numbers):
            holder, attempts = self.held_by(claims, stranger)
            now = self.now
            found = self.pair.both(lambda store: store.attempts.extend(holder, attempts, 2500, now))
            self.same((self.model.extend(holder, attempts, 2500, now), set()), found)

    @rule(2, numbers=some, stranger=strangers)
    def release(self, numbers: list[int], stranger: bool) -> None:
        if claims := self.claimed(numbers):
            holder, attempts = self.held_by(claims, stranger)
            now = self.now
            found = self.pair.both(
                lambda store: _by_id(store.attempts.release(holder, attempts, now))
            )
            self.same(self.model.release(holder, attempts, now), found)

    @rule(numbers=some, stranger=strangers, value=st.integers(0, 3))
    def report(self, numbers: list[int], stranger: bool, value: int) -> None:
        if claims := self.claimed(numbers):
            holder, attempts = self.held_by(claims, stranger)
            reports = dict.fromkeys(attempts, f'{{"value":{value}}}')
            self.pair.both(lambda store: store.attempts.progress(holder, reports))
            self.model.progress(holder, reports)
            asked = self.pair.both(lambda store: store.attempts.cancel_requests(holder, attempts))
            self.same(self.model.asked(holder, attempts), asked)

    @rule()
    def sweep(self) -> None:
        now = self.now

        async def act(store: Store) -> tuple[int, list[Task]]:
            found, changed, _ = await store.sweep.leases(LOTS, now)
            return found, sorted(changed, key=lambda task: task.id)

        found, changed = self.pair.both(act)
        number, expected = self.model.sweep(now)
        assert found == number
        self.same(expected, changed)

    @rule()
    def forget(self) -> None:
        now = self.now
        self.same(
            self.model.forget(now), self.pair.both(lambda store: store.sweep.retention(LOTS, now))
        )

    @rule(3, number=picks, claimed=st.booleans(), running=st.booleans())
    def cancel(self, number: int, claimed: bool, running: bool) -> None:
        task_id, now = self.pick(number, claimed), self.now
        found = self.pair.both(lambda store: store.tasks.cancel(task_id, now, running=running))
        self.same(self.model.cancel(task_id, now, running=running), found)

    @rule(2, number=picks, claimed=st.booleans())
    def retry(self, number: int, claimed: bool) -> None:
        task_id, now = self.pick(number, claimed), self.now

        async def act(store: Store) -> Task | str | None:
            try:
                return await store.tasks.retry(task_id, now)
            except DuplicateKeyError as error:
                return error.task_id

        self.same(self.model.retry(task_id, now), self.pair.both(act))

    @rule(number=picks)
    def remove(self, number: int) -> None:
        task_id = self.pick(number, False)
        self.same(
            self.model.remove(task_id), self.pair.both(lambda store: store.tasks.remove(task_id))
        )

    @rule(
        task_type=st.sampled_from([None, *TYPES]),
        status=st.sampled_from([None, *TaskStatus]),
        sort=st.sampled_from(list(SortProperty)),
        direction=st.sampled_from(list(SortDirection)),
        limit=st.integers(1, 6),
    )
    def walk(
        self,
        task_type: str | None,
        status: TaskStatus | None,
        sort: SortProperty,
        direction: SortDirection,
        limit: int,
    ) -> None:
        async def act(store: Store) -> list[tuple[list[Task], str | None]]:
            pages, cursor = [], None
            while True:
                page = await store.pages.page(task_type, status, sort, direction, cursor, limit)
                pages.append((page.entities, page.cursor))
                if (cursor := page.cursor) is None:
                    return pages

        pages = self.pair.both(act)
        tasks = self.model.select(task_type, status)
        assert [task.id for page, _ in pages for task in page] == brute_force(
            tasks, sort, direction
        )
        assert [len(page) for page, _ in pages[:-1]] == [limit] * (len(pages) - 1)

    def compare(self) -> None:
        """Every row is as it should be."""
        ascending = SortDirection.ASCENDING

        async def act(store: Store) -> tuple[list[Task], dict[TaskStatus, int]]:
            page = await store.pages.page(
                None, None, SortProperty.DATE_CREATED, ascending, None, LOTS
            )
            return page.entities, await store.tasks.counts(None)

        tasks, counts = self.pair.both(act)
        expected = sorted(self.model.select(None, None), key=lambda task: task.id)
        self.same(expected, tasks)
        assert counts == {
            status: number
            for status in TaskStatus
            if (number := sum(task.status is status for task in expected))
        }
        assert self.pair.hidden() == {
            row.id: (row.lost_workers, row.lease_until, row.cancel_requested)
            for row in self.model.rows.values()
        }
        if self.ids:
            task_id = self.ids[-1]
            self.same(
                self.model.get(task_id), self.pair.both(lambda store: store.tasks.get(task_id))
            )


programs: st.SearchStrategy[list[Step]] = st.lists(st.one_of(_STEPS), min_size=30, max_size=60)


async def _by_id(released: Any) -> list[Task]:
    tasks, _ = await released
    return sorted(tasks, key=lambda task: task.id)
