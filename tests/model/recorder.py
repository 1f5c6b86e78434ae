"""Writes down what a store is asked and what it answers, for `tests.model.replay`.

    file = tmp_path / f"record-{os.getpid()}"
    record(file, queue._store, queue.runtime.worker_store)   # after open(), before start()

Each call is two lines of JSON: one before its statement is sent, one after its answer has come and
before the caller hears of it, both with the time. The clock is the machine's monotonic one, which
all its processes share. So of two calls, in whichever processes, it is known whether one ended
before the other began; and a process that is killed leaves the first line of what it was about to
do. Every process has a file of its own.

Not recorded is what schedules create, and what a caller writes beside the store; a replay takes
what it cannot explain for a deviation.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rowlock import DuplicateKeyError
from rowlock._rows import NewRow, TaskRow
from rowlock._store.attempts import Finished
from rowlock._store.database import Operation
from rowlock._store.ends import AttemptOutcome
from rowlock._store.store import Store
from rowlock._store.sweep import Swept
from rowlock.models import Task
from tests.model.protocol import RAISED, RAISED_FOR_GOOD, RETURNED
from tests.support.stores import operation

Fields = Mapping[str, Any]


def record(file: Path, *stores: Store) -> None:
    """Record the calls of stores from now on, and those of siblings that they make."""
    recorder = _Recorder(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT))
    for store in set(stores):
        recorder.attach(store)


def read(files: Iterable[Path]) -> list[dict[str, Any]]:
    """The calls in some files, by their beginning. One without `ended` got no answer."""
    calls: list[dict[str, Any]] = []
    for file in files:
        open_calls: dict[int, dict[str, Any]] = {}
        for line in file.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break  # the process was killed over it
            fields = json.loads(line)
            open_calls.setdefault(fields["call"], {}).update(fields)
        calls += open_calls.values()
    return sorted(calls, key=lambda call: call["began"])


class _Recorder:
    def __init__(self, file: int) -> None:
        self._file = file
        self._numbers = itertools.count()

    def attach(self, store: Store) -> None:
        """Put itself in the place of the store's methods."""
        sibling = store.sibling

        def recorded_sibling(*arguments: int) -> Store:
            other = sibling(*arguments)
            self.attach(other)
            return other

        _replace(store, "sibling", recorded_sibling)
        self._wrap(store.tasks, "insert", _asked_insert, _told_insert)
        self._wrap(store.tasks, "insert_group", _asked_inserts, lambda answer: {"ids": None})
        self._wrap(store.tasks, "insert_many", _asked_inserts, lambda answer: {"ids": answer})
        self._inserts_new(store)
        self._inserts_on(store)
        self._wrap(store.database, "claim", _asked_claim, _told_claim)
        self._wrap(store.database, "claim_to_run", _asked_claim, _told_claim, as_="claim")
        self._wrap(store.attempts, "extend", _asked_extend, _told_extend)
        self._wrap(store.attempts, "finish", _asked_finish, _told_finish)
        self._wrap(store.attempts, "release", _asked_attempts, _told_release)
        self._wrap(store.tasks, "cancel", _asked_cancel, _told_cancel)
        self._wrap(store.tasks, "retry", _asked_one, lambda task: {"changed": task is not None})
        self._wrap(store.tasks, "remove", _asked_one, lambda removed: {"changed": removed})
        self._wrap(store.tasks, "get", _asked_one, _told_get)
        self._sweeps(store)
        self._forgets(store)

    def _wrap(
        self,
        owner: object,
        name: str,
        asked: Callable[..., Fields],
        told: Callable[[Any], Fields],
        as_: str | None = None,
    ) -> None:
        method = getattr(owner, name)

        async def recorded(*arguments: Any, **options: Any) -> Any:
            call = self._begin(as_ or name, asked(*arguments, **options))
            try:
                answer = await method(*arguments, **options)
            except DuplicateKeyError:
                self._end(call, {"taken": True})  # which has changed nothing
                raise
            self._end(call, told(answer))
            return answer

        _replace(owner, name, recorded)

    def _inserts_new(self, store: Store) -> None:
        async def recorded(
            rows: Sequence[NewRow], more: AsyncIterator[Sequence[NewRow]], now: Any = None
        ) -> None:
            # Made before they are sent: what was about to be done is on record first.
            later = [row async for part in more for row in part]
            await store.tasks.insert_many([*rows, *later], now)

        _replace(store.tasks, "insert_new", recorded)

    def _inserts_on(self, store: Store) -> None:
        method = store.tasks.insert_on

        async def recorded(connection: Any, rows: Sequence[NewRow], now: Any = None) -> list[str]:
            # When the caller commits, and whether, nobody tells.
            self._begin("insert", {"rows": [_new(row) for row in rows]})
            return await method(connection, rows, now)

        _replace(store.tasks, "insert_on", recorded)

    def _sweeps(self, store: Store) -> None:
        sweep, codec = store.sweep, store.database.codec

        async def recorded(*arguments: Any, **options: Any) -> Swept:
            seen: list[TaskRow] = []
            call = self._begin("sweep", {})
            leases = operation(type(sweep).leases.__get__(sweep), *arguments, **options)
            tapped = _tap(leases, lambda rows: seen.extend(codec.rows(rows)))
            swept: Swept = await store.database.autocommit(tapped)
            attempts = [
                [row.id, row.attempt, row.thread_id]
                for row in seen
                if (row.id, row.attempt) not in swept.spared
            ]
            self._end(call, {"attempts": attempts, **_told_tasks(swept.changed)})
            return swept

        _replace(sweep, "leases", recorded)

    def _forgets(self, store: Store) -> None:
        sweep, codec = store.sweep, store.database.codec

        async def recorded(*arguments: Any, **options: Any) -> int:
            gone: list[str] = []
            call = self._begin("forget", {})
            retention = operation(type(sweep).retention.__get__(sweep), *arguments, **options)
            tapped = _tap(retention, lambda rows: gone.extend(codec.to_id(row[0]) for row in rows))
            count: int = await store.database.autocommit(tapped)
            self._end(call, {"ids": gone})
            return count

        _replace(sweep, "retention", recorded)

    def _begin(self, name: str, fields: Fields) -> int:
        call = next(self._numbers)
        self._write({"call": call, "began": time.monotonic(), "name": name, **fields})
        return call

    def _end(self, call: int, fields: Fields) -> None:
        self._write({"call": call, "ended": time.monotonic(), **fields})

    def _write(self, fields: Fields) -> None:
        os.write(self._file, json.dumps(fields).encode() + b"\n")


