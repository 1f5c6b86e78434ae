"""What the tasks are like that a scheduled task creates, as its row has it.

Their type and their payload have columns. The other options are one JSON object of those that are
not the default: where a newer version of rowlock knows one more, this one still understands the
rows that do not use it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import BigInteger, Integer

from rowlock._rows import NewRow
from rowlock._scheduling.times import DamagedError, NotUnderstoodError
from rowlock._store.new_rows import TYPES
from rowlock.models import MAX_DURATION_MS

# Its type and payload have columns. A scheduled task has no other run_at and key than its times.
_NO_OPTIONS: Final = ("id", "type", "payload", "key", "run_at", "date_created")

_DEFAULTS: Final[Mapping[str, Any]] = {
    name: NewRow._field_defaults[name] for name in TYPES if name not in _NO_OPTIONS
}


def template_text(template: NewRow | None) -> str | None:
    """Return the options of a template as JSON, None if there is none."""
    if template is None:
        return None
    options = {name: getattr(template, name) for name in _DEFAULTS}
    return json.dumps({name: value for name, value in options.items() if value != _DEFAULTS[name]})


def read_template(task_type: str | None, payload: str | None, text: str | None) -> NewRow | None:
    """Return the template of a row, without an id; None if it creates no tasks.

    Raises:
        NotUnderstoodError: if it has an option, or the value of one, that this version of rowlock
            does not know.
        DamagedError: if it is no template.
    """
    if task_type is None and text is None:
        return None
    options = _object(text)
    if options is None:
        raise DamagedError("template: it is no JSON object")
    if unknown := options.keys() - _DEFAULTS.keys():
        raise NotUnderstoodError(
            f"template: this version of rowlock does not know {', '.join(sorted(unknown))}"
        )
    for name, value in options.items():
        if not _fits(name, value):
            # Another version may know what it says.
            raise NotUnderstoodError(
                f"template.{name}: this version of rowlock does not know {value!r:.100}"
            )
    return None if task_type is None else NewRow("", task_type, payload, **options)


def definition_of_template(text: str | None) -> Mapping[str, Any]:
    """Return the options of a row, to be compared; what this version does not know as one."""
    options = {} if text is None else _object(text)
    if options is None:
        return {**_DEFAULTS, "template": text}
    known = {name: options.pop(name, default) for name, default in _DEFAULTS.items()}
    return {**known, "template": options}


def _object(text: str | None) -> dict[str, Any] | None:
    try:
        value = json.loads(text or "null")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _fits(name: str, value: Any) -> bool:
    """Whether the column of an option takes a value, or it is None by default."""
    kind = TYPES[name]
    if value is None:
        return _DEFAULTS[name] is None
    if isinstance(kind, Integer):
        most = MAX_DURATION_MS if isinstance(kind, BigInteger) else 2**31 - 1
        return type(value) is int and -most <= value <= most
    # PostgreSQL stores no NUL, and neither database a lone surrogate.
    return isinstance(value, str) and "\0" not in value and value == _without_surrogates(value)


def _without_surrogates(text: str) -> str:
    return text.encode("utf-8", "ignore").decode("utf-8")
