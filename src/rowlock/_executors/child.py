"""The main program of a worker process. Its parent, see `in_process`, sends it what to run."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import Context, copy_context
from datetime import datetime
from queue import SimpleQueue
from typing import Any, NoReturn, cast

from rowlock._endings import describe
from rowlock._executors.calling import call, own_context, prepare, result_of
from rowlock._executors.context import RunningTask, importing, running_task
from rowlock._executors.handler import Handler
from rowlock._executors.logs import forward
from rowlock._executors.messages import (
    BEGUN,
    CANCEL,
    ENDED,
    FAILED,
    LOG,
    PROGRESS,
    READY,
    RUN,
    STOPPED,
    Inbox,
    Run,
    Setup,
    decode_run,
    encode_ended,
    pack,
)
from rowlock._executors.results import Results
from rowlock.errors import LeaseLostError
from rowlock.models import HandlerOptions, SizeLimits

# A lock does not go to who waits longest: a flood of records would keep it.
_YIELD = 0.0005


def main() -> NoReturn:
    """Serve the parent until it says stop, or has gone."""
    Child().serve()


class Child:
    """One worker process."""

    def __init__(self) -> None:
        # The handler may print, read its standard input, or close both.
        self._input = os.dup(0)
        self._output = os.dup(1)
        self._pipe = os.fstat(self._output)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        for number in (signal.SIGINT, signal.SIGTERM):
            # The parent decides when it ends. Not ignored: programs that a handler starts would
            # inherit that.
            signal.signal(number, lambda *_: None)
        self._messages: SimpleQueue[list[bytes] | _Run] = SimpleQueue()
        self._sending = threading.Lock()
        # The threads that want it, or have it, for anything but records, which come after that.
        self._senders: set[int] = set()
        self._records: SimpleQueue[tuple[bytes, threading.Lock]] = SimpleQueue()
        self._pid = os.getpid()
        self._runner: asyncio.Runner | None = None
        self._tasks = 0
        # What the `initialise_method` sets in it each run finds in a copy of its own.
        self._context = copy_context()
        # Runs are made where messages are read: a cancel that follows at once meets its own.
        self._newest: _Run | None = None
        threading.Thread(target=self._listen, name="rowlock parent", daemon=True).start()
        self._recorder = threading.Thread(
            target=self._send_records, name="rowlock log", daemon=True
        )
        self._recorder.start()

    # What the parent says.

    def _listen(self) -> None:
        inbox = Inbox()
        while data := os.read(self._input, 1 << 16):
            for kind, *parts in inbox.feed(data):
                if kind == RUN:
                    self._newest = _Run(self, parts)
                    self._messages.put(self._newest)
                elif kind == CANCEL:
                    if self._newest is not None:
                        self._newest.cancel()
                else:
                    self._messages.put(parts)
        self._orphaned()

    def _orphaned(self) -> NoReturn:
        if sys.platform != "win32":
            # With all that the handler has started: nobody waits for it any more.
            os.killpg(self._pid, signal.SIGKILL)
        os._exit(1)

    def send(self, run: _Run | None, kind: bytes, *parts: bytes) -> None:
        """Send a message; a run's only while it has not ended.

        Raises:
            LeaseLostError: if the run has ended.
        """
        sender = threading.get_ident()
        self._senders.add(sender)
        try:
            with self._sending:
                if run is not None:
                    run.check()
                    run.ended = kind == ENDED
                self._write(pack(kind, *parts))
        finally:
            self._senders.discard(sender)

    def _write(self, message: bytes) -> None:
        data = memoryview(message)
        if not os.path.samestat(os.fstat(self._output), self._pipe):
            # The handler has closed what was not its own, and opened a file in its place.
            os._exit(1)
        while data:
            try:
                data = data[os.write(self._output, data) :]
            except BrokenPipeError:
                self._orphaned()

    # What is logged.

    def log(self, record: bytes) -> None:
        """Send a record before its thread goes on: it may be the last that is heard of it.

        Another thread sends it, which no signal handler of the application interrupts half-way,
        as it would the main thread.
        """
        written = threading.Lock()
        written.acquire()
        self._records.put((record, written))
        thread = threading.get_ident()
        # Not in a signal handler amid `send`, nor where the recorder collects garbage that logs.
        if thread not in self._senders and thread != self._recorder.ident:
            written.acquire()

    def _send_records(self) -> None:
        while True:
            record, written = self._records.get()
            while self._senders:
                time.sleep(_YIELD)
            try:
                with self._sending:
                    self._write(pack(LOG, record))
            except OSError:
                os._exit(1)
            written.release()

    def _task(self) -> dict[str, Any]:
        # A thread that a handler has started has no context of its own: it belongs to what runs.
        run = self._newest
        task = running_task.get(None) or (run.task if run is not None and not run.ended else None)
        return {} if task is None else {"task_id": task.id, "attempt": task.attempt}

    # The life of a worker.

    def serve(self) -> NoReturn:
        """Start, run tasks, stop."""
        try:
            (setup,) = cast(list[bytes], self._messages.get())
            self._set_up(json.loads(setup))
            self._hook(self._handler.initialise)
        except BaseException as error:
            self._fail(error, SizeLimits())
            self._exit(1)
        self.send(None, READY, b"%d" % self._pid)
        while isinstance(run := self._messages.get(), _Run):
            self._run(run)
        try:
            self._hook(self._handler.shutdown)
        except BaseException as error:
            self._fail(error, self._limits)
        else:
            self.send(None, STOPPED)
        self._exit(0)

    def _fail(self, error: BaseException, limits: SizeLimits) -> None:
        self.send(None, FAILED, describe(error, "rowlock", limits).encode())

    def _exit(self, code: int) -> NoReturn:
        if self._runner is not None:
            with suppress(BaseException):
                self._runner.close()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        # Not `sys.exit`, which would wait for the threads that handlers have left behind.
        os._exit(code)

    def _set_up(self, setup: Setup) -> None:
        if (stdout := setup["stdout"]) is not None:
            os.dup2(stdout, 1)
            os.close(stdout)
        sys.argv[:] = setup["argv"]
        forward(setup["logging"], setup["task_type"], self._task, self.log)
        self._limits = SizeLimits(**setup["limits"])
        self._cwd = os.getcwd()
        options = HandlerOptions(**setup["options"])
        token = importing.set(True)
        try:
            if setup["main_path"] is not None:
                from multiprocessing import spawn

                # As "__mp_main__", so that what is guarded by `if __name__ == "__main__"` is not
                # run again.
                spawn.prepare({"init_main_from_path": setup["main_path"]})
            self._handler = Handler.resolve(
                setup["task_type"], setup["module"], setup["method"], options
            )
        finally:
            importing.reset(token)
        self._results = Results(self._handler, self._limits)

    def _hook(self, function: Callable[[], Any] | None) -> None:
        if function is None:
            return
        try:
            call(self._context, function, await_in_loop=self._await)
        finally:
            self._end_fork()

    def _end_fork(self) -> None:
        # What forks in a handler and returns comes out here twice.
        if os.getpid() != self._pid:
            os._exit(0)

    def _await(self, answer: Awaitable[Any], context: Context) -> Any:
        return self._in_loop(result_of(answer), context)

    def _in_loop(self, coroutine: Coroutine[Any, Any, Any], context: Context) -> Any:
        # One loop for the whole life, so that what the `initialise_method` opens can be used.
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(coroutine, context=context)

    # One task.

    def _run(self, run: _Run) -> None:
        self.send(run, BEGUN)
        self._tasks += 1
        error: BaseException | None = None
        try:
            result = self._call(run)
        except BaseException as caught:
            # A handler that exits fails its attempt; it does not take a message with it.
            error = caught
            ending = self._results.raised(caught)
        else:
            ending = self._results.returned(result)
        self._end_fork()
        with suppress(OSError):
            os.chdir(self._cwd)
        used_up = self._is_used_up(error)
        self.send(run, ENDED, *encode_ended(ending, needs_replacement=used_up))

    def _call(self, run: _Run) -> Any:
        handler = self._handler
        run.task, arguments = prepare(handler, run.read(), run, self._limits)
        context = own_context(self._context, run.task)
        if handler.is_async:
            return self._in_loop(run.cancellable(handler.function, *arguments), context)
        return call(
            context,
            handler.function,
            *arguments,
            await_in_loop=lambda answer, own: self._in_loop(
                run.cancellable(result_of, answer), own
            ),
        )

    def _is_used_up(self, error: BaseException | None) -> bool:
        options = self._handler.options
        return (
            # Who exits or has no memory left may have left anything half-done.
            issubclass(type(error), SystemExit | KeyboardInterrupt | MemoryError)
            or (
                options.max_tasks_per_worker is not None
                and self._tasks >= options.max_tasks_per_worker
            )
            or (options.max_memory is not None and _resident_bytes() > options.max_memory)
        )


class _Run:
    """A task that the parent has sent, and the link of its handler to the parent."""

    def __init__(self, child: Child, parts: list[bytes]) -> None:
        self.cancelled = False
        self.ended = False
        self.task: RunningTask | None = None
        self.scheduled_for: datetime | None = None
        self._child = child
        self._parts = parts
        self._coroutine: asyncio.Task[Any] | None = None

    def read(self) -> Run:
        """Return what the message says."""
        message = decode_run(self._parts)
        self.scheduled_for = message.scheduled_for
        return message

    def check(self) -> None:
        """Raise LeaseLostError if it has ended."""
        if self.ended and self.task is not None:
            raise LeaseLostError(f"the handler of task {self.task.id} has ended")

    def report(self, progress: str) -> None:
        self._child.send(self, PROGRESS, progress.encode())

    def cancel(self) -> None:
        """Tell the handler. Called by the thread that reads."""
        self.cancelled = True
        coroutine = self._coroutine
        if coroutine is not None:
            with suppress(RuntimeError):  # its loop is closed
                coroutine.get_loop().call_soon_threadsafe(coroutine.cancel)

    async def cancellable(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call an `async def`, unless it is cancelled already."""
        self._coroutine = asyncio.current_task()
        try:
            if self.cancelled:
                raise asyncio.CancelledError
            return await function(*arguments)
        finally:
            self._coroutine = None


def _resident_bytes() -> int:
    if sys.platform == "linux":
        # Not `ru_maxrss`, which begins with what the parent had.
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
