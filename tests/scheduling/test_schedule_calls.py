"""The functions that scheduled tasks call: which are taken, how many run at once, and where."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import pytest

from rowlock import InvalidArgumentError, ScheduledTaskTime, TaskQueue, TaskScheduler
from rowlock._events import Event, ThreadRefused
from rowlock._scheduling.calls import Threads
from rowlock._store.triggers import Triggers
from tests.scheduling.test_scheduler import once, outcome
from tests.support.helpers import eventually
from tests.support.stores import execute

# How many run at once.


class Gate:
    """Functions that wait until they may end, and how many of them did so at once."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.called: list[str] = []
        self.most = self._running = 0
        self._lock = threading.Lock()

    def function(self, name: str) -> Callable[[], None]:
        def wait() -> None:
            self._begin(name)
            self.open.wait(60)
            self._end()

        return wait

    def coroutine(self, name: str) -> Callable[[], Awaitable[None]]:
        async def wait() -> None:
            self._begin(name)
            while not self.open.is_set():
                await asyncio.sleep(0.005)
            self._end()

        return wait

    def _begin(self, name: str) -> None:
        with self._lock:
            self.called.append(name)
            self._running += 1
            self.most = max(self.most, self._running)

    def _end(self) -> None:
        with self._lock:
            self._running -= 1


@pytest.mark.parametrize("kind", ["function", "coroutine"])
async def test_what_cannot_be_called_yet_stays_in_the_table(database: str, kind: str) -> None:
    """Fails if each function that is due gets a thread, or a coroutine, at once."""
    gate = Gate()
    names = {f"{number:02}" for number in range(25)}
    async with TaskQueue(database) as queue:
        scheduler = TaskScheduler(queue, max_threads=3, max_coroutines=3)
        for name in names:
            await scheduler.add_task(name, [once()], getattr(gate, kind)(name))
        await scheduler.add_task("task", [once()], task_type="t", retain_for=-1)
        await queue.start()
        await eventually(lambda: len(gate.called) == 3)

        async def created() -> int:
            return (await queue.counts())["pending"]

        # What needs no place does not wait for one.
        await eventually(created)
        waiting = "SELECT count(*) FROM rowlock_scheduled_task WHERE next_trigger IS NOT NULL"
        assert await execute(database, waiting) == [(22,)]
        for name in names - set(gate.called):
            assert await scheduler.trigger_task(name) is False
            assert await outcome(scheduler, name) is None
        # Another process takes what waits here.
        async with TaskQueue(database) as other:
            elsewhere = TaskScheduler(other)
            (name, *_) = names - set(gate.called)
            seen: list[str] = []
            # As it is stored, or it would be another one.
            found = await elsewhere.task_state(name)
            assert found is not None
            await elsewhere.add_task(name, found.times, lambda: seen.append(name))
            await other.start()
            await eventually(lambda: seen == [name])
        gate.open.set()
        await eventually(lambda: len(gate.called) == 24)
        assert await execute(database, waiting) == [(0,)]
    assert sorted([*gate.called, *seen]) == sorted(names)
    assert gate.most == 3


def idle_threads() -> int:
    return sum(thread.name == "rowlock schedule" for thread in threading.enumerate())


async def test_no_thread_waits_for_nothing(database: str) -> None:
    """Fails if the threads that were ready for a burst are kept after it."""
    before = idle_threads()
    calls: list[int] = []
    async with TaskQueue(database) as queue:
        scheduler = TaskScheduler(queue)
        for number in range(20):
            await scheduler.add_task(str(number), [once()], lambda: calls.append(1))
        await queue.start()
        await eventually(lambda: len(calls) == 20)
        await eventually(lambda: idle_threads() == before)


