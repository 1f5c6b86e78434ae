"""Breadth first through every state, so that a trace to a broken promise is a shortest one."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

S = TypeVar("S", bound=Hashable)
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Counterexample:
    """How a promise is broken.

    Attributes:
        promise: which, and how.
        trace: the steps that lead there.
    """

    promise: str
    trace: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Exploration:
    """What was found.

    Attributes:
        states: how many states were seen.
        steps: how many steps between them.
        seconds: how long it took.
        counterexample: the first broken promise; the exploration ended with it.
    """

    states: int
    steps: int
    seconds: float
    counterexample: Counterexample | None


def explore(
    starts: Iterable[S],
    steps: Callable[[S], Iterator[tuple[A, S | str]]],
    *,
    ended: Callable[[S], bool],
    helps: Callable[[A], bool],
) -> Exploration:
    """Explore until a promise is broken, or there is nothing left.

    Args:
        starts: where to begin.
        steps: gives every next state, or the promise that the step breaks.
        ended: whether a state is an end; one must be in reach of every state.
        helps: whether a step is somebody's help, on which that must not depend.
    """
    began = time.perf_counter()
    states = list(starts)
    numbers = {state: number for number, state in enumerate(states)}
    came: list[tuple[int, A] | None] = [None for _ in states]
    before: list[list[int]] = [[] for _ in states]
    taken = 0
    broken: Counterexample | None = None
    for number, state in enumerate(states):  # it grows meanwhile
        for action, after in steps(state):
            taken += 1
            if isinstance(after, str):
                broken = Counterexample(after, (*_trace(came, number), str(action)))
                break
            found = numbers.setdefault(after, len(states))
            if found == len(states):
                states.append(after)
                came.append((number, action))
                before.append([])
            if not helps(action):
                before[found].append(number)
        if broken is not None:
            break
    else:
        if (dead := _dead_end(states, before, ended)) is not None:
            broken = Counterexample("an end is out of reach", _trace(came, dead))
    return Exploration(len(states), taken, time.perf_counter() - began, broken)


def _trace(came: Sequence[tuple[int, object] | None], number: int) -> tuple[str, ...]:
    trace: list[str] = []
    while (step := came[number]) is not None:
        number, action = step
        trace.append(str(action))
    return tuple(reversed(trace))


def _dead_end(
    states: Sequence[S], before: Sequence[Sequence[int]], ended: Callable[[S], bool]
) -> int | None:
    waiting = [number for number, state in enumerate(states) if ended(state)]
    reaching = set(waiting)
    while waiting:
        for number in before[waiting.pop()]:
            if number not in reaching:
                reaching.add(number)
                waiting.append(number)
    return next((number for number in range(len(states)) if number not in reaching), None)
