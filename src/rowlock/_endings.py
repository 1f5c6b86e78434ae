"""How a handler ended, as text that both databases take, within its limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rowlock._exceptions import is_final
from rowlock._json import dumps
from rowlock.errors import InvalidPayloadError
from rowlock.models import SizeLimits, TaskError, class_name, clean_text, message_of

# Characters of an error in the list of a task's attempts.
_BRIEF = 4000


@dataclass(frozen=True, slots=True)
class HandlerResult:
    """How a handler ended.

    Attributes:
        result: the JSON text of what it returned.
        error: the JSON text of what it raised.
        retry: whether a failure may be tried again.
        lost: the worker was lost with it.
        cancelled: it was stopped because its task was cancelled.
        late: it ran for longer than it may.
    """

    result: str | None = None
    error: str | None = None
    retry: bool = True
    lost: bool = False
    cancelled: bool = False
    late: bool = False

    @property
    def length(self) -> int:
        """How many characters it has."""
        return len(self.result or "") + len(self.error or "")


NOTHING = HandlerResult()
CANCELLED = HandlerResult(cancelled=True)


def returned(result: Any, source: str, limits: SizeLimits) -> HandlerResult:
    """Return the ending of a handler that returned; a failure if that cannot be stored.

    Such a failure is not tried again: the same would come again.
    """
    if result is None:
        return NOTHING
    try:
        text = dumps(
            result,
            name="result",
            max_bytes=limits.result_bytes,
            max_depth=limits.depth,
            models=True,
        )
    except BaseException as refused:  # its class is the handler's
        return HandlerResult(error=describe(refused, source, limits), retry=False)
    return HandlerResult(text)


def raised(error: BaseException, source: str, limits: SizeLimits) -> HandlerResult:
    """Return the ending of a handler that raised."""
    return HandlerResult(error=describe(error, source, limits), retry=not is_final(error))


def describe(error: BaseException, source: str, limits: SizeLimits) -> str:
    """Return the JSON text of an exception, cut to the limit.

    Args:
        error: any exception.
        source: `module.method` of the handler.
        limits: `error_bytes` and `depth` apply.
    """
    # A character takes up to six bytes as JSON, so halving ends well before nothing is left.
    length = limits.error_bytes
    try:
        while length >= 64:
            described = TaskError.from_exception(error, source, limit=length, depth=limits.depth)
            text = encode(described, limits)
            if text is not None:
                return text
            length //= 2
    except BaseException as broken:
        # Its class may be hostile: the outcome must be written all the same.
        reason = f"could not be described: {class_name(broken, 64)}"
    else:
        reason = "is too large"
    return TaskError(
        name=class_name(error, 64),
        message=f"[the error cannot be stored in full: it {reason}] {message_of(error)[:100]}",
        source=source,
    ).model_dump_json(by_alias=True)


def encode(error: TaskError, limits: SizeLimits) -> str | None:
    """Return the JSON text of an error, None if it is over the limit."""
    value = error.model_dump(mode="json", by_alias=True)
    try:
        return dumps(value, name="error", max_bytes=limits.error_bytes, max_depth=limits.depth + 16)
    except InvalidPayloadError:
        return None


def brief(error: str | None) -> str | None:
    """Return the JSON text of an error cut short, None where it is short.

    Twenty of them are kept with a task that is tried again and again, and written each time.
    """
    if error is None or len(error) <= _BRIEF:
        return None
    whole = TaskError.model_validate_json(error)
    return _brief(whole, _BRIEF // 2).model_dump_json(by_alias=True)


def _brief(error: TaskError, length: int) -> TaskError:
    stack = error.stack
    if stack is not None and len(stack) > length:
        stack = f"… [cut]\n{stack[-length:]}"  # its end is where the error was raised
    return TaskError(
        name=clean_text(error.name, length // 4),
        message=clean_text(error.message, length // 2),
        source=error.source,
        stack=stack if length > _BRIEF // 4 else None,
        notes=[clean_text(note, length // 8) for note in error.notes[:3]] if error.notes else None,
        cause=_brief(error.cause, length // 2) if error.cause and length >= 100 else None,
        errors=[_brief(member, length // 4) for member in error.errors[:3]]
        if error.errors and length >= 100
        else None,
    )
