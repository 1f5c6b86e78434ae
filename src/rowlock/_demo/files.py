"""The files of the demo, and what is true of them, found without the queue."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rowlock.models import Task, TaskStatus


@dataclass(frozen=True, slots=True)
class File:
    """A file as it was listed; by `version` a later change shows."""

    path: str
    version: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the check found.

    Attributes:
        equal: how many files have one result, equal to the one computed directly.
        changed: files that changed or vanished during the run, so that nothing can be said.
        problems: what is missing or different, a line for each.
    """

    equal: int
    changed: list[str]
    problems: list[str]


def find_files(folder: Path, left_out: frozenset[str] = frozenset()) -> tuple[list[File], int]:
    """List the regular files of a folder and below, without `__pycache__` and links.

    Args:
        folder: where.
        left_out: names of folders that are not entered.

    Returns:
        The files by path, and how many cannot be read or have a name that is not UTF-8.
    """
    files = []
    skipped = 0
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in left_out | {"__pycache__"}]
        for name in names:
            path = os.path.join(parent, name)
            try:
                status = os.lstat(path)
                path.encode()
            except (OSError, UnicodeEncodeError):
                skipped += 1
                continue
            if not stat.S_ISREG(status.st_mode):
                continue
            if os.access(path, os.R_OK):
                files.append(File(path, _version(status)))
            else:
                skipped += 1
    return sorted(files, key=lambda file: file.path), skipped


def _version(status: os.stat_result) -> tuple[int, int]:
    return status.st_mtime_ns, status.st_size


def directly(file: File) -> dict[str, Any] | None:
    """Compute what a task's result must be, in another way than the handler does.

    Returns:
        None if the file has changed or vanished since it was listed.
    """
    try:
        with open(file.path, "rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
            opened.seek(0)
            lines = sum(1 for _ in opened)
            status = os.fstat(opened.fileno())
    except OSError:
        return None
    if _version(status) != file.version:
        return None
    return {"size": status.st_size, "lines": lines, "sha256": digest}


def check(expected: Mapping[str, Mapping[str, Any] | None], tasks: Sequence[Task]) -> Verdict:
    """Compare the results with what was computed directly.

    Args:
        expected: by path, what the result must be; None where the file has changed meanwhile.
        tasks: every task of the run.
    """
    of_path: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        of_path[task.payload["path"]].append(task)
    problems = [f"{path}: a task without a file" for path in of_path if path not in expected]
    changed = []
    equal = 0
    for path, wanted in expected.items():
        own = of_path[path]
        if len(own) != 1:
            problems.append(f"{path}: {len(own)} tasks instead of one")
        elif wanted is None:
            changed.append(path)
        elif problem := _difference(wanted, own[0]):
            problems.append(f"{path}: {problem}")
        else:
            equal += 1
    return Verdict(equal, changed, problems)


def _difference(wanted: Mapping[str, Any], task: Task) -> str | None:
    if task.status is not TaskStatus.SUCCESS:
        reason = f" ({task.error.message})" if task.error else ""
        return f"the task is {task.status}{reason}"
    result = task.result if isinstance(task.result, dict) else {}
    differences = [
        f"{name} is {result.get(name)!r} instead of {value!r}"
        for name, value in wanted.items()
        if result.get(name) != value
    ]
    return ", ".join(differences) or None
