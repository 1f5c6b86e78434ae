"""The process between a worker process and its parent: with either, all else ends.

The kernel kills the worker process as soon as its parent ends, however that ends, but not the
programs that it has started. Those it can give to an ancestor instead of init: this one, which
does nothing but wait for an end.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

KILL: Final = signal.SIGUSR1 if sys.platform == "linux" else None
"""Has the supervisor kill the worker process, and all that it has started; None: there is none."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# What cannot be killed, since it runs as somebody else, is not waited for any longer.
_PATIENCE = 2.0
_STEP = 0.01


def supervise(parent: int) -> None:
    """Fork, on Linux; return in the worker process.

    Args:
        parent: the process id of the parent, which may have ended meanwhile.
    """
    if sys.platform != "linux":
        return
    signals = {
        *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD),
        *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
    }
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGUSR2)
    if os.getppid() != parent:
        os._exit(1)
    supervisor = os.getpid()
    worker = os.fork()
    if worker:
        _wait(worker, parent, signals)
    os.setsid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:
        os._exit(1)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prctl(option: int, value: int) -> None:
    with suppress(Exception):
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _wait(worker: int, parent: int, signals: set[Any]) -> NoReturn:
    # The ends of the pipes, which are to close with the worker process.
    os.closerange(0, 2)
    os.closerange(3, 1 << 16)
    for ignored in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(ignored, signal.SIG_DFL)  # who is ignored does not come
    while not _has_ended(worker):
        number = signal.sigwait(signals)
        if number == KILL or (number == signal.SIGUSR2 and os.getppid() != parent):
            break
    _exit_as(_end_all(worker))


def _has_ended(worker: int) -> bool:
    """Whether the worker process has ended; reap what else has, and had lost its own parent."""
    look = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while (ended := os.waitid(os.P_ALL, 0, look)) is not None:
        if ended.si_pid == worker:
            return True
        os.waitpid(ended.si_pid, 0)
    return False


def _end_all(worker: int) -> int:
    """Kill all that there is, generation by generation; return the status of the worker process."""
    with suppress(OSError):
        # It is not reaped yet, so that its number is nobody else's.
        os.killpg(worker, signal.SIGKILL)
    status = int(signal.SIGKILL)
    until = time.monotonic() + _PATIENCE
    with suppress(ChildProcessError):
        while time.monotonic() < until:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == worker:
                    status = ended[1]
            for pid in _children():
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(_STEP)
    return status


def _children() -> list[int]:
    mine = os.getpid()
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            # After the name, which may hold anything: the state, and the parent.
            if int(path.read_text().rpartition(")")[2].split()[1]) == mine:
                found.append(int(path.parent.name))
    return found


def _exit_as(status: int) -> NoReturn:
    """End as the worker process did."""
    if os.WIFSIGNALED(status):
        import resource

        number = os.WTERMSIG(status)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # there is one
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))
