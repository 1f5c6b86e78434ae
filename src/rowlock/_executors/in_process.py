"""Handlers in processes of their own: the side of the parent. The other side is `child`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, cast

from rowlock._endings import HandlerResult
from rowlock._executors import logs as _logs
from rowlock._executors.base import Executor
from rowlock._executors.context import Link
from rowlock._executors.handler import Handler, elsewhere
from rowlock._executors.messages import (
    BEGUN,
    CANCEL,
    ENDED,
    FAILED,
    LOG,
    PROGRESS,
    READY,
    RUN,
    SETUP,
    STOP,
    STOPPED,
    Inbox,
    Setup,
    decode_ended,
    encode_run,
    pack,
)
from rowlock._executors.supervisor import KILL
from rowlock._rows import HeldRow
from rowlock.errors import WorkerProcessError
from rowlock.models import SizeLimits, TaskError

# Seconds that a worker process has to end: its `shutdown_method` may have connections to close.
_STOP_TIMEOUT = 10.0
_DRAIN_TIMEOUT = 1.0

# The path comes first: rowlock itself may be importable only because the parent changed its own.
# The process forks before it has imported much.
_CODE: Final = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from rowlock._executors.supervisor import supervise; supervise(int(sys.argv[2])); "
    "from rowlock._executors.child import main; main()"
)


class InProcess(Executor):
    """Calls handlers in a process of its own, which imports their module by itself.

    A handler that takes its process down, by a signal, a crash or an exit, fails its own attempt
    and no other. What goes to and fro is the stored JSON.
    """

    def __init__(self, handler: Handler, limits: SizeLimits) -> None:
        super().__init__(handler, limits)
        self._process: _Process | None = None
        self._dead = False
        self._used_up = False

    @property
    def needs_replacement(self) -> bool:
        return self._used_up or self._dead or self._started.exiting

    async def start(self) -> None:
        stdout = _duplicate(1)
        try:
            self._process = await _start(self._handler.task_type, stdout)
        finally:
            if stdout is not None:
                os.close(stdout)
        self._process.send(SETUP, _setup(self._handler, self._limits, stdout))
        (pid,) = await self._process.answer(READY, "before its first task")
        self._process.pid = int(pid)

    async def run(self, row: HeldRow, link: Link) -> HandlerResult | None:
        process = self._started
        timeout = self._handler.options.timeout
        process.begun = False
        process.link = link
        process.send(RUN, *encode_run(row, link.scheduled_for))
        try:
            answer = process.answer(ENDED, "while it ran the task")
            if timeout is None:
                parts = await answer
            else:
                async with asyncio.timeout(timeout / 1000):
                    parts = await answer
        except TimeoutError:
            self.kill()
            return self._results.late()
        except WorkerProcessError as death:
            self._dead = True
            return self._results.lost(death) if process.begun else None
        finally:
            process.link = None
        ending, self._used_up = decode_ended(parts)
        return ending

    def interrupt(self) -> None:
        self._started.send(CANCEL)

    def kill(self) -> None:
        self._dead = True
        self._started.kill()

    async def stop(self) -> None:
        process = self._started
        if self._dead or process.exiting:
            return
        process.send(STOP)
        try:
            async with asyncio.timeout(_STOP_TIMEOUT):
                await process.answer(STOPPED, "while it shut down")
                await process.exited()
        except TimeoutError:
            raise WorkerProcessError(
                f"{process} did not end within {_STOP_TIMEOUT:g} s, and was killed"
            ) from None

    async def close(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_DRAIN_TIMEOUT):
                    await self._process.exited()
        finally:
            self._process.close()

    @property
    def _started(self) -> _Process:
        assert self._process is not None  # noqa: S101
        return self._process


class _Process(asyncio.SubprocessProtocol):
    """A worker process and the messages that come from it.

    Attributes:
        link: of the task that was sent last.
        begun: whether the process has begun with that.
        pid: the process that runs handlers, which may be a child of the one that was started.
    """

    link: Link | None = None
    begun = False
    _code: int | None = None

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._inbox = Inbox()
        self._waiter: asyncio.Future[list[bytes]] | None = None
        self._silent = False
        self._end: asyncio.Future[None] = self._loop.create_future()

    def __str__(self) -> str:
        return f"the worker process {self.pid}"

    @property
    def exiting(self) -> bool:
        """Whether it has exited, or speaks no more."""
        return self._silent or self._code is not None

    def send(self, kind: bytes, *parts: bytes) -> None:
        """Send a message; it is lost if the process has ended."""
        stdin = cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0))
        if not stdin.is_closing():
            stdin.write(pack(kind, *parts))

    async def answer(self, kind: bytes, when: str) -> list[bytes]:
        """Wait for the one message that is due; return its other parts.

        Raises:
            WorkerProcessError: if the process ends instead, or says that a hook has failed.
        """
        self._waiter = self._loop.create_future()
        if self._end.done():
            self._waiter.set_result([])
        try:
            message = await self._waiter
        finally:
            self._waiter = None
        if not message:
            raise WorkerProcessError(f"{self} {_how(self._code)} {when}")
        if message[0] == FAILED:
            error = TaskError.model_validate_json(message[1])
            raise WorkerProcessError(
                f"{self}: {error.name}: {error.message}\n{error.stack or ''}".rstrip()
            )
        assert message[0] == kind  # noqa: S101 - each message has its one answer
        return message[1:]

    async def exited(self) -> None:
        """Wait until it has exited."""
        await asyncio.shield(self._end)

    def kill(self) -> None:
        """Kill it, and the processes that its handlers have started."""
        if self._transport.get_returncode() is not None:
            return
        if sys.platform == "win32":
            self._transport.kill()
        elif KILL is None:
            self._kill_session()
        else:
            with suppress(ProcessLookupError):
                self._transport.send_signal(KILL)

    def _kill_session(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let go of the pipes."""
        self._transport.close()

    # Called by the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self.pid = self._transport.get_pid()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        for message in self._inbox.feed(data):
            if message[0] == BEGUN:
                self.begun = True
            elif message[0] == PROGRESS:
                if self.link is not None:
                    with suppress(Exception):  # lost: it is being killed
                        self.link.report(message[1].decode())
            elif message[0] == LOG:
                _logs.handle(message[1])
            elif self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(message)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd != 1:
            return
        self._silent = True
        if self._code is not None:
            self._ended()
        else:
            # It exits, or its handler has closed what does not belong to it.
            self._loop.call_later(_DRAIN_TIMEOUT, self.kill)

    def process_exited(self) -> None:
        self._code = self._transport.get_returncode()
        if sys.platform != "win32" and KILL is None:
            # However it ended, what its handlers have started ends with it.
            self._kill_session()
        if self._silent:
            self._ended()
        else:
            # What it said last is still to be read; but who left its session may hold the pipe.
            self._loop.call_later(_DRAIN_TIMEOUT, self._ended)

    def _ended(self) -> None:
        if self._end.done():
            return
        self._end.set_result(None)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result([])
        self._transport.close()


