"""Forks nodes from a process that has imported them: `python -m tests.faults.nursery`.

To import rowlock takes a second of CPU, and scenarios start hundreds of nodes.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MODULES = ("tests.faults.node", "tests.faults.producer")


class Forked:
    """A process that the nursery started, as `subprocess.Popen` would be."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self._nursery = nursery
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._nursery.ask("poll", self.pid)
        return self.returncode

    def wait(self) -> None:
        if self.returncode is None:
            self.returncode = self._nursery.ask("wait", self.pid)

    def send_signal(self, number: signal.Signals) -> None:
        # It is not reaped, and its id not another's, before the nursery is asked for its code.
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The process that forks, as its parent sees it. Its nodes end with it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.nursery"],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, module: str, arguments: Sequence[str], log: Path) -> Forked:
        """Run the `main` of a module with arguments; its stderr goes to the log."""
        return Forked(self, self.ask("start", module, list(arguments), str(log)))

    def ask(self, *request: Any) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        return json.loads(stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def serve() -> None:
    for module in MODULES:
        importlib.import_module(module)
    running: set[int] = set()
    answer: int | None
    while line := sys.stdin.readline():
        match json.loads(line):
            case ["start", module, arguments, log]:
                answer = fork(module, arguments, log)
                running |= {answer}
            case [how, child]:
                pid, status = os.waitpid(child, os.WNOHANG if how == "poll" else 0)
                answer = os.waitstatus_to_exitcode(status) if pid else None
                running -= {pid}
        print(json.dumps(answer), flush=True)
    for child in running:
        os.kill(child, signal.SIGKILL)


def fork(module: str, arguments: list[str], log: str) -> int:
    if pid := os.fork():
        return pid
    code = 1
    try:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), 2)
        sys.argv = [module, *arguments]
        importlib.import_module(module).main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
