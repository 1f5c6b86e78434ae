"""What of a scheduled task triggers and what is left out, in milliseconds since the epoch. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from rowlock._scheduling.times import StoredTime, first, following
from rowlock.models import TaskStatus
from rowlock.schedule_models import ScheduledTaskTime

MISFIRES: Final = ("coalesce", "catch_up", "skip")
OVERLAPS: Final = ("allow", "skip")

MISFIRE_GRACE: Final = 60_000
"""How late an instant may be with `misfire="skip"` where nothing else is said, in milliseconds."""

_UNFINISHED: Final = (TaskStatus.PENDING, TaskStatus.PROCESSING)


class Due(NamedTuple):
    """What is due of a scheduled task.

    Attributes:
        times: its times, with the instants that follow.
        instants: those that trigger.
        missed: the last one that is left out because it comes too late.
        reason: why.
    """

    times: list[StoredTime]
    instants: list[int]
    missed: int | None
    reason: str


def begun(times: Iterable[ScheduledTaskTime], now: int) -> list[StoredTime]:
    """Return times that are given now, with their first instants."""
    return [StoredTime(given=time, next=first(time, now)) for time in times]


def earliest(times: Iterable[StoredTime]) -> int | None:
    """Return the next instant of times, None if there is none."""
    return min((time.next for time in times if time.next is not None), default=None)


def due(times: Sequence[StoredTime], now: int, misfire: str, grace: int | None, most: int) -> Due:
    """Return what is due of times.

    Args:
        times: as they are stored.
        now: the instant.
        misfire: one of `MISFIRES`.
        grace: how late an instant may be with "skip".
        most: so many instants trigger at most; the others stay due.
    """
    grace = MISFIRE_GRACE if grace is None else grace
    too_late = now - grace if misfire == "skip" else -1
    moved = list(times)
    instants: list[int] = []
    missed: int | None = None
    while len(instants) < most:
        instant = earliest(moved)
        if instant is None or instant > now:
            break
        if instant < too_late:
            missed, after = instant, too_late - 1
        else:
            instants.append(instant)
            after = instant if misfire == "catch_up" else now
        place = next(place for place, time in enumerate(moved) if time.next == instant)
        moved[place] = _moved(moved[place], instant, after)
    reason = ""
    if missed is not None:
        reason = f"it was {now - missed} ms late, more than misfire_grace={grace}"
    return Due(moved, instants, missed, reason)


def apart(instants: Sequence[int], status: str | None) -> tuple[Sequence[int], Sequence[int]]:
    """Return the instants that create a task with `overlap="skip"`, and those that do not.

    Args:
        instants: those that trigger.
        status: of the task before, None if there is none any more.
    """
    created = 0 if status in _UNFINISHED else 1
    return instants[:created], instants[created:]


def after_pause(times: Iterable[StoredTime], now: int) -> tuple[list[StoredTime], int | None]:
    """Return times whose instants before now are left out, and one of these instants."""
    resumed: list[StoredTime] = []
    missed: int | None = None
    for time in times:
        if time.next is not None and time.next < now:
            missed = time.next
            time = _moved(time, time.next, now - 1)
        resumed.append(time)
    return resumed, missed


def _moved(time: StoredTime, instant: int, after: int) -> StoredTime:
    return time.model_copy(update={"next": following(time.given, instant, after)})