async def _start(task_type: str, stdout: int | None) -> _Process:
    options: dict[str, Any] = {}
    if sys.platform != "win32":
        # A session of its own: Ctrl-C in the terminal drains the parent and kills nothing, and
        # what a handler has started can be killed with it.
        options["start_new_session"] = True
    if stdout is not None:
        options["pass_fds"] = (stdout,)
    _, process = await asyncio.get_running_loop().subprocess_exec(
        _Process,
        *_command(task_type),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None,
        **options,
    )
    return process


def _duplicate(fd: int) -> int | None:
    # What handlers print goes where the parent prints. Elsewhere it goes to standard error.
    if sys.platform == "win32":
        return None
    try:
        return os.dup(fd)
    except OSError:
        return None  # the parent has closed it


def _command(task_type: str) -> Sequence[str]:
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    path = json.dumps([os.path.abspath(entry) for entry in sys.path])
    # The rest is for those who list processes.
    label = task_type.encode("ascii", "backslashreplace").decode().replace("\0", "")
    return [sys.executable, *flags, "-c", _CODE, path, str(os.getpid()), "rowlock", label]


def _setup(handler: Handler, limits: SizeLimits, stdout: int | None) -> bytes:
    module, _, method = handler.source.rpartition(".")
    module, main_path = elsewhere(module)
    setup = Setup(
        stdout=stdout,
        argv=sys.argv,
        main_path=main_path,
        task_type=handler.task_type,
        module=module,
        method=method,
        options=handler.options.model_dump(),
        limits=limits.model_dump(),
        logging=_logs.settings(),
    )
    return json.dumps(setup).encode()


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = "a signal"
        return f"was killed by {name} (signal {-code})"
    return f"exited with status {code}"
