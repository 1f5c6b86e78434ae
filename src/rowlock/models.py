"""The public models: frozen, pure, with the contract's camelCase JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, cast

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from rowlock._exceptions import Description
from rowlock._exceptions import class_name as class_name
from rowlock._exceptions import clean_text as clean_text
from rowlock._exceptions import message_of as message_of

MAX_DURATION_MS = 100 * 365 * 24 * 60 * 60 * 1000
"""The longest duration that is taken anywhere: a hundred years, in milliseconds."""

Duration = int | timedelta
"""Milliseconds, or a `datetime.timedelta`."""


class TaskStatus(StrEnum):
    """Where a task is in its life."""

    PENDING = "pending"
    PROCESSING = "processing"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"


TRANSITIONS: Mapping[TaskStatus, frozenset[TaskStatus]] = {
    TaskStatus.PENDING: frozenset({TaskStatus.PROCESSING, TaskStatus.CANCELLED}),
    TaskStatus.PROCESSING: frozenset(
        {TaskStatus.SUCCESS, TaskStatus.FAILED, TaskStatus.PENDING, TaskStatus.CANCELLED}
    ),
    TaskStatus.SUCCESS: frozenset(),
    TaskStatus.FAILED: frozenset({TaskStatus.PENDING}),
    TaskStatus.CANCELLED: frozenset({TaskStatus.PENDING}),
}
"""Every change of status that exists. Removal, which ends the row, is possible from each."""


class SortProperty(StrEnum):
    """What a page of tasks is sorted by; ties are broken by id."""

    DATE_CREATED = "dateCreated"
    DATE_MODIFIED = "dateModified"
    DATE_COMPLETED = "dateCompleted"
    STATUS = "status"


class SortDirection(StrEnum):
    """Which way a page of tasks is sorted."""

    ASCENDING = "asc"
    DESCENDING = "desc"


def to_utc(value: datetime) -> datetime:
    """Return an aware datetime in UTC.

    Raises:
        ValueError: if the instant has no representation in UTC (years 1 and 9999).
    """
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{value.isoformat()} does not exist in UTC") from None


def _iso(value: datetime) -> str:
    return value.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _milliseconds(value: Any) -> Any:
    return value // timedelta(milliseconds=1) if isinstance(value, timedelta) else value


Instant = Annotated[
    AwareDatetime,
    AfterValidator(to_utc),
    PlainSerializer(
        _iso,
        return_type=Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})],
        when_used="json",
    ),
]
_FromDuration = BeforeValidator(_milliseconds)
Milliseconds = Annotated[int, Field(strict=True, ge=0, le=MAX_DURATION_MS), _FromDuration]


# Lists that are left out of the JSON while nothing is in them.
_LEFT_OUT_EMPTY = frozenset({"attempts"})


TAKEN = "taken"
"""The context of a validation of what was taken before: only what cannot be is refused then."""


class Model(BaseModel):
    """What the models have in common: frozen, camelCase in JSON, no field that is not theirs."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        ser_json_inf_nan="constants",
    )

    @model_serializer(mode="wrap", when_used="json")
    def _omit_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {
            name: value
            for name, value in handler(self).items()
            if value is not None and not (name in _LEFT_OUT_EMPTY and not value)
        }

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        if handler.mode == "validation":
            return handler(schema)
        # Of the fields, which the serializer hides: None is left out, all else is always there.
        described = handler(_without_serializer(schema))
        own = handler.resolve_ref_schema(described)
        unset = [
            name
            for name, part in own["properties"].items()
            if part.get("default", 0) is None or name in _LEFT_OUT_EMPTY
        ]
        for part in own["properties"].values():
            if part.pop("default", 0) is None and "anyOf" in part:
                choices = [each for each in part.pop("anyOf") if each != {"type": "null"}]
                part.update(choices[0] if len(choices) == 1 else {"anyOf": choices})
        own["required"] = [name for name in own["properties"] if name not in unset]
        return described


def _without_serializer(schema: CoreSchema) -> CoreSchema:
    parts = {key: value for key, value in schema.items() if key != "serialization"}
    if schema["type"] != "model":  # a validator of the model around it
        parts["schema"] = _without_serializer(cast(CoreSchema, parts["schema"]))
    return cast(CoreSchema, parts)


