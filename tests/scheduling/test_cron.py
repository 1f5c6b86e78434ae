"""What a cron line means and may be, against an oracle that goes through every value by definition.

The clocks of a zone are the matter of `test_times`.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice, takewhile
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rowlock import InvalidArgumentError, ScheduledTaskTime, TaskScheduler
from rowlock._cron import Cron, fields_of
from rowlock._scheduling.times import instants, read_times

MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]


class Field(NamedTuple):
    """A field by itself: a line with it alone, from where to where it is walked, and its values."""

    name: str
    low: int
    high: int
    steps: int
    line: str
    start: datetime
    end: datetime
    value: str

    def walked(self, text: str) -> list[int]:
        """The values at which the line comes, in one walk over all of them."""
        cron = Cron(self.line.format(text), "UTC")
        found = takewhile(lambda at: at < self.end, walk(cron, self.start - timedelta(seconds=1)))
        if self.value == "weekday":
            return [at.isoweekday() % 7 for at in found]
        return [getattr(at, self.value) for at in found]

    def meant(self, terms: str) -> list[int]:
        """The same by definition: each value that one of the terms names, in the walk's order."""
        values = {value for term in terms.split(",") for value in self.of_term(term)}
        if self.name == "day-of-week":
            values = {value % 7 for value in values}
            return sorted(values)
        return sorted(values)

    def of_term(self, term: str) -> Iterator[int]:
        base, _, step = term.partition("/")
        first, dash, last = base.partition("-")
        low = self.low if base == "*" else self.number(first)
        high = self.number(last) if dash else low
        if base == "*" or (step and not dash):
            high = self.high
        for value in range(self.low, self.high + 1):
            if low <= value <= high and (value - low) % int(step or 1) == 0:
                yield value

    def number(self, text: str) -> int:
        names = {"month": dict(zip(MONTHS, range(1, 13), strict=True))}.get(
            self.name, dict(zip(DAYS, range(7), strict=True))
        )
        return names[text] if text in names else int(text)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


DAY = timedelta(days=1)
SUNDAY = moment("2026-03-01")
YEAR = moment("2026-01-01")
FIELDS = [
    Field("second", 0, 59, 60, "{} 0 0 * * *", SUNDAY, SUNDAY + DAY, "second"),
    Field("minute", 0, 59, 60, "{} 5 * * *", SUNDAY, SUNDAY + DAY, "minute"),
    Field("hour", 0, 23, 24, "7 {} * * *", SUNDAY, SUNDAY + DAY, "hour"),
    Field("day-of-month", 1, 31, 31, "0 0 {} * *", SUNDAY, SUNDAY + 31 * DAY, "day"),
    Field("month", 1, 12, 12, "0 0 1 {} *", YEAR, YEAR + 365 * DAY, "month"),
    Field(
        "day-of-week", 0, 7, 7, "0 0 * * {}", SUNDAY, SUNDAY + 7 * DAY, "weekday"
    ),
]  # fmt: skip
BY_NAME = pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)


def walk(cron: Cron, instant: datetime) -> Iterator[datetime]:
    found = cron.after(instant)
    while found is not None:
        yield found
        found = cron.after(found)


def terms_of(field: Field) -> Iterator[str]:
    """Each value, range and step; of the long fields some."""
    sparse = {59: 7, 31: 3}.get(field.high, 1)
    steps = [step for step in range(1, field.steps + 1) if step < 6 or step % sparse == 4 % sparse]
    for low in range(field.low, field.high + 1, sparse):
        yield str(low)
        yield from (f"{low}/{step}" for step in steps)
        for high in range(low, field.high + 1, sparse):
            yield f"{low}-{high}"
            yield from (f"{low}-{high}/{step}" for step in steps)
    yield from ("*", *(f"*/{step}" for step in range(1, field.steps + 1)))


@BY_NAME
def test_every_term_means_what_its_definition_says(field: Field) -> None:
    """Fails if `a-a/n` goes on to the end of the field, as cronsim has it."""
    wrong = [
        (term, found, field.meant(term))
        for term in terms_of(field)
        if (found := field.walked(term)) != field.meant(term)
    ]
    assert not wrong


@BY_NAME
@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_lists_of_terms_mean_all_of_them(field: Field, data: st.DataObject) -> None:
    terms = st.sampled_from(list(terms_of(field)))
    text = ",".join(data.draw(st.lists(terms, min_size=1, max_size=4)))
    assert field.walked(text) == field.meant(text)


