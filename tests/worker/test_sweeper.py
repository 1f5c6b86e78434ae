"""How the sweeper goes about what is past its retention."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import pytest

from rowlock._events import Events
from rowlock._store.sweep import Sweep, Swept
from rowlock._worker.held import Held
from rowlock._worker.sweeper import BATCH, Sweeper
from tests.support.helpers import eventually


class SlowStore:
    """Has endless rows to forget until it is quick, and takes a while for each batch."""

    holder = "w"

    def __init__(self, slow: int, quick: int) -> None:
        self.limits: list[int] = []
        self.sweeps = 0
        self._slow = slow
        self._all = slow + quick

    async def leases(self, limit: int, **options: Any) -> Swept:
        self.sweeps += 1
        return Swept(0, [], [])

    def holds(self, key: object) -> bool:
        return False

    async def retention(self, limit: int) -> int:
        self.limits.append(limit)
        if len(self.limits) <= self._slow:
            await asyncio.sleep(0.2)
        return limit if len(self.limits) < self._all else limit - 1


async def test_slow_batches_become_smaller_and_quick_ones_larger() -> None:
    """Fails where the batch is what it was."""
    store = SlowStore(slow=2, quick=8)
    sweeper = Sweeper(cast(Sweep, store), Events(), 60, 30, cast(Held, store))
    await sweeper.sweep()
    first, second, third, *rest = store.limits
    assert first == BATCH
    assert first > second > third
    # A machine that pauses makes a quick one seem slow.
    assert max(rest) > third
    assert max(store.limits) == BATCH


async def test_what_a_batch_takes_is_remembered() -> None:
    store = SlowStore(slow=2, quick=0)
    sweeper = Sweeper(cast(Sweep, store), Events(), 60, 30, cast(Held, store))
    await sweeper.sweep()
    *_, last = store.limits
    await sweeper.sweep()
    assert store.limits[-1] == last < BATCH


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
async def test_a_clock_that_was_set_makes_no_worker_lost(
    monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    """Fails where what another process of the host holds is taken before it could extend it."""
    store = SlowStore(slow=0, quick=0)
    sweeper = Sweeper(cast(Sweep, store), Events(), 60, 0.3, cast(Held, store))
    await sweeper.sweep()
    assert store.sweeps == 1
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + step)
    assert await sweeper.sweep() == 0.3
    assert store.sweeps == 1

    async def swept_again() -> bool:
        await sweeper.sweep()
        return store.sweeps == 2

    await eventually(swept_again)
