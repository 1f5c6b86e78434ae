"""Bad arguments of the queue: refused with their name, and before any SQL."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from rowlock import HandlerOptions, NewTask, TaskQueue
from rowlock._store.database import Database
from rowlock.errors import (
    InvalidArgumentError,
    InvalidPayloadError,
    QueueClosedError,
    RowlockError,
)
from rowlock.models import MAX_DURATION_MS, SizeLimits
from tests.properties.values import LyingText, RaisingText, Seeming, Unreadable
from tests.support.stores import open_store, stored

YEAR_1_EAST = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
YEAR_9999_WEST = datetime(9999, 12, 31, 23, 59, tzinfo=timezone(timedelta(hours=-1)))

NO_TEXT: list[Any] = [None, "", 5, True, b"t", "x" * 256, "a\0b", "\ud800", ["t"], object()]
NO_DURATION: list[Any] = [
    -2,
    MAX_DURATION_MS + 1,
    2**63,
    10**400,
    1.0,
    math.nan,
    math.inf,
    True,
    "5",
    timedelta(milliseconds=-1),
    timedelta(microseconds=-1),
    timedelta.max,
    timedelta.min,
]
NO_COUNT: list[Any] = [-1, 2**31, 2**63, 1.0, math.nan, True, "1", [1]]
NO_PRIORITY: list[Any] = [None, 2**31, -(2**31), 2**63, 1.0, math.nan, True, "1"]
NO_INSTANT: list[Any] = [
    datetime(2026, 1, 1),
    YEAR_1_EAST,
    YEAR_9999_WEST,
    "2026-03-09T10:30:00Z",
    1_700_000_000,
    datetime(2026, 1, 1, tzinfo=UTC).date(),
]
NO_PAYLOAD: list[Any] = [math.nan, "\0", "\ud800", b"", {1: 1}, {1}, object(), "x" * 262_143]
NO_ID: list[Any] = [
    None, "", "nope", 5, b"0" * 32, "0" * 31, "0" * 33, "A" * 32, "g" * 32, "0" * 31 + "\n",
    "0" * 32 + "\n", " " + "0" * 31, "\u0660" * 32, "\0" * 32, "\ud800" * 32, "0" * 1_000_000,
    UUID(int=0), str(UUID(int=0)), ["0" * 32], {}, str,
]  # fmt: skip


def cases(name: str, values: Iterable[Any]) -> list[tuple[str, Any]]:
    return [(name, value) for value in values]


CREATE = [
    *cases("task_type", NO_TEXT),
    *cases("payload", NO_PAYLOAD),
    *cases("retry_count", NO_COUNT),
    *cases("retry_interval", [-1, *NO_DURATION]),
    *cases("retain_for", NO_DURATION),
    *cases("priority", NO_PRIORITY),
    *cases("run_at", NO_INSTANT),
    *cases("delay", [-1, *NO_DURATION]),
    *cases("key", [value for value in NO_TEXT if value is not None]),
]
QUERY = [
    *cases("task_type", [value for value in NO_TEXT if value is not None]),
    *cases("task_status", ["", "Pending", "done", 5, b"pending", ["pending"], object()]),
    *cases("sort_property", ["", "datecreated", "id", None, 5, ["status"]]),
    *cases("sort_direction", ["", "ASC", "descending", None, 1, {}]),
    *cases("limit", [0, -1, 501, 2**63, 1.0, math.nan, True, "5", None]),
    *cases("cursor", ["", "x", 5, b"x", "A" * 1_000_000]),
]


def name_of(value: object) -> str:
    # Without the address, which differs between the processes of one run.
    return ascii(value).partition(" at 0x")[0][:24]


@asynccontextmanager
async def spied(url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TaskQueue]:
    """An open queue whose store says so if it is asked for anything, and has no row after it."""
    async with TaskQueue(url, notify=False) as queue:
        with monkeypatch.context() as patch:
            for name in (
                "autocommit", "read", "read_in_index_order", "transaction", "bulk_insert", "on",
                "claim", "claim_to_run", "hint", "hint_on",
            ):  # fmt: skip
                assert hasattr(Database, name)
                patch.setattr(queue._store.database, name, _sent)
            yield queue
    assert list(await stored(url)) == []


async def _sent(*args: object, **kwargs: object) -> None:
    raise AssertionError("SQL was sent")


async def refuses(name: str, call: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(InvalidArgumentError) as info:
        await call()
    assert isinstance(info.value, RowlockError)
    assert isinstance(info.value, ValueError)
    message = str(info.value)
    assert message.startswith(name), message
    assert len(message) < 500
    message.encode("utf-8")


@pytest.mark.parametrize(("name", "value"), CREATE, ids=name_of)
async def test_create_and_create_many(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, name: str, value: Any
) -> None:
    async with spied(sqlite_url, monkeypatch) as queue:
        arguments = {"task_type": "t", name: value}
        await refuses(name, lambda: queue.create(**arguments))
        # One bad task among good ones: none is stored.
        good = NewTask("t")
        bad = NewTask(**arguments)
        await refuses(name, lambda: queue.create_many([good, bad, good]))
        if name == "payload":
            with pytest.raises(InvalidPayloadError):
                await queue.create("t", value)


@pytest.mark.parametrize(("name", "value"), QUERY, ids=name_of)
async def test_query(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, name: str, value: Any
) -> None:
    async with spied(sqlite_url, monkeypatch) as queue:
        arguments: dict[str, Any] = {name: value}
        await refuses(name, lambda: queue.query(**arguments))


@pytest.mark.parametrize("value", NO_ID, ids=name_of)
async def test_what_cannot_be_an_id_is_no_task(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, value: Any
) -> None:
    """Fails where an id from a URL is an error, or is sent to the database."""
    async with spied(sqlite_url, monkeypatch) as queue:
        assert await queue.get(value) is None
        for method in (queue.retry, queue.cancel, queue.remove):
            assert await method(value) is False
        assert await queue.cancel(value, running=True) is False


async def test_an_id_is_its_text_whatever_its_class_says(database: str) -> None:
    async with TaskQueue(database) as queue:
        task_id = await queue.create("t", retain_for=-1)
        assert await queue.get(RaisingText("0" * 32)) is None
        for no_text in (LyingText("0" * 31 + "\0"), Seeming(), Unreadable()):
            assert await queue.get(no_text) is None  # type: ignore[arg-type]
            assert await queue.remove(no_text) is False  # type: ignore[arg-type]
        task = await queue.get(RaisingText(task_id))
        assert task is not None
        assert task.id == task_id
        assert await queue.cancel(LyingText(task_id))
        assert await queue.remove(RaisingText(task_id))


async def test_run_at_excludes_delay(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with spied(sqlite_url, monkeypatch) as queue:
        now = datetime.now(UTC)
        await refuses("delay", lambda: queue.create("t", run_at=now, delay=0))


@pytest.mark.parametrize("value", ["x", 5, object()])
async def test_connection(sqlite_url: str, monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    async with spied(sqlite_url, monkeypatch) as queue:
        await refuses("connection", lambda: queue.create("t", connection=value))
        await refuses("connection", lambda: queue.create_many([NewTask("t")], connection=value))


@pytest.mark.parametrize(
    "value", [None, 5, "text", b"x", [None], ["t"], [{"task_type": "t"}], [("t",)], NewTask("t")],
    ids=name_of,
)  # fmt: skip
async def test_create_many_takes_only_new_tasks(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, value: Any
) -> None:
    async with spied(sqlite_url, monkeypatch) as queue:
        await refuses("tasks", lambda: queue.create_many(value))


async def test_create_many_of_nothing(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with spied(sqlite_url, monkeypatch) as queue:
        assert await queue.create_many([]) == []
        assert await queue.create_many(iter(())) == []


ASYNC = {"module": "tests.support.worker_handlers", "method": "echo"}
ANYTHING: tuple[Any, ...] = (5, "f", [])
NO_OPTIONS: list[Any] = [5, "async", [("timeout", 5)]]
NO_OPTION: dict[str, tuple[Any, ...]] = {
    "max_worker_count": (0, -1, 2.5, "4", True, 10_001),
    "idle_shutdown_timeout": (-1, timedelta(milliseconds=-1), 2.5, None, 2**63),
    "timeout": (-1, 0, float("nan"), 2**63),
    "cancel_timeout": (-1, None),
    "max_tasks_per_worker": (0, -1, 1.5),
    "max_memory": (0, -1, "1 GiB"),
    "executor": ("fork", "", 5),
    "initialise_method": (5,),
    "no_such": (1,),
}
HANDLERS: list[tuple[str, dict[str, Any]]] = [
    *(("task_type", {"task_type": value}) for value in NO_TEXT),
    *(("module", {"module": value}) for value in (None, "", 5, "no.such.module", "math\0", ".x")),
    *(("method", {"method": value}) for value in (None, "", 5, "no_such", "pi", "sqrt\0")),
    *(("state_change_callback", {"state_change_callback": value}) for value in ANYTHING),
    *(("options", {"options": value}) for value in NO_OPTIONS),
    ("options.initialise_method", {"options": HandlerOptions(initialise_method="no_such")}),
    ("options.shutdown_method", {"options": HandlerOptions(shutdown_method="pi")}),
    ("options.executor", {"options": HandlerOptions(executor="async")}),
    ("options.executor", {**ASYNC, "options": HandlerOptions(executor="thread")}),
    *(
        (f"options.{option}", {"options": {option: value}})
        for option, values in NO_OPTION.items()
        for value in values
    ),
    *(
        (f"options.{option}", {"options": HandlerOptions.model_construct(**{option: value})})
        for option, values in NO_OPTION.items()
        for value in values
        if option != "no_such"
    ),
    *(
        (f"options.{option}", {"options": {option: 5, "executor": "thread"}})
        for option in ("max_tasks_per_worker", "max_memory")
    ),
]


@pytest.mark.parametrize(("name", "arguments"), HANDLERS, ids=name_of)
async def test_register_handler(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, name: str, arguments: dict[str, Any]
) -> None:
    async with spied(sqlite_url, monkeypatch) as queue:
        given = {"task_type": "t", "module": "math", "method": "sqrt", **arguments}
        await refuses(name, lambda: queue.register_handler(**given))
        # Nothing is half registered.
        assert queue.runtime.handlers == {}
        assert queue.runtime.callbacks_of == {}


async def test_a_refused_handler_does_not_replace_the_one_before(sqlite_url: str) -> None:
    async with TaskQueue(sqlite_url) as queue:
        await queue.register_handler("t", "math", "sqrt", print)
        before = queue.runtime.handlers["t"]
        with pytest.raises(InvalidArgumentError):
            await queue.register_handler("t", "math", "no_such", print)
        assert queue.runtime.handlers["t"] is before
        assert queue.runtime.callbacks_of["t"] is print


SETTINGS = [
    *cases("retry_interval", [None, -1, *NO_DURATION]),
    *cases("lease", [None, 0, 999, timedelta(milliseconds=999), *NO_DURATION]),
    *cases("sweep_interval", [None, 0, 49, *NO_DURATION]),
    *cases("poll_interval", [None, 0, 49, *NO_DURATION]),
    *cases("max_lost_workers", [None, 0, *NO_COUNT]),
    *cases("stop_timeout", [None, -1, *NO_DURATION]),
    *cases("notify", [None, 1, "no"]),
    *cases("limits", [5, {}, {"depth": 3}, "limits"]),
]


@pytest.mark.parametrize(("name", "value"), SETTINGS, ids=name_of)
def test_settings(name: str, value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=name):
        TaskQueue("sqlite:///none.db", **{name: value})


@pytest.mark.parametrize(
    "database",
    [
        5,
        b"sqlite:///x.db",
        "",
        "x",
        "mysql://host/name",
        "sqlite://",
        "sqlite:///:memory:",
        "postgresql+psycopg://host/name",
        "postgresql://host:99999/name",
        "postgresql://host/name?no_such=1",
        object(),
    ],
    ids=name_of,
)
def test_databases(database: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^database"):
        TaskQueue(database)


@pytest.mark.parametrize(
    "values",
    [
        {"payload_bytes": 1},
        {"payload_bytes": 2**63},
        {"result_bytes": -1},
        {"error_bytes": 1023},
        {"depth": 0},
        {"depth": 129},
        {"name_length": 0},
        {"name_length": 256},
        {"depth": math.nan},
        {"unknown": 1},
    ],
    ids=name_of,
)
def test_limits(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        SizeLimits(**values)


async def test_what_is_just_allowed(database: str) -> None:
    """At each limit. Fails where a check is stricter than what it says."""
    west = timezone(timedelta(hours=-12))
    allowed: list[dict[str, Any]] = [
        {"task_type": "x" * 255},
        {"task_type": "\U0001f600" * 255, "key": "\U0001f600" * 255},
        {"payload": "x" * 262_142},
        {"retry_count": 2**31 - 1},
        {"retry_interval": MAX_DURATION_MS, "retain_for": MAX_DURATION_MS},
        {"retry_interval": 0, "retain_for": -1, "delay": 0},
        {"retain_for": timedelta(days=1), "delay": timedelta(microseconds=1999)},
        {"delay": MAX_DURATION_MS},
        {"priority": 2**31 - 1},
        {"priority": -(2**31) + 1},
        {"run_at": datetime(1, 1, 1, 1, tzinfo=UTC)},
        {"run_at": datetime(9999, 12, 31, 11, tzinfo=west)},
        {"run_at": datetime.min.replace(tzinfo=UTC)},
        {"run_at": datetime.max.replace(tzinfo=UTC)},
    ]
    async with TaskQueue(database) as queue:
        for arguments in allowed:
            given = {"task_type": "t", **arguments}
            (many,) = await queue.create_many(
                [NewTask(**{n: v for n, v in given.items() if n != "key"})]
            )
            for task_id in (await queue.create(**given), many):
                task = await queue.get(task_id)
                assert task is not None, arguments
                if "run_at" in given:
                    assert task.run_at == given["run_at"]
        seen: list[str] = []
        cursor = None
        while True:
            page = await queue.query(cursor=cursor, limit=5)
            seen += [task.id for task in page.entities]
            cursor = page.cursor
            if cursor is None:
                break
        assert len(seen) == 2 * len(allowed)


async def test_a_closed_queue_says_so(database: str) -> None:
    queue = TaskQueue(database)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: queue.create("t"),
        lambda: queue.create_many([NewTask("t")]),
        lambda: queue.get("0" * 32),
        lambda: queue.retry("0" * 32),
        lambda: queue.cancel("0" * 32),
        lambda: queue.remove("0" * 32),
        queue.query,
        queue.counts,
        queue.start,
    ]
    for _ in range(2):
        for call in calls:
            with pytest.raises(QueueClosedError):
                await call()
        async with queue:
            assert await queue.get("0" * 32) is None


async def test_the_spy_sees_sql(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this the tests above prove nothing."""
    async with spied(sqlite_url, monkeypatch) as queue:
        for call in (
            lambda: queue.create("t"),
            lambda: queue.create_many([NewTask("t")]),
            lambda: queue.get("0" * 32),
            queue.query,
        ):
            with pytest.raises(AssertionError, match="SQL was sent"):
                await call()
    async with open_store(sqlite_url) as store:
        assert await store.tasks.counts(None) == {}
