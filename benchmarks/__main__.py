"""Run a benchmark from the root of the checkout: `python -m benchmarks drain`."""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import rowlock
from benchmarks import (
    backlog,
    cost,
    drain,
    field,
    growth,
    latency,
    processes,
    schedules,
    steady,
    walk,
)
from benchmarks._databases import describe, servers
from benchmarks._report import Report

# Each takes a server and returns whether all that it checks held.
Benchmark = Callable[[str, argparse.Namespace, Report], bool]

_BENCHMARKS: dict[str, Benchmark] = {
    "backlog": backlog.run,
    "cost": cost.run,
    "drain": drain.run,
    "field": field.run,
    "growth": growth.run,
    "latency": latency.run,
    "processes": processes.run,
    "schedules": schedules.run,
    "steady": steady.run,
    "walk": walk.run,
}


def main() -> int:
    arguments = _parser().parse_args()
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}")
    _compile()
    report = Report()
    good = True
    with servers(arguments.database, arguments.only) as found:
        for server in found:
            print(f"\n{arguments.benchmark}: {describe(server)}", flush=True)
            good = _BENCHMARKS[arguments.benchmark](server, arguments, report) and good
    if arguments.json is not None:
        text = json.dumps(report.results, indent=2)
        if str(arguments.json) == "-":
            print(text)
        else:
            arguments.json.write_text(f"{text}\n")
    return 0 if good else 1


def _compile() -> None:
    # Each process would else compile rowlock anew where Python is told not to write byte code,
    # which installed libraries come with.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for file in (rowlock.__file__, __file__):
        compileall.compile_dir(Path(file).parent, quiet=1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--database",
        metavar="URL",
        help="a PostgreSQL server on which databases may be created; by default that of the "
        "tests, but with fsync",
    )
    common.add_argument("--only", choices=("postgresql", "sqlite"))
    common.add_argument("--json", metavar="FILE", type=Path, help="write results; - prints them")
    commands = parser.add_subparsers(dest="benchmark", required=True)

    command = commands.add_parser("backlog", parents=[common], help="beside millions of rows")
    command.add_argument("--pending", type=int, default=1_000_000)
    command.add_argument("--retained", type=int, default=5_000_000)
    command.add_argument("--tasks", type=int, default=20_000, help="to drain; and 5,000")
    command.add_argument("--rounds", type=int, default=3, help="of drains, after one to warm up")
    command.add_argument("--page", type=int, default=10_000, help="to compare with the first")
    command.add_argument("--limit", type=int, default=40, help="of a page")
    command.add_argument("--reads", type=int, default=30, help="of each page")

    command = commands.add_parser("cost", parents=[common], help="a worker with nothing to do")
    command.add_argument("--seconds", type=float, default=60, help="to watch it")
    command.add_argument("--tasks", type=int, default=50_000, help="to drain for its memory")
    command.add_argument("--rounds", type=int, default=11, help="of imports")

    command = commands.add_parser("drain", parents=[common], help="throughput against the driver")
    command.add_argument("--tasks", type=int, default=20_000)
    command.add_argument("--rounds", type=int, default=3, help="after one to warm up")
    command.add_argument("--profile", action="store_true", help="instead, cProfile one drain")

    command = commands.add_parser("field", parents=[common], help="other queues, side by side")
    command.add_argument("--modes", type=_words, metavar="MODE,…", help=", ".join(field.MODES))
    command.add_argument(
        "--peers", type=_words, metavar="NAME,…", help="modules of benchmarks.peers"
    )
    command.add_argument("--rounds", type=int, default=3)
    command.add_argument(
        "--tasks", type=int, default=field.TASKS, help="of a drain; others in proportion"
    )
    command.add_argument("--no-statistics", action="store_true", help="do not ANALYZE a backlog")

    command = commands.add_parser("growth", parents=[common], help="of rows, types, payloads")
    command.add_argument("--tasks", type=int, default=10_000)
    command.add_argument("--rounds", type=int, default=3)

    command = commands.add_parser("latency", parents=[common], help="from create to the handler")
    command.add_argument("--times", type=int, default=200)

    command = commands.add_parser("processes", parents=[common], help="handlers in processes")
    command.add_argument("--digests", type=int, default=200)
    command.add_argument("--tasks", type=int, default=10_000)
    command.add_argument("--workers", type=int, default=2)
    command.add_argument("--rounds", type=int, default=3)

    command = commands.add_parser("schedules", parents=[common], help="what triggers by the clock")
    command.add_argument("--seconds", type=float, default=60, help="to watch an idle node")
    command.add_argument("--rounds", type=int, default=3, help="of a thousand due at once")
    command.add_argument("--times", type=int, default=30, help="of one schedule every second")

    command = commands.add_parser("steady", parents=[common], help="with a transaction open")
    command.add_argument("--minutes", type=int, default=10)
    command.add_argument("--rate", type=int, default=1000, help="tasks created in a second")
    command.add_argument("--no-transaction", action="store_true", help="leave none open")

    command = commands.add_parser("walk", parents=[common], help="pages while tasks change")
    command.add_argument("--tasks", type=int, default=20_000)
    command.add_argument("--limit", type=int, default=100)
    return parser


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
