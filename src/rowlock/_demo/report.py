"""What the demo shows: its progress, and what became of the files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from rowlock._demo.files import Verdict
from rowlock.models import Task, TaskStatus

_SHOWN_PROBLEMS = 10


@dataclass(slots=True)
class Kill:
    worker: int
    process: int
    seconds: float
    done: int
    held: set[str]


@dataclass(slots=True)
class Run:
    tasks: list[Task] = field(default_factory=list)
    seconds: float = 0.0
    kill: Kill | None = None


class Lines:
    """Progress for a log: a line for each quarter."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._quarters = 0

    def __call__(self, done: int) -> None:
        quarters = 4 * done // self._total
        if quarters > self._quarters:
            self._quarters = quarters
            self._console.print(f"{done:,} of {self._total:,} tasks done")


class Bar:
    """Progress for a terminal."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("tasks", total=total)

    def __call__(self, done: int) -> None:
        self._progress.update(self._task, completed=done)


@contextmanager
def display(console: Console, total: int) -> Iterator[Lines | Bar]:
    if not console.is_terminal:
        yield Lines(console, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield Bar(progress, total)


def report(console: Console, folder: Path, run: Run, verdict: Verdict) -> None:
    console.print(_summary(run))
    console.print(_slowest(folder, run.tasks))
    for problem in verdict.problems[:_SHOWN_PROBLEMS]:
        console.print(f"WRONG: {problem}", markup=False)
    if len(verdict.problems) > _SHOWN_PROBLEMS:
        console.print(f"… and {len(verdict.problems) - _SHOWN_PROBLEMS:,} more")
    if verdict.changed:
        console.print(f"{len(verdict.changed):,} files changed during the run: not compared")
    total = verdict.equal + len(verdict.changed) + len(verdict.problems)
    outcome = "FAILED" if verdict.problems else "passed"
    console.print(
        f"check {outcome}: {verdict.equal:,} of {total:,} files have exactly one result, "
        "equal to the one computed directly"
    )


def _summary(run: Run) -> Table:
    table = Table(title="rowlock demo", title_justify="left", show_header=False)
    table.add_column(min_width=38)
    table.add_column(justify="right")
    counts = Counter(task.status for task in run.tasks)
    for status in TaskStatus:
        table.add_row(f"status {status}", f"{counts[status]:,}")
    table.add_section()
    again = {task.id for task in run.tasks if task.attempt > 1}
    table.add_row("given to another worker (attempt > 1)", f"{len(again):,}")
    if run.kill is None:
        table.add_row("killed worker", "none: the run was too short")
    else:
        table.add_row("of these, held by the killed worker", f"{len(again & run.kill.held):,}")
        table.add_row("killed worker", f"worker {run.kill.worker}, process {run.kill.process}")
        table.add_row("killed after", f"{run.kill.seconds:.2f} s, {run.kill.done:,} done")
    table.add_section()
    if run.kill is not None:
        rate = run.kill.done / run.kill.seconds
        table.add_row("throughput until the kill", f"{rate:,.0f} tasks/s")
    rate = len(run.tasks) / run.seconds
    table.add_row("throughput, with the wait for the lease", f"{rate:,.0f} tasks/s")
    table.add_row("whole run", f"{run.seconds:.2f} s")
    return table


def _slowest(folder: Path, tasks: Sequence[Task]) -> Table:
    table = Table(title="the five slowest files", title_justify="left")
    for heading in ("ms", "bytes", "lines"):
        table.add_column(heading, justify="right")
    table.add_column("file", overflow="fold")
    measured = [task for task in tasks if task.status is TaskStatus.SUCCESS]
    measured.sort(key=lambda task: float(task.result["milliseconds"]), reverse=True)
    for task in measured[:5]:
        result = task.result
        table.add_row(
            f"{result['milliseconds']:.1f}",
            f"{result['size']:,}",
            f"{result['lines']:,}",
            os.path.relpath(task.payload["path"], folder).replace("[", r"\["),
        )
    return table
