"""The protocol holds in every interleaving of the model, and no broken variant of it does.

`python -m tests.model` prints the counterexamples.
"""

from __future__ import annotations

import pytest

from tests.model.schedules import ScheduleWorld
from tests.model.variants import BROKEN, DOUBLE, SCHEDULES, WORLDS, Variant, run
from tests.model.world import World


@pytest.mark.parametrize(
    "place", [*WORLDS.values(), *SCHEDULES.values()], ids=[*WORLDS, *SCHEDULES]
)
def test_the_protocol_holds(place: World | ScheduleWorld) -> None:
    assert run(place).counterexample is None


@pytest.mark.parametrize("variant", BROKEN, ids=str)
def test_a_broken_variant_has_a_counterexample(variant: Variant) -> None:
    found = run(variant.world)
    assert found.counterexample is not None
    assert found.counterexample.trace


@pytest.mark.parametrize(("alone", "both"), DOUBLE, ids=[str(alone) for alone, _ in DOUBLE])
def test_a_second_condition_makes_up_for_one(alone: Variant, both: Variant) -> None:
    assert run(alone.world).counterexample is None
    assert run(both.world).counterexample is not None


def test_a_counterexample_is_a_shortest_one() -> None:
    """The one that the plan names: the worker extends its lease between read and write."""
    (variant,) = (each for each in BROKEN if each.name == "sweep without re-checking expiry")
    found = run(variant.world).counterexample
    assert found is not None
    assert found.promise == "a live lease was taken away"
    assert found.trace == (
        "create",
        "claim A's attempt 1",
        "the lease expires",
        "sweeper reads",
        "extend A's attempt 1",
        "sweeper writes",
    )