@pytest.mark.parametrize("field", FIELDS[4:], ids=lambda field: field.name)
def test_names_are_their_numbers(field: Field) -> None:
    names = MONTHS if field.name == "month" else DAYS
    for place, name in enumerate(names):
        for last in names[place:]:
            for text in (name, name.lower(), f"{name}-{last}", f"{name.title()}-{last}/2"):
                assert field.walked(text) == field.meant(text.upper()), text


def test_sunday_is_0_and_7() -> None:
    week = FIELDS[5]
    assert week.walked("7") == week.walked("0") == week.walked("SUN") == [0]
    assert week.walked("5-7") == [0, 5, 6]
    assert week.walked("0-7") == week.walked("*") == list(range(7))
    assert week.walked("1/2") == [0, 1, 3, 5]
    assert week.walked("*/7") == [0]


# Days of the month and of the week together.


def comes(day: date, day_of_month: str, month: str, day_of_week: str) -> bool:
    """Whether a line comes on a day, by Vixie's rule: both, where one begins with a star."""
    last = monthrange(day.year, day.month)[1]
    weekday = day.isoweekday() % 7

    def in_month(term: str) -> bool:
        if term == "L":
            return day.day == last
        if term == "LW":
            weekdays = [d for d in range(1, last + 1) if date(day.year, day.month, d).weekday() < 5]
            return day.day == weekdays[-1]
        return day.day in FIELDS[3].of_term(term)

    def in_week(term: str) -> bool:
        if term.endswith("L"):
            return weekday == int(term[:-1]) % 7 and day.day + 7 > last
        if "#" in term:
            value, nth = term.split("#")
            return weekday == FIELDS[5].number(value) % 7 and (day.day + 6) // 7 == int(nth)
        return weekday in {value % 7 for value in FIELDS[5].of_term(term)}

    dom = any(map(in_month, day_of_month.split(",")))
    dow = any(map(in_week, day_of_week.split(",")))
    both = day_of_month.startswith("*") or day_of_week.startswith("*")
    return day.month in FIELDS[4].meant(month) and ((dom and dow) if both else (dom or dow))


days_of_month = st.sampled_from(["L", "LW", *terms_of(FIELDS[3])])
days_of_week = st.sampled_from(
    [
        *terms_of(FIELDS[5]),
        *(f"{day}L" for day in range(8)),
        *(f"{day}#{nth}" for day in (*range(8), *DAYS) for nth in range(1, 6)),
    ]
)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(days_of_month, min_size=1, max_size=3).map(",".join),
    st.sampled_from(list(terms_of(FIELDS[4]))),
    st.lists(days_of_week, min_size=1, max_size=3).map(",".join),
    st.dates(date(2023, 1, 1), date(2028, 12, 31)),
)
def test_days_come_by_definition(dom: str, month: str, dow: str, start: date) -> None:
    try:
        cron = Cron(f"0 0 {dom} {month} {dow}", "UTC")
    except ValueError as error:
        assert "never comes" in str(error)  # noqa: PT017
        return
    first = datetime(start.year, start.month, start.day, tzinfo=UTC)
    days = [start + timedelta(days=number) for number in range(250)]
    found = takewhile(lambda at: at.date() <= days[-1], walk(cron, first - timedelta(seconds=1)))
    assert [at.date() for at in found] == [day for day in days if comes(day, dom, month, dow)]


# What is refused, and how.

ALLOWED = {
    "second": "0 to 59", "minute": "0 to 59", "hour": "0 to 23", "day-of-month": "1 to 31",
    "month": "1 to 12", "day-of-week": "0 to 7",
}  # fmt: skip


@BY_NAME
@pytest.mark.parametrize(
    "bad", ["{over}", "x", "", "-", "1-", "-1", "1-{over}", "{over}/2", "*-2", "?", "1.5", "L-2",
            "{high}-1", "{over}L", "{over}#1", "\u0663", "1,,2", "1;2"],
)  # fmt: skip
def test_an_error_says_the_field_what_was_given_and_what_is_allowed(field: Field, bad: str) -> None:
    """Fails if a line is handed to cronsim as it is, which says "Bad minute"."""
    term = bad.format(over=field.high + 1, high=field.high)
    line = field.line.format(term)
    if not term:
        line = field.line.format("1,")
    with pytest.raises(ValueError, match=f"^{field.name}: .* was given, .*{ALLOWED[field.name]}"):
        fields_of(line)


