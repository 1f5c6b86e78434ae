"""What one row went through, from a record: for each call about it what was asked and answered."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.model.protocol import Held

# A lease is counted in the database's time, which rounds.
SLACK = 0.05


@dataclass(frozen=True, slots=True)
class Event:
    """One call, as far as it is about one row.

    Attributes:
        name: what was asked.
        began: when, in seconds.
        ended: when it was answered; never, for a call that got no answer, which may have been
            done at any time since, or not at all.
        asked: of what.
        told: what was answered.
        after: an event of the same call that came before.
    """

    name: str
    began: float
    ended: float
    asked: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, Any] = field(default_factory=dict)
    after: Event | None = None

    @property
    def answered(self) -> bool:
        """Whether it is known to have been done."""
        return self.ended != math.inf

    @property
    def held(self) -> Held:
        """The attempt that it names."""
        held: Held = self.asked["held"]
        return held

    def __str__(self) -> str:
        said = {**self.asked, **self.told} if self.answered else {**self.asked, "no": "answer"}
        notes = ", ".join(f"{name} {value}" for name, value in said.items() if value is not None)
        return f"{self.name}({notes})"


@dataclass(slots=True)
class Histories:
    """A record, taken apart.

    Attributes:
        rows: for each id its events.
        calls: of each kind those that got no answer, and may have been about any row.
    """

    rows: dict[str, list[Event]] = field(default_factory=dict)
    calls: dict[str, list[Event]] = field(default_factory=dict)

    @classmethod
    def of(cls, record: Iterable[Mapping[str, Any]]) -> Histories:
        """Take a record apart."""
        found = cls()
        for call in record:
            if "taken" in call:
                continue  # refused for the key of another task, of which the row knows nothing
            whole = Event(call["name"], call["began"], call.get("ended", math.inf))
            if not whole.answered and call["name"] in ("claim", "sweep", "forget"):
                asked = {key: call[key] for key in ("holder", "lease") if key in call}
                found.calls.setdefault(call["name"], []).append(replace(whole, asked=asked))
                continue
            for task_id, event in _TAKEN_APART[call["name"]](whole, call):
                found.rows.setdefault(task_id, []).append(event)
        return found


Parts = Iterator[tuple[str, Event]]


def _inserts(event: Event, call: Mapping[str, Any]) -> Parts:
    ids = call.get("ids") or [row["id"] for row in call["rows"]]
    for row, task_id in zip(call["rows"], ids, strict=True):
        if task_id == row["id"]:
            yield task_id, replace(event, name="create", asked=row)
        else:
            yield task_id, replace(event, name="key is there")


def _claim(event: Event, call: Mapping[str, Any]) -> Parts:
    for task_id, attempt, retries, lost in call["rows"]:
        held = Held(task_id, attempt, call["holder"])
        told = {"retries": retries, "lost": lost}
        yield task_id, replace(event, asked={"held": held, "lease": call["lease"]}, told=told)


def _extend(event: Event, call: Mapping[str, Any]) -> Parts:
    for held in map(Held._make, call["attempts"]):
        if held.id in call.get("left", ()):
            continue
        asked = {"held": held, "lease": call["lease"]}
        told = {"accepted": held.id in call["kept"]} if event.answered else {}
        yield held.id, replace(event, asked=asked, told=told)


def _ends(event: Event, call: Mapping[str, Any]) -> Parts:
    done = call.get("done", {})
    endings = call.get("endings", [None] * len(call["attempts"]))
    for held, ending in zip(map(Held._make, call["attempts"]), endings, strict=True):
        if held.id in call.get("left", ()):
            continue  # neither done nor refused: somebody had the row locked
        told = {"accepted": held.id in done, "status": done.get(held.id)} if event.answered else {}
        yield held.id, replace(event, asked={"held": held, "ending": ending}, told=told)


def _cancel(event: Event, call: Mapping[str, Any]) -> Parts:
    task_id = call["id"]
    status = call.get("status")
    if not event.answered or status is not None:
        told = {"status": status} if event.answered else {}
        asked = {"running": call["running"]}
        yield task_id, replace(event, asked=asked, told=told)
        return
    # Each look is a statement by itself.
    looks = ("is not pending", "is not processing") * 2 if call["running"] else ("is not pending",)
    before = None
    for name in looks:
        before = replace(event, name=name, after=before)
        yield task_id, before


def _changes(event: Event, call: Mapping[str, Any]) -> Parts:
    told = {"changed": call["changed"]} if event.answered else {}
    yield call["id"], replace(event, told=told)


def _get(event: Event, call: Mapping[str, Any]) -> Parts:
    if event.answered:
        yield call["id"], replace(event, told={"row": call["row"]})


def _forget(event: Event, call: Mapping[str, Any]) -> Parts:
    for task_id in call["ids"]:
        yield task_id, event


_TAKEN_APART = {
    "insert": _inserts,
    "insert_group": _inserts,
    "insert_many": _inserts,
    "claim": _claim,
    "extend": _extend,
    "finish": _ends,
    "release": _ends,
    "sweep": _ends,
    "cancel": _cancel,
    "retry": _changes,
    "remove": _changes,
    "get": _get,
    "forget": _forget,
}
