"""The queue against a dict: both databases in lockstep with a model, every row after each step."""

from __future__ import annotations

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.properties.machine import Lockstep
from tests.properties.model import MAX_LOST_WORKERS, RETRY_INTERVAL
from tests.properties.pair import open_pair
from tests.properties.sizes import size, tried


@pytest.mark.timeout(3600)
def test_both_databases_answer_as_the_model(
    pytestconfig: pytest.Config, sqlite_url: str, postgres_url: str
) -> None:
    examples = size(pytestconfig, short=25, ci=300, long=3000)
    with open_pair(
        [sqlite_url, postgres_url],
        retry_interval=RETRY_INTERVAL,
        max_lost_workers=MAX_LOST_WORKERS,
    ) as pair:

        class Bound(Lockstep):
            pass

        Bound.pair = pair
        run_state_machine_as_test(Bound, settings=tried(examples, steps=40))
    print(f"lockstep: {examples} programs on a model, SQLite and PostgreSQL: the same answers")
