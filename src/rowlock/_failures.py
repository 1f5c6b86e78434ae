"""The text of an error as it is stored: always JSON that both databases take, within its limit."""

from __future__ import annotations

from rowlock._json import dumps
from rowlock.errors import InvalidPayloadError
from rowlock.models import Limits, TaskError, clean_text, message_of


def describe(error: BaseException, source: str, limits: Limits) -> str:
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
            described = TaskError.from_exception(error, source, limit=length)
            text = encode(described, limits)
            if text is not None:
                return text
            length //= 2
    except Exception as broken:
        # Properties are whatever the handler put there, and its class may be hostile too: the
        # outcome must be written all the same.
        reason = f"could not be described: {type(broken).__name__}"
    else:
        reason = "is too large"
    return TaskError(
        name=_name(error),
        message=f"[the error cannot be stored in full: it {reason}] {message_of(error)[:100]}",
        source=source,
    ).model_dump_json(by_alias=True)


def _name(error: BaseException) -> str:
    try:
        return clean_text(type(error).__name__, 64)
    except Exception:
        return "Exception"


def encode(error: TaskError, limits: Limits) -> str | None:
    """Return the JSON text of an error, None if it is over the limit."""
    value = error.model_dump(mode="json", by_alias=True)
    try:
        return dumps(value, name="error", max_bytes=limits.error_bytes, max_depth=limits.depth + 16)
    except InvalidPayloadError:
        return None