class TaskError(Model):
    """Why an attempt failed.

    Attributes:
        name: the exception's class name, or what rowlock calls the failure.
        message: the text of the error.
        source: `module.method` of the handler, or "rowlock".
        properties: what a `HandlerError` said besides its message.
        stack: the traceback, as text.
        notes: what was said of it with `add_note`.
        cause: the error that led to this one.
        errors: the members of an ExceptionGroup. What was cut here or at `cause`, because it
            takes too much, is an error with the name "cut".
    """

    name: str
    message: str
    source: str | None = None
    properties: dict[str, Any] | None = None
    stack: str | None = None
    notes: list[str] | None = None
    cause: TaskError | None = None
    errors: list[TaskError] | None = None

    @classmethod
    def from_exception(
        cls,
        error: BaseException,
        source: str | None = None,
        *,
        limit: int = 16_384,
        depth: int = 64,
    ) -> Self:
        """Describe an exception, its traceback, what led to it and the members of a group.

        Args:
            error: any exception, also one whose `str()` raises.
            source: `module.method` of the handler.
            limit: how many characters of one text are kept; properties that take more are not.
                With fewer, fewer causes and members are kept too.
            depth: how deeply properties may be nested.
        """
        described = Description(limit, depth).of(error)
        return cls(**described | {"source": source})


class TaskProgress(Model):
    """What a handler last said with `current_task().progress(…)`.

    Attributes:
        value: how far it is, as any JSON value.
        message: the same for people.
        checkpoint: where the next attempt can go on, as any JSON value.
    """

    value: Any = None
    message: str | None = None
    checkpoint: Any = None


class TaskAttempt(Model):
    """One attempt of a task that was no success.

    Attributes:
        attempt: its number; the first is 1.
        worker: who held the task.
        started: when it was claimed.
        ended: when its outcome was stored.
        outcome: "failed", "timeout" (its handler ran for too long), "lost" (its worker died or
            was cut off), "cancelled", or "released" (it was put back while it ran, which costs
            no try).
        error: why; of a long one the texts are cut, and the stacks of its causes left out.
    """

    attempt: int
    worker: str
    started: Instant | None = None
    ended: Instant
    outcome: str
    error: TaskError | None = None


class Task(Model):
    """A task as it is stored.

    Attributes:
        id: 32 lower-case hex digits, unique for ever, time-ordered.
        type: the task type, which picks the handler.
        thread_id: "0" while pending; the holder while processing and afterwards.
        retry_interval: milliseconds between tries, None for the queue's default.
        retries_remaining: how many retries are left, None for no bound.
        date_created: when it was created.
        date_modified: when its row changed last.
        date_started: when its last attempt was claimed.
        date_completed: when it ended as success or failed.
        date_cancelled: when it was cancelled.
        date_retain_until: when its row may be removed; None until it has ended, or for ever.
        status: where it is in its life.
        payload: what the handler is called with.
        result: what the handler returned.
        error: why the last attempt failed.
        attempt: how often it was claimed.
        priority: the higher first.
        run_at: not claimed before this instant.
        key: the idempotency key.
        progress: what a handler last said about it; kept over retries.
        schedule_id: the scheduled task that created it.
        scheduled_for: the instant at which that was due.
        attempts: the last 20 attempts that were no success, the oldest first.
    """

    id: str
    type: str
    thread_id: str
    retry_interval: int | None = None
    retries_remaining: int | None = None
    date_created: Instant
    date_modified: Instant
    date_started: Instant | None = None
    date_completed: Instant | None = None
    date_cancelled: Instant | None = None
    date_retain_until: Instant | None = None
    status: TaskStatus
    payload: Any = None
    result: Any = None
    error: TaskError | None = None
    attempt: int = 0
    priority: int = 0
    run_at: Instant
    key: str | None = None
    progress: TaskProgress | None = None
    schedule_id: str | None = None
    scheduled_for: Instant | None = None
    attempts: list[TaskAttempt] = []


Callback = Callable[[Task], object]
"""Called with a task whose status has changed. What it returns is awaited if it can be."""


class TaskPage(Model):
    """One page of tasks.

    Attributes:
        entities: the tasks, in the order asked for.
        cursor: where the next page starts, None on the last page.
    """

    entities: list[Task]
    cursor: str | None = None