def _replace(owner: object, name: str, value: object) -> None:
    setattr(owner, name, value)


def _tap(operation: Operation[Any], see: Callable[[Sequence[Any]], None]) -> Operation[Any]:
    """The operation, with the rows of its first statement shown."""
    try:
        rows = yield next(operation)
        see(rows)
        while True:
            rows = yield operation.send(rows)
    except StopIteration as stop:
        return stop.value


# What is asked.


def _new(row: NewRow) -> Fields:
    return {
        "id": row.id,
        "retries": row.retries_remaining,
        "retain": row.retain_for,
        "due": row.run_at is None and not row.delay,
    }


def _asked_insert(row: NewRow, now: Any = None, *, notify: bool = False) -> Fields:
    return {"rows": [_new(row)]}


def _asked_inserts(rows: Sequence[NewRow], now: Any = None) -> Fields:
    return {"rows": [_new(row) for row in rows]}


def _asked_claim(
    holder: str, rooms: Mapping[str, int], lease: int, now: Any = None, *, rows: bool = True
) -> Fields:
    return {"holder": holder, "lease": lease / 1000}


def _asked_attempts(
    holder: str, attempts: Sequence[tuple[str, int]], now: Any = None, **options: Any
) -> Fields:
    return {"attempts": [[task_id, attempt, holder] for task_id, attempt in attempts]}


def _asked_extend(
    holder: str, attempts: Sequence[tuple[str, int]], lease: int, now: Any = None, **options: Any
) -> Fields:
    return {"lease": lease / 1000, **_asked_attempts(holder, attempts)}


def _asked_finish(holder: str, outcomes: Sequence[AttemptOutcome], **options: Any) -> Fields:
    return {
        "attempts": [[outcome.row.id, outcome.row.attempt, holder] for outcome in outcomes],
        "endings": [_ending(outcome) for outcome in outcomes],
    }


def _ending(outcome: AttemptOutcome) -> str:
    if outcome.ending.error is None and not outcome.ending.cancelled:
        return RETURNED
    return RAISED if outcome.ending.retry and not outcome.ending.cancelled else RAISED_FOR_GOOD


def _asked_cancel(task_id: str, now: Any = None, *, running: bool = False) -> Fields:
    return {"id": task_id, "running": running}


def _asked_one(task_id: str, now: Any = None) -> Fields:
    return {"id": task_id}


# What is told.


def _told_insert(task_id: str) -> Fields:
    return {"ids": [task_id]}


def _told_claim(rows: Sequence[TaskRow]) -> Fields:
    return {
        "rows": [[row.id, row.attempt, row.retries_remaining, row.lost_workers] for row in rows]
    }


def _told_extend(answer: tuple[set[str], set[str]]) -> Fields:
    kept, locked = answer
    return {"kept": sorted(kept), "left": sorted(locked)}


def _told_finish(done: Finished) -> Fields:
    return {
        "done": {key: None if task is None else task.status for key, task in done.tasks.items()},
        "left": sorted(done.locked | done.unsent),
    }


def _told_release(answer: tuple[Sequence[Task], set[str]]) -> Fields:
    tasks, locked = answer
    return {**_told_tasks(tasks), "left": sorted(locked)}


def _told_tasks(tasks: Sequence[Task]) -> Fields:
    return {"done": {task.id: task.status for task in tasks}}


def _told_cancel(task: Task | None) -> Fields:
    return {"status": None if task is None else task.status}


def _told_get(task: Task | None) -> Fields:
    return {"row": None if task is None else [task.status, task.attempt, task.thread_id]}
