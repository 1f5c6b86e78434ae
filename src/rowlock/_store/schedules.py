"""Scheduled tasks in the database.

What triggers is decided and recorded in one transaction: the rows that are due are read and
locked, their next instants written by compare-and-set, and the tasks that they create inserted.
So an instant triggers once, whoever else looks at the same moment or wakes from a long sleep.

A row that this process does not understand is not written but for what was asked for by name: it
stays due for others, and its own looks leave it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rowlock._endings import describe
from rowlock._ids import id_instant, new_id
from rowlock._rows import NewRow
from rowlock._store.database import Database, Operation
from rowlock._store.schedule_rows import (
    DAMAGED,
    KEPT,
    MISFIRE_GRACE,
    NO_TOKEN,
    OVERLAPS,
    Definition,
    Left,
    check_known,
    definition_of,
    mended,
    readable,
    why_unreadable,
)
from rowlock._store.schedule_statements import ScheduleRow, schedule_statements
from rowlock._store.sql import clock
from rowlock._store.tasks import task_statements
from rowlock._times import (
    STORED_TIMES,
    DamagedError,
    NotUnderstoodError,
    StoredTime,
    first,
    following,
    read_times,
    shown_times,
    to_datetime,
    to_milliseconds,
)
from rowlock.models import (
    ScheduledTaskState,
    ScheduledTaskTime,
    SizeLimits,
    TaskError,
    TaskStatus,
)

# So many instants of one scheduled task are caught up in one transaction.
CATCH_UP = 100

_UNFINISHED = (TaskStatus.PENDING, TaskStatus.PROCESSING)


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


@dataclass(frozen=True, slots=True)
class Trigger:
    """A function is to be called.

    Attributes:
        id: of which scheduled task.
        due: the instant that triggers.
    """

    id: str
    due: datetime


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """How the call of a function ended: "success", or "failed" with an error as JSON text."""

    trigger: Trigger
    outcome: str
    error: str | None


@dataclass(slots=True)
class Advance:
    """What one look for due scheduled tasks has done.

    Attributes:
        found: how many were due and free.
        triggers: the functions to call.
        types: the types of the tasks that were created.
        damaged: those that are nothing that rowlock writes, which are put aside, and why.
        unread: those that are left to others, and why.
        skipped: those of which instants were too late, and why.
        read: the rows as they were.
    """

    found: int = 0
    triggers: list[Trigger] = field(default_factory=list)
    types: set[str] = field(default_factory=set)
    damaged: list[tuple[str, str]] = field(default_factory=list)
    unread: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    read: list[ScheduleRow] = field(default_factory=list, compare=False, repr=False)


class Schedules:
    """The operations on scheduled tasks.

    Instants called `now` are `datetime | None`; None is the clock that the database goes by.

    Args:
        database: where they are.
        left: what is left to others; it is added to.
    """

    def __init__(self, database: Database, left: Left | None = None) -> None:
        self._database = database
        self._codec = database.codec
        self._sql = schedule_statements(database.dialect)
        self._left = Left() if left is None else left

    async def add(self, new: NewSchedule, now: datetime | None = None) -> Added:
        """Store a scheduled task; with the times that it has already it keeps its instants."""
        return await self._database.transaction(self._add(new, now))

    async def remove(self, schedule_id: str) -> bool:
        """Delete a scheduled task; return whether there was one."""
        return await self._database.transaction(self._remove(schedule_id))

    async def remove_others(self, ids: Iterable[str], prefix: str) -> list[str]:
        """Delete those whose ids begin with a prefix and are not among `ids`; return which."""
        return await self._database.transaction(self._remove_others(ids, prefix))

    async def times(self) -> dict[str, list[ScheduledTaskTime]]:
        """Return the times of all scheduled tasks as they are shown."""
        return await self._database.read(self._times())

    async def rows(self, ids: Iterable[str]) -> list[ScheduleRow]:
        """Return scheduled tasks as they are stored."""
        return await self._database.read(self._rows(ids))

    async def state(self, schedule_id: str) -> ScheduledTaskState | None:
        """Return a scheduled task."""
        return await self._database.read(self._state(schedule_id))

    async def pause(self, schedule_id: str, now: datetime | None = None) -> bool:
        """Let a scheduled task trigger no more; return whether it did."""
        return await self._database.transaction(self._pause(schedule_id, now))

    async def resume(self, schedule_id: str, now: datetime | None = None) -> bool:
        """Let a scheduled task trigger again, at its instants from now on.

        Raises:
            NotUnderstoodError: if this process cannot tell which these are.
        """
        resumed = await self._database.transaction(self._resume(schedule_id, now))
        if isinstance(resumed, NotUnderstoodError):
            raise resumed
        return resumed

    async def next_due(self, ours: Iterable[str], now: datetime | None = None) -> float | None:
        """Return the seconds until something is due: 0 if it is, None if nothing waits.

        Args:
            ours: the ids whose functions can be called here.
            now: the instant.
        """
        return await self._database.read(self._next_due(ours, now))

    async def advance(
        self,
        ours: Iterable[str],
        limit: int,
        now: datetime | None = None,
        rooms: Sequence[tuple[Iterable[str], int]] = (),
    ) -> Advance:
        """Trigger what is due: of each function one instant.

        Args:
            ours: the ids whose functions can be called here.
            limit: how many of these and of those that create tasks are triggered at most.
            now: the instant.
            rooms: more ids whose functions can be called here, but only so many of them.
        """
        return await self._database.transaction(self._advance(ours, limit, now, rooms))

    async def trigger(self, schedule_id: str, ours: bool, now: datetime | None = None) -> Advance:
        """Trigger a scheduled task now, whatever its instants; `found` is 0 if it cannot be.

        Args:
            schedule_id: which.
            ours: whether its function can be called here.
            now: the instant.
        """
        return await self._database.transaction(self._trigger(schedule_id, ours, now))

    async def record(self, ends: Sequence[CallOutcome]) -> None:
        """Store how calls ended, unless the scheduled task has triggered again."""
        await self._database.transaction(self._record(ends))

    def _add(self, new: NewSchedule, now: datetime | None) -> Operation[Added]:
        ((instant,),) = yield clock(self._database.dialect), {"now": self._codec.instant(now)}
        milliseconds = to_milliseconds(self._codec.from_time(instant))
        times = [StoredTime(given=time, next=first(time, milliseconds)) for time in new.times]
        row = self._with_times(_row_of(new), times)
        # A row that was in the way may be gone by the time of the second look.
        while not (yield self._sql.insert, self._codec.batch([row._asdict()])):
            found = yield from self._found(new.id, now)
            if found is None:
                continue
            old, _ = found
            changed = mended(row._replace(**{name: getattr(old, name) for name in KEPT}))
            with suppress(NotUnderstoodError, DamagedError):
                stored = read_times(old.times)
                if [time.given for time in stored] == list(new.times):
                    times = stored
            changed = self._with_times(changed, times)
            if changed == old:
                return Added(False, definition_of(row))
            yield from self._write([changed])
            before, after = definition_of(old), definition_of(changed)
            return Added(True, after, None if before == after else before)
        return Added(True, definition_of(row))

    def _remove(self, schedule_id: str) -> Operation[bool]:
        rows = yield self._sql.remove, {"id": schedule_id}
        return bool(rows)

    def _remove_others(self, ids: Iterable[str], prefix: str) -> Operation[list[str]]:
        rows = yield self._sql.remove_others, {"prefix": prefix, **self._named(ids)}
        return sorted(row[0] for row in rows)

    def _times(self) -> Operation[dict[str, list[ScheduledTaskTime]]]:
        rows = yield self._sql.times, {}
        return {schedule_id: shown_times(text) for schedule_id, text in rows}

    def _rows(self, ids: Iterable[str]) -> Operation[list[ScheduleRow]]:
        rows = yield self._sql.looks, self._named(ids)
        return [self._row(row) for row in rows]

    def _state(self, schedule_id: str) -> Operation[ScheduledTaskState | None]:
        rows = yield self._sql.look, {"id": schedule_id}
        if not rows:
            return None
        row = self._row(rows[0])
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

    def _pause(self, schedule_id: str, now: datetime | None) -> Operation[bool]:
        found = yield from self._found(schedule_id, now)
        if found is None or found[0].paused_since is not None:
            return False
        row, instant = found
        yield from self._write([row._replace(paused_since=instant, next_trigger=None)])
        return True

    def _resume(
        self, schedule_id: str, now: datetime | None
    ) -> Operation[bool | NotUnderstoodError]:
        found = yield from self._found(schedule_id, now)
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
        milliseconds = to_milliseconds(self._codec.from_time(instant))
        times = []
        for time in stored:
            if time.next is not None and time.next < milliseconds:
                row = row._replace(
                    last_skip=self._codec.to_time(to_datetime(time.next)),
                    last_skip_reason="it was paused",
                )
                later = following(time.given, time.next, milliseconds - 1)
                time = time.model_copy(update={"next": later})
            times.append(time)
        yield from self._write([self._with_times(row, times)])
        return True

    def _next_due(self, ours: Iterable[str], now: datetime | None) -> Operation[float | None]:
        ((due, instant),) = yield (
            self._sql.next_due,
            {"now": self._codec.instant(now), **self._named(ours, self._left)},
        )
        if due is None:
            return None
        wait = self._codec.from_time(due) - self._codec.from_time(instant)
        return max(0.0, wait.total_seconds())

    def _advance(
        self,
        ours: Iterable[str],
        limit: int,
        now: datetime | None,
        rooms: Sequence[tuple[Iterable[str], int]] = (),
    ) -> Operation[Advance]:
        instant = self._codec.instant(now)
        rows: list[Any] = []
        for statement, ids, room in (
            (self._sql.due, ours, limit),
            *((self._sql.due_here, ids, room) for ids, room in rooms),
        ):
            named = self._named(ids, self._left)
            rows += yield statement, {"now": instant, "limit": room, **named}
        # One that creates tasks here and calls a function elsewhere may be among both.
        due_rows = list({row.id: (row, moment) for row, moment in map(self._split, rows)}.values())
        done = Advance(found=len(due_rows), read=[row for row, _ in due_rows])
        changed: dict[str, ScheduleRow] = {}
        tasks: list[dict[str, Any]] = []
        statuses = yield from self._statuses([row for row, _ in due_rows])
        for row, moment in due_rows:
            created: list[dict[str, Any]] = []
            try:
                row, due = self._take(row, self._codec.from_time(moment), done)
                if row.task_type is not None:
                    row, created = self._tasks(row, due, statuses.get(row.id))
                elif due:
                    row = self._started(row, due[0])
                    done.triggers.append(Trigger(row.id, to_datetime(due[0])))
            except DamagedError as error:
                done.damaged.append((row.id, str(error)))
                row = row._replace(
                    next_trigger=None,
                    paused_since=moment,
                    last_outcome=DAMAGED,
                    last_error=_error(error),
                )
            except Exception as error:
                # What else there is may be only here: another process may be able to.
                done.unread.append((row.id, str(error) or type(error).__name__))
                self._left.add(row.token)
                continue
            changed[row.id] = row
            tasks += created
        written = yield from self._write(list(changed.values()))
        done.triggers = [trigger for trigger in done.triggers if trigger.id in written]
        tasks = [task for task in tasks if task["schedule_id"] in written]
        yield from self._create(tasks, instant)
        done.types.update(task["type"] for task in tasks)
        return done

    def _trigger(self, schedule_id: str, ours: bool, now: datetime | None) -> Operation[Advance]:
        done = Advance()
        found = yield from self._found(schedule_id, now)
        if found is None or (found[0].task_type is None and not ours):
            return done
        row, instant = found
        if row.last_outcome == DAMAGED:
            return done
        try:
            check_known(row, "overlap", OVERLAPS)
        except NotUnderstoodError as error:
            done.unread.append((row.id, str(error)))
            return done
        due = to_milliseconds(self._codec.from_time(instant))
        done.found = 1
        if row.task_type is None:
            row = self._started(row, due)
            done.triggers.append(Trigger(row.id, to_datetime(due)))
        else:
            statuses = yield from self._statuses([row])
            row, tasks = self._tasks(row, [due], statuses.get(row.id))
            done.types.update(task["type"] for task in tasks)
            yield from self._create(tasks, self._codec.instant(now))
        yield from self._write([row])
        return done

    def _record(self, ends: Sequence[CallOutcome]) -> Operation[None]:
        yield (
            self._sql.ended,
            self._codec.batch(
                [
                    {
                        "id": end.trigger.id,
                        "due": self._codec.to_time(end.trigger.due),
                        "outcome": end.outcome,
                        "error": end.error,
                    }
                    for end in sorted(ends, key=lambda end: end.trigger.id)
                ]
            ),
        )

    def _take(
        self, row: ScheduleRow, now: datetime, done: Advance
    ) -> tuple[ScheduleRow, list[int]]:
        """Take the instants of a row that trigger now, and move it on."""
        times = readable(row)
        present = to_milliseconds(now)
        grace = MISFIRE_GRACE if row.misfire_grace is None else row.misfire_grace
        too_late = present - grace if row.misfire == "skip" else -1
        missed: int | None = None
        due: list[int] = []
        while len(due) < (1 if row.task_type is None else CATCH_UP):
            instant, place = min(
                ((time.next, place) for place, time in enumerate(times) if time.next is not None),
                default=(present + 1, 0),
            )
            if instant > present:
                break
            if instant < too_late:
                missed, after = instant, too_late - 1
            else:
                due.append(instant)
                after = instant if row.misfire == "catch_up" else present
            later = following(times[place].given, instant, after)
            times[place] = times[place].model_copy(update={"next": later})
        if missed is not None:
            reason = f"it was {present - missed} ms late, more than misfire_grace={grace}"
            done.skipped.append((row.id, reason))
            instant = self._codec.to_time(to_datetime(missed))
            row = row._replace(last_skip=instant, last_skip_reason=reason)
        elif not due:
            raise DamagedError("next_trigger: it is not the earliest of the times")
        return self._with_times(row, times), due

    def _with_times(self, row: ScheduleRow, times: Sequence[StoredTime]) -> ScheduleRow:
        waiting = [time.next for time in times if time.next is not None]
        waits = waiting and row.paused_since is None
        return row._replace(
            times=_dump(times),
            next_trigger=self._codec.to_time(to_datetime(min(waiting))) if waits else None,
        )

    def _started(self, row: ScheduleRow, due: int) -> ScheduleRow:
        return row._replace(
            last_trigger=self._codec.to_time(to_datetime(due)),
            last_outcome="started",
            last_error=None,
        )

    def _tasks(
        self, row: ScheduleRow, due: Sequence[int], status: str | None
    ) -> tuple[ScheduleRow, list[dict[str, Any]]]:
        """Return the tasks that instants create."""
        tasks: list[dict[str, Any]] = []
        for milliseconds in due:
            instant = self._codec.to_time(to_datetime(milliseconds))
            if row.overlap == "skip" and status in _UNFINISHED:
                row = row._replace(
                    last_skip=instant, last_skip_reason=f"task {row.last_task_id} was {status}"
                )
                continue
            task_id = new_id()
            tasks.append(
                {
                    "id": task_id,
                    "type": row.task_type,
                    "priority": row.priority,
                    "run_at": None,
                    "delay": row.delay,
                    "retries_remaining": row.retries_remaining,
                    "retry_interval": row.retry_interval,
                    "retain_for": row.retain_for,
                    "date_created": self._codec.to_time(id_instant(task_id)),
                    "key": None,
                    "payload": row.payload,
                    "schedule_id": row.id,
                    "scheduled_for": instant,
                }
            )
            status = TaskStatus.PENDING
            row = row._replace(
                last_trigger=instant, last_outcome="created", last_error=None, last_task_id=task_id
            )
        return row, tasks

    def _create(self, tasks: Sequence[dict[str, Any]], now: Any) -> Operation[None]:
        if tasks:
            yield (
                task_statements(self._database.dialect).insert_batch,
                {"now": now, **self._codec.batch(tasks)},
            )

    def _write(self, rows: Sequence[ScheduleRow]) -> Operation[set[str]]:
        if not rows:
            return set()
        batch = self._codec.batch([{**row._asdict(), "new_token": new_id()} for row in rows])
        written = yield self._sql.write, batch
        return {row[0] for row in written}

    def _found(
        self, schedule_id: str, now: datetime | None
    ) -> Operation[tuple[ScheduleRow, Any] | None]:
        rows = yield self._sql.get, {"id": schedule_id, "now": self._codec.instant(now)}
        return self._split(rows[0]) if rows else None

    def _statuses(self, rows: Sequence[ScheduleRow]) -> Operation[dict[str, str]]:
        """Return of the scheduled tasks with an overlap rule how their last task stands.

        In a statement of its own: the one that locks a row does not see the task that was
        created while it waited for the lock.
        """
        last = {
            row.last_task_id: row.id
            for row in rows
            if row.overlap == "skip" and row.last_task_id is not None
        }
        if not last:
            return {}
        found = yield self._sql.statuses, self._codec.batch([{"id": task_id} for task_id in last])
        return {last[self._codec.to_id(task_id)]: status for task_id, status in found}

    def _split(self, raw: Sequence[Any]) -> tuple[ScheduleRow, Any]:
        *columns, moment = raw
        return self._row(columns), moment

    def _row(self, columns: Sequence[Any]) -> ScheduleRow:
        row = ScheduleRow._make(columns)
        last = row.last_task_id
        return row._replace(
            token=self._codec.to_id(row.token),
            last_task_id=None if last is None else self._codec.to_id(last),
        )

    def _instant(self, value: Any) -> datetime | None:
        return None if value is None else self._codec.from_time(value)

    def _named(self, ids: Iterable[str], left: Iterable[str] = ()) -> Mapping[str, Any]:
        named = [{"id": schedule_id, "token": NO_TOKEN} for schedule_id in ids]
        # No id is empty; and an array needs an element to show its columns.
        named += [{"id": "", "token": token} for token in left]
        return self._codec.batch(named or [{"id": "", "token": NO_TOKEN}])


def _row_of(new: NewSchedule) -> ScheduleRow:
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
        retries_remaining=None if template is None else template.retries_remaining,
        retry_interval=None if template is None else template.retry_interval,
        retain_for=0 if template is None else template.retain_for,
        priority=0 if template is None else template.priority,
        delay=0 if template is None else template.delay,
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


def _dump(times: Sequence[StoredTime]) -> str:
    return STORED_TIMES.dump_json(list(times), by_alias=True).decode()


def _error(error: Exception) -> str:
    return describe(error, "rowlock", SizeLimits())
