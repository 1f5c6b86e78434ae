"""The options of a task: checked, and made into the row to insert. Pure."""

from __future__ import annotations

from dataclasses import fields

from rowlock import _arguments as check
from rowlock._ids import new_id
from rowlock._json import dumps
from rowlock._rows import KEEP_IF_FAILED, NewRow
from rowlock.models import Duration, NewTask, SizeLimits


def new_row(task: NewTask, limits: SizeLimits, task_id: str | None = None) -> NewRow:
    """Return the row of a task.

    Args:
        task: as it was given.
        limits: how large what is stored may be.
        task_id: its id; by default a new one.

    Raises:
        InvalidArgumentError: if an option is refused.
    """
    if task.run_at is not None and task.delay is not None:
        check.refuse("delay", task.delay, "only one of run_at and delay")
    if task.on_duplicate not in ("return", "raise"):
        check.refuse("on_duplicate", task.on_duplicate, "'return' or 'raise'")
    return NewRow(
        id=new_id() if task_id is None else task_id,
        type=check.label("task_type", task.task_type, limits.name_length),
        payload=None
        if task.payload is None
        else dumps(
            task.payload,
            name="payload",
            max_bytes=limits.payload_bytes,
            max_depth=limits.depth,
        ),
        retries_remaining=None
        if task.retry_count is None
        else check.integer("retry_count", task.retry_count, 0, check.MAX_INTEGER),
        retry_interval=None
        if task.retry_interval is None
        else check.duration("retry_interval", task.retry_interval),
        retain_for=KEEP_IF_FAILED
        if task.retain_for is None
        else retention("retain_for", task.retain_for),
        priority=check.integer("priority", task.priority, -check.MAX_INTEGER, check.MAX_INTEGER),
        key=None if task.key is None else check.label("key", task.key, limits.name_length),
        run_at=None if task.run_at is None else check.instant("run_at", task.run_at),
        delay=0 if task.delay is None else check.duration("delay", task.delay),
        refuses=task.on_duplicate == "raise",
    )


def retention(name: str, value: Duration) -> int:
    """Return for how many milliseconds something is kept, -1 for ever."""
    if type(value) is int and value == -1:
        return -1
    return check.duration(name, value)


def refuse_options(task: NewTask) -> None:
    """Refuse all options of a scheduled task that calls a function, and so creates no task.

    Raises:
        InvalidArgumentError: if one has another value than its default.
    """
    for field in fields(task):
        if field.name != "task_type" and getattr(task, field.name) != field.default:
            check.refuse(field.name, getattr(task, field.name), "None, as it is for a task_type,")
