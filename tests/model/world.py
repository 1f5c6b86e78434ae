"""Everything around the row: producers, workers, a sweeper, clients, and what each was told.

A state is a row, three slots that run handlers (two in process A, one in process B), a sweeper
between its reading and its writing, and the ledger of promises. A `World` gives every next state,
or the promise that a step breaks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tests.model.protocol import (
    CANCELLED,
    FAILED,
    PENDING,
    PROCESSING,
    RAISED,
    RETURNED,
    TERMINAL,
    Held,
    Row,
    Rules,
    cancel,
    claim,
    claimable,
    extend,
    finish,
    fits,
    release,
    retry,
    sweep,
)

PROCESS_OF: Final = ("A", "A", "B")

LOST: Final = "answer lost"
UNSENT: Final = "not written yet"

# What a producer or a client does; for a task to end nobody has to.
HELP: Final = frozenset({"cancel", "retry()", "remove"})


class Kind(NamedTuple):
    """What is asked of a task: how often a failure is tried again, and how long it is kept."""

    retries: int | None
    retain: int


KINDS: Final = (Kind(1, 1), Kind(None, 0))


class Action(NamedTuple):
    """A step.

    Attributes:
        name: what is done.
        slot: by or to which slot.
        attempt: which attempt it has, or gets.
        ending: how the attempt ended.
        reply: what became of the request, where it is not simply answered.
    """

    name: str
    slot: int | None = None
    attempt: int = 0
    ending: str = ""
    reply: str = ""

    def __str__(self) -> str:
        where = "" if self.slot is None else f" {PROCESS_OF[self.slot]}'s"
        which = f" attempt {self.attempt}" if self.attempt else ""
        notes = ", ".join(note for note in (self.ending, self.reply) if note)
        return f"{self.name}{where}{which}" + (f" ({notes})" if notes else "")


class Slot(NamedTuple):
    """A slot that is taken.

    Attributes:
        held: the attempt.
        life: of which create.
        live: its worker believes that the lease is live.
        ending: how the handler ended, while nobody has answered that it is written.
    """

    held: Held
    life: int
    live: bool = True
    ending: str = ""


class State(NamedTuple):
    """A state.

    Attributes:
        kind: what is asked of the task.
        row: its row, None before its creation and after its removal.
        slots: of the workers; None is free.
        restarts: how often process A was killed and started again.
        read: what the sweeper has read and not written yet, and of which create it was.
        listed: the create whose row is in process B's list of candidates; 0 is none.
        lives: how many creates have made a row.
        unsure: the producer got no answer to its create.
        starts: attempts begun, and not given back, since the create or the last retry().
        losses: lost workers since then.
    """

    kind: Kind
    row: Row | None = None
    slots: tuple[Slot | None, ...] = (None, None, None)
    restarts: int = 0
    read: tuple[Held, int] | None = None
    listed: int = 0
    lives: int = 0
    unsure: bool = False
    starts: int = 0
    losses: int = 0

    def holder(self, slot: int) -> str:
        """The name under which a slot's process claims."""
        return f"A{self.restarts}" if PROCESS_OF[slot] == "A" else "B0"

    def with_slot(self, number: int, content: Slot | None) -> State:
        """The state with another content of a slot."""
        first, second, third = (
            content if place == number else slot for place, slot in enumerate(self.slots)
        )
        # The two slots of a process are alike, so their order is no difference.
        if second is not None and (first is None or second < first):
            first, second = second, first
        return self._replace(slots=(first, second, third))


Step = tuple[Action, State | str]


