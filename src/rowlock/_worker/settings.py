"""How a worker behaves."""

from __future__ import annotations

from dataclasses import dataclass

from rowlock.models import SizeLimits


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a worker behaves; every time is in seconds."""

    lease: float
    sweep_interval: float
    poll_interval: float
    stop_timeout: float
    notify: bool
    limits: SizeLimits
