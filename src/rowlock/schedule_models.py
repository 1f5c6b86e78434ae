"""The public models of scheduled tasks, as frozen and pure as those of tasks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    model_validator,
)

from rowlock._instants import to_milliseconds
from rowlock.models import MAX_DURATION_MS, TAKEN, Instant, Model, TaskError, to_utc

# As milliseconds they are of 1970 to 1973, as seconds of 2001 to 5138.
_SECONDS = range(10**9, 10**11)


def _epoch_milliseconds(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, datetime):
        if type(value) is int and value in _SECONDS and info.context != TAKEN:
            raise ValueError(
                "milliseconds since the epoch are expected and these are seconds: multiply by "
                "1000, or give an aware datetime"
            )
        return value
    if value.utcoffset() is None:
        raise ValueError("a datetime without a time zone")
    return to_milliseconds(to_utc(value))


def _cron_line(value: str, info: ValidationInfo) -> str:
    # With the first cron line.
    from rowlock._cron import fields_of

    fields_of(value, strict=info.context != TAKEN)
    return value


_Interval = Annotated[int, Field(strict=True, ge=1, le=MAX_DURATION_MS)] | None
LAST_INSTANT = to_milliseconds(datetime.max.replace(tzinfo=UTC))


class ScheduledTaskTime(Model):
    """When a scheduled task triggers: at an instant, then every interval; or by a cron line.

    Attributes:
        next_trigger_time: milliseconds since the epoch, or an aware datetime on input. The first
            instant; without one, the first is an interval from now. With a cron line, nothing
            comes before it. A number that is surely one of seconds is refused.
        interval_days: days of 24 hours; added to the other intervals.
        interval_hours: hours.
        interval_minutes: minutes.
        interval_seconds: seconds.
        cron: "minute hour day-of-month month day-of-week", optionally with the second first. As
            in cron: `*`, `a`, `a-b`, `*/n`, `a-b/n`, lists, names of months and days, 0 and 7 for
            Sunday; beyond it `a/n` (from a on), `L` (the last day of the month), `LW` (its last
            weekday), `5L` (its last Friday), `5#1` (its first). A step is at most as long as its
            field: `*/90` does not mean each 90 minutes.
        timezone: of the cron line, as "Europe/Berlin"; by default UTC. Where clocks go forward, a
            line that names minute and hour comes at the change if its time is left out. Where
            they go back, it comes the first time. A line with a star as minute or hour comes
            whenever the clocks show its time.
    """

    next_trigger_time: (
        Annotated[
            int,
            Field(strict=True, ge=0, le=LAST_INSTANT),
            BeforeValidator(_epoch_milliseconds),
        ]
        | None
    ) = None
    interval_days: _Interval = None
    interval_hours: _Interval = None
    interval_minutes: _Interval = None
    interval_seconds: _Interval = None
    cron: Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_cron_line)] | None = (
        None
    )
    timezone: Annotated[str, Field(min_length=1, max_length=255)] | None = None

    if TYPE_CHECKING:  # a checker takes the type of a field for all that it can be given

        def __init__(
            self,
            *,
            next_trigger_time: int | datetime | None = None,
            interval_days: int | None = None,
            interval_hours: int | None = None,
            interval_minutes: int | None = None,
            interval_seconds: int | None = None,
            cron: str | None = None,
            timezone: str | None = None,
        ) -> None: ...

    @property
    def interval(self) -> int:
        """The interval in milliseconds, 0 if there is none."""
        minutes = ((self.interval_days or 0) * 24 + (self.interval_hours or 0)) * 60
        return ((minutes + (self.interval_minutes or 0)) * 60 + (self.interval_seconds or 0)) * 1000

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.interval > MAX_DURATION_MS:
            raise ValueError("the interval is longer than a hundred years")
        if self.cron is None and self.timezone is not None:
            raise ValueError("a timezone is only for a cron line")
        if self.cron is not None:
            from rowlock._cron import Cron

            if self.interval:
                raise ValueError("a cron line and an interval exclude each other")
            Cron(self.cron, self.timezone or "UTC")
        return self


class ScheduledTaskInfo(Model):
    """All scheduled tasks.

    Attributes:
        tasks: of each id its times, with the instant at which each triggers next, none if it
            triggers no more.
    """

    tasks: dict[str, list[ScheduledTaskTime]]


class ScheduledTaskState(Model):
    """A scheduled task as it is stored.

    Attributes:
        id: its id.
        times: as in `ScheduledTaskInfo`.
        paused_since: when it was paused, None if it is not.
        task_type: the type of the tasks that it creates, None if it calls a function.
        misfire: "coalesce", "catch_up" or "skip".
        misfire_grace: milliseconds that an instant may be late with "skip".
        overlap: "allow" or "skip".
        unreadable: why this process cannot trigger it and leaves it to others: it is of a newer
            version of rowlock, or in a time zone that is not known here. None if it can.
        last_trigger_time: the instant that last triggered.
        last_outcome: "created" for a task; for a function "started", "success" or "failed". One
            that stays "started" ended with its process. "damaged" if its row is nothing that
            rowlock writes: it was paused, and can be added or resumed when it is mended.
        last_error: why the function failed, or the scheduled task was paused.
        last_task_id: the task that was created last.
        last_skip_time: the instant that was last left out.
        last_skip_reason: why.
    """

    id: str
    times: list[ScheduledTaskTime]
    paused_since: Instant | None = None
    task_type: str | None = None
    misfire: str
    misfire_grace: int | None = None
    overlap: str
    unreadable: str | None = None
    last_trigger_time: Instant | None = None
    last_outcome: str | None = None
    last_error: TaskError | None = None
    last_task_id: str | None = None
    last_skip_time: Instant | None = None
    last_skip_reason: str | None = None