async def test_what_is_triggered_by_hand_keeps_its_thread(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where a look that finds nothing due sends the thread away: it was 30 s late."""
    called = threading.Event()
    async with TaskQueue(database) as queue:
        scheduler = TaskScheduler(queue)
        await queue.start()
        await scheduler.add_task("s", [ScheduledTaskTime(interval_days=1)], called.set)
        await scheduler._triggers._loop.end(5)  # each look that comes later would start a thread
        trigger, looks = Triggers.trigger, 0
        running: list[asyncio.Task[float]] = []
        next_due = Triggers.next_due

        async def counted(self: Triggers, *arguments: Any) -> float | None:
            nonlocal looks
            wait = await next_due(self, *arguments)
            looks += 1
            return wait

        async def late(self: Triggers, *arguments: Any) -> Any:
            before = looks
            running.append(asyncio.create_task(scheduler._triggers.trigger_due()))
            await eventually(lambda: looks > before)
            return await trigger(self, *arguments)

        monkeypatch.setattr(Triggers, "next_due", counted)
        monkeypatch.setattr(Triggers, "trigger", late)
        assert await scheduler.trigger_task("s")
        await eventually(called.is_set)
        await asyncio.gather(*running)


async def test_a_thread_that_cannot_start_has_triggered_nothing(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if the instant is taken before there is a thread for its function."""
    start = threading.Thread.start
    refused = 0
    said: list[Event] = []

    def none_left(self: threading.Thread) -> None:
        nonlocal refused
        if self.name == "rowlock schedule":
            refused += 1
            raise RuntimeError("can't start new thread")
        start(self)

    seen: list[datetime] = []
    time = once()
    async with TaskQueue(database) as queue:
        queue.runtime.events.subscribe(
            lambda event: said.append(event) if isinstance(event, ThreadRefused) else None
        )
        scheduler = TaskScheduler(queue)

        def note(due: datetime) -> None:
            seen.append(due)

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", none_left)
            await scheduler.add_task("s", [time], note)
            await scheduler.add_task("t", [once()], task_type="t", retain_for=-1)
            await queue.start()
            await eventually(lambda: refused >= 2)
            assert await scheduler.trigger_task("s") is False
            found = await scheduler.task_state("s")
            assert found is not None
            assert found.times == [time]
            assert (found.last_trigger_time, found.last_outcome) == (None, None)
            assert len(said) == 1
        await eventually(lambda: seen)
    assert [int(due.timestamp() * 1000) for due in seen] == [time.next_trigger_time]


async def test_the_places_of_calls_that_never_end_stay_taken(database: str) -> None:
    """Fails if the end of a `stop` gives back the place of a thread that still runs."""
    gate = Gate()
    async with TaskQueue(database, stop_timeout=0) as queue:
        scheduler = TaskScheduler(queue, max_threads=1)
        await scheduler.add_task("long", [once()], gate.function("long"))
        await queue.start()
        await eventually(lambda: gate.called == ["long"])
        await queue.stop()
        assert await outcome(scheduler, "long") == "failed"
        await scheduler.add_task("next", [once()], gate.function("next"))
        await queue.start()
        assert scheduler._triggers._calls.room(in_loop=False) == 0
        assert await scheduler.trigger_task("next") is False
        gate.open.set()
        await eventually(lambda: gate.called == ["long", "next"])


def test_threads_are_started_before_and_ended_after() -> None:
    threads = Threads(2)
    assert (threads.room, threads.prepare(5)) == (2, 2)
    gate, done = threading.Event(), threading.Event()

    def job() -> Callable[[], None]:
        gate.wait(10)
        return done.set

    threads.run(job)
    assert (threads.room, threads.prepare(5), threads.prepare(0)) == (1, 1, 0)
    gate.set()
    assert done.wait(10)
    assert threads.room == 2


def test_a_job_without_a_thread_that_waits_gets_one() -> None:
    """Fails where it waits for the next one that is prepared."""
    threads = Threads(2)
    done = threading.Event()
    assert (threads.prepare(1), threads.prepare(0)) == (1, 0)
    threads.run(lambda: done.set)
    assert done.wait(10)
    assert threads.room == 2


@pytest.mark.parametrize("bad", [0, -1, 10_001, 1.5, None, True])
def test_bad_bounds_are_refused(sqlite_url: str, bad: Any) -> None:
    queue = TaskQueue(sqlite_url)
    with pytest.raises(InvalidArgumentError, match=r"^max_threads"):
        TaskScheduler(queue, max_threads=bad)
    with pytest.raises(InvalidArgumentError, match=r"^max_coroutines"):
        TaskScheduler(queue, max_coroutines=bad)


# What is awaited.

Seen = list[tuple[str, datetime | None]]


def awaitables(seen: Seen) -> dict[str, Callable[..., Any]]:
    async def work(name: str, due: datetime | None = None) -> None:
        assert threading.current_thread() is threading.main_thread()
        await asyncio.sleep(0)
        seen.append((name, due))

    class Asynchronous:
        async def __call__(self, due: datetime) -> None:
            await work("object", due)

    class Returning:
        def __call__(self, due: datetime) -> Awaitable[None]:
            return work("returning object", due)

        def method(self, due: datetime) -> Awaitable[None]:
            return work("method", due)

    class Awaited:
        def __await__(self) -> Iterator[Any]:
            return work("own awaitable").__await__()

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any) -> Any:
            return function("decorator", *args)

        return call

    return {
        "partial": functools.partial(work, "partial"),
        "partial of an object": functools.partial(Asynchronous()),
        "object": Asynchronous(),
        "returning object": Returning(),
        "method": Returning().method,
        "lambda": lambda due: work("lambda", due),
        "nothing": lambda: work("nothing"),
        "own awaitable": Awaited,
        "decorator": wrapped(work),
    }