@BY_NAME
@pytest.mark.parametrize("base", ["*", "{high}", "1-{high}", "2-2", "1-2"])
def test_a_step_is_within_its_field(field: Field, base: str) -> None:
    """Fails if `*/90` is taken, which comes each hour and not each 90 minutes."""
    base = base.format(high=field.high)
    fields_of(field.line.format(f"{base}/{field.steps}"))
    for step in ("0", str(field.steps + 1), "70", "9" * 100, "", "X", "1/2", "1-2", "-1"):
        allowed = f"a step of 1 to {field.steps} is allowed"
        with pytest.raises(
            ValueError, match=f"^{field.name}: '{base.replace('*', '.')}/{step}'.*{allowed}"
        ):
            fields_of(field.line.format(f"{base}/{step}"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("* * * *", "has 4 fields; minute .0 to 59."),
        ("@daily", "has 1 fields"),
        ("* * L/3 * *", "day-of-month: 'L/3' was given"),
        ("* * LW/2 * *", "day-of-month: 'LW/2' was given"),
        ("* * * * 5L/2", "day-of-week: '5L/2' was given"),
        ("* * * * FRIL", "day-of-week: 'FRIL' was given"),
        ("* * * * 1#6", "day-of-week: '1#6' was given, #1 to #5 is allowed"),
        ("* * * * 1#1/2", "day-of-week: '1#1/2' was given, #1 to #5 is allowed"),
        ("* * * * SAT-SUN", "day-of-week: 'SAT-SUN' was given, a range within 0 to 7 or SUN"),
        ("5L * * * *", "minute: '5L' was given"),
        ("0 0 30 2 *", "day-of-month, month, day-of-week: '30 2 [*]' was given, which never"),
        ("0 0 LW * */7", "which never comes"),
    ],
)  # fmt: skip
def test_what_is_beyond_cron_is_taken_or_refused_on_purpose(line: str, reason: str) -> None:
    with pytest.raises(InvalidArgumentError, match=reason) as info:
        TaskScheduler.preview([{"cron": line}])
    assert str(info.value).startswith("times.0")


def test_the_place_of_a_bad_line_is_told() -> None:
    with pytest.raises(InvalidArgumentError, match=r"^times\.0\.cron: .*minute: '61' was given"):
        TaskScheduler.preview([{"cron": "61 * * * *"}])
    with pytest.raises(InvalidArgumentError, match=r"timezone: 'Mars/Olympus' .* 'Europe/Berlin'"):
        TaskScheduler.preview([{"cron": "* * * * *", "timezone": "Mars/Olympus"}])


def test_a_step_that_was_stored_goes_on() -> None:
    """Fails if what a version has taken is not read any more by a stricter one."""
    (time,) = read_times('[{"given":{"cron":"*/90 * * * *"},"next":3600000}]')
    found = instants([time.given], datetime(2026, 1, 1, 0, 30, tzinfo=UTC), 2)
    assert [at.hour for at in found] == [1, 2]


# Seconds for milliseconds.


@pytest.mark.parametrize("seconds", [10**9, 1_700_000_000, 1_798_761_600, 10**11 - 1])
def test_seconds_are_refused_with_the_remedy(seconds: int) -> None:
    """Fails if they are taken for an instant of 1970, which is past and triggers at once."""
    with pytest.raises(ValidationError, match=r"multiply by 1000, or give an aware datetime"):
        ScheduledTaskTime(next_trigger_time=seconds)
    with pytest.raises(InvalidArgumentError, match=r"^times\.0\.next_trigger_time: .*multiply"):
        TaskScheduler.preview([{"next_trigger_time": seconds, "interval_days": 1}])


@pytest.mark.parametrize(
    "instant",
    [0, 10**9 - 1, 10**11, 1_798_761_600_000, moment("1971-05-01"), moment("1973-03-01")],
)  # fmt: skip
def test_milliseconds_and_datetimes_are_taken(instant: Any) -> None:
    """Fails if the datetime is refused where its model is looked at again, or its row is read."""
    time = ScheduledTaskTime(next_trigger_time=instant, interval_days=1)
    assert TaskScheduler.preview([time], 1)
    text = f'[{{"given":{time.model_dump_json(by_alias=True)},"next":0}}]'
    assert read_times(text)[0].given == time


def test_many_lines_walk_on() -> None:
    cron = Cron("0 9-17/4,20-20/5 * * MON-FRI", "Europe/Berlin")
    hours = [at.astimezone(UTC).hour for at in islice(walk(cron, moment("2026-06-01")), 4)]
    assert hours == [7, 11, 15, 18]
