"""The README's code runs, in its order, in one folder."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


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


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
