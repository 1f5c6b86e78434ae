"""Pages of tasks: how a walk is cut into stretches that one index range each can serve."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Text,
    bindparam,
    literal_column,
    select,
    tuple_,
    union_all,
)

from rowlock._ids import FIRST_ID, LAST_ID, as_id
from rowlock._instants import from_microseconds, to_microseconds
from rowlock._store import cursor as _cursor
from rowlock._store.codec import unreadable
from rowlock._store.cursor import Position
from rowlock._store.database import Database, Operation
from rowlock._store.sql import (
    COLUMNS,
    PROCESSING,
    RESTING,
    Dialect,
    Statement,
    Statements,
    constant,
)
from rowlock._store.tables import task
from rowlock.models import SortDirection, SortProperty, Task, TaskPage, TaskStatus

Walk = tuple[str | None, TaskStatus | None, SortProperty, SortDirection]

_STATUSES = tuple(sorted(TaskStatus))
_COMPLETED = (TaskStatus.FAILED, TaskStatus.SUCCESS)
_NOT_COMPLETED = (TaskStatus.CANCELLED, TaskStatus.PENDING, TaskStatus.PROCESSING)


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a walk.

    Attributes:
        order: the column that it is sorted by before the id, None for the id alone.
        statuses: the statuses that take part; none where the status is not bounded.
    """

    order: str | None
    statuses: tuple[TaskStatus, ...]

    def start(self, number: int, direction: SortDirection) -> Position:
        """Return the position before the first row."""
        last = direction is SortDirection.DESCENDING
        value = 0
        if self.order == "date_modified":
            value = to_microseconds((datetime.max if last else datetime.min).replace(tzinfo=UTC))
        return Position(number, value, LAST_ID if last else FIRST_ID)

    def value(self, position: Position) -> datetime | None:
        """Return the sort value that a position stands for."""
        if self.order == "date_modified":
            return from_microseconds(position.value)
        return None

    def position(self, number: int, task: Task) -> Position:
        """Return the position of a task."""
        value = 0
        if self.order == "date_modified":
            value = to_microseconds(task.date_modified)
        return Position(number, value, task.id)


def segments(
    sort: SortProperty, status: TaskStatus | None, direction: SortDirection, *, typed: bool
) -> tuple[Segment, ...]:
    """Return the stretches of a walk, in their order.

    Args:
        sort: what is sorted by.
        status: the filter on the status.
        direction: which way.
        typed: whether there is a filter on the type: the index on it leads with the status.
    """
    every = _STATUSES if status is None else (status,)
    if sort is SortProperty.DATE_MODIFIED:
        return (Segment("date_modified", every),)
    if sort is SortProperty.DATE_COMPLETED:
        # Rows without the value come last in either direction, by id.
        parts = (
            Segment("date_modified", tuple(s for s in _COMPLETED if s in every)),
            Segment(None, tuple(s for s in _NOT_COMPLETED if s in every)),
        )
        return tuple(part for part in parts if part.statuses)
    if status is not None:
        return (Segment(None, every),)
    if sort is SortProperty.STATUS:
        ordered = every[::-1] if direction is SortDirection.DESCENDING else every
        return tuple(Segment(None, (s,)) for s in ordered)
    return (Segment(None, every if typed else ()),)


class PageStatements(Statements):
    """The statements, each built when it is asked for first."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.page = cache(self._page)

    def _page(
        self,
        order: tuple[str, ...],
        statuses: tuple[TaskStatus, ...],
        typed: bool,
        direction: SortDirection,
    ) -> Statement:
        """One stretch of a page walk, merged from one index range for each status.

        Each range is bounded by comparing whole rows of the index's leading columns, and is
        sorted by them, so that no other index can serve it, whatever the statistics say. It
        starts behind the parameters `value` and `id`. That of processing is short, and sorted.

        Args:
            order: the columns that the page is sorted by.
            statuses: the statuses that take part; none where the status is not bounded.
            typed: whether there is a filter on the type.
            direction: which way.
        """
        descending = direction is SortDirection.DESCENDING
        ranges = []
        for status in statuses or (None,):
            bounds: list[tuple[ColumnElement[Any], ColumnElement[Any]]] = []
            part = select(*COLUMNS)
            if status is TaskStatus.PROCESSING:
                part = part.where(PROCESSING)
            elif status is not None:
                bounds.append((task.c.status, constant(status)))
                part = part.where(RESTING)
            start = [
                (
                    task.c[name],
                    bindparam("id" if name == "id" else "value", type_=task.c[name].type),
                )
                for name in order
            ]
            columns = tuple_(*(column for column, _ in bounds + start))
            values = tuple_(*(value for _, value in bounds + start))
            part = part.where(columns < values if descending else columns > values)
            if bounds:
                prefix = tuple_(*(column for column, _ in bounds))
                edge = tuple_(*(value for _, value in bounds))
                part = part.where(prefix >= edge if descending else prefix <= edge)
            keys = [column for column, _ in bounds + start]
            if typed:
                # Not part of the comparison: PostgreSQL ends a scan on a row's first column only.
                part = part.where(task.c.type == bindparam("type", type_=Text))
                keys.insert(0, task.c.type)
            part = part.order_by(*(key.desc() if descending else key for key in keys))
            ranges.append(part.limit(bindparam("limit", type_=Integer)))
        if len(ranges) == 1:
            return self._dialect.statement(ranges[0])
        # Neither database takes a LIMIT for a part of a union, but for a subquery.
        every: ColumnElement[Any] = literal_column("*")
        merged = union_all(*(select(every).select_from(part.subquery()) for part in ranges))
        keys = [literal_column(name) for name in order]
        return self._dialect.statement(
            select(every)
            .select_from(merged.subquery())
            .order_by(*(key.desc() if descending else key for key in keys))
            .limit(bindparam("limit", type_=Integer))
        )


class Pages:
    """Reads pages."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._codec = database.codec
        self._sql = PageStatements.of(database.dialect)

    async def page(
        self,
        task_type: str | None,
        task_status: TaskStatus | None,
        sort: SortProperty,
        direction: SortDirection,
        cursor: str | None,
        limit: int,
    ) -> TaskPage:
        """Return a page.

        Raises:
            InvalidCursorError: if the cursor is not of this walk.
        """
        walk = (task_type, task_status, sort, direction)
        after = None if cursor is None else _cursor.decode(cursor, walk)
        return await self._database.read_in_index_order(self._page(walk, after, limit))

    def _page(self, walk: Walk, cursor: Position | None, limit: int) -> Operation[TaskPage]:
        task_type, task_status, sort, direction = walk
        parts = segments(sort, task_status, direction, typed=task_type is not None)
        tasks: list[Task] = []
        first = 0 if cursor is None else cursor.segment
        for number, part in enumerate(parts[first:], first):
            after = part.start(number, direction)
            if cursor is not None and number == first:
                after = cursor
            value = part.value(after)
            parameters = {
                "type": task_type,
                "value": self._codec.to_time(value) if isinstance(value, datetime) else value,
                "id": after.id,
                # One more than the page holds tells whether there is another page.
                "limit": limit - len(tasks) + 1,
            }
            order = ("id",) if part.order is None else (part.order, "id")
            statement = self._sql.page(order, part.statuses, task_type is not None, direction)
            for row in self._codec.rows((yield statement, parameters)):
                if len(tasks) == limit:
                    return TaskPage(entities=tasks, cursor=_cursor.encode(after, walk))
                if as_id(row.id) is None:
                    raise unreadable(row, ValueError("no id"))
                found = self._codec.task(row)
                tasks.append(found)
                after = part.position(number, found)
        return TaskPage(entities=tasks)
