from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer

from rowlock import Task, TaskQueue, TaskStatus
from rowlock._demo import demo as _demo
from rowlock._demo.files import Verdict, check, directly, find_files
from rowlock._demo.handlers import measure
from tests.support.helpers import eventually

DEMO = [sys.executable, "-m", "rowlock", "demo"]
RESULT = {"size": 1, "lines": 1, "sha256": "00"}
NOW = datetime(2026, 3, 9, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    result = tmp_path / "files"
    (result / "below" / "__pycache__").mkdir(parents=True)
    (result / "below" / "__pycache__" / "left.pyc").write_text("out")
    (result / "link").symlink_to(result / "below")
    for number in range(150):
        parent = result / "below" if number % 2 else result
        (parent / f"[file] {number}.txt").write_text("line\n" * number + "end" * (number % 3))
    return result


def finished(path: str, result: Mapping[str, Any] | None = RESULT, **changes: Any) -> Task:
    task = Task(
        id="0" * 32,
        type="demo",
        thread_id="host:1:0",
        date_created=NOW,
        date_modified=NOW,
        run_at=NOW,
        status=TaskStatus.SUCCESS,
        payload={"path": path},
        result=result and dict(result),
    )
    return task.model_copy(update=changes)


def alive(pids: list[int]) -> list[int]:
    result = []
    for pid in pids:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            continue
        result.append(pid)
    return result


def pids_of(output: str) -> list[int]:
    found = re.search(r"workers are ready: processes ([\d, ]+)", output)
    assert found, output
    return [int(pid) for pid in found[1].split(",")]


def test_demo_of_a_folder(folder: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    # Small files would all be done before anybody could look at the middle of the run.
    for file in find_files(folder)[0]:
        os.truncate(file.path, 4_000_000)
    answer = subprocess.run(
        [*DEMO, str(folder)],
        env=os.environ | {"TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    output = re.sub(r" +", " ", answer.stdout)
    assert "status success │ 150 │" in output
    assert re.search(r"worker \d \(process \d+\) killed after", output)
    held = int(re.search(r"it held (\d+)", output)[1])  # type: ignore[index]
    assert held > 0
    assert f"of these, held by the killed worker │ {held} │" in output
    assert "the five slowest files" in output
    assert "check passed: 150 of 150 files" in output
    assert alive(pids_of(output)) == []
    assert list(scratch.iterdir()) == []


async def test_demo_leaves_a_given_database_as_it_was(folder: Path, database: str) -> None:
    async with TaskQueue(database) as queue:
        other = await queue.create("of somebody else")
        answer = await asyncio.to_thread(
            subprocess.run,
            [*DEMO, str(folder), "--database", database, "--workers", "2"],
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert [task.id for task in (await queue.query()).entities] == [other]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_demo_leaves_nothing(
    folder: Path, tmp_path: Path, number: signal.Signals
) -> None:
    for n in range(100):  # so much work that it cannot be done before the signal
        with (folder / f"large {n}").open("wb") as file:
            file.truncate(20_000_000)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*DEMO, str(folder)],
            env=os.environ | {"TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"},
            stdout=output,
            stderr=output,
        )
    try:
        await eventually(lambda: "workers are ready" in log.read_text(), 30)
        process.send_signal(number)
        await eventually(lambda: process.poll() is not None, 30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, log.read_text()
    assert "Traceback" not in log.read_text()
    assert alive(pids_of(log.read_text())) == []
    assert list(scratch.iterdir()) == []


@pytest.mark.slow
async def test_the_workers_end_with_a_demo_that_was_killed(folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*DEMO, str(folder)],
            env=os.environ | {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
            stdout=output,
        )
    await eventually(lambda: "workers are ready" in log.read_text(), 30)
    process.kill()
    process.wait()
    await eventually(lambda: not alive(pids_of(log.read_text())), 30, "the workers have ended")


def test_a_wrong_result_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = check({"a": RESULT}, [finished("a", RESULT | {"lines": 2})])
    monkeypatch.setattr(_demo, "_demo", lambda *_: verdict)
    with pytest.raises(typer.Exit) as exit_:
        _demo.demo()
    assert exit_.value.exit_code == 1


def test_check_of_what_is_right() -> None:
    assert check({"a": RESULT}, [finished("a", RESULT | {"milliseconds": 3})]) == Verdict(1, [], [])


@pytest.mark.parametrize(
    ("tasks", "problem"),
    [
        ([], "a: 0 tasks instead of one"),
        ([finished("a"), finished("a")], "a: 2 tasks instead of one"),
        ([finished("a", RESULT | {"size": 2})], "a: size is 2 instead of 1"),
        ([finished("a", {})], "a: size is None instead of 1, lines is None"),
        ([finished("a", None)], "a: size is None instead of 1, lines is None"),
        ([finished("a", status=TaskStatus.FAILED)], "a: the task is failed"),
        ([finished("a", status=TaskStatus.PENDING)], "a: the task is pending"),
        ([finished("a"), finished("b")], "b: a task without a file"),
    ],
)
def test_check_of_what_is_wrong(tasks: list[Task], problem: str) -> None:
    (found,) = check({"a": RESULT}, tasks).problems
    assert found.startswith(problem)


def test_a_changed_file_is_counted_and_not_compared() -> None:
    assert check({"a": None}, [finished("a")]) == Verdict(0, ["a"], [])


def test_the_two_ways_to_measure_agree(folder: Path) -> None:
    files, skipped = find_files(folder)
    assert (len(files), skipped) == (150, 0)
    for file in files:
        measured = measure({"path": file.path})
        del measured["milliseconds"]
        assert measured == directly(file)


def test_files_that_change_or_vanish(folder: Path) -> None:
    (changed, vanished, *_), _ = find_files(folder)
    Path(changed.path).write_text("something else")
    Path(vanished.path).unlink()
    assert directly(changed) is None
    assert directly(vanished) is None
