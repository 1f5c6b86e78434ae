"""The protocol, what it is explored in, and every broken variant of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tests.model import schedules, world
from tests.model.explore import Exploration, explore
from tests.model.protocol import (
    ATTEMPT,
    EXPIRED,
    FAILED,
    HOLDER,
    LEASED,
    PENDING,
    SUCCESS,
    Rules,
)
from tests.model.schedules import ScheduleRules, ScheduleState, ScheduleWorld
from tests.model.world import Kind, State, World

# Each looks at another corner. All of it at once is for `--large`.
WORLDS: Final = {
    "three attempts": World(restarts=0, kinds=(Kind(1, 1),)),
    "a process is killed": World(attempts=2, kinds=(Kind(1, 1), Kind(0, -1), Kind(None, 0))),
    "claims from a list": World(attempts=2, restarts=0, lists=True, kinds=(Kind(1, 1),)),
    "two tasks": World(attempts=1, lives=2, restarts=0, kinds=(Kind(0, 1),)),
}
_SMALL: Final = World(attempts=2, restarts=0, kinds=(Kind(1, 1),))
LARGE: Final = {
    "all of three attempts": World(),
    "all of two tasks": World(attempts=2, lives=2, restarts=0),
}
SCHEDULES: Final = {
    "catch up": ScheduleWorld(),
    "coalesce": ScheduleWorld(ScheduleRules(coalesces=True)),
}


@dataclass(frozen=True, slots=True)
class Variant:
    """The protocol with one condition changed.

    Attributes:
        name: what is different.
        world: what it is explored in.
    """

    name: str
    world: World | ScheduleWorld

    def __str__(self) -> str:
        return self.name


def _variant(name: str, place: str = "a process is killed", **rules: object) -> Variant:
    return Variant(name, replace(WORLDS[place], rules=replace(Rules(), **rules)))  # type: ignore[arg-type]


def _guards(name: str, **rules: frozenset[str]) -> Variant:
    return Variant(name, replace(_SMALL, rules=replace(Rules(), **rules)))  # type: ignore[arg-type]


def _of_schedules(name: str, *, pauses: int = 1, **rules: bool) -> Variant:
    return Variant(name, ScheduleWorld(replace(ScheduleRules(), **rules), pauses))


_NOTHING: Final[frozenset[str]] = frozenset()

BROKEN: Final[Sequence[Variant]] = (
    _variant("finish guarded by status only", finish=frozenset({LEASED})),
    _variant("finish guarded by holder only", finish=frozenset({HOLDER})),
    _variant("finish guarded by nothing", finish=_NOTHING),
    _variant("extension by id", extend=_NOTHING),
    _variant("extension by holder", extend=frozenset({HOLDER})),
    _variant("sweep by id", sweep=_NOTHING),
    _variant("sweep by status", sweep=frozenset({LEASED})),
    _variant("sweep without re-checking expiry", sweep=frozenset({ATTEMPT, HOLDER, LEASED})),
    _variant("claim from a stale list", "claims from a list", claims_unseen=False),
    _variant("tries counted when a failure is handled", counts_lost=False),
    _variant("ids reused", "two tasks", unique_ids=False),
    _variant("cancel over a terminal status", cancels=frozenset({PENDING, SUCCESS, FAILED})),
    _variant("a lost reply taken for a failure", lost_is_failed=True),
    _of_schedules("schedules: no compare-and-set", pauses=0, compares=False),
    _of_schedules("schedules: advance and insert apart", together=False),
    # Beyond the plan's list: the rest of what the protocol rests on.
    _variant("finish without the attempt", finish=frozenset({HOLDER, LEASED})),
    _variant("finish without the lease", finish=frozenset({HOLDER, ATTEMPT})),
    _variant("extension without the lease", extend=frozenset({HOLDER, ATTEMPT})),
    _variant("release by status", release=frozenset({LEASED})),
    _variant("sweep without the attempt", sweep=frozenset({HOLDER, LEASED, EXPIRED})),
    _variant("no bound on lost workers", max_lost=99),
    _variant("a create repeated without its key", keyed=False),
    _variant("retry() keeps the date of removal", clears_retention=False),
    _variant("no sweeper", sweeps=False),
    _of_schedules("schedules: pause without compare-and-set", compares=False),
)

# What a second condition makes harmless. Each is followed by the variant without both.
DOUBLE: Final[Sequence[tuple[Variant, Variant]]] = (
    # Attempts count up for the life of a row, so that no two holders ever have the same one.
    (
        _guards("finish without the holder", finish=frozenset({ATTEMPT, LEASED})),
        _guards("finish without the holder and the attempt", finish=frozenset({LEASED})),
    ),
    (
        _guards("extension without the holder", extend=frozenset({ATTEMPT, LEASED})),
        _guards("extension without the holder and the attempt", extend=frozenset({LEASED})),
    ),
    (
        _guards("sweep without the holder", sweep=frozenset({ATTEMPT, LEASED, EXPIRED})),
        _guards("sweep without the holder and the attempt", sweep=frozenset({LEASED, EXPIRED})),
    ),
    (
        _of_schedules("schedules: a lock for the compare-and-set", compares=False, locks=True),
        _of_schedules("schedules: neither", compares=False),
    ),
)


def run(of: World | ScheduleWorld) -> Exploration:
    """Explore a world."""
    if isinstance(of, ScheduleWorld):
        return explore(
            [ScheduleState()],
            of.steps,
            ended=of.ended,
            helps=lambda action: action.name in schedules.HELP,
        )
    return explore(
        [State(kind) for kind in of.kinds],
        of.steps,
        ended=of.ended,
        helps=lambda action: action.name in world.HELP,
    )


def whole(*, large: bool = False) -> Iterator[tuple[str, Exploration]]:
    """Explore the protocol as it is."""
    places = {**WORLDS, **LARGE} if large else WORLDS
    for name, place in places.items():
        yield name, run(place)
    for name, schedule in SCHEDULES.items():
        yield f"schedules, {name}", run(schedule)