@dataclass(frozen=True, slots=True)
class World:
    """What can happen.

    Attributes:
        rules: the conditions of the protocol.
        attempts: no task is claimed more often.
        lives: no more creates make a row.
        restarts: process A is not killed more often.
        lists: process B claims in two steps, from a list. In the code it is one step on both
            databases; that it holds in two, if the second looks again, shows what matters.
        kinds: what may be asked of the task.
        promised_losses: with so many lost workers a task has to fail.
    """

    rules: Rules = field(default_factory=Rules)
    attempts: int = 3
    lives: int = 1
    restarts: int = 1
    lists: bool = False
    kinds: tuple[Kind, ...] = KINDS
    promised_losses: int = Rules().max_lost

    def ended(self, state: State) -> bool:
        """The task needs nothing more; or the exploration ends here."""
        row = state.row
        return row is None or row.status in TERMINAL or row.attempt == self.attempts

    def steps(self, state: State) -> Iterator[Step]:
        """Every step that is possible; where it breaks a promise, which."""
        for action, after in self._possible(state):
            yield action, after if isinstance(after, str) else _broken(after) or after

    def _possible(self, state: State) -> Iterator[Step]:
        yield from self._creates(state)
        yield from self._claims(state)
        for number, slot in enumerate(state.slots):
            if slot is not None:
                yield from self._extends(state, number, slot)
                yield from self._finishes(state, number, slot)
                if not slot.ending:
                    yield from self._releases(state, number, slot)
        yield from self._sweeps(state)
        if state.row is not None:
            yield from self._clients(state, state.row)
            yield from _time(state, state.row)
        if state.restarts < self.restarts and state.slots[0] is not None:
            slots = (None, None, state.slots[2])
            yield Action("kill A"), state._replace(slots=slots, restarts=state.restarts + 1)

    # Producers.

    def _creates(self, state: State) -> Iterator[Step]:
        if state.unsure:
            again = Action("create again")
            if state.row is None:
                if state.lives < self.lives:
                    yield again, self._created(state)
            elif state.row.status in (FAILED, CANCELLED):
                pass  # its key is free: what is created then is another task
            elif self.rules.keyed:
                yield again, state._replace(unsure=False)
            else:
                yield again, "two rows of one create whose answer was lost"
        elif state.row is None and state.lives < self.lives:
            created = self._created(state)
            yield Action("create"), created
            yield Action("create", reply=LOST), created._replace(unsure=True)

    def _created(self, state: State) -> State:
        life = state.lives + 1
        row = Row(str(life) if self.rules.unique_ids else "1", *state.kind, life=life)
        return state._replace(row=row, lives=life, unsure=False, starts=0, losses=0)

    # Workers.

    def _claims(self, state: State) -> Iterator[Step]:
        row = state.row
        if row is not None and claimable(row) and row.attempt < self.attempts:
            free = 0 if state.slots[0] is None else 1
            claims = Action("claim", free, row.attempt + 1)
            if state.slots[free] is None:
                yield claims, self._claimed(state, row, free)
                yield claims._replace(reply=LOST), self._claimed(state, row, free, told=False)
            if state.slots[2] is None and not self.lists:
                yield claims._replace(slot=2), self._claimed(state, row, 2)
            elif state.slots[2] is None and state.listed != row.life:
                yield Action("list", 2, row.attempt + 1), state._replace(listed=row.life)
        if state.listed and state.slots[2] is None:
            listed = state._replace(listed=0)
            found = row is not None and row.life == state.listed
            if row is not None and found and (claimable(row) or not self.rules.claims_unseen):
                if row.attempt < self.attempts:
                    claims = Action("claim from the list", 2, row.attempt + 1)
                    yield claims, self._claimed(listed, row, 2)
            else:
                yield Action("claim from the list", 2), listed

    def _claimed(self, state: State, row: Row, number: int, *, told: bool = True) -> State | str:
        if row.status in TERMINAL:
            return f"a task that had ended ({row.status}) was claimed"
        row = claim(row, state.holder(number))
        starts = 0 if state.kind.retries is None else state.starts + 1
        if state.kind.retries is not None and starts > state.kind.retries + 1:
            return f"{starts} tries, and {state.kind.retries + 1} were asked for"
        state = state._replace(row=row, starts=starts)
        if not told:
            return state
        held = Held(row.id, row.attempt, row.holder)
        return state.with_slot(number, Slot(held, row.life))

    def _extends(self, state: State, number: int, slot: Slot) -> Iterator[Step]:
        row = state.row
        if row is not None and fits(row, slot.held, self.rules.extend):
            extended = state._replace(row=extend(row)).with_slot(number, slot._replace(live=True))
            yield Action("extend", number, slot.held.attempt), _stale(row, slot) or extended
        elif not slot.ending:
            yield Action("extend", number, slot.held.attempt), state.with_slot(number, None)

    def _finishes(self, state: State, number: int, slot: Slot) -> Iterator[Step]:
        if slot.ending:
            done = self._finished(state, slot, slot.ending, again=True)
            again = Action("finish again", number, slot.held.attempt, slot.ending)
            yield again, _free(done, number)
            return
        for ending in (RETURNED, RAISED):
            action = Action("finish", number, slot.held.attempt, ending)
            done = self._finished(state, slot, ending)
            yield action, _free(done, number)
            unsure = slot._replace(ending=ending)
            yield action._replace(reply=UNSENT), state.with_slot(number, unsure)
            if not isinstance(done, str):
                done = done.with_slot(number, unsure._replace(live=False))
                yield action._replace(reply=LOST), done

    def _finished(
        self, state: State, slot: Slot, ending: str, *, again: bool = False
    ) -> State | str:
        row = state.row
        if row is None or not fits(row, slot.held, self.rules.finish):
            return state
        written = RAISED if again and self.rules.lost_is_failed else ending
        if written != ending:
            return _stale(row, slot) or "the handler returned, and a failure was stored"
        return _stale(row, slot) or state._replace(row=finish(row, ending))

    def _releases(self, state: State, number: int, slot: Slot) -> Iterator[Step]:
        row = state.row
        after: State | str = state
        if row is not None and fits(row, slot.held, self.rules.release):
            starts = max(0, state.starts - 1)
            after = _stale(row, slot) or state._replace(row=release(row), starts=starts)
        yield Action("release", number, slot.held.attempt), _free(after, number)

    # The sweeper, clients and time.

    def _sweeps(self, state: State) -> Iterator[Step]:
        row = state.row
        if state.read is None:
            if self.rules.sweeps and row is not None and row.leased and row.expired:
                held = Held(row.id, row.attempt, row.holder)
                yield Action("sweeper reads"), state._replace(read=(held, row.life))
            return
        held, life = state.read
        after = state._replace(read=None)
        if row is None or not fits(row, held, self.rules.sweep):
            yield Action("sweeper writes"), after
            return
        losses = state.losses + 1
        swept = sweep(row, self.rules)
        wrong = _stale(row, Slot(held, life))
        if wrong is None and not row.expired:
            wrong = "a live lease was taken away"
        again = swept is not None and swept.status == PENDING
        if wrong is None and again and losses >= self.promised_losses:
            wrong = f"{losses} workers were lost with it, and it goes on"
        yield Action("sweeper writes"), wrong or after._replace(row=swept, losses=losses)

    def _clients(self, state: State, row: Row) -> Iterator[Step]:
        after, changed = cancel(row, self.rules)
        if changed and row.status in TERMINAL:
            yield Action("cancel"), f"a task that had ended ({row.status}) was cancelled"
        elif changed and after != row:
            yield Action("cancel"), state._replace(row=after)
        after, changed = retry(row, self.rules)
        if changed and row.status in TERMINAL:
            yield Action("retry()"), state._replace(row=after, starts=0, losses=0)
        elif changed:
            yield Action("retry()"), state._replace(row=after)
        yield Action("remove"), state._replace(row=None)
        if row.dated:
            kept = f"a task that was {row.status} was removed by retention"
            gone = state._replace(row=None)
            yield Action("retention"), gone if row.status in TERMINAL else kept


