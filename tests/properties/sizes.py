"""How much each property is tried: `--faults=short`, `ci` or `long`."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings


def size(config: pytest.Config, short: int, ci: int, long: int) -> int:
    """The number of the run that was asked for."""
    chosen = config.getoption("--faults", default="short")
    return {"short": short, "ci": ci, "long": long}[str(chosen)]


def tried(examples: int) -> settings:
    """Settings for so many examples; those on a database take the time that they take."""
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
