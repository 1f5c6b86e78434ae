"""The models: their JSON, that they are frozen, and errors of every kind of exception."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from rowlock._endings import describe
from rowlock._json import loads
from rowlock.errors import HandlerError
from rowlock.models import (
    HandlerOptions,
    NewTask,
    SizeLimits,
    Task,
    TaskError,
    TaskPage,
    TaskStatus,
)

CREATED = datetime(2026, 3, 9, 10, 30, tzinfo=UTC)
TASK = Task(
    id="0195f0c2a0007000800000000000000a",
    type="image-resize",
    thread_id="0",
    retry_interval=3000,
    retries_remaining=2,
    date_created=CREATED,
    date_modified=CREATED + timedelta(milliseconds=5),
    status=TaskStatus.PENDING,
    payload={"imageId": "hero", "empty": None},
    run_at=CREATED,
)


def test_the_json_is_the_contracts() -> None:
    """Camel case, nothing that is not set, dates with milliseconds and Z."""
    assert TASK.model_dump_json(by_alias=True) == (
        '{"id":"0195f0c2a0007000800000000000000a","type":"image-resize","threadId":"0",'
        '"retryInterval":3000,"retriesRemaining":2,"dateCreated":"2026-03-09T10:30:00.000Z",'
        '"dateModified":"2026-03-09T10:30:00.005Z","status":"pending",'
        '"payload":{"imageId":"hero","empty":null},"attempt":0,"priority":0,'
        '"runAt":"2026-03-09T10:30:00.000Z"}'
    )


def test_every_field_has_its_contract_name() -> None:
    full = TASK.model_copy(
        update={
            "date_completed": CREATED,
            "date_cancelled": CREATED,
            "date_retain_until": CREATED,
            "result": 0,
            "error": TaskError(name="E", message="m"),
            "key": "k",
        }
    )
    assert list(full.model_dump(mode="json", by_alias=True)) == [
        "id", "type", "threadId", "retryInterval", "retriesRemaining", "dateCreated",
        "dateModified", "dateCompleted", "dateCancelled", "dateRetainUntil", "status", "payload",
        "result", "error", "attempt", "priority", "runAt", "key",
    ]  # fmt: skip
    error = {"name": "E", "message": "m"}
    assert full.model_dump(mode="json", by_alias=True)["error"] == error


def test_json_comes_back_by_either_name() -> None:
    assert Task.model_validate_json(TASK.model_dump_json(by_alias=True)) == TASK
    assert Task.model_validate_json(TASK.model_dump_json()) == TASK
    page = TaskPage(entities=[TASK], cursor="c")
    assert TaskPage.model_validate_json(page.model_dump_json(by_alias=True)) == page
    assert TaskPage(entities=[]).model_dump_json(by_alias=True) == '{"entities":[]}'


@given(st.datetimes(timezones=st.timezones()))
def test_dates_are_utc(instant: datetime) -> None:
    try:
        expected = instant.astimezone(UTC)
    except OverflowError:
        with pytest.raises(ValidationError):
            Task(**{**dict(TASK), "run_at": instant})
        return
    task = Task(**{**dict(TASK), "run_at": instant})
    assert (task.run_at, task.run_at.tzinfo) == (expected, UTC)
    text = task.model_dump(mode="json")["run_at"]
    # Cut to the millisecond, as ISO 8601 with all its digits.
    assert len(text) == len("2026-03-09T10:30:00.000Z")
    assert text.endswith("Z")
    back = datetime.fromisoformat(text)
    assert timedelta(0) <= expected - back < timedelta(milliseconds=1)


def test_another_zone_is_the_same_instant() -> None:
    east = CREATED.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert Task(**{**dict(TASK), "run_at": east}) == TASK


@pytest.mark.parametrize(
    "model",
    [
        TASK,
        TaskError(name="E", message="m"),
        TaskPage(entities=[]),
        HandlerOptions(),
        SizeLimits(),
    ],
    ids=lambda model: type(model).__name__,
)
def test_models_are_frozen_and_take_no_unknown_field(model: BaseModel) -> None:
    for name in type(model).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(model, name, None)
    with pytest.raises(ValidationError, match="unknown"):
        type(model)(**dict(model), unknown=1)


def test_a_new_task_is_frozen() -> None:
    with pytest.raises(AttributeError):
        NewTask("t").task_type = "u"  # type: ignore[misc]


@pytest.mark.parametrize(
    "options",
    [
        {"max_worker_count": 0},
        {"max_worker_count": -1},
        {"max_worker_count": 10_001},
        {"max_worker_count": True},
        {"max_worker_count": 1.0},
        {"max_worker_count": "4"},
        {"idle_shutdown_timeout": -1},
        {"idle_shutdown_timeout": None},
        {"idle_shutdown_timeout": 2**63},
        {"idle_shutdown_timeout": float("nan")},
        {"idle_shutdown_timeout": timedelta(milliseconds=-1)},
        {"timeout": 0},
        {"timeout": 1.5},
        {"timeout": timedelta(microseconds=1)},
        {"executor": "fiber"},
        {"initialise_method": 5},
        {"shutdown_method": ["x"]},
    ],
    ids=repr,
)
def test_bad_handler_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        HandlerOptions(**options)


def test_options_take_a_timedelta() -> None:
    options = HandlerOptions(
        timeout=timedelta(seconds=2),
        idle_shutdown_timeout=timedelta(minutes=1),
    )
    assert (options.timeout, options.idle_shutdown_timeout) == (2000, 60_000)


# Errors.


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_an_error_says_what_was_raised() -> None:
    def handler() -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error

    with pytest.raises(ValueError, match="outer") as info:
        handler()
    error = TaskError.from_exception(info.value, "module.handler")
    assert (error.name, error.message, error.source) == ("ValueError", "outer", "module.handler")
    assert error.stack is not None
    assert "in handler" in error.stack
    assert error.cause is not None
    assert (error.cause.name, error.cause.message) == ("KeyError", "'inner'")
    assert (error.cause.source, error.cause.cause) == (None, None)
    assert list(error.model_dump(mode="json", by_alias=True)) == [
        "name", "message", "source", "stack", "cause",
    ]  # fmt: skip


def test_a_context_is_a_cause_unless_suppressed() -> None:
    shown, hidden = ValueError("shown"), ValueError("hidden")
    shown.__context__ = hidden.__context__ = KeyError("context")
    hidden.__suppress_context__ = True
    assert TaskError.from_exception(shown).cause is not None
    assert TaskError.from_exception(hidden).cause is None


def test_a_handler_error_carries_its_properties() -> None:
    error = TaskError.from_exception(HandlerError("no", properties={"code": 5, "why": [None]}))
    assert error.properties == {"code": 5, "why": [None]}
    assert TaskError.from_exception(HandlerError("no")).properties is None


def looping() -> BaseException:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def looping_to_itself() -> BaseException:
    error = ValueError("itself")
    error.__context__ = error
    return error


def long_chain() -> BaseException:
    error = ValueError("0")
    for number in range(1, 100_000):
        after = ValueError(str(number))
        after.__cause__ = error
        error = after
    return error


def deep_stack() -> BaseException:
    def deeper(left: int) -> None:
        if left:
            deeper(left - 1)
        raise RecursionError("deep")

    try:
        deeper(800)
    except RecursionError as error:
        return error
    raise AssertionError


class StrRaises(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class Stop(BaseException):
    """As asyncio.CancelledError or SystemExit, which pytest would take for its own."""


class StrRaisesBase(Exception):
    def __str__(self) -> str:
        raise Stop

    __repr__ = __str__


class StrIsNoText(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class PropertiesRaise(HandlerError):
    def __init__(self) -> None:
        Exception.__init__(self, "x")

    @property
    def properties(self) -> Any:  # type: ignore[override]
        raise ValueError("no properties")


def circular_properties() -> BaseException:
    properties: dict[str, Any] = {}
    properties["again"] = properties
    return HandlerError("x", properties=properties)


def deep_properties() -> BaseException:
    value: Any = 1
    for _ in range(10_000):
        value = [value]
    return HandlerError("x", properties={"deep": value})


def group() -> BaseException:
    return ExceptionGroup("many", [ValueError("one"), ExceptionGroup("more", [KeyError("two")])])


def with_properties(properties: Any) -> Callable[[], BaseException]:
    return lambda: HandlerError("x", properties=properties)


HOSTILE: dict[str, Callable[[], BaseException]] = {
    "looping": looping,
    "looping to itself": looping_to_itself,
    "a long chain": long_chain,
    "a deep stack": deep_stack,
    "str() raises": StrRaises,
    "str() raises no Exception": StrRaisesBase,
    "str() is no text": StrIsNoText,
    "NUL": lambda: ValueError("a\0b"),
    "lone surrogate": lambda: ValueError("a\ud800b"),
    "200 MB": lambda: ValueError("x" * 200_000_000),
    "20 MB of surrogates": lambda: ValueError("\udfff" * 20_000_000),
    "200 MB argument": lambda: KeyError("x" * 20_000_000),
    "group": group,
    "BaseException": lambda: SystemExit("out"),
    "KeyboardInterrupt": KeyboardInterrupt,
    "no arguments": Exception,
    "a long class name": lambda: type("E" * 100_000, (Exception,), {})("x"),
    "properties that are no dict": with_properties([1]),
    "properties of text": with_properties("text"),
    "properties with an object": with_properties({"a": object()}),
    "properties with a set": with_properties({"a": {1}}),
    "properties with bytes": with_properties({"a": b"\xff"}),
    "properties with NaN": with_properties({"a": float("nan")}),
    "properties with NUL": with_properties({"a": "\0"}),
    "properties with a lone surrogate": with_properties({"a": "\ud800"}),
    "properties with an int key": with_properties({1: 1}),
    "properties with a huge integer": with_properties({"a": 10**5000}),
    "properties of 20 MB": with_properties({"a": "x" * 20_000_000}),
    "circular properties": circular_properties,
    "deep properties": deep_properties,
    "properties that raise": PropertiesRaise,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_every_exception_can_be_stored(name: str) -> None:
    """Fails where an outcome cannot be written: its task would be left processing."""
    error = raised(HOSTILE[name]())
    limits = SizeLimits()
    text = describe(error, "module.handler", limits)
    assert len(text.encode("utf-8")) <= limits.error_bytes
    assert "\0" not in text
    assert "\\u0000" not in text
    stored = TaskError.model_validate_json(text)
    assert stored.name
    assert stored.source == "module.handler"
    assert TaskError.model_validate(loads(text)) == stored


def test_what_was_cut_is_marked() -> None:
    error = TaskError.from_exception(ValueError("x" * 1000), limit=100)
    assert error.message.startswith("x" * 100 + "…")
    assert "cut" in error.message
    assert "1,000" in error.message
    text = describe(ValueError("é" * 100_000), "s", SizeLimits(error_bytes=1024))
    assert len(text.encode()) <= 1024
    assert "cut" in TaskError.model_validate_json(text).message


def test_what_cannot_be_stored_is_shown() -> None:
    assert TaskError.from_exception(ValueError("a\0b")).message == "a\\0b"
    assert TaskError.from_exception(ValueError("a\ud800")).message == "a\\ud800"
    assert "ValueError" in TaskError.from_exception(StrRaises()).message


def test_a_loop_of_causes_ends() -> None:
    error = TaskError.from_exception(looping())
    assert error.cause is not None
    assert (error.message, error.cause.message, error.cause.cause) == ("first", "second", None)
