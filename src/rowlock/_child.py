"""The main program of a worker process. Its parent, `_processes`, tells it what to run."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, NoReturn

from rowlock._context import RunningTask, importing, running_task
from rowlock._endings import Ending, describe, raised, returned
from rowlock._frames import Inbox, pack
from rowlock._handlers import Handler
from rowlock._json import loads
from rowlock.models import HandlerOptions, Limits

_PR_SET_PDEATHSIG = 1


def main() -> NoReturn:
    """Serve the parent until it says stop, or has gone."""
    Child().serve()


class Child:
    """One worker process."""

    def __init__(self) -> None:
        # The handler may print, read its standard input, or close both.
        self._input = os.dup(0)
        self._output = os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        for number in (signal.SIGINT, signal.SIGTERM):
            # The parent decides when it ends. Not ignored: programs that a handler starts would
            # inherit that.
            signal.signal(number, lambda *_: None)
        self._messages: SimpleQueue[list[bytes]] = SimpleQueue()
        self._sending = threading.Lock()
        self._pid = os.getpid()
        self._runner: asyncio.Runner | None = None
        self._coroutine: asyncio.Task[Any] | None = None
        self._tasks = 0
        self.cancelled = False
        threading.Thread(target=self._listen, name="rowlock parent", daemon=True).start()

    # What the parent says.

    def _listen(self) -> None:
        inbox = Inbox()
        while data := os.read(self._input, 1 << 16):
            for message in inbox.feed(data):
                if message[0] == b"cancel":
                    self._cancel()
                else:
                    self._messages.put(message)
        self._orphaned()

    def _orphaned(self) -> NoReturn:
        if sys.platform != "win32":
            # With all that the handler has started: nobody waits for it any more.
            os.killpg(self._pid, signal.SIGKILL)
        os._exit(1)

    def _cancel(self) -> None:
        self.cancelled = True
        coroutine = self._coroutine
        if coroutine is not None:
            with suppress(RuntimeError):  # its loop is closed
                coroutine.get_loop().call_soon_threadsafe(coroutine.cancel)

    def _send(self, *parts: bytes) -> None:
        data = memoryview(pack(*parts))
        with self._sending:
            while data:
                try:
                    data = data[os.write(self._output, data) :]
                except BrokenPipeError:
                    self._orphaned()

    # The life of a worker.

    def serve(self) -> NoReturn:
        """Start, run tasks, stop."""
        try:
            self._set_up(json.loads(self._messages.get()[1]))
            self._hook(self._handler.initialise)
        except BaseException as error:
            self._send(b"failed", describe(error, "initialise", Limits()).encode())
            self._exit(1)
        self._send(b"ready")
        while (message := self._messages.get())[0] == b"run":
            self._run(*message[1:])
        try:
            self._hook(self._handler.shutdown)
        except BaseException as error:
            self._send(b"failed", describe(error, self._handler.source, self._limits).encode())
        else:
            self._send(b"stopped")
        self._exit(0)

    def _exit(self, code: int) -> NoReturn:
        if self._runner is not None:
            with suppress(BaseException):
                self._runner.close()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        # Not `sys.exit`, which would wait for the threads that handlers have left behind.
        os._exit(code)

    def _set_up(self, setup: dict[str, Any]) -> None:
        _die_with_parent()
        if (stdout := setup["stdout"]) is not None:
            os.dup2(stdout, 1)
            os.close(stdout)
        self._limits = Limits(**setup["limits"])
        self._cwd = os.getcwd()
        options = HandlerOptions(**setup["options"])
        token = importing.set(True)
        try:
            if setup["main"]:
                from multiprocessing import spawn

                # As "__mp_main__", so that what is guarded by `if __name__ == "__main__"` is not
                # run again.
                spawn.prepare(setup["main"])
            self._handler = Handler.resolve(
                setup["task_type"], setup["module"], setup["method"], options
            )
        finally:
            importing.reset(token)

    def _hook(self, function: Callable[[], Any] | None) -> None:
        if function is None:
            return
        try:
            answer = function()
            if inspect.iscoroutine(answer):
                self._in_loop(answer, contextvars.copy_context())
        finally:
            self._end_fork()

    def _end_fork(self) -> None:
        # What forks in a handler and returns comes out here twice.
        if os.getpid() != self._pid:
            os._exit(0)

    def _in_loop(self, coroutine: Any, context: contextvars.Context) -> Any:
        # One loop for the whole life, so that what the `initialise_method` opens can be used.
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(coroutine, context=context)

    # One task.

    def report(self, progress: str) -> None:
        """Send a progress to the parent."""
        self._send(b"progress", progress.encode())

    def _run(self, id: bytes, type: bytes, attempt: bytes, payload: bytes, progress: bytes) -> None:
        self.cancelled = False
        self._tasks += 1
        error: BaseException | None = None
        try:
            running = RunningTask(
                id.decode(),
                type.decode(),
                int(attempt),
                loads(payload.decode()) if payload else None,
                progress.decode() if progress else None,
                self,
                self._limits,
            )
            result = self._call(running)
        except BaseException as caught:
            # A handler that exits fails its attempt; it does not take a message with it.
            error = caught
            ending = raised(caught, self._handler.source, self._limits)
        else:
            ending = returned(result, self._handler.source, self._limits)
        self._end_fork()
        with suppress(OSError):
            os.chdir(self._cwd)
        self._send(b"ended", *_texts(ending), b"" if ending.retry else b"final", self._wear(error))

    def _call(self, running: RunningTask) -> Any:
        handler = self._handler
        arguments = (running.payload,) if handler.takes_payload else ()
        context = contextvars.copy_context()
        context.run(running_task.set, running)
        if not handler.is_async:
            return context.run(handler.function, *arguments)
        return self._in_loop(self._cancellable(handler.function, arguments), context)

    async def _cancellable(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        self._coroutine = asyncio.current_task()
        try:
            if self.cancelled:
                raise asyncio.CancelledError
            return await function(*arguments)
        finally:
            self._coroutine = None

    def _wear(self, error: BaseException | None) -> bytes:
        options = self._handler.options
        worn = (
            # Who exits or has no memory left may have left anything half-done.
            isinstance(error, SystemExit | KeyboardInterrupt | MemoryError)
            or (
                options.max_tasks_per_worker is not None
                and self._tasks >= options.max_tasks_per_worker
            )
            or (options.max_memory is not None and _resident_bytes() > options.max_memory)
        )
        return b"worn" if worn else b""


def _texts(ending: Ending) -> tuple[bytes, bytes]:
    return (ending.result or "").encode(), (ending.error or "").encode()


def _die_with_parent() -> None:
    # The thread that waits for the parent's end cannot run while a handler holds the
    # interpreter's lock; the kernel can.
    if sys.platform != "linux":
        return
    with suppress(Exception):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _resident_bytes() -> int:
    if sys.platform == "linux":
        # Not `ru_maxrss`, which begins with what the parent had.
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
