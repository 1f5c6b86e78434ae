"""Documented usage is right to mypy and pyright, in their strict modes and without plugins."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

import rowlock
from rowlock import HandlerOptions, ScheduledTaskTime, models, schedule_models

ROOT = Path(__file__).parents[2]
SOURCE = Path(rowlock.__file__).parent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def usage(tmp_path: Path) -> Path:
    """A folder with the usages and the README's code, and nothing that says how to check it."""
    folder = tmp_path / "usage"
    folder.mkdir()
    shutil.copy(ROOT / "tests/support/typed_usage.py", folder)
    readme = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", readme, re.M | re.S)
    assert len(blocks) >= 3
    for number, block in enumerate(blocks):
        (folder / f"readme_{number}.py").write_text(block, "utf-8")
    return folder


def mypy(folder: Path, cache: Path) -> list[str]:
    (folder / "none.ini").write_text("[mypy]\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file", "none.ini"),
            *("--cache-dir", str(cache), "--follow-imports", "silent", "--no-error-summary"),
            *sorted(path.name for path in folder.glob("*.py")),
        ],
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(SOURCE.parent) if in_tree() else ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout.splitlines()


def pyright(folder: Path) -> list[str]:
    settings = {"typeCheckingMode": "strict", "include": ["*.py"]}
    if in_tree():
        settings["extraPaths"] = [str(SOURCE.parent)]
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == len(list(folder.glob("*.py")))
    return [
        f"{Path(found['file']).name}:{found['range']['start']['line'] + 1}: {found['message']}"
        for found in report["generalDiagnostics"]
    ]


def in_tree() -> bool:
    return "site-packages" not in SOURCE.parts


def test_mypy(usage: Path, pytestconfig: pytest.Config) -> None:
    """Fails where a timedelta is no duration, or a status is no key of `counts`, to a checker."""
    cache = pytestconfig.cache
    assert cache is not None
    folder = cache.mkdir("mypy_usage")
    assert mypy(usage, folder) == []
    # It does look: without this the line above proves nothing.
    (usage / "wrong.py").write_text(WRONG)
    assert wrong(mypy(usage, folder)) == WRONG_LINES


def test_pyright(usage: Path) -> None:
    """Fails as the one above, and where what a user gets is of a type that is partly unknown."""
    assert pyright(usage) == []
    (usage / "wrong.py").write_text(WRONG)
    assert wrong(pyright(usage)) == WRONG_LINES


WRONG = """\
from rowlock import HandlerOptions, ScheduledTaskTime, TaskQueue


async def use(queue: TaskQueue) -> None:
    HandlerOptions(timeout="5 s")  # wrong
    HandlerOptions(executor="fork")  # wrong
    HandlerOptions(time_out=5)  # wrong
    ScheduledTaskTime(next_trigger_time="now")  # wrong
    await queue.create("t", retry_cuont=5)  # wrong
    await queue.create("t", delay=1.5)  # wrong
    (await queue.get("x")).id  # wrong
    (await queue.counts())[5]  # wrong
"""
WRONG_LINES = {
    number for number, line in enumerate(WRONG.splitlines(), 1) if line.endswith("# wrong")
}


def wrong(found: list[str]) -> set[int]:
    """The lines of `wrong.py` that something was found in."""
    return {int(line.split(":")[1]) for line in found if line.startswith("wrong.py:")}


@pytest.mark.parametrize("model", [HandlerOptions, ScheduledTaskTime])
def test_what_checkers_are_told_is_what_the_model_takes(model: type[BaseModel]) -> None:
    """Fails where a field is added to the model, and not to the signature beside it."""
    (parts,) = [
        node
        for module in (models, schedule_models)
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.ClassDef) and node.name == model.__name__
    ]
    (init,) = [
        node
        for node in ast.walk(parts)
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    ]
    told = {
        argument.arg: ast.literal_eval(default)
        for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True)
        if default is not None
    }
    assert told == {name: field.default for name, field in model.model_fields.items()}
