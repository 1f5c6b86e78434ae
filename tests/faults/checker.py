"""The checker: what the ledger and the history of a run must say once it has drained."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from tests.faults.history import Change
from tests.faults.ledger import Record

ENDED = {"success", "failed", "cancelled"}


@dataclass
class Figures:
    """What every scenario prints.

    Attributes:
        acknowledged: creates whose answer came.
        unknown: creates that were sent and neither acknowledged nor refused.
        lost: acknowledged tasks that are not there, or have not ended.
        doubled: rows or ends beyond the one of a task.
        refused: stale writes that the database refused.
        accepted: stale writes that it accepted.
        drain: seconds from the last fault until nothing was left to run.
        note: what else the scenario measured.
        problems: what else is wrong, for people.
    """

    scenario: str
    database: str
    cycles: int = 0
    acknowledged: int = 0
    unknown: int = 0
    lost: int = 0
    doubled: int = 0
    refused: int = 0
    accepted: int = 0
    drain: float = 0.0
    note: str = ""
    problems: list[str] = field(default_factory=list)

    def line(self) -> str:
        """The one line, with the same columns everywhere."""
        names = {"refused": "stale refused", "accepted": "stale accepted"}
        numbers = [
            f"{names.get(each.name, each.name)} {getattr(self, each.name)}"
            for each in fields(self)
            if each.type == "int"
        ]
        name = f"{self.scenario:<24} {self.database:<10}"
        return "  ".join([name, *numbers, f"drain {self.drain:.1f} s", self.note]).rstrip()


def check(figures: Figures, records: Sequence[Record], changes: Sequence[Change]) -> None:
    """Fill in the figures. They are right if nothing is lost, doubled, accepted or a problem."""
    _Check(figures, records, changes).run()


class _Check:
    def __init__(
        self, figures: Figures, records: Sequence[Record], changes: Sequence[Change]
    ) -> None:
        self.figures = figures
        self.records = records
        self.changes: dict[str, list[Change]] = defaultdict(list)
        for change in changes:
            self.changes[change.id].append(change)
        self.stale: set[tuple[str, int]] = set()
        self.removed = {record["task"] for record in records if record["event"] == "removed"}

    def run(self) -> None:
        self._creates()
        for task_id, changes in self.changes.items():
            self._task(task_id, changes)
        self._starts()
        self._writes()
        self.figures.accepted = len(self.stale)

    def _creates(self) -> None:
        asked: set[str] = set()
        refused: set[str] = set()
        acknowledged: dict[str, set[str]] = defaultdict(set)
        for record in self.records:
            match record["event"]:
                case "asked":
                    asked.add(record["key"])
                case "refused":
                    refused.add(record["key"])
                case "acknowledged":
                    acknowledged[record["key"]].add(record["task"])
        self.figures.acknowledged = len(acknowledged)
        self.figures.unknown = len(asked - set(acknowledged) - refused)
        rows: dict[str, set[str]] = defaultdict(set)
        for task_id, changes in self.changes.items():
            if changes[0].key is not None:
                rows[changes[0].key].add(task_id)
        for key in asked:
            found = rows.get(key, set())
            self.figures.doubled += max(0, len(found) - 1)
            for task_id in acknowledged.get(key, set()) - found:
                self.figures.lost += 1
                self._problem(f"{task_id} was acknowledged and is not there")
            if found and key in refused and key not in acknowledged:
                self._problem(f"{key} was refused and is there")
        self.acknowledged = set().union(*acknowledged.values())

    def _task(self, task_id: str, changes: Sequence[Change]) -> None:
        ends = sum(map(_ends, changes))
        reopened = sum(change.before in ENDED and change.after == "pending" for change in changes)
        last = changes[-1]
        gone = last.after is None
        if gone and not _ends(last) and (last.before not in ENDED or last.retain_for == -1):
            if task_id not in self.removed:
                self._lose(task_id, f"is gone, and was {last.before}")
        elif not gone and last.after not in ENDED:
            self._lose(task_id, f"has not ended: {last.after}")
        elif ends > 1 + reopened:
            self.figures.doubled += ends - 1 - reopened
            self._problem(f"{task_id} ended {ends} times, and was reopened {reopened} times")
        for change in changes:
            if change.wrote is not None and change.wrote != change.attempt:
                self.stale.add((task_id, change.wrote))
                self._problem(f"{task_id}: {change.wrote} wrote the end of {change.attempt}")
        self._bound(task_id, changes, reopened)

    def _lose(self, task_id: str, how: str) -> None:
        self.figures.lost += task_id in self.acknowledged
        self._problem(f"{task_id} {how}")

    def _bound(self, task_id: str, changes: Sequence[Change], reopened: int) -> None:
        claims = sum(change.after == "processing" for change in changes)
        released = sum(
            change.before == "processing"
            and change.after == "pending"
            and change.retries == change.retries_before
            for change in changes
        )
        retries = changes[0].retries
        if retries is not None and claims - released > retries + 1 + reopened:
            self._problem(f"{task_id}: {claims} tries, {released} released, {retries} retries")

    def _starts(self) -> None:
        starts = Counter(
            (record["task"], record["attempt"])
            for record in self.records
            if record["event"] == "start"
        )
        claimed = {
            (change.id, change.attempt)
            for changes in self.changes.values()
            for change in changes
            if change.after == "processing"
        }
        for key, count in starts.items():
            if count > 1 or key not in claimed:
                self._problem(f"{key} was started {count} times, claimed: {key in claimed}")

    def _writes(self) -> None:
        claimed: dict[str, dict[int, float]] = defaultdict(dict)
        for record in self.records:
            if record["event"] == "claim":
                claimed[record["task"]][record["attempt"]] = record["at"]
        for record in self.records:
            if record["event"] != "write":
                continue
            if not record["accepted"]:
                self.figures.refused += 1
            # Sent after the answer to a later claim came: stale beyond doubt.
            elif any(
                attempt > record["attempt"] and at < record["sent"]
                for attempt, at in claimed[record["task"]].items()
            ):
                self.stale.add((record["task"], record["attempt"]))
                self._problem(f"a stale write was accepted: {record}")

    def _problem(self, text: str) -> None:
        self.figures.problems.append(text)


def _ends(change: Change) -> bool:
    if change.after is None:
        # Not to be kept: it goes with its end.
        return change.before not in ENDED and change.retain_for == 0
    return change.after in ENDED and change.before not in ENDED
