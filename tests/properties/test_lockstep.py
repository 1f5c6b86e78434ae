"""The queue against a dict: both databases in lockstep with a model, every row after each step."""

from __future__ import annotations

import pytest
from hypothesis import given

from tests.properties.machine import Lockstep, Step, programs
from tests.properties.model import MAX_LOST_WORKERS, RETRY_INTERVAL
from tests.properties.pair import open_pair
from tests.properties.sizes import size, tried


@pytest.mark.timeout(3600)
def test_both_databases_answer_as_the_model(
    pytestconfig: pytest.Config, sqlite_url: str, postgres_url: str
) -> None:
    """Fails where the fence leaves out the attempt, the holder or the lease, where a retry by
    hand keeps the count of lost workers, and where a request to cancel outlives a release."""
    examples = size(pytestconfig, short=15, ci=300, long=3000)
    steps = 0
    with open_pair(
        [sqlite_url, postgres_url],
        retry_interval=RETRY_INTERVAL,
        max_lost_workers=MAX_LOST_WORKERS,
    ) as pair:

        @tried(examples)
        @given(programs)
        def run(program: list[Step]) -> None:
            nonlocal steps
            steps += len(program)
            Lockstep(pair).run(program)

        run()
    print(
        f"lockstep: {examples} programs, {steps} steps on a model, SQLite and PostgreSQL: "
        "the same answers"
    )
