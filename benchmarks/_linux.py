"""What Linux says of a process."""

from __future__ import annotations

import os
from pathlib import Path


def memory(pid: int, name: str = "VmRSS") -> float:
    """Return resident memory in MiB: `VmRSS` now, `VmHWM` at its highest."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) / 1024
    raise SystemExit(f"process {pid} has no {name}")


def cpu_seconds(pid: int) -> float:
    """Return the time that all threads of a process have run, in user and system mode."""
    # The name of the program may contain anything; what follows it may not.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
