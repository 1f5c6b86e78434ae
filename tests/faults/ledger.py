"""The ledger: what producers, handlers and callbacks saw, one JSON object a line.

Each line is one write of a file opened to append, so that many processes share it and a process
that is killed leaves whole lines.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

VARIABLE = "ROWLOCK_TEST_LEDGER"

Record = dict[str, Any]


class Ledger:
    """A file of records. `at` is a clock that all processes of the host share."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        self._offset = 0
        self._records: list[Record] = []
        self._of_event: dict[str, list[Record]] = defaultdict(list)

    def append(self, event: str, **fields: Any) -> None:
        """Append a record, in one write."""
        record = {"event": event, "process": os.getpid(), "at": time.monotonic(), **fields}
        os.write(self._file, json.dumps(record).encode() + b"\n")

    def records(self, event: str | None = None) -> Sequence[Record]:
        """Return the records so far, in the order of the file; of one event, or all."""
        data = os.pread(self._file, os.fstat(self._file).st_size - self._offset, self._offset)
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for record in map(json.loads, whole.splitlines()):
            self._records.append(record)
            self._of_event[record["event"]].append(record)
        return self._records if event is None else self._of_event[event]

    def close(self) -> None:
        os.close(self._file)


def of_process() -> Ledger:
    """Return the ledger that the environment names."""
    global _ledger
    if _ledger is None:
        _ledger = Ledger(Path(os.environ[VARIABLE]))
    return _ledger


_ledger: Ledger | None = None