def _time(state: State, row: Row) -> Iterator[Step]:
    if row.status == PENDING and not row.due:
        yield Action("it is due"), state._replace(row=row._replace(due=True))
    if row.leased and not row.expired:
        # A worker's belief ends no later than its lease: it counts from before it asked.
        slots = tuple(
            slot._replace(live=False)
            if slot is not None and slot.life == row.life and slot.held.attempt == row.attempt
            else slot
            for slot in state.slots
        )
        expired = state._replace(row=row._replace(expired=True), slots=slots)
        yield Action("the lease expires"), expired


def _free(after: State | str, number: int) -> State | str:
    return after if isinstance(after, str) else after.with_slot(number, None)


def _stale(row: Row, slot: Slot) -> str | None:
    """What is wrong with a write that was accepted."""
    if row.life != slot.life:
        return "the write of a task that was removed was accepted for another"
    if row.attempt != slot.held.attempt:
        return f"a write of attempt {slot.held.attempt} was accepted, the newest is {row.attempt}"
    if row.status in TERMINAL:
        return f"a task that had ended ({row.status}) was written to"
    if row.status != PROCESSING:
        return "a write of an attempt that had ended was accepted"
    return None


def _broken(state: State) -> str | None:
    """A promise that does not hold in a state."""
    row = state.row
    if row is None:
        return None
    for slot in state.slots:
        # What was removed is no more than the belief of a worker.
        if slot is None or not slot.live or row.life != slot.life:
            continue
        if row.attempt != slot.held.attempt:
            return "two live leases of one task"
        if not row.leased or row.expired:
            return "a live lease was taken away"
    return None
