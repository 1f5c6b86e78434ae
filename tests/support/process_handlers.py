"""Handlers for the tests of worker processes: good, hostile and deadly ones."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from rowlock import HandlerError, current_task
from tests.support.deaths import die

RECORD = "ROWLOCK_TEST_RECORD"
CAUSE = "ROWLOCK_TEST_CAUSE"
held = bytearray()


def record(*words: object) -> None:
    """Append a line to the file that the test reads; processes inherit its name."""
    with open(os.environ[RECORD], "a") as file:
        file.write(" ".join(map(str, words)) + "\n")


def echo(payload: Any) -> Any:
    return payload


def database_modules() -> list[str]:
    return sorted({"sqlalchemy", "alembic", "asyncpg", "aiosqlite"} & sys.modules.keys())


def pid() -> int:
    return os.getpid()


async def async_pid() -> int:
    await asyncio.sleep(0)
    return os.getpid()


def about() -> list[Any]:
    task = current_task()
    return [task.id, task.type, task.attempt, task.payload]


async def async_about() -> list[Any]:
    await asyncio.sleep(0)
    return about()


def not_json(payload: str) -> Any:
    return {"bytes": b"", "nul": "\0", "nan": float("nan"), "object": object()}[payload]


def fail(payload: str) -> None:
    if payload == "good":
        return
    if payload == "final":
        raise HandlerError("no", properties={"a": [1, "ž"]}, retry=False)
    raise ValueError("wrong: ž")


def poison(payload: Any) -> Any:
    """Return a number; a text names the way to die."""
    record("run", current_task().id)
    die(payload)
    return payload


class ForeignBaseError(BaseException):
    pass


class NoClassError(Exception):
    def __getattribute__(self, name: str) -> object:
        if name == "__class__":
            raise ValueError("no class")
        return super().__getattribute__(name)


def hostile(payload: str) -> str:
    """Do to the process what a worker must survive, or be replaced after."""
    match payload:
        case "stdin":
            if sys.stdin.read():
                return "read what is not its own"
            sys.stdin.close()
            os.close(0)
        case "stdout":
            sys.stdout.close()
        case "fd 1":
            os.close(1)
        case "exit":
            sys.exit(3)
        case "interrupt":
            raise KeyboardInterrupt
        case "base":
            raise ForeignBaseError("base")
        case "no class":
            raise NoClassError
        case "print":
            print("printed by a handler")
        case "chdir":
            os.chdir("/")
        case "thread":
            threading.Thread(target=threading.Event().wait).start()
        case "child":
            record("child", subprocess.Popen(["sleep", "60"]).pid)
        case "forked sleeper":
            # Unlike what is executed, it keeps the pipes to the parent open.
            if (child := os.fork()) == 0:
                threading.Event().wait()
                os._exit(0)
            record("child", child)
        case "fork":
            if (child := os.fork()) != 0:
                os.waitpid(child, 0)
            record("returns", os.getpid())
        case "fork raises":
            if (child := os.fork()) == 0:
                raise RuntimeError("in the child")
            os.waitpid(child, 0)
        case "fds":
            os.closerange(3, 256)
        case "signals":
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
        case "interrupts itself":
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
        case "good":
            return os.getcwd()
    return payload


async def async_hostile(payload: str) -> str:
    await asyncio.sleep(0)
    return hostile(payload)


def meet(files: list[str]) -> None:
    """End when both have begun: each makes its own file and waits for the other's."""
    mine, other = map(Path, files)
    mine.touch()
    while not other.exists():
        time.sleep(0.01)


def hold(megabytes: int) -> int:
    global held
    # Multiplied, so that each page is written to: what was never touched is not resident.
    held = bytearray(b"x") * (megabytes << 20)
    return os.getpid()


def occupy(payload: str) -> int:
    record(payload, os.getpid())
    if payload == "sleep":
        threading.Event().wait()
    elif payload == "spin":
        sum(range(10**11))  # one call in C that never lets go of the interpreter's lock
    elif payload == "family":
        record("member", subprocess.Popen(["sleep", "60"]).pid)
        record("leaver", subprocess.Popen(["sleep", "60"], start_new_session=True).pid)
        shell = "setsid sleep 60 >/dev/null 2>&1 & echo $!"
        orphan = subprocess.run(
            ["sh", "-c", shell], stdout=subprocess.PIPE, check=True, start_new_session=True
        )
        record("orphan", int(orphan.stdout))
        threading.Event().wait()
    elif payload == "child":
        record("grandchild", subprocess.Popen(["sleep", "60"]).pid)
        threading.Event().wait()
    return os.getpid()


# Hooks.


def initialise() -> None:
    record("initialise", os.getpid())


def shutdown() -> None:
    record("shutdown", os.getpid())


async def async_initialise() -> None:
    await asyncio.sleep(0)
    record("initialise", os.getpid())


async def async_shutdown() -> None:
    await asyncio.sleep(0)
    record("shutdown", os.getpid())


def initialise_needs_cause() -> None:
    record("initialise", os.getpid())
    if not os.path.exists(os.environ[CAUSE]):
        raise RuntimeError("the cause is still there")


def initialise_exits() -> None:
    record("initialise", os.getpid())
    if not os.path.exists(os.environ[CAUSE]):
        os._exit(1)


def shutdown_raises() -> None:
    record("shutdown", os.getpid())
    raise RuntimeError("no shutdown")
