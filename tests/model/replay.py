"""Replays what stores were asked and answered on the model.

The protocol is about one row at a time, so each row is replayed by itself. What is known of the
order of its calls is which of them ended before which others began. Looked for is one order that
agrees with that and in which the model gives every answer that the database gave: the row is
linearizable. If there is none, the code has done what the protocol does not allow.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tests.model.history import SLACK, Event, Histories
from tests.model.protocol import (
    CANCELLED,
    FAILED,
    PENDING,
    PROCESSING,
    Row,
    Rules,
    cancel,
    claim,
    extend,
    finish,
    fits,
    release,
    retry,
    sweep,
)

NEVER: Final = -math.inf


class Known(NamedTuple):
    """What the model has of a row.

    Attributes:
        row: the row.
        first: its lease does not run out before this,
        last: and no later.
    """

    row: Row | None = None
    first: float = NEVER
    last: float = NEVER


@dataclass(frozen=True, slots=True)
class Deviation:
    """A row that has no allowed order.

    Attributes:
        id: which.
        row: what the model had at the furthest.
        refused: what it could not do next, the earliest first.
    """

    id: str
    row: Row | None
    refused: Sequence[str]

    def __str__(self) -> str:
        return f"{self.id}: the model has {self.row} and cannot do {', nor '.join(self.refused)}"


@dataclass(slots=True)
class Report:
    """What a replay found.

    Attributes:
        rows: how many rows there were.
        events: how many calls about them, by name and by whether they were accepted.
        unanswered: how many calls got no answer.
        deviations: the rows that have no allowed order.
    """

    rows: int = 0
    events: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    deviations: list[Deviation] = field(default_factory=list)

    def __str__(self) -> str:
        events = ", ".join(f"{count} {name}" for name, count in sorted(self.events.items()))
        return (
            f"{self.rows} rows, {events}, {self.unanswered} unanswered, "
            f"{len(self.deviations)} deviations"
        )


def replay(record: Iterable[Mapping[str, Any]], rules: Rules) -> Report:
    """Replay a record, as `tests.model.recorder.read` returns it.

    Args:
        record: the calls.
        rules: the protocol's, with the stores' `max_lost_workers`.
    """
    histories = Histories.of(record)
    report = Report(rows=len(histories.rows))
    report.unanswered += sum(map(len, histories.calls.values()))
    for task_id, events in histories.rows.items():
        for event in events:
            accepted = event.told.get("accepted", True)
            report.events[event.name if accepted else f"{event.name} refused"] += 1
            report.unanswered += not event.answered
        deviation = _Search(task_id, events, histories.calls, rules).run()
        if deviation is not None:
            report.deviations.append(deviation)
    return report


class _Search:
    """Looks for an allowed order of the events of one row."""

    def __init__(
        self,
        task_id: str,
        events: Sequence[Event],
        calls: Mapping[str, Sequence[Event]],
        rules: Rules,
    ) -> None:
        self._id = task_id
        self._rules = rules
        self._calls = calls
        self._events = sorted(events, key=lambda event: event.began)
        self._answered = [n for n, event in enumerate(self._events) if event.answered]
        self._open = [n for n, event in enumerate(self._events) if not event.answered]
        places = {id(event): n for n, event in enumerate(self._events)}
        self._after = [
            None if event.after is None else places[id(event.after)] for event in self._events
        ]
        # Who held an attempt, where somebody told.
        self._holders = {
            event.held.attempt: event.held.holder for event in events if "held" in event.asked
        }
        self._claimed = {event.held.attempt for event in events if event.name == "claim"}

    def run(self) -> Deviation | None:
        start = (0, 0, Known())
        waiting = [start]
        seen = {start}
        furthest = start
        while waiting:
            first, done, known = state = waiting.pop()
            if first == len(self._answered):
                return None
            if done.bit_count() > furthest[1].bit_count():
                furthest = state
            # The likeliest is pushed last, and so tried first.
            for following in reversed(list(self._next(first, done, known))):
                if following not in seen:
                    seen.add(following)
                    waiting.append(following)
        first, done, known = furthest
        refused = [str(self._events[n]) for n in self._ready(first, done)]
        return Deviation(self._id, known.row, refused)

    def _ready(self, first: int, done: int) -> Iterator[int]:
        """The answered events that may come next: none that is left ended before they began."""
        ended = math.inf
        for n in self._answered[first:]:
            event = self._events[n]
            if event.began > ended:
                break
            if done >> n & 1:
                continue
            ended = min(ended, event.ended)
            after = self._after[n]
            if after is None or done >> after & 1:
                yield n

    def _next(self, first: int, done: int, known: Known) -> Iterator[tuple[int, int, Known]]:
        ended = math.inf
        for n in self._ready(first, done):
            event = self._events[n]
            ended = min(ended, event.ended)
            for after in _apply(known, event, self._rules):
                yield (*self._did(first, done | 1 << n), after)
        for n in self._open:
            event = self._events[n]
            if event.began <= ended and not done >> n & 1:
                for after in _apply(known, event, self._rules):
                    if after != known:
                        yield first, done | 1 << n, after
        for after in self._hidden(known, ended):
            yield first, done, after

    def _did(self, first: int, done: int) -> tuple[int, int]:
        while first < len(self._answered) and done >> self._answered[first] & 1:
            first += 1
        return first, done

    def _hidden(self, known: Known, ended: float) -> Iterator[Known]:
        """What nobody told, or was there to tell."""
        row = known.row
        if row is None:
            return
        if row.status == CANCELLED and row.retain == 0:
            yield Known()  # the second statement of what cancelled it
        began = {name: min(call.began for call in calls) for name, calls in self._calls.items()}
        if row.dated and began.get("forget", math.inf) <= ended:
            yield Known()
        if row.leased and began.get("sweep", math.inf) <= ended and known.first <= ended + SLACK:
            yield Known(sweep(row, self._rules))
        attempt = row.attempt + 1
        if row.status != PENDING or attempt in self._claimed:
            return
        holder = self._holders.get(attempt)
        for call in self._calls.get("claim", ()):
            if call.began <= ended and holder in (None, call.asked["holder"]):
                claimed = claim(row, call.asked["holder"])
                yield Known(claimed, call.began + call.asked["lease"], math.inf)


def _apply(known: Known, event: Event, rules: Rules) -> Iterator[Known]:
    """What the model has after an event; nothing where it would have answered otherwise."""
    row = known.row
    told = event.told
    match event.name:
        case "create":
            if row is None:
                yield Known(Row(**event.asked))
        case "key is there":
            if row is not None:
                yield known
        case "claim":
            yield from _claimed(row, event)
        case "extend" | "finish" | "release" | "sweep":
            yield from _fenced(known, event, rules)
        case "cancel":
            after, changed = cancel(row, rules)
            status = PROCESSING if row is not None and row.status == PROCESSING else CANCELLED
            if changed and (not event.answered or status == told["status"]):
                yield known._replace(row=after)
        case "is not pending":
            if row is None or row.status != PENDING:
                yield known
        case "is not processing":
            if row is None or row.status != PROCESSING:
                yield known
        case "retry":
            after, changed = retry(row, rules)
            if changed and told.get("changed", True):
                yield known._replace(row=after)
            # One that waited may have become due meanwhile.
            if not told.get("changed", False) and not (row and row.status in (FAILED, CANCELLED)):
                yield known
        case "remove":
            if told.get("changed", row is not None) == (row is not None):
                yield Known()
        case "forget":
            if row is not None and row.dated:
                yield Known()
        case "get":
            if told["row"] == (None if row is None else [row.status, row.attempt, row.holder]):
                yield known


def _claimed(row: Row | None, event: Event) -> Iterator[Known]:
    if row is None or row.status != PENDING:
        return
    claimed = claim(row, event.held.holder)
    told = {"retries": claimed.retries, "lost": claimed.lost}
    if claimed.attempt == event.held.attempt and told == event.told:
        yield _leased(claimed, event)


def _leased(row: Row, event: Event) -> Known:
    lease = event.asked["lease"]
    return Known(row, event.began + lease, event.ended + lease)


def _fenced(known: Known, event: Event, rules: Rules) -> Iterator[Known]:
    row = known.row
    fitting = row is not None and fits(row, event.held, rules.finish)
    may_be_accepted, may_be_refused = fitting, not fitting
    if event.name == "sweep" and fitting:
        # When the lease was taken is known, but for the time that it took to be told.
        may_be_accepted = known.first <= event.ended + SLACK
        may_be_refused = known.last >= event.began - SLACK
    accepted = event.told.get("accepted")
    if accepted is not True and may_be_refused:
        yield known
    if accepted is False or row is None or not may_be_accepted:
        return
    if event.name == "extend":
        yield _leased(extend(row), event)
        return
    status = event.told.get("status")
    ended = _ended(row._replace(retain=-1), event, rules)
    if status is None or (ended is not None and ended.status == status):
        yield Known(_ended(row, event, rules))


def _ended(row: Row, event: Event, rules: Rules) -> Row | None:
    if event.name == "finish":
        return finish(row, event.asked["ending"])
    return release(row) if event.name == "release" else sweep(row, rules)
