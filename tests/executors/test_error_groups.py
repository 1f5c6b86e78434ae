"""Errors of groups: each member is stored with what is its own, within bounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from rowlock import HandlerError, NewTask, TaskError, TaskQueue, TaskStatus
from rowlock._endings import describe, raised
from rowlock.models import SizeLimits
from tests.properties.error_handlers import HidesItsCause, Nameless
from tests.support.group_handlers import ERRORS, FINAL, caught, group, led_to, noted
from tests.worker.test_worker import ended

EXECUTORS: dict[str, dict[str, Any]] = {
    "raises": {},
    "raises_in_thread": {"executor": "thread"},
    "raises_in_process": {"max_worker_count": 1},
}


def stored(error: BaseException, limits: SizeLimits | None = None) -> TaskError:
    limits = limits or SizeLimits()
    text = describe(error, "module.handler", limits)
    assert len(text.encode()) <= limits.error_bytes
    return TaskError.model_validate_json(text)


def every(error: TaskError) -> Iterator[TaskError]:
    yield error
    for part in [error.cause, *(error.errors or [])]:
        if part is not None:
            yield from every(part)


def check_group(outer: TaskError) -> None:
    """That all of `group_handlers.group` is there."""
    assert (outer.name, outer.notes) == ("ExceptionGroup", ["of the outer"])
    assert outer.message == "outer (2 sub-exceptions)"
    assert outer.errors is not None
    first, inner = outer.errors
    assert (first.name, first.message, first.notes) == ("ValueError", "first", ["note 1"])
    assert first.stack is not None
    assert "in caught" in first.stack
    assert first.cause is not None
    assert first.cause.message == "'the cause of the first'"
    assert (inner.name, inner.notes) == ("ExceptionGroup", ["of the inner"])
    assert inner.errors is not None
    (second,) = inner.errors
    assert (second.name, second.message) == ("Refused", "second")
    assert (second.notes, second.properties) == (["note 2", "note 3"], {"code": 7})
    assert second.stack is not None


@pytest.mark.parametrize("handler", EXECUTORS)
async def test_members_are_found_in_the_stored_error(database: str, handler: str) -> None:
    """Fails where a group is stored as its own message, which says how many there were."""
    async with TaskQueue(database) as queue:
        await queue.register_handler(
            "t", "tests.support.group_handlers", handler, options=EXECUTORS[handler]
        )
        await queue.start()
        ids = [
            await queue.create("t", name, retry_count=0, retain_for=-1)
            for name in ("group", "as a cause")
        ]
        task = await ended(queue, ids[0])
        assert task.error is not None
        assert task.error.source == f"tests.support.group_handlers.{handler}"
        check_group(task.error)
        task = await ended(queue, ids[1])
        assert task.error is not None
        assert task.error.message == "three sends failed"
        assert task.error.cause is not None
        check_group(task.error.cause)
        assert TaskError.model_validate_json(task.error.model_dump_json(by_alias=True)) == (
            task.error
        )


async def test_what_a_task_group_raises(database: str) -> None:
    async with TaskQueue(database) as queue:
        await queue.register_handler("t", "tests.support.group_handlers", "fails_in_a_task_group")
        await queue.start()
        task = await ended(queue, await queue.create("t", retry_count=0, retain_for=-1))
        assert task.error is not None
        assert [error.message for error in task.error.errors or []] == [
            "recipient 0", "recipient 1", "recipient 2",
        ]  # fmt: skip
        assert all("in send" in (error.stack or "") for error in task.error.errors or [])


@pytest.mark.parametrize("handler", EXECUTORS)
async def test_a_member_that_is_final_ends_the_task(database: str, handler: str) -> None:
    """Fails where only what the handler raised itself is asked."""
    async with TaskQueue(database, retry_interval=0) as queue:
        await queue.register_handler(
            "t", "tests.support.group_handlers", handler, options=EXECUTORS[handler]
        )
        await queue.start()
        names = [name for name in ERRORS if "final" in name]
        ids = await queue.create_many(
            NewTask("t", name, retry_count=1, retain_for=-1) for name in names
        )
        for name, task_id in zip(names, ids, strict=True):
            task = await ended(queue, task_id)
            assert task.status is TaskStatus.FAILED
            assert (name, task.retries_remaining) == (name, int(name in FINAL))


@pytest.mark.parametrize("name", ERRORS)
def test_which_groups_are_final(name: str) -> None:
    assert raised(ERRORS[name](), "s", SizeLimits()).retry is (name not in FINAL)


def test_a_group_of_many_is_cut_and_marked() -> None:
    """Fails where all are encoded to find that they take too much."""
    many = [
        noted(caught(ValueError(f"member {number}")), f"note {number}") for number in range(10_000)
    ]
    error = stored(ExceptionGroup("many", many))
    assert error.errors is not None
    *members, last = error.errors
    assert 8 <= len(members) < 100
    for number, member in enumerate(members):
        assert (member.message, member.notes) == (f"member {number}", [f"note {number}"])
    assert last == TaskError(
        name="cut", message=f"{10_000 - len(members):,} errors of the group are not stored"
    )


def test_each_of_many_keeps_its_cause() -> None:
    many = [led_to(KeyError(number), ValueError(number)) for number in range(200)]
    error = stored(ExceptionGroup("many", many))
    assert error.errors is not None
    assert [(member.message, member.cause and member.cause.message) for member in error.errors][
        :20
    ] == [(str(number), str(number)) for number in range(20)]


def test_groups_within_groups_are_bounded() -> None:
    nested: Exception = ValueError("the innermost")
    for number in range(200):
        nested = ExceptionGroup(f"level {number}", [nested, ValueError("beside")])
    error = stored(nested)
    parts = list(every(error))
    assert len(parts) < 200
    assert "beside" in [part.message for part in parts]
    assert TaskError(name="cut", message="2 errors of the group are not stored") in parts


def test_a_group_that_holds_itself_many_times_over() -> None:
    doubled: Exception = ValueError("x")
    for _ in range(60):
        doubled = ExceptionGroup("twice", [doubled, doubled])
    assert len(list(every(stored(doubled)))) < 250


def test_a_loop_through_a_group_ends() -> None:
    member = ValueError("member")
    outer = ExceptionGroup("outer", [member])
    member.__cause__ = outer
    error = stored(outer)
    assert [part.name for part in every(error)] == ["ExceptionGroup", "ValueError"]


def test_a_long_chain_says_where_it_was_cut() -> None:
    error: BaseException = ValueError("0")
    for number in range(1, 100):
        error = led_to(error, ValueError(str(number)))
    parts = list(every(stored(error)))
    assert [part.message for part in parts[:8]] == [str(number) for number in range(99, 91, -1)]
    assert parts[8:] == [TaskError(name="cut", message="the cause is not stored")]


def test_one_hostile_member_hides_no_other() -> None:
    """Fails where the whole error is given up because a part of it raises."""
    hostile = [
        Nameless(),
        HidesItsCause("hides"),
        HandlerError("circle", properties=_circle()),
        ValueError("good"),
    ]
    error = stored(ExceptionGroup("many", hostile))
    assert error.errors is not None
    assert [member.name for member in error.errors] == [
        "Nameless", "HidesItsCause", "HandlerError", "ValueError",
    ]  # fmt: skip
    assert error.errors[3].message == "good"


def _circle() -> dict[str, Any]:
    circle: dict[str, Any] = {"fine": 1}
    circle["again"] = [circle]
    return circle


# Notes.


class NotesRaise(Exception):
    @property
    def __notes__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no notes")


def with_notes(notes: Any) -> Exception:
    error = ValueError("x")
    error.__notes__ = notes
    return error


def test_notes_are_kept() -> None:
    assert stored(noted(ValueError("x"), "one", "two")).notes == ["one", "two"]
    assert stored(led_to(noted(KeyError("y"), "three"), ValueError("x"))).cause == TaskError(
        name="KeyError", message="'y'", notes=["three"]
    )
    assert stored(ValueError("x")).notes is None


@pytest.mark.parametrize(
    ("notes", "shown"),
    [
        ([], None),
        (None, None),
        (5, ["[not text: of type int]"]),
        ("text", ["[not text: of type str]"]),
        (["a", 5], ["a", "[not text: of type int]"]),
        ([b"b", None], ["[not text: of type bytes]", "[not text: of type NoneType]"]),
        (("a", "b"), ["a", "b"]),
        (["a\0b", "\ud800"], ["a\\0b", "\\ud800"]),
        (["n"] * 1000, ["n"] * 16 + ["[cut, 1,000 notes]"]),
    ],
    ids=repr,
)  # fmt: skip
def test_notes_that_are_not_text(notes: Any, shown: list[str] | None) -> None:
    assert stored(with_notes(notes)).notes == shown


def test_huge_notes_are_cut_and_marked() -> None:
    (note,) = stored(noted(ValueError("x"), "n" * 20_000_000)).notes or []
    assert note.startswith("nnn")
    assert note.endswith("… [cut, 20,000,000 characters]")
    error = stored(noted(ValueError("x"), *["n" * 10_000] * 1000))
    assert error.message == "x"
    assert (error.notes or [])[-1] == "[cut, 1,000 notes]"
    assert stored(NotesRaise("x")) == TaskError(
        name="NotesRaise", message="x", source="module.handler"
    )


def test_a_long_stack_keeps_its_end() -> None:
    def deeper(left: int) -> None:
        if left:
            deeper(left - 1)
        raise ValueError("here")

    with pytest.raises(ValueError, match="here") as info:
        deeper(18)
    stack = TaskError.from_exception(info.value, limit=200).stack
    assert stack is not None
    assert stack.startswith("[cut, ")
    assert 'raise ValueError("here")' in stack


# Properties.


def properties_of(**properties: Any) -> dict[str, Any] | None:
    return stored(HandlerError("x", properties=properties)).properties


def test_properties_that_are_no_json_say_where_and_leave_the_others() -> None:
    """Fails where one of them is the end of all, and of the stack and the cause with them."""
    properties = {
        "order": 7,
        "connection": {"pool": [object()]},
        "rate": [1.0, {"x": float("nan")}],
        "text": "a\0b",
        "by_id": {"k": {"\ud800": 1}},
    }
    error = stored(led_to(KeyError("k"), caught(HandlerError("x", properties=properties))))
    assert error.stack is not None
    assert error.cause is not None
    assert error.properties == {
        "order": 7,
        "connection": {"pool": ["[not JSON: of type object]"]},
        "rate": "[not stored: properties.rate[1].x is nan; "
        "give None where math.isfinite() is false]",
        "text": "[not stored: properties.text holds a NUL character, "
        "which PostgreSQL cannot store]",
        "by_id": "[not stored: properties.by_id.k has a key with a lone surrogate; "
        'encode("utf-8", "replace").decode() is without]',
    }


def test_properties_that_pydantic_knows_are_stored() -> None:
    from tests.support.result_handlers import AT, LINE, Line

    assert properties_of(at=AT, line=Line(), some={1}) == {
        "at": "2026-03-09T10:30:00Z",
        "line": LINE,
        "some": [1],
    }


def test_members_of_a_cut_description_keep_their_names() -> None:
    """At the smallest limit, too."""
    error = stored(group(), SizeLimits(error_bytes=1024))
    assert error.name == "ExceptionGroup"
    assert "first" in [part.message for part in every(error)]
