"""Task ids: UUIDv7 as 32 hex digits, so that the primary key is the order of creation.

`date_created` is the instant that the id carries. Sorting by it is sorting by the primary key,
and needs no index of its own.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from typing import Any

from uuid_utils import uuid7

from rowlock._instants import from_milliseconds

FIRST_ID = "0" * 32
LAST_ID = "f" * 32

_matches = re.compile("[0-9a-f]{32}").fullmatch


def new_id() -> str:
    """Return a new id, above every id that this process made before."""
    return uuid7().hex


def id_instant(task_id: str) -> datetime:
    """Return the instant, in whole milliseconds, at which an id was made."""
    return _instant(task_id[:12])


# Of many rows that are made at once, many are of the same millisecond.
@lru_cache(maxsize=16)
def _instant(milliseconds: str) -> datetime:
    return from_milliseconds(int(milliseconds, 16))


def as_id(value: Any) -> str | None:
    """Return a task id as exactly a str, None if the value is no 32 lower-case hex digits."""
    try:
        match = _matches(value)
    except TypeError:  # no text at all
        return None
    return None if match is None else match[0]
