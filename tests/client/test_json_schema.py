"""The JSON schemas of the models, as an HTTP API shows them: their fields, as they are sent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from rowlock import (
    HandlerOptions,
    ScheduledTaskInfo,
    ScheduledTaskState,
    ScheduledTaskTime,
    SizeLimits,
    Task,
    TaskError,
    TaskPage,
    TaskProgress,
    TaskStatus,
)

AT = datetime(2026, 3, 9, 10, 30, tzinfo=UTC)
ERROR = TaskError(
    name="E",
    message="m",
    source="s",
    properties={"a": 1},
    stack="t",
    notes=["n"],
    cause=TaskError(name="C", message="c"),
    errors=[TaskError(name="M", message="m")],
)
TASK = Task(
    id="0" * 32, type="t", thread_id="0", date_created=AT, date_modified=AT, run_at=AT,
    status=TaskStatus.PENDING,
)  # fmt: skip
FULL_TASK = Task(
    **dict(TASK)
    | {
        "retry_interval": 5, "retries_remaining": 1, "date_completed": AT, "date_cancelled": AT,
        "date_retain_until": AT, "payload": {"a": None}, "result": [1], "error": ERROR, "key": "k",
        "progress": TaskProgress(value=1, message="m", checkpoint={}), "schedule_id": "s",
        "scheduled_for": AT,
    }
)  # fmt: skip
TIME = ScheduledTaskTime(next_trigger_time=5, interval_days=1)
STATE = ScheduledTaskState(id="s", times=[TIME], misfire="coalesce", overlap="allow")
MODELS: list[BaseModel] = [
    TASK,
    FULL_TASK,
    TaskPage(entities=[]),
    TaskPage(entities=[TASK, FULL_TASK], cursor="c"),
    TaskError(name="E", message="m"),
    ERROR,
    TaskProgress(),
    TaskProgress(value=0.5, message="m", checkpoint=[1]),
    TIME,
    ScheduledTaskTime(cron="* * * * *", timezone="UTC"),
    ScheduledTaskInfo(tasks={"a": [TIME]}),
    STATE,
    STATE.model_copy(update={"paused_since": AT, "last_error": ERROR, "task_type": "t"}),
    HandlerOptions(),
    HandlerOptions(timeout=5, executor="thread", max_memory=1),
    SizeLimits(),
]
TYPES: dict[str, Any] = {
    "string": str, "integer": int, "number": float, "boolean": bool, "object": dict, "array": list,
}  # fmt: skip


def check(value: Any, schema: dict[str, Any], definitions: dict[str, Any]) -> None:
    """That a value is as the schema says, as far as these models need it."""
    schema = definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    assert "anyOf" not in schema  # None is not there, and nothing else has a choice
    if "type" not in schema:
        return
    assert isinstance(value, TYPES[schema["type"]])
    if schema.get("format") == "date-time":
        assert datetime.fromisoformat(value).tzinfo is UTC
    if schema["type"] == "array":
        for item in value:
            check(item, schema["items"], definitions)
    if schema["type"] == "object" and "properties" in schema:
        assert set(schema.get("required", ())) <= set(value)
        assert schema["additionalProperties"] is False
        for name, part in value.items():
            check(part, schema["properties"][name], definitions)
    elif schema["type"] == "object" and isinstance(schema["additionalProperties"], dict):
        for part in value.values():
            check(part, schema["additionalProperties"], definitions)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_what_is_sent_is_what_the_schema_says(model: BaseModel) -> None:
    """Fails where the serializer, which leaves out what is not set, hides the fields."""
    kind = type(model)
    schema = kind.model_json_schema(mode="serialization", by_alias=True)
    definitions = schema.get("$defs", {})
    own = definitions[kind.__name__] if "$ref" in schema else schema
    assert list(own["properties"]) == [
        field.serialization_alias for field in kind.model_fields.values()
    ]
    check(model.model_dump(mode="json", by_alias=True), schema, definitions)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_required_is_what_is_always_there(model: BaseModel) -> None:
    kind = type(model)
    schema = kind.model_json_schema(mode="serialization", by_alias=False)
    own = schema["$defs"][kind.__name__] if "$ref" in schema else schema
    always = [
        name
        for name, field in kind.model_fields.items()
        if field.default is not None and name != "attempts"
    ]
    assert own["required"] == always


def test_what_is_taken_is_described_too() -> None:
    schema = HandlerOptions.model_json_schema(mode="validation")
    assert "required" not in schema
    assert schema["properties"]["idleShutdownTimeout"]["default"] == 60_000
    assert {"type": "null"} in schema["properties"]["timeout"]["anyOf"]
    time = ScheduledTaskTime.model_json_schema(mode="validation")
    assert time["properties"]["nextTriggerTime"]["anyOf"][0]["minimum"] == 0


def test_a_schema_of_many_models_has_one_of_each() -> None:
    """As the OpenAPI of an application: routes that return a task, none, or a page."""
    _, schema = TypeAdapter.json_schemas(
        [
            ("task", "serialization", TypeAdapter(Task | None)),
            ("page", "serialization", TypeAdapter(TaskPage)),
            ("list", "serialization", TypeAdapter(list[Task])),
        ]
    )
    assert set(schema["$defs"]) == {
        "Task",
        "TaskPage",
        "TaskError",
        "TaskProgress",
        "TaskStatus",
        "TaskAttempt",
    }
    assert schema["$defs"]["Task"]["properties"]["error"] == {"$ref": "#/$defs/TaskError"}