async def test_what_a_function_returns_is_awaited(database: str) -> None:
    """Fails if one that is not `async def` ends with what it returns."""
    seen: Seen = []
    functions = awaitables(seen)
    async with TaskQueue(database) as queue:
        scheduler = TaskScheduler(queue)
        for name, function in functions.items():
            await scheduler.add_task(name, [once()], function)
        await queue.start()
        await eventually(lambda: len(seen) == len(functions))

        async def all_ended() -> bool:
            return {await outcome(scheduler, name) for name in functions} == {"success"}

        await eventually(all_ended)
    without = {"nothing", "own awaitable"}
    assert {name for name, due in seen if due is None} == without


async def test_an_error_of_what_is_awaited_is_the_functions(database: str) -> None:
    async def broken() -> None:
        raise ValueError("no")

    async with TaskQueue(database) as queue:
        scheduler = TaskScheduler(queue, max_threads=1)
        await scheduler.add_task("s", [once()], lambda: broken())
        await queue.start()

        async def failed() -> bool:
            return await outcome(scheduler, "s") == "failed"

        await eventually(failed)
        assert scheduler._triggers._calls.room(in_loop=False) == 1


# What is refused.


class Odd:
    """A callable that cannot even be looked at."""

    @property
    def __signature__(self) -> None:
        raise ZeroDivisionError

    def __call__(self) -> None: ...


def two(first: Any, second: Any) -> None: ...


def named(*, due: datetime) -> None: ...


def generator(due: datetime) -> Iterator[None]:
    yield


async def asynchronous_generator() -> AsyncIterator[None]:
    yield


class Generating:
    def __call__(self) -> Iterator[None]:
        yield


@pytest.mark.parametrize(
    "function",
    [
        two,
        named,
        lambda a, b: None,
        functools.partial(two),
        generator,
        asynchronous_generator,
        functools.partial(generator),
        Generating(),
        Odd(),
    ],
    ids=range(9),
)
async def test_what_cannot_be_called_is_refused_at_once(
    sqlite_url: str, function: Callable[..., Any]
) -> None:
    """Fails if that shows only when it is due, or if a generator counts as called."""
    async with TaskQueue(sqlite_url) as queue:
        scheduler = TaskScheduler(queue)
        with pytest.raises(InvalidArgumentError, match=r"^task_callback: .* is allowed$"):
            await scheduler.add_task("s", [once()], function)
        assert (await scheduler.tasks_info()).tasks == {}


async def test_a_decorator_may_give_what_it_wraps_an_argument(database: str) -> None:
    seen: list[Any] = []

    def with_connection(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any) -> Any:
            return function("connection", *args)

        return call

    @with_connection
    def work(connection: str, due: datetime) -> None:
        seen.extend((connection, due))

    async with TaskQueue(database) as queue:
        scheduler = TaskScheduler(queue)
        await scheduler.add_task("s", [once()], work)
        await queue.start()
        await eventually(lambda: len(seen) == 2)
    assert isinstance(seen[1], datetime)


# Nothing goes from one call to the next.

left_behind: ContextVar[str] = ContextVar("left_behind", default="nothing")
of_thread = threading.local()


async def test_calls_share_neither_context_nor_thread(database: str) -> None:
    """Fails if a thread is used again: what a session keeps in it would be the next function's."""
    seen: list[tuple[str, str]] = []

    def look() -> None:
        seen.append((left_behind.get(), getattr(of_thread, "value", "nothing")))
        left_behind.set("something")
        of_thread.value = "something"

    async def look_in_loop() -> None:
        seen.append((left_behind.get(), "nothing"))
        left_behind.set("something")

    start = datetime(2020, 1, 1, tzinfo=UTC)
    time = ScheduledTaskTime(next_trigger_time=start, interval_days=1)
    async with TaskQueue(database) as queue:
        scheduler = TaskScheduler(queue, max_threads=1)
        await scheduler.add_task("thread", [time], look, misfire="catch_up")
        await scheduler.add_task("loop", [time], look_in_loop, misfire="catch_up")
        await queue.start()
        await eventually(lambda: len(seen) >= 20)
    assert set(seen) == {("nothing", "nothing")}
