"""The rows of scheduled tasks: how they are read and written, and what this process understands."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Executable, Select, Text, bindparam, select, update
from sqlalchemy import cast as sql_cast
from sqlalchemy.types import TypeEngine

from rowlock._ids import new_id
from rowlock._instants import from_milliseconds
from rowlock._rows import NewRow
from rowlock._scheduling.plan import MISFIRES, OVERLAPS, earliest
from rowlock._scheduling.times import (
    STORED_TIMES,
    DamagedError,
    NotUnderstoodError,
    StoredTime,
    read_times,
)
from rowlock._store.codec import Codec
from rowlock._store.database import Database, Operation
from rowlock._store.sql import Dialect, Statements
from rowlock._store.tables import (
    IdType,
    JsonType,
    scheduled_task,
    stored_from_batch,
    type_in_batch,
)
from rowlock._store.templates import definition_of_template, read_template

DAMAGED: Final = "damaged"
"""The outcome of a row that was put aside."""

Definition = Mapping[str, Any]
"""What a scheduled task is by what it was added with, to be compared."""


class ScheduleRow(NamedTuple):
    """A row as it comes from the driver, but for ids, which are always 32 hex digits."""

    id: str
    token: str
    times: str
    next_trigger: Any
    paused_since: Any
    misfire: str
    misfire_grace: int | None
    overlap: str
    task_type: str | None
    payload: str | None
    template: str | None
    last_trigger: Any
    last_outcome: str | None
    last_error: str | None
    last_task_id: str | None
    last_skip: Any
    last_skip_reason: str | None


# What a trigger, a pause or a resume writes.
KEPT: Final = (
    *("token", "paused_since", "last_trigger", "last_outcome", "last_error", "last_task_id"),
    *("last_skip", "last_skip_reason"),
)
_STATE: Final = (*KEPT, "id", "next_trigger")

COLUMNS: Final = [
    sql_cast(column, Text).label(column.name) if isinstance(column.type, JsonType) else column
    for column in (scheduled_task.c[name] for name in ScheduleRow._fields)
]
"""Of a `ScheduleRow`."""

TYPES: Final[Mapping[str, TypeEngine[Any]]] = {
    name: type_in_batch(column) for name, column in scheduled_task.c.items()
}
"""Of a row in a batch."""

NAMED: Final = scheduled_task.c.id == bindparam("id", type_=Text)
"""The one scheduled task that the parameter `id` names."""

# The ids that a statement is about, and the tokens of the rows that it leaves out.
_NAMES: Final[Mapping[str, TypeEngine[Any]]] = {"id": Text(), "token": IdType()}
_NO_TOKEN: Final = "0" * 32


def is_among(dialect: Dialect) -> ColumnElement[bool]:
    """The rows whose ids are among the `names`."""
    batch = dialect.batch(_NAMES)
    return scheduled_task.c.id.in_(select(batch.c.id))


def is_not_left(dialect: Dialect) -> ColumnElement[bool]:
    """The rows whose tokens are not among the `names`."""
    batch = dialect.batch(_NAMES)
    return scheduled_task.c.token.not_in(select(batch.c.token))


def names(codec: Codec, ids: Iterable[str], left: Iterable[str] = ()) -> Mapping[str, Any]:
    """Return the parameters that name ids, and the tokens of rows that are left out."""
    named = [{"id": schedule_id, "token": _NO_TOKEN} for schedule_id in ids]
    # No id is empty; and an array needs an element to show its columns.
    named += [{"id": "", "token": token} for token in left]
    return codec.batch(named or [{"id": "", "token": _NO_TOKEN}])


def with_instant(dialect: Dialect) -> Select[Any]:
    """Rows, each with the instant of the statement."""
    return select(*COLUMNS, dialect.now.label("now"))


class ScheduleRowStatements(Statements):
    """The statements."""

    def __init__(self, dialect: Dialect) -> None:
        build = dialect.statement

        self.get = build(with_instant(dialect).where(NAMED).with_for_update())
        self.write = build(_write(dialect))


def _write(dialect: Dialect) -> Executable:
    batch = dialect.batch({**TYPES, "new_token": IdType()})
    values = {
        name: stored_from_batch(scheduled_task.c[name], batch.c[name])
        for name in TYPES
        if name not in ("id", "token")
    }
    return (
        update(scheduled_task)
        # The compare-and-set. With it nobody writes what was computed from an older row.
        .where(scheduled_task.c.id == batch.c.id, scheduled_task.c.token == batch.c.token)
        .values(token=batch.c.new_token, **values)
        .returning(scheduled_task.c.id)
    )


class ScheduleRows:
    """What the operations on scheduled tasks have in common."""

    def __init__(self, database: Database) -> None:
        self._codec = database.codec
        self._sql = ScheduleRowStatements.of(database.dialect)

    def found(
        self, schedule_id: str, now: datetime | None
    ) -> Operation[tuple[ScheduleRow, Any] | None]:
        """Lock a row; return it and the instant, None if there is none."""
        rows = yield self._sql.get, {"id": schedule_id, "now": self._codec.instant(now)}
        return self.split(rows[0]) if rows else None

    def write(self, rows: Sequence[ScheduleRow]) -> Operation[set[str]]:
        """Write rows that nobody else has written since; return the ids of those."""
        if not rows:
            return set()
        batch = self._codec.batch([{**row._asdict(), "new_token": new_id()} for row in rows])
        written = yield self._sql.write, batch
        return {row[0] for row in written}

    def split(self, raw: Sequence[Any]) -> tuple[ScheduleRow, Any]:
        """Return a row, and the instant that came with it."""
        *columns, instant = raw
        return self.row(columns), instant

    def row(self, columns: Sequence[Any]) -> ScheduleRow:
        """Return a row from what the driver gave."""
        row = ScheduleRow._make(columns)
        last = row.last_task_id
        return row._replace(
            token=self._codec.to_id(row.token),
            last_task_id=None if last is None else self._codec.to_id(last),
        )

    def with_times(self, row: ScheduleRow, times: Sequence[StoredTime]) -> ScheduleRow:
        """Return a row with other times, due at the earliest of them unless it is paused."""
        next_trigger = None if row.paused_since is not None else earliest(times)
        return row._replace(
            times=STORED_TIMES.dump_json(list(times), by_alias=True).decode(),
            next_trigger=None if next_trigger is None else self.time(next_trigger),
        )

    def time(self, milliseconds: int) -> Any:
        """Return an instant as the driver takes it."""
        return self._codec.to_time(from_milliseconds(milliseconds))


def definition_of(row: ScheduleRow) -> Definition:
    """Return what a scheduled task was added with; its payload as a digest."""
    values = {name: value for name, value in row._asdict().items() if name not in _STATE}
    values |= definition_of_template(row.template)
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        # All but the next instants, which change with each trigger.
        values["times"] = [{**time, "next": None} for time in json.loads(row.times)]
    if row.payload is not None:
        values["payload"] = sha256(row.payload.encode()).digest()
    return values


def readable(row: ScheduleRow) -> list[StoredTime]:
    """Return the times of a row all of which is understood.

    Raises:
        NotUnderstoodError: if it is not, here.
        DamagedError: if it cannot be, anywhere.
    """
    times = read_times(row.times)
    _check_known("misfire", row.misfire, MISFIRES)
    template_of(row)
    return times


def template_of(row: ScheduleRow) -> NewRow | None:
    """Return what the tasks are like that a row creates, None if it calls a function.

    Raises:
        NotUnderstoodError: if it is not understood here how it creates them.
        DamagedError: if it cannot be, anywhere.
    """
    _check_known("overlap", row.overlap, OVERLAPS)
    return read_template(row.task_type, row.payload, row.template)


def _check_known(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise NotUnderstoodError(
            f"{name}: this version of rowlock knows {', '.join(known)}, and not {value!r}"
        )


def why_unreadable(row: ScheduleRow) -> str | None:
    """Return why this process does not understand a row that another one may."""
    try:
        readable(row)
    except NotUnderstoodError as error:
        return str(error)
    except DamagedError:
        pass
    return None


def mended(row: ScheduleRow) -> ScheduleRow:
    """Return a row that is put aside no longer."""
    if row.last_outcome != DAMAGED:
        return row
    return row._replace(paused_since=None, last_outcome=None, last_error=None)
