"""The README's code runs, in its order, in one folder."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

from rowlock import TaskProgress, TaskQueue, TaskStatus
from tests.support.helpers import eventually

README = Path(__file__).parents[2] / "README.md"


def test_every_python_block_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text("utf-8"), re.M | re.S)
    assert len(blocks) >= 3
    run(tmp_path, "-m", "rowlock", "db", "upgrade", "--database", "sqlite:///tasks.db")
    outputs = []
    for number, block in enumerate(blocks):
        name = block.split("\n", 1)[0].removeprefix("# ") if block.startswith("# ") else ""
        file = tmp_path / (name if name.endswith(".py") else f"example_{number}.py")
        file.write_text(block, "utf-8")
        outputs.append(run(tmp_path, str(file)))
    assert '"location": "s3://tenant-a/images/hero.webp"' in outputs[0]
    assert outputs[1].strip() == "1002"
    assert outputs[3].startswith("due at ") or "\ndue at " in outputs[3]
    assert '"daily-sync":[{"nextTriggerTime":' in outputs[3]


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_the_worker_of_the_readme_runs_its_tasks(tmp_path: Path) -> None:
    (block,) = re.findall(
        r"^```python\n# workers.py\n(.*?)^```", README.read_text("utf-8"), re.M | re.S
    )
    (tmp_path / "workers.py").write_text(block, "utf-8")
    run(tmp_path, "-m", "rowlock", "db", "upgrade", "--database", "sqlite:///tasks.db")
    with subprocess.Popen(
        [sys.executable, "-m", "rowlock", "worker", "workers:queue"], cwd=tmp_path
    ) as process:
        try:
            async with TaskQueue(f"sqlite:///{tmp_path / 'tasks.db'}") as queue:
                task_id = await queue.create("report", {"month": "2026-03"}, retain_for=-1)

                async def succeeded() -> bool:
                    task = await queue.get(task_id)
                    return task is not None and task.status is TaskStatus.SUCCESS

                await eventually(succeeded, timeout=30)
                task = await queue.get(task_id)
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 0
    assert task is not None
    assert task.result == "report of 2026-03"
    assert task.progress == TaskProgress(value=1.0, message="day 31", checkpoint=31)
