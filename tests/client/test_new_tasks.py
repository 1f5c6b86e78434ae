"""The options of a task are the same wherever they can be given."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

import pytest

from rowlock import InvalidArgumentError, NewTask, TaskQueue, TaskScheduler
from rowlock._client.new_tasks import new_row, refuse_options
from rowlock._rows import NewRow
from rowlock.models import SizeLimits

# Of a task that a scheduled task creates, these are no options: its times are instead.
NOT_OF_SCHEDULED = {"run_at", "key", "on_duplicate"}


def options(of: Any, without: set[str]) -> dict[str, Any]:
    return {
        name: (parameter.annotation, parameter.default)
        for name, parameter in inspect.signature(of).parameters.items()
        if name not in without
    }


def test_create_has_the_fields_of_a_new_task() -> None:
    assert options(TaskQueue.create, {"self", "connection"}) == options(NewTask, set())


def test_add_task_has_the_fields_of_a_new_task() -> None:
    own = {"self", "task_id", "times", "task_callback", "misfire", "misfire_grace", "overlap"}
    assert options(TaskScheduler.add_task, {*own, "task_type"}) == options(
        NewTask, {"task_type", *NOT_OF_SCHEDULED}
    )


def test_a_task_without_options_has_the_defaults_of_a_row() -> None:
    """Fails if a template leaves out an option that is not what `create` makes of none."""
    row = new_row(NewTask("t"), SizeLimits(), "0" * 32)
    assert row == NewRow("0" * 32, "t")


@pytest.mark.parametrize("name", [field.name for field in fields(NewTask)[1:]])
def test_a_function_has_no_options(name: str) -> None:
    refuse_options(NewTask("t"))
    given: dict[str, Any] = {name: 5}
    with pytest.raises(InvalidArgumentError, match=f"{name}: 5 was given, None, as it is"):
        refuse_options(NewTask("t", **given))
