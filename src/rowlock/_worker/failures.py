"""What is said of attempts that failed."""

from __future__ import annotations

from textwrap import indent

from rowlock._events import AttemptFailed, Event, TaskFailed
from rowlock._store.ends import AttemptOutcome
from rowlock.models import Task, TaskError, TaskStatus


def failure(task: Task) -> Event | None:
    """Return the event of a task whose attempt has failed; None if that is not how it ended."""
    error = task.error
    if error is None:
        return None
    if task.status is TaskStatus.PENDING:
        seconds = (task.run_at - task.date_modified).total_seconds()
        return AttemptFailed(task.id, task.type, task.attempt, error.name, error.message, seconds)
    if task.status is TaskStatus.FAILED:
        return _last(task.id, task.type, task.attempt, error)
    return None


def last_failure(outcome: AttemptOutcome) -> Event | None:
    """The same of a task of which nothing but its outcome is left."""
    row, error = outcome.row, outcome.ending.error
    if error is None or outcome.status is not TaskStatus.FAILED:
        return None
    return _last(row.id, row.type, row.attempt, TaskError.model_validate_json(error))


def _last(task_id: str, task_type: str, attempt: int, error: TaskError) -> Event:
    return TaskFailed(task_id, task_type, attempt, error.name, error.message, trace(error))


def trace(error: TaskError) -> str:
    """Return an error with its stack and its causes, as Python prints it."""
    text = "\n".join([f"{error.name}: {error.message}", *(error.notes or ())])
    if error.stack:
        text = f"Traceback (most recent call last):\n{error.stack.rstrip()}\n{text}"
    for number, member in enumerate(error.errors or (), 1):
        text += "\n" + indent(f"{number}. {trace(member)}", "  | ")
    if error.cause is None:
        return text
    return f"{trace(error.cause)}\n\nThis led to the following exception:\n\n{text}"
