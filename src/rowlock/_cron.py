"""Cron lines in a time zone.

cronsim says which wall-clock times a line means; this says at which instants a zone's clocks show
them. A line is *fixed* if neither its minute nor its hour begins with a star, as in Debian's cron:

- Clocks go forward: what a fixed line means in the hours that are left out comes once, at the
  change. Other lines come when the clocks show their times.
- Clocks go back: a fixed line comes the first time the clocks show its time. Other lines come
  each time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)


class Cron:
    """A cron line in a zone.

    Args:
        line: five fields, or six of which the first is the second.
        zone: a name of the IANA database, as "Europe/Berlin".

    Raises:
        ValueError: if there is no such line or zone, or no instant of the line.
    """

    def __init__(self, line: str, zone: str) -> None:
        self._line = line
        self._zone = _zone(zone)
        try:
            fields = CronSim(line, datetime(2000, 1, 1)).parts
        except (CronSimError, ValueError) as error:
            raise ValueError(f"{line!r} is no cron line: {error}") from None
        self._fixed = not any(field.startswith("*") for field in fields[1:3])
        if self._next(datetime(2000, 1, 1)) is None:
            raise ValueError(f"the cron line {line!r} never comes")

    def after(self, instant: datetime) -> datetime | None:
        """Return the first instant of the line after another in UTC, None if there is none."""
        try:
            return self._after(instant)
        except OverflowError:  # the year 10,000
            return None

    def _after(self, instant: datetime) -> datetime | None:
        start, wall = instant, self._wall(instant)
        while (match := self._next(wall)) is not None:
            found = match.replace(tzinfo=UTC) - self._offset(start)
            change = self._change(start, found)
            if change is None:
                if not self._fixed or self._first(match) == found:
                    return found
                start, wall = found, match
                continue
            shown = self._wall(change)
            if self._fixed and match <= shown:
                return change
            start, wall = change, shown - _SECOND
        return None

    def _next(self, wall: datetime) -> datetime | None:
        return next(CronSim(self._line, wall), None)

    def _wall(self, instant: datetime) -> datetime:
        return instant.astimezone(self._zone).replace(tzinfo=None)

    def _first(self, wall: datetime) -> datetime:
        return wall.replace(tzinfo=self._zone, fold=0).astimezone(UTC)

    def _offset(self, instant: datetime) -> timedelta:
        return instant.astimezone(self._zone).utcoffset() or timedelta()

    def _change(self, start: datetime, end: datetime) -> datetime | None:
        """Return when the clocks are changed, after `start` and not after `end`."""
        if self._zone is UTC:
            return None
        offset = self._offset(start)
        before = start
        while before < end:
            probe = before + _DAY if end - before > _DAY else end
            if self._offset(probe) != offset:
                break
            before = probe
        else:
            return None
        # Clocks are changed at whole seconds.
        low, high = int(before.timestamp()), int(probe.timestamp())
        while high - low > 1:
            middle = (low + high) // 2
            if self._offset(datetime.fromtimestamp(middle, UTC)) == offset:
                low = middle
            else:
                high = middle
        return datetime.fromtimestamp(high, UTC)


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    # These two are another zone on another host.
    if name in ("localtime", "posixrules"):
        raise ValueError(f"{name!r} names no zone of its own")
    try:
        return ZoneInfo(name)
    except (OSError, LookupError, ValueError):
        raise ValueError(f"there is no time zone {name!r}") from None
