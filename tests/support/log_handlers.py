"""Handlers that log, each as real ones do: in a worker process, nothing of it is to be lost."""

from __future__ import annotations

import asyncio
import logging
import logging.config
import os
import signal
import threading
from pathlib import Path
from typing import Any

LOG_FILE = "ROWLOCK_TEST_LOG_FILE"

logger = logging.getLogger("tests.application")
library = logging.getLogger("tests.application.library")
library.addHandler(logging.NullHandler())
logger.info("imported")
left: list[threading.Thread] = []


class Order:
    def __str__(self) -> str:
        return "order 7"


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def logs(payload: Any) -> int:
    logger.info("plain %s, %d and %r", "text", 7, None)
    logger.warning("an object: %s", Order(), extra={"order": 7, "items": ["a"], "who": Order()})
    logger.info("a mapping: %(name)s", {"name": "x"})
    logger.info(Order())
    library.error("from a library")
    logging.getLogger().warning("from the root")
    return os.getpid()


async def logs_async(payload: Any) -> None:
    await asyncio.sleep(0)
    logger.info("async")
    await asyncio.to_thread(logger.info, "to_thread")


def wants_debug(payload: Any) -> list[bool]:
    quiet = logging.getLogger("tests.application.made.later")
    return [logger.isEnabledFor(logging.DEBUG), quiet.isEnabledFor(logging.INFO)]


def fails(payload: Any) -> None:
    try:
        try:
            raise KeyError("cause")
        except KeyError as error:
            raise ValueError("wrong") from error
    except ValueError:
        logger.exception("it failed", stack_info=True)


def huge(payload: Any) -> None:
    logger.info("%s", "x" * 5_000_000)
    logger.info("y" * 5_000_000)
    logger.info("fields", extra={"large": ["z" * 5_000_000], "small": 1})
    try:
        raise ValueError("e" * 5_000_000)
    except ValueError:
        logger.exception("an error")


def broken(payload: Any) -> str:
    logger.info("%d", "no number")
    logger.info("%s", Broken())
    logger.info("after")
    return "done"


def in_thread(payload: Any) -> None:
    thread = threading.Thread(target=logger.info, args=("from a thread",))
    thread.start()
    thread.join()


def leaves_a_thread(payload: Any) -> None:
    """Have a thread log once the file is there."""

    def log_later() -> None:
        while not os.path.exists(payload):
            threading.Event().wait(0.005)
        logger.info("long after")

    left.append(threading.Thread(target=log_later, daemon=True))
    left[-1].start()


def flood(payload: Any) -> str:
    """Have threads log without end, also after the task."""
    if not left:
        for _ in range(3):
            left.append(threading.Thread(target=_log_for_ever, daemon=True))
            left[-1].start()
    return "done"


def _log_for_ever() -> None:
    while True:
        logger.info("flood %s", "x" * 1000)


def logs_and_dies(payload: Any) -> None:
    logger.critical("last words")
    os.kill(os.getpid(), signal.SIGKILL)


class OutOfTimeError(BaseException):
    pass


def interrupted(payload: Any) -> str:
    """Be interrupted by a signal amid logging, again and again."""

    def expire(*_: Any) -> None:
        logger.info("the signal handler logs, too")
        raise OutOfTimeError

    signal.signal(signal.SIGALRM, expire)
    for _ in range(payload):
        signal.setitimer(signal.ITIMER_REAL, 0.002)
        try:
            while True:
                logger.info("%s", "y" * 20_000)
        except OutOfTimeError:
            pass
    return "done"


def forks(payload: Any) -> None:
    if (child := os.fork()) == 0:
        logger.info("in a fork")
        logger.error("in a fork")
        os._exit(0)
    os.waitpid(child, 0)
    logger.info("after the fork")


# Hooks.


def initialise() -> None:
    logger.info("initialise")


def shutdown() -> None:
    logger.info("shutdown")


def own_basic_config() -> None:
    logging.basicConfig(
        filename=os.environ[LOG_FILE], level=logging.DEBUG, format="OWN %(levelname)s %(message)s"
    )


def own_dict_config() -> None:
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"own": {"format": "OWN %(levelname)s %(message)s"}},
            "handlers": {
                "file": {
                    "class": "logging.FileHandler",
                    "filename": os.environ[LOG_FILE],
                    "formatter": "own",
                }
            },
            "root": {"level": "DEBUG", "handlers": ["file"]},
        }
    )


def own_handler() -> None:
    handler = logging.FileHandler(os.environ[LOG_FILE])
    handler.setFormatter(logging.Formatter("OWN %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)


def says(payload: Any) -> str:
    logger.info("said")
    return Path(os.environ[LOG_FILE]).read_text()
