"""When scheduled tasks trigger: cron lines around clock changes, intervals, what is refused.

`python -m tests.scheduling.test_times` prints the table of clock changes.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from itertools import accumulate, groupby, islice, pairwise, takewhile
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rowlock._cron import Cron
from rowlock._instants import from_milliseconds, to_milliseconds
from rowlock._scheduling.times import first, following, instants, is_complete
from rowlock.models import MAX_DURATION_MS
from rowlock.schedule_models import LAST_INSTANT, ScheduledTaskTime

SECOND = timedelta(seconds=1)
DAY = 24 * 60 * 60 * 1000
INTERVALS = ("interval_days", "interval_hours", "interval_minutes", "interval_seconds")

LEFT_OUT = "fixed, left out: once, at the change"
TWICE = "fixed, comes twice: the first time"
ONCE = "fixed, comes once"
STAR = "starred: when the clocks show it"

# By hand: local times of 2026 with their offset, all from the first to the last of the row.
CLOCK_CHANGES = {
    "Europe/Berlin: 29 Mar 02:00+01 is 03:00+02, 25 Oct 03:00+02 is 02:00+01": [
        ("30 2 * * *", LEFT_OUT, "03-28T02:30+01 03-29T03:00+02 03-30T02:30+02"),
        ("*/20 2 * * *", STAR, "03-28T02:40+01 03-30T02:00+02"),
        ("30 * * * *", STAR, "03-29T00:30+01 03-29T01:30+01 03-29T03:30+02"),
        ("* * * * * *", STAR, "03-29T01:59:59+01 03-29T03:00:00+02 03-29T03:00:01+02"),
        ("30 2 * * *", TWICE, "10-24T02:30+02 10-25T02:30+02 10-26T02:30+01"),
        ("*/30 2 25 10 *", STAR, "10-25T02:00+02 10-25T02:30+02 10-25T02:00+01 10-25T02:30+01"),
        ("30 * * * *", STAR, "10-25T01:30+02 10-25T02:30+02 10-25T02:30+01 10-25T03:30+01"),
        ("* * * * * *", STAR, "10-25T02:59:59+02 10-25T02:00:00+01 10-25T02:00:01+01"),
    ],
    "America/New_York: 8 Mar 02:00-05 is 03:00-04, 1 Nov 02:00-04 is 01:00-05": [
        ("15,45 2 * * *", LEFT_OUT, "03-07T02:45-05 03-08T03:00-04 03-09T02:15-04"),
        ("0 2,3 * * *", LEFT_OUT, "03-07T03:00-05 03-08T03:00-04 03-09T02:00-04"),
        ("*/30 2 * * *", STAR, "03-07T02:30-05 03-09T02:00-04"),
        ("0 */2 * * *", STAR, "03-08T00:00-05 03-08T04:00-04 03-08T06:00-04"),
        ("* * * * * *", STAR, "03-08T01:59:59-05 03-08T03:00:00-04 03-08T03:00:01-04"),
        ("0 1 * * *", TWICE, "10-31T01:00-04 11-01T01:00-04 11-02T01:00-05"),
        ("*/30 1 * * *", STAR, "11-01T01:30-04 11-01T01:00-05 11-01T01:30-05 11-02T01:00-05"),
        ("45 */1 * * *", STAR, "11-01T00:45-04 11-01T01:45-04 11-01T01:45-05 11-01T02:45-05"),
        ("* * * * * *", STAR, "11-01T01:59:59-04 11-01T01:00:00-05 11-01T01:00:01-05"),
    ],
    "Australia/Lord_Howe: 5 Apr 02:00+11 is 01:30+10:30, 4 Oct 02:00+10:30 is 02:30+11": [
        ("45 1 * * *", TWICE, "04-04T01:45+11 04-05T01:45+11 04-06T01:45+10:30"),
        ("*/20 1 * * *", STAR, "04-05T01:20+11 04-05T01:40+11 04-05T01:40+10:30 04-06T01:00+10:30"),
        ("45 * * * *", STAR, "04-05T00:45+11 04-05T01:45+11 04-05T01:45+10:30 04-05T02:45+10:30"),
        ("* * * * * *", STAR, "04-05T01:59:59+11 04-05T01:30:00+10:30 04-05T01:30:01+10:30"),
        ("15 2 * * *", LEFT_OUT, "10-03T02:15+10:30 10-04T02:30+11 10-05T02:15+11"),
        ("*/20 2 * * *", STAR, "10-03T02:40+10:30 10-04T02:40+11 10-05T02:00+11"),
        ("15 * * * *", STAR, "10-04T01:15+10:30 10-04T03:15+11 10-04T04:15+11"),
        ("* * * * * *", STAR, "10-04T01:59:59+10:30 10-04T02:30:00+11 10-04T02:30:01+11"),
    ],
    "Africa/Cairo: 24 Apr 00:00+02 is 01:00+03, 30 Oct 00:00+03 is 29 Oct 23:00+02": [
        ("0 0 * * *", LEFT_OUT, "04-23T00:00+02 04-24T01:00+03 04-25T00:00+03"),
        ("*/30 0 * * *", STAR, "04-23T00:30+02 04-25T00:00+03"),
        ("30 * * * *", STAR, "04-23T23:30+02 04-24T01:30+03 04-24T02:30+03"),
        ("* * * * * *", STAR, "04-23T23:59:59+02 04-24T01:00:00+03 04-24T01:00:01+03"),
        ("30 23 * * *", TWICE, "10-28T23:30+03 10-29T23:30+03 10-30T23:30+02"),
        ("0 0 * * *", ONCE, "10-29T00:00+03 10-30T00:00+02 10-31T00:00+02"),
        ("*/30 23 * * *", STAR, "10-29T23:30+03 10-29T23:00+02 10-29T23:30+02 10-30T23:00+02"),
        ("30 * * * *", STAR, "10-29T22:30+03 10-29T23:30+03 10-29T23:30+02 10-30T00:30+02"),
        ("* * * * * *", STAR, "10-29T23:59:59+03 10-29T23:00:00+02 10-29T23:00:01+02"),
    ],
    "Pacific/Chatham: 5 Apr 03:45+13:45 is 02:45+12:45, 27 Sep 02:45+12:45 is 03:45+13:45": [
        ("0 3 * * *", TWICE, "04-04T03:00+13:45 04-05T03:00+13:45 04-06T03:00+12:45"),
        ("*/50 3 * * *", STAR, "04-05T03:00+13:45 04-05T03:00+12:45 04-05T03:50+12:45"),
        ("50 * * * *", STAR, "04-05T02:50+13:45 04-05T02:50+12:45 04-05T03:50+12:45"),
        ("* * * * * *", STAR, "04-05T03:44:59+13:45 04-05T02:45:00+12:45 04-05T02:45:01+12:45"),
        ("0 3 * * *", LEFT_OUT, "09-26T03:00+12:45 09-27T03:45+13:45 09-28T03:00+13:45"),
        ("50 2,3 * * *", LEFT_OUT, "09-26T03:50+12:45 09-27T03:45+13:45 09-27T03:50+13:45"),
        ("*/20 3 * * *", STAR, "09-26T03:40+12:45 09-28T03:00+13:45"),
        ("30 * * * *", STAR, "09-27T02:30+12:45 09-27T04:30+13:45 09-27T05:30+13:45"),
        ("* * * * * *", STAR, "09-27T02:44:59+12:45 09-27T03:45:00+13:45 09-27T03:45:01+13:45"),
    ],
}  # fmt: skip


class Row(NamedTuple):
    change: str
    line: str
    rule: str
    instants: list[datetime]

    @property
    def zone(self) -> str:
        return self.change.split(":")[0]


def table() -> list[Row]:
    return [
        Row(change, line, rule, [datetime.fromisoformat(f"2026-{at}") for at in by_hand.split()])
        for change, rows in CLOCK_CHANGES.items()
        for line, rule, by_hand in rows
    ]


def walk(cron: Cron, instant: datetime) -> Iterator[datetime]:
    found = cron.after(instant)
    while found is not None:
        yield found
        found = cron.after(found)


@pytest.mark.parametrize("row", table(), ids=lambda row: f"{row.zone} {row.line}")
def test_clock_changes(row: Row) -> None:
    start = row.instants[0].astimezone(UTC) - SECOND
    assert list(islice(walk(Cron(row.line, row.zone), start), len(row.instants))) == row.instants


# Cron lines against clocks that are read every 30 seconds.

CHANGES = {
    "Europe/Berlin": ("2026-03-29T01:00Z", "2026-10-25T01:00Z"),
    "America/New_York": ("2026-03-08T07:00Z", "2026-11-01T06:00Z"),
    "Australia/Lord_Howe": ("2026-04-04T15:00Z", "2026-10-03T15:30Z"),
    "Africa/Cairo": ("2026-04-23T22:00Z", "2026-10-29T21:00Z"),
    "Pacific/Chatham": ("2026-04-04T14:00Z", "2026-09-26T14:00Z"),
    "Africa/Casablanca": ("2026-02-15T02:00Z", "2026-03-22T02:00Z"),
    "Pacific/Apia": ("2011-12-30T10:00Z",),  # a whole day is left out
    "Asia/Kolkata": ("2026-03-29T00:00Z",),
    "UTC": ("2026-03-29T00:00Z",),
}
Window = tuple[str, datetime]
windows = st.sampled_from(
    [(zone, datetime.fromisoformat(at)) for zone, changes in CHANGES.items() for at in changes]
)
days = st.builds(
    "{} {} {}".format,
    st.sampled_from(["*", "*/2", "L", "LW", "29", "1-7", "30"]),
    st.sampled_from(["*", "1,12", "3-4", "9-11"]),
    st.sampled_from(["*", "SUN", "1-5", "0#1", "5L", "*/2"]),
)
lines = st.builds(
    "{}{} {} {}".format,
    st.sampled_from(["", "", "0 ", "30 ", "*/30 "]),
    st.sampled_from(["*", "*/7", "*/30", "0", "30", "59", "15,45", "20-40/5", "0-59"]),
    st.sampled_from(["*", "*/2", "*/5", "0", "1", "2", "2,3", "0-4", "23", "0-23"]),
    st.just("* * *") | days,
)
zones = st.sampled_from(sorted(CHANGES))
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


def is_fixed(line: str) -> bool:
    minute, hour = line.split()[-5:-3]
    return minute[0] != "*" and hour[0] != "*"


@cache
def clock(zone: str, middle: datetime) -> tuple[list[datetime], list[datetime]]:
    """The instants of three days, and what the clocks show at each."""
    ticks = [middle + timedelta(seconds=30 * number) for number in range(-4320, 4321)]
    return ticks, [tick.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for tick in ticks]


def by_rule(line: str, zone: str, middle: datetime) -> list[datetime]:
    ticks, shown = clock(zone, middle)
    meant = takewhile(lambda wall: wall <= shown[-1], CronSim(line, shown[0] - SECOND))
    if not is_fixed(line):
        walls = set(meant)
        return [tick for tick, wall in zip(ticks, shown, strict=True) if wall in walls]
    latest = list(accumulate(shown, max))
    firsts = dict(zip(reversed(shown), reversed(ticks), strict=True))
    return sorted({firsts.get(wall) or ticks[bisect_right(latest, wall)] for wall in meant})


@settings(deadline=None, max_examples=300)
@given(lines, windows, st.integers(-3, 0) | st.integers(-36, 36), st.integers(0, 3600 * 10**6))
def test_a_line_comes_when_a_reader_of_the_clock_says(
    line: str, window: Window, hours: int, microseconds: int
) -> None:
    zone, middle = window
    start = middle + timedelta(hours=hours, microseconds=microseconds)
    expected = [instant for instant in by_rule(line, zone, middle) if instant > start][:8]
    end = clock(zone, middle)[0][-1]
    found = list(islice(walk(Cron(line, zone), start), 8))
    assert [instant for instant in found if instant <= end] == expected


@settings(deadline=None, max_examples=300)
@given(lines, zones, moments)
def test_the_clocks_show_what_the_line_means(line: str, zone: str, start: datetime) -> None:
    found = list(islice(walk(Cron(line, zone), start), 5))
    assert len(found) == 5
    assert all(earlier < later for earlier, later in pairwise([start, *found]))
    for instant in found:
        before, wall = (
            at.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for at in (instant - SECOND, instant)
        )
        skipped = wall - before > SECOND
        assert next(CronSim(line, wall - SECOND)) == wall or (is_fixed(line) and skipped)


@settings(deadline=None)
@given(lines, windows, st.integers(-150, 150))
def test_a_later_instant_has_no_earlier_next(line: str, window: Window, minutes: int) -> None:
    cron, start = Cron(line, window[0]), window[1] + timedelta(minutes=minutes)
    found = [next(walk(cron, start + timedelta(minutes=7 * number))) for number in range(20)]
    assert found == sorted(found)


def test_a_zone_has_the_last_day_of_the_year_9999() -> None:
    noon = datetime(9999, 12, 31, 11, tzinfo=UTC)
    assert list(walk(Cron("0 12 * * *", "Europe/Berlin"), noon - SECOND)) == [noon]


# Intervals and several times.


@given(
    st.integers(0, 10**9 - 1) | st.integers(10**11, 10**14),
    st.integers(1, 10**7),
    st.integers(0, 10**14),
)
def test_an_interval_keeps_its_grid(due: int, seconds: int, now: int) -> None:
    time = ScheduledTaskTime(next_trigger_time=due, interval_seconds=seconds)
    assert first(time, now) == due
    found = following(time, due, now)
    assert found is not None
    assert (found - due) % (seconds * 1000) == 0
    assert found - seconds * 1000 <= max(due, now) < found


def test_the_first_instant_is_the_sum_of_the_intervals_from_now() -> None:
    given_: dict[str, Any] = dict(zip(INTERVALS, (1, 2, 3, 4), strict=True))
    sum_ = timedelta(days=1, hours=2, minutes=3, seconds=4) // timedelta(milliseconds=1)
    assert first(ScheduledTaskTime(**given_), 5) == 5 + sum_


def test_a_day_is_24_hours_when_the_clocks_are_changed() -> None:
    noon = datetime(2026, 3, 28, 12, tzinfo=timezone(timedelta(hours=1)))
    time = ScheduledTaskTime(next_trigger_time=noon, interval_days=1)
    found = [at.astimezone(ZoneInfo("Europe/Berlin")).hour for at in instants([time], noon, 3)]
    assert found == [12, 13, 13]


def test_what_was_missed_is_one_instant_and_the_next_is_after_now() -> None:
    time = ScheduledTaskTime(next_trigger_time=500, interval_seconds=1)
    found = [following(time, 500, now) for now in (0, 500, 9499, 9500, 9501)]
    assert found == [1500, 1500, 9500, 10_500, 10_500]
    cron = ScheduledTaskTime(cron="* * * * *")
    found = [following(cron, 60_000, now) for now in (0, 60_000, 119_999, 120_000)]
    assert found == [120_000, 120_000, 120_000, 180_000]


def test_one_instant_comes_once_also_if_it_is_past() -> None:
    time = ScheduledTaskTime(next_trigger_time=1000)
    assert (first(time, 0), first(time, 5000)) == (1000, 1000)
    assert following(time, 1000, 0) is None
    assert instants([time], from_milliseconds(0), 5) == [from_milliseconds(1000)]
    assert instants([time], from_milliseconds(1001), 5) == []


def test_a_cron_line_begins_with_the_first_instant() -> None:
    start = to_milliseconds(datetime(2026, 3, 1, 12, tzinfo=UTC))
    for given_, expected in ((start, start), (start + 1, start + DAY), (None, start)):
        time = ScheduledTaskTime(cron="0 12 * * *", next_trigger_time=given_)
        assert first(time, start - 1) == expected
    assert first(ScheduledTaskTime(cron="0 12 * * *"), start) == start + DAY


def test_a_cron_line_begins_with_the_epoch() -> None:
    assert first(ScheduledTaskTime(cron="0 0 * * *", next_trigger_time=0), 0) == 0


def test_nothing_comes_after_the_year_9999() -> None:
    daily = ScheduledTaskTime(interval_days=1)
    assert first(daily, LAST_INSTANT - DAY) == LAST_INSTANT
    assert first(daily, LAST_INSTANT - DAY + 1) is None
    assert following(daily, LAST_INSTANT - DAY, 0) == LAST_INSTANT
    assert following(daily, LAST_INSTANT - DAY + 1, 0) is None
    assert following(daily, 0, LAST_INSTANT) is None
    for zone in ("UTC", "Asia/Tokyo", "America/New_York"):
        cron = ScheduledTaskTime(cron="* * * * *", timezone=zone)
        assert (first(cron, LAST_INSTANT), following(cron, LAST_INSTANT, 0)) == (None, None)
    last = ScheduledTaskTime(next_trigger_time=LAST_INSTANT, interval_days=1)
    assert instants([last], from_milliseconds(0), 5) == [from_milliseconds(LAST_INSTANT)]


def test_several_times_are_merged_each_instant_once() -> None:
    times = [
        ScheduledTaskTime(next_trigger_time=-4 * 60_000 % DAY, interval_minutes=2),
        ScheduledTaskTime(cron="*/3 * * * *"),
        ScheduledTaskTime(cron="37 5 * * *", timezone="Asia/Kolkata"),
        ScheduledTaskTime(next_trigger_time=DAY + 60_000),
        ScheduledTaskTime(next_trigger_time=1),
    ]
    found = instants(times, from_milliseconds(DAY - 1), 8)
    assert [(to_milliseconds(at) - DAY) // 60_000 for at in found] == [0, 1, 2, 3, 4, 6, 7, 8]
    assert (instants(times, from_milliseconds(DAY), 0), instants([], from_milliseconds(0), 5)) == (
        [],
        [],
    )


# The model.


def test_the_json_is_the_contracts_and_comes_back() -> None:
    at = datetime(2026, 3, 29, 3, tzinfo=timezone(timedelta(hours=2)))
    time = ScheduledTaskTime(next_trigger_time=at, interval_days=1, interval_hours=2)
    text = '{"nextTriggerTime":1774746000000,"intervalDays":1,"intervalHours":2}'
    assert time.model_dump_json(by_alias=True) == text
    assert ScheduledTaskTime.model_validate_json(text) == time
    text = '{"cron":"0 8 * * 1-5","timezone":"Europe/Berlin"}'
    assert ScheduledTaskTime.model_validate_json(text).model_dump_json(by_alias=True) == text
    cut = ScheduledTaskTime(next_trigger_time=datetime(1970, 1, 1, 0, 0, 1, 2999, tzinfo=UTC))
    assert cut.next_trigger_time == 1002


def test_what_says_no_instant_is_not_complete() -> None:
    assert not is_complete(ScheduledTaskTime())
    assert is_complete(ScheduledTaskTime(next_trigger_time=0))
    assert is_complete(ScheduledTaskTime(interval_seconds=1))
    assert is_complete(ScheduledTaskTime(cron="* * * * *"))


REFUSED: list[dict[str, Any]] = [
    *({name: value} for name in INTERVALS for value in (
        0, -1, 1.0, 1.5, math.nan, math.inf, True, "1", timedelta(1), MAX_DURATION_MS, 10**30,
    )),
    {"interval_days": 100 * 365, "interval_seconds": 1},
    *({"next_trigger_time": value} for value in (
        -1, LAST_INSTANT + 1, 1.0, math.nan, True, "0", "2026-01-01T00:00:00Z", 10**30,
        datetime(2026, 1, 1), datetime(1969, 12, 31, tzinfo=UTC),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
    )),
    {"timezone": "UTC"}, {"timezone": "UTC", "interval_days": 1},
    *({"cron": "* * * * *", name: 1} for name in INTERVALS),
    *({"cron": "* * * * *", "timezone": name} for name in (
        "", " ", ".", "..", "/", "../etc/passwd", "/etc/passwd", "/usr/share/zoneinfo/UTC",
        "Europe", "Europe/", "./Europe/Berlin", "Europe//Berlin", "Europe/Berlin\n", "Nowhere",
        "zone.tab", "__init__.py", "\0", "Europe/\0", "\0/Berlin", "\ud800", "\ud800/x", "é/é",
        "a" * 255, "a" * 256, "a/" * 127, 1, ["UTC"],
    )),
    *({"cron": line} for line in (
        "", " ", "*", "* * * *", "* * * * * * *", "@daily", "60 * * * *", "* 24 * * *",
        "* * 0 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *", "5-1 * * * *", "1- * * * *",
        ", * * * *", "/ * * * *", "*/* * * * *", "1/1/1 * * * *", "-1 * * * *", "1.5 * * * *",
        "L * * * *", "* * L-5 * *", "* * L-LW * *", "* * * * L", "* * * * 1#6", "* * * * 5L/2",
        "\u0663 * * * *", "* * * * \u00b2L", "\ud800 * * * *", "*\0 * * * *", "* * * * *\0",
        "0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 LW * */7",  # never come
        "1" + ",1" * 124 + " * * * *", "*/" + "9" * 246 + " * * * *", 5, True, ["*"] * 5,
    )),
]  # fmt: skip


@pytest.mark.parametrize("given_", REFUSED, ids=lambda given_: ascii(given_)[:60])
def test_what_is_no_time_is_refused(given_: dict[str, Any]) -> None:
    """Fails where anything but pydantic's error comes out."""
    with pytest.raises(ValidationError):
        ScheduledTaskTime(**given_)


