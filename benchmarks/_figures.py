"""Many measurements in a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median, quantiles


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """Return the median, the high percentiles and the longest; zeros of too few to tell."""
    if len(seconds) < 2:
        return dict.fromkeys(("median ms", "p95 ms", "p99 ms", "max ms"), 0.0)
    cuts = quantiles(seconds, n=100, method="inclusive")
    return {
        "median ms": median(seconds) * 1000,
        "p95 ms": cuts[94] * 1000,
        "p99 ms": cuts[98] * 1000,
        "max ms": max(seconds) * 1000,
    }
