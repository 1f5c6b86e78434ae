"""Log records of a worker process: taken there, sent as JSON, and handled by its parent."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

# How many characters of a message, a traceback, or a field of the application are sent.
MOST: Final = 32_768

_PLAIN: Final = (str, int, float, bool, type(None))
_OWN: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_SENT: Final = (
    "name",
    "levelno",
    "pathname",
    "filename",
    "module",
    "lineno",
    "funcName",
    "created",
    "msecs",
    "thread",
    "threadName",
    "process",
    "taskName",
)


# In the parent.


def settings() -> dict[str, Any]:
    """Return the levels that are set in this process, "" for the root, and what is disabled."""
    loggers = list(logging.root.manager.loggerDict.items())
    levels = {
        name: logger.level
        for name, logger in loggers
        if isinstance(logger, logging.Logger) and logger.level
    }
    return {"levels": {**levels, "": logging.root.level}, "disable": logging.root.manager.disable}


def handle(data: bytes) -> None:
    """Give a record of a worker process to the logger of its name, unless that is set higher."""
    try:
        fields = json.loads(data)
        logger = logging.getLogger(fields["name"])
        if logger.isEnabledFor(fields["levelno"]):
            if isinstance(fields["args"], list):
                fields["args"] = tuple(fields["args"])
            fields["levelname"] = logging.getLevelName(fields["levelno"])
            logger.handle(logging.makeLogRecord(fields))
    except Exception:
        # A filter of the application, which would have raised in its own code.
        if logging.raiseExceptions and sys.stderr is not None:
            traceback.print_exc()


# In the worker process.


def forward(
    settings: Mapping[str, Any],
    task_type: str,
    task: Callable[[], Mapping[str, Any]],
    send: Callable[[bytes], None],
) -> None:
    """Send all records of this process to its parent, which has given its `settings`.

    A root logger that gets handlers of its own is left to them: who sets up logging in the
    process, in its `initialise_method` or as the module is imported, wants its records there.

    Args:
        settings: the levels of the parent.
        task_type: what the process runs.
        task: returns the fields of the task that runs.
        send: sends one.
    """
    logging.disable(settings["disable"])
    for name, level in settings["levels"].items():
        logging.getLogger(name).setLevel(level)
    logging.root.handlers = _Handlers(_Forward(task_type, task, send))


class _Handlers(list[logging.Handler]):
    """No handlers, as `basicConfig` sees it, and one for who has a record."""

    def __init__(self, instead: logging.Handler) -> None:
        super().__init__()
        self._instead = instead

    def __iter__(self) -> Iterator[logging.Handler]:
        return super().__iter__() if self else iter((self._instead,))


class _Forward(logging.Handler):
    def __init__(
        self,
        task_type: str,
        task: Callable[[], Mapping[str, Any]],
        send: Callable[[bytes], None],
    ) -> None:
        super().__init__()
        self._type = task_type
        self._task = task
        self._send = send
        self._pid = os.getpid()

    def handle(self, record: logging.LogRecord) -> bool:
        # Without the lock: who has it waits for the thread that sends, in which the garbage
        # collector may run something that logs, too.
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        if os.getpid() != self._pid:
            # A handler has forked: the pipe is not for two.
            if logging.lastResort is not None and record.levelno >= logging.lastResort.level:
                logging.lastResort.handle(record)
            return
        try:
            data = encode(record, self._type, self._task())
        except Exception:
            self.handleError(record)
        else:
            # What is raised here comes from a signal handler, and is meant for the code that logs.
            self._send(data)


def encode(record: logging.LogRecord, task_type: str, task: Mapping[str, Any]) -> bytes:
    """Return a record as JSON of a bounded size.

    Args:
        record: of a logger of this process.
        task_type: what the process runs.
        task: more fields of the task; those that the application has given count more.
    """
    message = record.getMessage()
    msg, args = record.msg, record.args
    if type(msg) is not str or not _is_plain(args) or len(message) + len(msg) > MOST:
        msg, args = _cut(message), None
    fields: dict[str, Any] = {
        "task_id": None,
        "task_type": task_type,
        "attempt": None,
        **task,
        **{name: getattr(record, name, None) for name in _SENT},
        "processName": f"rowlock {task_type}",
        "msg": msg,
        "args": args,
        "exc_text": _exception(record),
        "stack_info": record.stack_info and _cut(record.stack_info),
    }
    left = MOST
    for name, value in record.__dict__.items():
        if name not in _OWN and left > 0:
            fields[name], length = _field(value, left)
            left -= length
    return json.dumps(fields).encode()


def _exception(record: logging.LogRecord) -> str | None:
    text = record.exc_text
    if record.exc_info and not text:
        text = logging.Formatter().formatException(record.exc_info)
    return text and _cut(text)


def _is_plain(args: Any) -> bool:
    values = args.values() if type(args) is dict else args or ()
    length = 0
    for value in values:
        if type(value) not in _PLAIN:
            return False
        length += len(value) if type(value) is str else 1
    return length <= MOST


def _field(value: Any, most: int) -> tuple[Any, int]:
    try:
        text = json.dumps(value)
        if len(text) <= most:
            return value, len(text)
    except Exception:
        text = repr(value)
    text = _cut(text, most)
    return text, len(text)


def _cut(text: str, most: int = MOST) -> str:
    if len(text) <= most:
        return text
    # The end of a traceback says most.
    half = most // 2
    return f"{text[:half]}\n[{len(text) - 2 * half:,} characters are left out]\n{text[-half:]}"
