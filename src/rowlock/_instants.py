"""Instants as whole numbers since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_MICROSECOND: Final = timedelta(microseconds=1)


def to_milliseconds(instant: datetime) -> int:
    """Return the milliseconds, rounded down."""
    return (instant - EPOCH) // _MILLISECOND


def from_milliseconds(milliseconds: int) -> datetime:
    """Return the instant, in UTC."""
    return EPOCH + milliseconds * _MILLISECOND


def to_microseconds(instant: datetime) -> int:
    """Return the microseconds: an instant has no smaller part."""
    return (instant - EPOCH) // _MICROSECOND


def from_microseconds(microseconds: int) -> datetime:
    """Return the instant, in UTC."""
    return EPOCH + microseconds * _MICROSECOND
