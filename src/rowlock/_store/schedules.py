"""Scheduled tasks as applications see them: add, look, pause, resume, remove.

A row that this process does not understand is not written but for what was asked for by name: it
stays due for others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Executable, Text, bindparam, delete, func, literal_column, not_, select
from sqlalchemy import cast as sql_cast

from rowlock._ids import new_id
from rowlock._instants import to_milliseconds
from rowlock._rows import NewRow
from rowlock._scheduling.plan import after_pause, begun
from rowlock._scheduling.times import (
    DamagedError,
    NotUnderstoodError,
    read_times,
    shown_times,
)
from rowlock._store.database import Database, Operation, clock, reading, transaction
from rowlock._store.schedule_rows import (
    COLUMNS,
    KEPT,
    NAMED,
    TYPES,
    Definition,
    ScheduleRow,
    ScheduleRows,
    definition_of,
    is_among,
    mended,
    names,
    readable,
    template_of,
    why_unreadable,
)
from rowlock._store.sql import Dialect, Statements
from rowlock._store.tables import scheduled_task, stored_from_batch
from rowlock._store.templates import template_text
from rowlock.models import TaskError
from rowlock.schedule_models import ScheduledTaskState, ScheduledTaskTime


@dataclass(frozen=True, slots=True)
class NewSchedule:
    """A scheduled task as it was given, checked.

    Attributes:
        id: its id.
        times: when it triggers.
        misfire: one of `MISFIRES`.
        overlap: one of `OVERLAPS`.
        template: what the tasks are like that it creates, None if it calls a function.
        misfire_grace: in milliseconds, None but for `misfire="skip"`.
    """

    id: str
    times: Sequence[ScheduledTaskTime]
    misfire: str
    overlap: str
    template: NewRow | None
    misfire_grace: int | None = None


@dataclass(frozen=True, slots=True)
class Added:
    """What an `add` has done.

    Attributes:
        changed: whether the table has.
        definition: of what was added.
        replaced: the definition that was there, if it was another one.
    """

    changed: bool
    definition: Definition
    replaced: Definition | None = None


class ScheduleStatements(Statements):
    """The statements."""

    def __init__(self, dialect: Dialect) -> None:
        build = dialect.statement

        self.insert = build(_insert(dialect))
        self.look = build(select(*COLUMNS).where(NAMED))
        self.looks = build(select(*COLUMNS).where(is_among(dialect)))
        self.times = build(
            select(scheduled_task.c.id, sql_cast(scheduled_task.c.times, Text)).order_by(
                scheduled_task.c.id
            )
        )
        self.remove = build(delete(scheduled_task).where(NAMED).returning(scheduled_task.c.id))
        self.remove_others = build(_remove_others(dialect))


def _insert(dialect: Dialect) -> Executable:
    batch = dialect.batch(TYPES)
    insert = dialect.insert(scheduled_task).from_select(
        list(TYPES),
        select(*(stored_from_batch(scheduled_task.c[name], batch.c[name]) for name in TYPES))
        # SQLite would take the conflict clause for one of a join.
        .where(literal_column("true")),
    )
    return cast(
        Executable,
        insert.on_conflict_do_nothing(index_elements=["id"]).returning(scheduled_task.c.id),
    )


def _remove_others(dialect: Dialect) -> Executable:
    prefix = bindparam("prefix", type_=Text)
    begins = func.substr(scheduled_task.c.id, literal_column("1"), func.length(prefix)) == prefix
    return (
        delete(scheduled_task).where(begins, not_(is_among(dialect))).returning(scheduled_task.c.id)
    )


class Schedules:
    """The operations. Instants called `now` are `datetime | None`, as for a `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._codec = database.codec
        self._sql = ScheduleStatements.of(database.dialect)
        self._rows = ScheduleRows(database)

    @transaction
    def add(self, new: NewSchedule, now: datetime | None = None) -> Operation[Added]:
        """Store a scheduled task; with the times that it has already it keeps its instants."""
        ((instant,),) = yield clock(self._database.dialect), {"now": self._codec.instant(now)}
        times = begun(new.times, to_milliseconds(self._codec.from_time(instant)))
        row = self._rows.with_times(row_of(new), times)
        # A row that was in the way may be gone by the time of the second look.
        while not (yield self._sql.insert, self._codec.batch([row._asdict()])):
            found = yield from self._rows.found(new.id, now)
            if found is None:
                continue
            old, _ = found
            changed = mended(row._replace(**{name: getattr(old, name) for name in KEPT}))
            with suppress(NotUnderstoodError, DamagedError):
                stored = read_times(old.times)
                if [time.given for time in stored] == list(new.times):
                    times = stored
            with suppress(NotUnderstoodError, DamagedError):
                if template_of(old) == template_of(changed):
                    # The same may have been written in other words, as by a migration.
                    changed = changed._replace(template=old.template)
            changed = self._rows.with_times(changed, times)
            if changed == old:
                return Added(False, definition_of(row))
            yield from self._rows.write([changed])
            before, after = definition_of(old), definition_of(changed)
            return Added(True, after, None if before == after else before)
        return Added(True, definition_of(row))

    @transaction
    def remove(self, schedule_id: str) -> Operation[bool]:
        """Delete a scheduled task; return whether there was one."""
        rows = yield self._sql.remove, {"id": schedule_id}
        return bool(rows)

    @transaction
    def remove_others(self, ids: Iterable[str], prefix: str) -> Operation[list[str]]:
        """Delete those whose ids begin with a prefix and are not among `ids`; return which."""
        rows = yield self._sql.remove_others, {"prefix": prefix, **names(self._codec, ids)}
        return sorted(row[0] for row in rows)

    @reading
    def times(self) -> Operation[dict[str, list[ScheduledTaskTime]]]:
        """Return the times of all scheduled tasks as they are shown."""
        rows = yield self._sql.times, {}
        return {schedule_id: shown_times(text) for schedule_id, text in rows}

    @reading
    def rows(self, ids: Iterable[str]) -> Operation[list[ScheduleRow]]:
        """Return scheduled tasks as they are stored."""
        rows = yield self._sql.looks, names(self._codec, ids)
        return [self._rows.row(row) for row in rows]

    @reading
    def state(self, schedule_id: str) -> Operation[ScheduledTaskState | None]:
        """Return a scheduled task."""
        rows = yield self._sql.look, {"id": schedule_id}
        return self._state(self._rows.row(rows[0])) if rows else None

    def _state(self, row: ScheduleRow) -> ScheduledTaskState:
        # Not checked again: times that are not understood here are shown all the same.
        return ScheduledTaskState.model_construct(
            id=row.id,
            times=shown_times(row.times),
            paused_since=self._instant(row.paused_since),
            task_type=row.task_type,
            misfire=row.misfire,
            misfire_grace=row.misfire_grace,
            overlap=row.overlap,
            unreadable=why_unreadable(row),
            last_trigger_time=self._instant(row.last_trigger),
            last_outcome=row.last_outcome,
            last_error=_stored_error(row.last_error),
            last_task_id=row.last_task_id,
            last_skip_time=self._instant(row.last_skip),
            last_skip_reason=row.last_skip_reason,
        )

    @transaction
    def pause(self, schedule_id: str, now: datetime | None = None) -> Operation[bool]:
        """Let a scheduled task trigger no more; return whether it did."""
        found = yield from self._rows.found(schedule_id, now)
        if found is None or found[0].paused_since is not None:
            return False
        row, instant = found
        yield from self._rows.write([row._replace(paused_since=instant, next_trigger=None)])
        return True

    async def resume(self, schedule_id: str, now: datetime | None = None) -> bool:
        """Let a scheduled task trigger again, at its instants from now on.

        Raises:
            NotUnderstoodError: if this process cannot tell which these are.
        """
        resumed = await self._database.transaction(self._resume(schedule_id, now))
        if isinstance(resumed, NotUnderstoodError):
            raise resumed
        return resumed

    def _resume(
        self, schedule_id: str, now: datetime | None
    ) -> Operation[bool | NotUnderstoodError]:
        found = yield from self._rows.found(schedule_id, now)
        if found is None:
            return False
        row, instant = found
        try:
            stored = readable(row)
        except DamagedError:
            return False
        except NotUnderstoodError as error:
            # Not raised here: an operation that fails costs its connection.
            return error
        # Versions before put aside what they did not understand without calling it paused.
        waits = row.next_trigger is not None or all(time.next is None for time in stored)
        if row.paused_since is None and waits:
            return False
        row = mended(row)._replace(paused_since=None)
        times, missed = after_pause(stored, to_milliseconds(self._codec.from_time(instant)))
        if missed is not None:
            row = row._replace(last_skip=self._rows.time(missed), last_skip_reason="it was paused")
        yield from self._rows.write([self._rows.with_times(row, times)])
        return True

    def _instant(self, value: Any) -> datetime | None:
        return None if value is None else self._codec.from_time(value)


def row_of(new: NewSchedule) -> ScheduleRow:
    """Return the row of a scheduled task that has no instants yet."""
    template = new.template
    return ScheduleRow(
        id=new.id,
        token=new_id(),
        times="[]",
        next_trigger=None,
        paused_since=None,
        misfire=new.misfire,
        misfire_grace=new.misfire_grace,
        overlap=new.overlap,
        task_type=None if template is None else template.type,
        payload=None if template is None else template.payload,
        template=template_text(template),
        last_trigger=None,
        last_outcome=None,
        last_error=None,
        last_task_id=None,
        last_skip=None,
        last_skip_reason=None,
    )


def _stored_error(text: str | None) -> TaskError | None:
    """Return the error of a row, none if rowlock has not written it."""
    try:
        return None if text is None else TaskError.model_validate_json(text)
    except ValueError:
        return None
