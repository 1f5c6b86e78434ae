"""`rowlock worker` without a standard stream."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rowlock import TaskQueue
from tests.executors.test_processes import ended

ROOT = Path(__file__).parents[2]
APPLICATION = """
import os, sys
from rowlock import TaskQueue

def handler(payload):
    print("printed")
    print("printed", file=sys.stderr)
    return [os.path.exists(f"/proc/self/fd/{number}") for number in range(3)]

async def queue():
    queue = TaskQueue(os.environ["ROWLOCK_TEST_URL"])
    await queue.register_handler("t", "application", "handler")
    return queue
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs sh and /proc")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
async def test_a_worker_with_a_closed_stream_runs_processes(
    sqlite_url: str, tmp_path: Path, closed: str
) -> None:
    """Fails where a pipe gets the number of the stream, with which uvloop ends the process."""
    (tmp_path / "application.py").write_text(APPLICATION)
    worker = subprocess.Popen(
        [
            "/bin/sh",
            "-c",
            f'exec "$0" -m rowlock worker application:queue {closed}',
            sys.executable,
        ],
        cwd=tmp_path,
        env={**os.environ, "ROWLOCK_TEST_URL": sqlite_url},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        async with TaskQueue(sqlite_url) as queue:
            task = await ended(queue, await queue.create("t", retry_count=0, retain_for=-1))
        assert (task.status, task.result) == ("success", [True, True, True])
        worker.terminate()
        assert worker.wait(60) == 0
    finally:
        worker.kill()
        worker.wait()