ODD = [
    "0 0 29 2 */7", "0 0 * 2 MON#5", "59 59 23 31 12 *", "0 0 LW,L JAN-DEC SUN-SAT",
    "0-0/60 * * * *", "1" + ",1" * 123 + " * * * *", "*/" + "0" * 243 + "60 * * * *",
]  # fmt: skip


@pytest.mark.parametrize("line", ODD, ids=lambda line: line[:30])
def test_odd_lines_are_taken(line: str) -> None:
    time = ScheduledTaskTime(cron=line, timezone="Africa/Casablanca")
    assert len(instants([time], datetime(2026, 1, 1, tzinfo=UTC), 3)) == 3


@settings(deadline=None, max_examples=300)
@given(st.text("0159*/,-LW#SUNJ \t\x1c\u0663\u017f", max_size=30) | st.text(), st.text(max_size=20))
def test_any_text_is_taken_or_refused(line: str, zone: str) -> None:
    for cron, timezone_ in ((line, None), ("* * * * *", zone)):
        try:
            ScheduledTaskTime(cron=cron, timezone=timezone_)
        except ValidationError as error:
            assert str(error)  # noqa: PT017


if __name__ == "__main__":
    for change, rows in groupby(table(), lambda row: row.change):
        print(f"\n{change}")
        for _, line, rule, found in rows:
            shown = "  ".join(at.isoformat(" ")[5:] for at in found)
            print(f"  {line:<15} {rule:<37} {shown}")
