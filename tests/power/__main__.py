"""Break rowlock on purpose, variant by variant, and see which test finds it.

    python -m tests.power [NAME …]

Each variant is a change of the code in a temporary copy of it. Names are parts of those of the
variants. The exit status is 1 if a variant survives.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.power.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
_COPIED = ("src", "tests", "migrations", "pyproject.toml")
_FAILED = re.compile(r"^FAILED (?:.*::)?(\S+)", re.MULTILINE)
_PYTEST = (sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider")
_TESTS_FAILED = 1
# What every mutant can do: one that is not even that is no fault that anybody could overlook.
_USUAL = (
    "tests/store/test_store.py::test_the_same_write_in_time_is_accepted",
    "tests/store/test_store.py::test_what_a_claim_writes",
    "tests/scheduling/test_schedules.py::test_the_first_instant_is_an_interval_from_now_or_the_one_given",
)


def broken(mutant: Mutant, directory: Path) -> None:
    """Copy the code, with the mutant's changes."""
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", ".*")
            shutil.copytree(source, directory / name, ignore=ignored)
        else:
            shutil.copy(source, directory / name)
    for name, there, instead in mutant.edits:
        path = directory / name
        text = path.read_text()
        if text.count(there) != 1:
            raise SystemExit(f"{mutant.name}: is {text.count(there)} times in {name}:\n{there}")
        path.write_text(text.replace(there, instead))


def killers(mutant: Mutant) -> list[str]:
    """Return the tests that fail on it."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        broken(mutant, directory)
        done = subprocess.run(
            [*_PYTEST, *_USUAL, *mutant.killers],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(directory / "src")},
            capture_output=True,
            text=True,
        )
    failed = _FAILED.findall(done.stdout)
    usual = [each.partition("::")[2] for each in _USUAL]
    if done.returncode not in (0, _TESTS_FAILED) or any(
        test.partition("[")[0] in usual for test in failed
    ):
        raise SystemExit(f"{mutant.name}: breaks everything\n{done.stdout}")
    return failed


def main(wanted: list[str]) -> int:
    """Try the mutants; print a table."""
    survived = 0
    chosen = [
        mutant for mutant in MUTANTS if not wanted or any(part in mutant.name for part in wanted)
    ]
    for mutant in chosen:
        began = time.monotonic()
        failed = killers(mutant)
        survived += not failed
        more = f" and {len(failed) - 1} more" if failed[1:] else ""
        result = f"killed by {failed[0]}{more}" if failed else "SURVIVED"
        seconds = time.monotonic() - began
        print(f"{mutant.name:<72} {result}  ({seconds:.0f} s)", flush=True)
    print(f"{len(chosen) - survived} of {len(chosen)} killed")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
