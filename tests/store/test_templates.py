"""The template of a scheduled task: what is read, refused, and left to others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rowlock._rows import KEEP_IF_FAILED, NewRow
from rowlock._scheduling.times import DamagedError, NotUnderstoodError
from rowlock._store.new_rows import TYPES
from rowlock._store.templates import _fits, definition_of_template, read_template, template_text
from rowlock.models import MAX_DURATION_MS

FULL = NewRow(
    id="",
    type="t",
    payload="[1]",
    retries_remaining=0,
    retry_interval=MAX_DURATION_MS,
    retain_for=-1,
    priority=-(2**31) + 1,
    delay=1,
)


@pytest.mark.parametrize("row", [FULL, NewRow("", "t"), NewRow("", "t", priority=1)])
def test_what_is_written_is_read(row: NewRow) -> None:
    assert read_template(row.type, row.payload, template_text(row)) == row


def test_only_what_is_no_default_is_written() -> None:
    assert template_text(NewRow("", "t", delay=5)) == '{"delay": 5}'
    assert template_text(NewRow("", "t", retain_for=KEEP_IF_FAILED)) == "{}"
    assert template_text(None) is None


def test_a_function_has_none() -> None:
    assert read_template(None, None, None) is None


@pytest.mark.parametrize("task_type", ["t", None])
def test_an_unknown_option_is_left_to_others(task_type: str | None) -> None:
    with pytest.raises(NotUnderstoodError, match="does not know colour, flavour"):
        read_template(task_type, None, '{"flavour": null, "colour": {}, "priority": "high"}')


@pytest.mark.parametrize(
    "text",
    [
        *(
            json.dumps({name: value})
            for name, value in [
                ("priority", None),
                ("priority", True),
                ("priority", 1.0),
                ("priority", "1"),
                ("priority", 2**31),
                ("delay", MAX_DURATION_MS + 1),
                ("retry_interval", [1]),
                ("retries_remaining", float("nan")),
            ]
        ),
    ],
)
def test_a_value_of_another_version_is_left_to_others(text: str) -> None:
    """Fails where one process of an older version pauses the scheduled task for all."""
    with pytest.raises(NotUnderstoodError, match=r"^template\."):
        read_template("t", None, text)
    definition_of_template(text)


@pytest.mark.parametrize("text", [None, "", "x", "null", "5", "[]", '"{}"', "[" * 5000])
def test_what_no_version_writes_is_damaged(text: str | None) -> None:
    with pytest.raises(DamagedError, match=r"^template"):
        read_template("t", None, text)
    definition_of_template(text)


@pytest.mark.parametrize(("value", "fits"), [("é", True), ("a\0", False), ("\ud800", False)])
def test_a_text_that_a_database_would_refuse(
    monkeypatch: pytest.MonkeyPatch, value: Any, fits: bool
) -> None:
    # There is no option with a text yet.
    monkeypatch.setitem(TYPES, "flavour", TYPES["key"])
    assert _fits("flavour", value) is fits


def test_definitions_are_compared_by_their_options() -> None:
    plain = definition_of_template(None)
    assert definition_of_template("{}") == plain
    assert definition_of_template('{"delay": 0, "retain_for" : -2}') == plain
    for text in ('{"delay": 1}', '{"flavour": 1}', "x"):
        other = definition_of_template(text)
        assert other != plain
        assert other.keys() == plain.keys()