class HandlerOptions(Model):
    """How the workers of one task type run.

    Attributes:
        max_worker_count: how many tasks of the type this queue runs at a time; by default 100 in
            the event loop, or 8 in a thread each, or in as many processes as this one may use
            CPUs.
        idle_shutdown_timeout: milliseconds without work after which a worker ends.
        initialise_method: function of the handler's module, `def` or `async def`, called first in
            each thread or process; in the event loop once, before its first handler. The handlers
            find what it has set in its context. It is called again when there is work after an
            `idle_shutdown_timeout`.
        shutdown_method: function of the handler's module, `def` or `async def`, called last where
            the `initialise_method` was called first, but not in a process that was killed; there
            it has 10 s.
        executor: "async" runs an `async def` handler in the event loop, "thread" a `def`
            handler in a thread, "process" either in a process of its own; None is async for
            `async def` and process for `def`. What a `def` returns is awaited if it can be.
        timeout: milliseconds from the handler's call after which the attempt fails. A handler
            in the loop is cancelled, a process killed and replaced; a thread cannot be stopped,
            and keeps its place until it returns.
        cancel_timeout: milliseconds that a running handler has to end when its task is
            cancelled, before its process is killed, or its thread or coroutine given up.
        max_tasks_per_worker: a worker process is replaced after so many tasks.
        max_memory: a worker process is replaced after the task at whose end it has more bytes
            of memory resident than this.
    """

    max_worker_count: Annotated[int, Field(strict=True, ge=1, le=10_000)] | None = None
    idle_shutdown_timeout: Milliseconds = 60_000
    initialise_method: str | None = None
    shutdown_method: str | None = None
    executor: Literal["async", "thread", "process"] | None = None
    timeout: Annotated[int, Field(strict=True, ge=1, le=MAX_DURATION_MS), _FromDuration] | None = (
        None
    )
    cancel_timeout: Milliseconds = 5000
    max_tasks_per_worker: Annotated[int, Field(strict=True, ge=1)] | None = None
    max_memory: Annotated[int, Field(strict=True, ge=1)] | None = None

    if TYPE_CHECKING:  # a checker takes the type of a field for all that it can be given

        def __init__(
            self,
            *,
            max_worker_count: int | None = None,
            idle_shutdown_timeout: Duration = 60_000,
            initialise_method: str | None = None,
            shutdown_method: str | None = None,
            executor: Literal["async", "thread", "process"] | None = None,
            timeout: Duration | None = None,
            cancel_timeout: Duration = 5000,
            max_tasks_per_worker: int | None = None,
            max_memory: int | None = None,
        ) -> None: ...


class SizeLimits(Model):
    """How large what is stored may be.

    Attributes:
        payload_bytes: a payload's JSON, in bytes of UTF-8.
        result_bytes: a result's JSON, in bytes of UTF-8; a larger one fails the task.
        error_bytes: an error's JSON, in bytes of UTF-8; a larger one is cut and marked.
        progress_bytes: a progress's JSON with message and checkpoint, in bytes of UTF-8.
        depth: how deeply arrays and objects may be nested.
        name_length: characters of a task type or a key.
    """

    payload_bytes: int = Field(default=256 * 1024, ge=2, le=64 * 1024 * 1024)
    result_bytes: int = Field(default=256 * 1024, ge=2, le=64 * 1024 * 1024)
    error_bytes: int = Field(default=16 * 1024, ge=1024, le=64 * 1024 * 1024)
    progress_bytes: int = Field(default=16 * 1024, ge=2, le=1024 * 1024)
    depth: int = Field(default=64, ge=1, le=128)
    name_length: int = Field(default=255, ge=1, le=255)


@dataclass(frozen=True, slots=True)
class NewTask:
    """One task for `TaskQueue.create_many`; the fields are the arguments of `create`."""

    task_type: str
    payload: Any = None
    _: KW_ONLY
    retry_count: int | None = None
    retry_interval: Duration | None = None
    retain_for: Duration | None = None
    priority: int = 0
    run_at: datetime | None = None
    delay: Duration | None = None
    key: str | None = None
    on_duplicate: Literal["return", "raise"] = "return"
