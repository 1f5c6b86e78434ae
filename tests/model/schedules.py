"""The protocol of scheduled tasks: what `rowlock._store.schedules` does, in plain Python.

Two nodes look for what is due. Each reads the row, and then writes its next instant by
compare-and-set and inserts the tasks in one transaction. The row locks that the code takes as well
are left out here, but for one variant: the compare-and-set has to do without them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from tests.model.world import LOST

INSTANTS: Final = 3

# What a client does; for every instant to be triggered nobody has to.
HELP: Final = frozenset({"pause"})


@dataclass(frozen=True, slots=True)
class ScheduleRules:
    """The conditions of the protocol.

    Attributes:
        compares: the advance is written only if the row is still the one that was read.
        locks: who has read the row to write it keeps others from doing so until it has.
        together: the advance and the tasks are one transaction.
        coalesces: instants that were missed are one trigger.
    """

    compares: bool = True
    locks: bool = False
    together: bool = True
    coalesces: bool = False


class Schedule(NamedTuple):
    """The row.

    Attributes:
        next: its next instant; one past the last if there is none.
        token: changes with every write.
        paused: whether it is.
    """

    next: int = 0
    token: int = 0
    paused: bool = False


class Node(NamedTuple):
    """A node in the midst of a pass: what it has read, or what it has yet to insert."""

    read: Schedule | None = None
    owes: tuple[int, ...] = ()


class ScheduleState(NamedTuple):
    """A state.

    Attributes:
        row: the row.
        nodes: None is between two passes.
        now: so many instants have come.
        triggered: how often each instant has triggered.
        left_out: instants that were coalesced, or passed while it was paused.
        pauses: how often it was paused.
    """

    row: Schedule = Schedule()
    nodes: tuple[Node | None, ...] = (None, None)
    now: int = 0
    triggered: tuple[int, ...] = (0,) * INSTANTS
    left_out: frozenset[int] = frozenset()
    pauses: int = 0


class ScheduleAction(NamedTuple):
    """A step, by which node, and what became of the request."""

    name: str
    node: int | None = None
    reply: str = ""

    def __str__(self) -> str:
        where = "" if self.node is None else f" node {self.node}"
        return f"{self.name}{where}" + (f" ({self.reply})" if self.reply else "")


Step = tuple[ScheduleAction, ScheduleState | str]


@dataclass(frozen=True, slots=True)
class ScheduleWorld:
    """What can happen: the conditions of the protocol, and how often it is paused."""

    rules: ScheduleRules = ScheduleRules()
    pauses: int = 1

    def ended(self, state: ScheduleState) -> bool:
        """Every instant has come and was dealt with."""
        return state.row.next == INSTANTS and state.nodes == (None, None)

    def steps(self, state: ScheduleState) -> Iterator[Step]:
        """Every step that is possible; where it breaks a promise, which."""
        for action, after in self._possible(state):
            yield action, after if isinstance(after, str) else _broken(after) or after

    def _possible(self, state: ScheduleState) -> Iterator[Step]:
        if state.now < INSTANTS:
            yield ScheduleAction("an instant comes"), state._replace(now=state.now + 1)
        for number, node in enumerate(state.nodes):
            if node is None:
                yield from self._reads(state, number)
                continue
            yield ScheduleAction("kill", number), _with_node(state, number, None)
            if node.read is not None:
                yield from self._writes(state, number, node.read)
            elif node.owes:
                inserted = _triggered(state, node.owes)
                yield (
                    ScheduleAction("inserts", number),
                    inserted if isinstance(inserted, str) else _with_node(inserted, number, None),
                )
        yield from self._clients(state)

    def _reads(self, state: ScheduleState, number: int) -> Iterator[Step]:
        locked = self.rules.locks and any(
            node is not None and node.read is not None for node in state.nodes
        )
        if not locked and not state.row.paused and state.row.next < state.now:
            read = Node(read=state.row)
            yield ScheduleAction("reads", number), _with_node(state, number, read)

    def _writes(self, state: ScheduleState, number: int, read: Schedule) -> Iterator[Step]:
        action = ScheduleAction("writes", number)
        if self.rules.compares and state.row.token != read.token:
            yield action, _with_node(state, number, None)
            return
        if state.row.paused:
            yield action, "a scheduled task that was paused goes on"
            return
        due = tuple(range(read.next, state.now))
        row = Schedule(next=state.now, token=state.row.token + 1)
        after = state._replace(row=row)
        if self.rules.coalesces:
            after = after._replace(left_out=state.left_out | set(due[1:]))
            due = due[:1]
        if not self.rules.together:
            yield action, _with_node(after, number, Node(owes=due))
            return
        done = _triggered(after, due)
        done = done if isinstance(done, str) else _with_node(done, number, None)
        yield action, done
        # It is killed, or asks again: either way it reads the row anew.
        yield action._replace(reply=LOST), done

    def _clients(self, state: ScheduleState) -> Iterator[Step]:
        # They take the lock as well, where there is one.
        if self.rules.locks and any(node is not None and node.read for node in state.nodes):
            return
        row = state.row
        if row.paused:
            # What was missed meanwhile is skipped.
            missed = frozenset(range(row.next, state.now))
            resumed = Schedule(max(row.next, state.now), row.token + 1)
            after = state._replace(row=resumed, left_out=state.left_out | missed)
            yield ScheduleAction("resume"), after
        elif state.pauses < self.pauses:
            paused = row._replace(paused=True, token=row.token + 1)
            yield ScheduleAction("pause"), state._replace(row=paused, pauses=state.pauses + 1)


def _with_node(state: ScheduleState, number: int, node: Node | None) -> ScheduleState:
    nodes = list(state.nodes)
    nodes[number] = node
    return state._replace(nodes=tuple(nodes))


def _triggered(state: ScheduleState, instants: tuple[int, ...]) -> ScheduleState | str:
    counts = list(state.triggered)
    for instant in instants:
        counts[instant] += 1
        if counts[instant] > 1:
            return f"instant {instant} was triggered twice"
    return state._replace(triggered=tuple(counts))


def _broken(state: ScheduleState) -> str | None:
    owed = {instant for node in state.nodes if node is not None for instant in node.owes}
    for instant in range(min(state.row.next, INSTANTS)):
        if not state.triggered[instant] and instant not in state.left_out | owed:
            return f"instant {instant} was never triggered"
    return None
