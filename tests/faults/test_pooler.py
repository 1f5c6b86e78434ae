"""PgBouncer in transaction mode stands between rowlock and the server.

How to run the suite through it says `tests.support.pgbouncer`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.faults.harness import ROOT, Run
from tests.support import pgbouncer as _pgbouncer
from tests.support.helpers import eventually

Begin = Callable[[str, str], Awaitable[Run]]
Size = Callable[..., int]

MOST = 600.0

# A short run is the first.
CONFORMANCE = [
    "client/test_group_commit.py", "store/test_store.py", "store/test_paging.py",
    "scheduling/test_schedules.py", "store/test_transitions.py", "worker/test_worker.py",
    "worker/test_worker_faults.py", "scheduling/test_scheduler.py", "worker/test_cancel.py",
    "worker/test_progress.py", "executors/test_processes.py",
]  # fmt: skip


@pytest.fixture
def pooler(postgres_server_url: str) -> Iterator[str]:
    if _pgbouncer.find() is None:
        pytest.skip("no pgbouncer on the PATH: nothing was shown about poolers")
    # Fewer than there are clients, so that each statement may go to another one.
    with _pgbouncer.pgbouncer(postgres_server_url, connections=2) as url:
        yield url


async def test_through_pgbouncer(postgres_url: str, pooler: str, begin: Begin, size: Size) -> None:
    """Ten thousand tasks by two workers and two producers, and no error.

    Fails where statements are named, as they are by default (without `unnamed` in
    `_pgbouncer.speak_to_it`).
    """
    run = await begin("pgbouncer", postgres_url)
    url = _pgbouncer.by_way_of(pooler, run.url)
    environment = {_pgbouncer.VARIABLE: "1"}
    count = size(short=500, ci=10_000)
    for _ in range(2):
        # Not about leases: on a slow machine short ones could not be extended in time.
        run.worker("quick", url=url, environment=environment, notify=False, lease=30_000)
    producers = [
        run.producer("quick", url=url, environment=environment, count=count // 2, gap=0)
        for _ in range(2)
    ]
    for producer in producers:
        await eventually(lambda node=producer: node.process.poll() == 0, MOST, "created")  # type: ignore[misc]
    run.cycles = count
    figures = await run.finish(patience=MOST)
    assert (figures.acknowledged, figures.unknown) == (count, 0)
    assert run.count("refused") == 0
    assert run.log() == ""


def test_conformance_through_pgbouncer(pooler: str, size: Size) -> None:
    """What the suite says of PostgreSQL holds behind PgBouncer, without what needs a session.

    Fails where statements are named.
    """
    modules = CONFORMANCE[: size(short=1, ci=len(CONFORMANCE))]
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-n", "2"),
        *("-m", "not session", "-k", "not sqlite"),
    ]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", *(f"tests/{name}" for name in modules)],
        cwd=ROOT,
        env={**os.environ, _pgbouncer.VARIABLE: "1"},
        capture_output=True,
        text=True,
    )
    print(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout[-10_000:]
