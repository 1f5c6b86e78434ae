"""Cron lines in a time zone.

cronsim says which wall-clock times a line means; this says what a line may be, and at which
instants a zone's clocks show its times. A line is *fixed* if neither its minute nor its hour
begins with a star, as in Debian's cron:

- Clocks go forward: what a fixed line means in the hours that are left out comes once, at the
  change. Other lines come when the clocks show their times.
- Clocks go back: a fixed line comes the first time the clocks show its time. Other lines come
  each time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, NoReturn
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of a line.

    Attributes:
        name: what errors call it.
        low: its first value.
        high: its last value.
        size: how many different values there are, and the longest step.
        names: that stand for the values from `low` on.
        more: the other terms that are allowed, for people.
    """

    name: str
    low: int
    high: int
    size: int
    names: tuple[str, ...] = ()
    more: str = ""

    def term(self, term: str, *, strict: bool) -> str:
        """Return a term as cronsim takes it to mean what it means to cron."""
        if self.name == "day-of-month" and term in ("L", "LW"):
            return term
        if self.name == "day-of-week" and term.endswith("L"):
            # By its number: a name is none to cronsim here.
            self._number(term[:-1], term)
            return term
        if self.name == "day-of-week" and "#" in term:
            value, _, nth = term.partition("#")
            self._value(value, term)
            if nth not in ("1", "2", "3", "4", "5"):
                self._refuse(term, "#1 to #5")
            return term
        base, slash, step = term.partition("/")
        if base != "*":
            first, dash, last = base.partition("-")
            low = high = self._value(first, term)
            if dash:
                high = self._value(last, term)
            if high < low:
                self._refuse(term, f"a range within {self._allowed}, from the lower to the higher,")
        if not slash:
            return base
        if not _is_number(step) or int(step) == 0 or (strict and int(step) > self.size):
            self._refuse(term, f"a step of 1 to {self.size}")
        # To cronsim a range of one value would have no end.
        return base if base != "*" and dash and low == high else term

    def _value(self, text: str, term: str) -> int:
        if text in self.names:
            return self.low + self.names.index(text)
        return self._number(text, term)

    def _number(self, text: str, term: str) -> int:
        if not _is_number(text) or not self.low <= int(text) <= self.high:
            self._refuse(term, self._allowed + self.more)
        return int(text)

    @property
    def _allowed(self) -> str:
        names = f" or {self.names[0]} to {self.names[-1]}" if self.names else ""
        return f"{self.low} to {self.high}{names}"

    def _refuse(self, given: str, allowed: str) -> NoReturn:
        raise ValueError(f"{self.name}: {given!r} was given, {allowed} is allowed")


_LISTS: Final = ", *, a-b, and these with a step as */n, in lists,"
_MONTHS: Final = (
    "JAN",
    "FEB",
    "MAR",
    "APR",
    "MAY",
    "JUN",
    "JUL",
    "AUG",
    "SEP",
    "OCT",
    "NOV",
    "DEC",
)
_DAYS: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_FIELDS: Final = (
    _Field("second", 0, 59, 60, more=_LISTS),
    _Field("minute", 0, 59, 60, more=_LISTS),
    _Field("hour", 0, 23, 24, more=_LISTS),
    _Field("day-of-month", 1, 31, 31, more=_LISTS + " or L or LW"),
    _Field("month", 1, 12, 12, _MONTHS, more=_LISTS),
    # 7 is Sunday again.
    _Field("day-of-week", 0, 7, 7, _DAYS, more=_LISTS + " or 5L or 5#1"),
)


def fields_of(line: str, *, strict: bool = True) -> list[str]:
    """Return the six fields of a line.

    Args:
        line: as in `Cron`.
        strict: whether steps that leave the field at once are refused, as `*/90` for minutes:
            that is each hour, and was meant to be something else.

    Raises:
        ValueError: if it is no line; it says which field, what was given and what is allowed.
    """
    parts = line.upper().split()
    if len(parts) not in (5, 6):
        raise ValueError(
            f"{line!r} has {len(parts)} fields; minute (0 to 59), hour (0 to 23), day-of-month "
            "(1 to 31), month (1 to 12) and day-of-week (0 to 7), or these after a second "
            "(0 to 59), are allowed"
        )
    if len(parts) == 5:
        parts.insert(0, "0")
    return [
        ",".join(field.term(term, strict=strict) for term in part.split(","))
        for field, part in zip(_FIELDS, parts, strict=True)
    ]


class Cron:
    """A cron line in a zone.

    Args:
        line: five fields, or six of which the first is the second.
        zone: a name of the IANA database, as "Europe/Berlin".

    Raises:
        ValueError: if there is no such line or zone, or no instant of the line.
    """

    def __init__(self, line: str, zone: str) -> None:
        self._zone = _zone(zone)
        fields = fields_of(line, strict=False)
        self._line = " ".join(fields)
        self._fixed = not any(field.startswith("*") for field in fields[1:3])
        try:
            never = self._next(datetime(2000, 1, 1)) is None
        except CronSimError:
            never = True
        if never:
            days = " ".join(fields[3:])
            raise ValueError(
                f"day-of-month, month, day-of-week: {days!r} was given, which never comes; a day "
                "of 1 to 31 that one of the months has is allowed"
            )

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
        raise ValueError(f"timezone: {name!r} names no zone of its own")
    try:
        return ZoneInfo(name)
    except (OSError, LookupError, ValueError):
        raise ValueError(
            f"timezone: {name!r} is not known here; a name of the IANA database, as "
            "'Europe/Berlin', is allowed"
        ) from None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
