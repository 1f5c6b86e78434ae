"""What is logged in worker processes reaches the logging of the application."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rowlock import HandlerOptions, Task, TaskQueue
from rowlock._executors.logs import MOST
from tests.executors.test_processes import LONG, ended
from tests.support.helpers import eventually
from tests.support.log_handlers import LOG_FILE

HANDLERS = "tests.support.log_handlers"
APPLICATION = "tests.application"


@pytest.fixture(autouse=True)
def _level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, APPLICATION)


@asynccontextmanager
async def serving(database: str, handler: str, **options: Any) -> AsyncIterator[TaskQueue]:
    async with TaskQueue(database) as queue:
        given = HandlerOptions(executor="process", max_worker_count=1, **options)
        await queue.register_handler("t", HANDLERS, handler, options=given)
        await queue.start()
        yield queue


async def run(queue: TaskQueue, payload: Any = None) -> Task:
    task_id = await queue.create("t", payload, retry_count=0, retain_for=-1)
    return await ended(queue, task_id)


def records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return what came from a worker process."""
    return [record for record in caplog.records if record.process != os.getpid()]


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in records(caplog)]


async def test_records_come_as_they_were_made(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Fails where they go to the standard error of the process, or come without their task."""
    async with serving(database, "logs") as queue:
        task = await run(queue)
    found = [record for record in records(caplog) if record.getMessage() != "imported"]
    assert [record.getMessage() for record in found] == [
        "plain text, 7 and None",
        "an object: order 7",
        "a mapping: x",
        "order 7",
        "from a library",
        "from the root",
    ]
    assert {
        (r.__dict__["task_id"], r.__dict__["task_type"], r.__dict__["attempt"]) for r in found
    } == {(task.id, "t", 1)}
    assert {(record.process, record.processName) for record in found} == {
        (task.result, "rowlock t")
    }
    plain, with_fields, mapping, _, library, root = found
    assert (plain.msg, plain.args) == ("plain %s, %d and %r", ("text", 7, None))
    assert (plain.levelname, plain.funcName, plain.filename) == ("INFO", "logs", "log_handlers.py")
    assert mapping.args == {"name": "x"}
    fields = [with_fields.__dict__[name] for name in ("order", "items", "who")]
    assert fields[:2] == [7, ["a"]]
    assert "Order" in fields[2]
    assert (library.name, library.levelno) == (f"{APPLICATION}.library", logging.ERROR)
    assert (root.name, root.levelname) == ("root", "WARNING")
    assert abs(plain.created - task.date_modified.timestamp()) < 3600


async def test_records_of_an_async_handler(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(sqlite_url, "logs_async") as queue:
        task = await run(queue)
    found = {record.getMessage(): record.__dict__["task_id"] for record in records(caplog)}
    assert found == {"imported": None, "async": task.id, "to_thread": task.id}


@pytest.mark.parametrize("level", [logging.DEBUG, logging.WARNING])
async def test_the_levels_of_the_parent_are_those_of_the_process(
    sqlite_url: str, caplog: pytest.LogCaptureFixture, level: int
) -> None:
    """Fails where what nobody wants is made and sent, also by loggers that are made later."""
    caplog.set_level(level, APPLICATION)
    caplog.set_level(logging.ERROR, f"{APPLICATION}.made")
    async with serving(sqlite_url, "wants_debug") as queue:
        assert (await run(queue)).result == [level == logging.DEBUG, False]


async def test_a_level_that_was_raised_meanwhile_counts(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(sqlite_url, "logs") as queue:
        await run(queue)
        caplog.clear()
        logging.getLogger(APPLICATION).setLevel(logging.ERROR)  # which `caplog` resets
        await run(queue)
    assert messages(caplog) == ["from a library", "from the root"]


async def test_a_traceback_comes_as_text(sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(sqlite_url, "fails") as queue:
        await run(queue)
    (record,) = [record for record in records(caplog) if record.getMessage() == "it failed"]
    text = logging.Formatter().format(record)
    assert text.startswith("it failed\nTraceback (most recent call last)")
    for part in ("KeyError: 'cause'", "direct cause", "ValueError: wrong", "Stack (most recent"):
        assert part in text


async def test_a_record_has_a_bound(sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(sqlite_url, "huge") as queue:
        assert (await run(queue)).status == "success"
    found = [record for record in records(caplog) if record.getMessage() != "imported"]
    assert len(found) == 4
    for record in found:
        assert len(logging.Formatter().format(record)) < 3 * MOST
    assert "4,967,232 characters are left out" in found[1].getMessage()
    assert len(str(found[2].__dict__["large"])) < 2 * MOST
    assert str(found[3].exc_text).rstrip().endswith("eee")


async def test_a_record_that_cannot_be_made_harms_nobody(
    sqlite_url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    async with serving(sqlite_url, "broken") as queue:
        assert (await run(queue)).result == "done"
    assert messages(caplog) == ["imported", "after"]
    assert "no number" in capfd.readouterr().err  # as logging says it


async def test_a_thread_of_a_handler_logs_for_its_task(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(sqlite_url, "in_thread") as queue:
        task = await run(queue)
    found = {record.getMessage(): record.__dict__["task_id"] for record in records(caplog)}
    assert found["from a thread"] == task.id


async def test_records_before_the_first_task_and_after_the_last(
    sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Fails where only what is logged while the parent waits for an answer is read."""
    async with serving(
        sqlite_url,
        "leaves_a_thread",
        initialise_method="initialise",
        shutdown_method="shutdown",
    ) as queue:
        await run(queue, str(tmp_path / "go"))
        (tmp_path / "go").touch()
        await eventually(lambda: "long after" in messages(caplog), timeout=LONG)
    assert messages(caplog) == ["imported", "initialise", "long after", "shutdown"]
    assert {record.__dict__["task_id"] for record in records(caplog)} == {None}


async def test_a_flood_keeps_no_outcome_waiting(sqlite_url: str) -> None:
    """Fails where what ends a task has to win the pipe from threads that never let go of it."""
    async with serving(sqlite_url, "flood") as queue:
        for _ in range(20):
            assert (await run(queue)).result == "done"


async def test_the_last_record_of_a_process_is_not_lost(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Fails where records wait in the process to be sent."""
    async with serving(sqlite_url, "logs_and_dies") as queue:
        assert (await run(queue)).status == "failed"
    assert "last words" in messages(caplog)


async def test_a_signal_cuts_no_record(sqlite_url: str) -> None:
    """Fails where the handler's own thread writes to the pipe: its exception leaves half of one."""
    async with serving(sqlite_url, "interrupted") as queue:
        assert (await run(queue, 100)).result == "done"
        assert (await run(queue, 1)).result == "done"


async def test_a_fork_keeps_off_the_pipe(
    sqlite_url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    async with serving(sqlite_url, "forks") as queue:
        assert (await run(queue)).status == "success"
    assert messages(caplog) == ["imported", "after the fork"]
    assert capfd.readouterr().err.count("in a fork") == 1


@pytest.mark.parametrize("hook", ["own_basic_config", "own_dict_config", "own_handler"])
async def test_a_process_that_sets_up_logging_keeps_its_records(
    sqlite_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    hook: str,
) -> None:
    """Fails where `basicConfig` finds a handler and does nothing, or where lines come twice."""
    monkeypatch.setenv(LOG_FILE, str(tmp_path / "log"))
    async with serving(sqlite_url, "says", initialise_method=hook) as queue:
        assert "OWN INFO said\n" in (await run(queue)).result
    assert messages(caplog) == ["imported"]
