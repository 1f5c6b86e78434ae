"""What statements are made of: the dialect, the columns, and the fence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Delete,
    Executable,
    FromClause,
    Integer,
    Select,
    Table,
    Text,
    TextClause,
    and_,
    bindparam,
    case,
    literal_column,
    null,
    select,
    update,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.types import TypeEngine

from rowlock._rows import KEEP_IF_FAILED, ClaimedRow, HeldRow, TaskRow
from rowlock._store.tables import IdType, task
from rowlock.models import MAX_DURATION_MS, TaskStatus

COLUMNS: Final = [
    sql_cast(task.c[name], Text).label(name)
    if name in ("payload", "result", "error", "progress", "attempts")
    else task.c[name]
    for name in TaskRow._fields
]
"""Of a `TaskRow`."""

TO_RUN: Final = COLUMNS[: len(ClaimedRow._fields)]
"""Of a `ClaimedRow`."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement ready for the driver.

    Attributes:
        sql: its text.
        names: the names of its parameters, in the order of their places (PostgreSQL).
        constants: parameters that always have the same value.
        core: what it was compiled from, for a connection of the caller's.
        skipping: gives the one that does the same to those rows of a batch only that nobody else
            has locked, and waits for no lock. Built when it is needed first.
    """

    sql: str
    names: Sequence[str]
    constants: Mapping[str, Any]
    core: Executable
    skipping: Callable[[], Statement] | None = None


class Dialect(ABC):
    """What the statements need said differently on each database."""

    now: ColumnElement[Any]
    """The instant that decides what is due, expired and past retention."""

    @abstractmethod
    def insert(self, table: Table) -> Any:
        """An INSERT that can have an ON CONFLICT clause."""

    @abstractmethod
    def notifying(self, insert: Any) -> Executable:
        """The INSERT of a task, telling waiting workers as soon as it is committed."""

    @abstractmethod
    def after(self, instant: ColumnElement[Any], ms: ColumnElement[Any]) -> ColumnElement[Any]:
        """The instant `ms` milliseconds after another."""

    @abstractmethod
    def batch(
        self, columns: Mapping[str, TypeEngine[Any]], *, skip_locked: bool = False
    ) -> FromClause:
        """The rows of a batch, bound as one value.

        Args:
            columns: what each has.
            skip_locked: leave out those whose task, named by the column `id`, is gone or locked
                by somebody else, and lock the others.
        """

    @abstractmethod
    def same(self, column: ColumnElement[Any], value: ColumnElement[Any]) -> ColumnElement[bool]:
        """The column of a table has a value of a batch; looked up by the column's index.

        Whatever the statistics say: those of a table that was empty let a planner believe that
        it is as well to read all of it.
        """

    @abstractmethod
    def delete(self, batch: FromClause, fence: ColumnElement[bool]) -> Delete:
        """The DELETE of those tasks of a batch of ids and attempts that the fence lets through."""

    @abstractmethod
    def appended(self, entry: Mapping[str, ColumnElement[Any]]) -> ColumnElement[Any]:
        """The attempts of a task with one more, of which the last `MOST_ATTEMPTS` are kept.

        Args:
            entry: what the JSON object of that has.
        """

    @abstractmethod
    def one_of(self, column: ColumnElement[Any], ids: Select[Any]) -> ColumnElement[bool]:
        """The column is one of the ids; looked up by key, however many the planner expects."""

    @abstractmethod
    def compile(self, core: Executable) -> Statement:
        """Render a statement for the driver."""

    def compile_for_batch(self, make: Callable[[bool], Executable]) -> Statement:
        """Render a statement on a batch, and the one that skips locked rows once it is needed."""
        compiled = self.compile(make(False))
        return replace(compiled, skipping=cache(lambda: self.compile(make(True))))


def constant(status: TaskStatus) -> ColumnElement[str]:
    """A status as a literal: a partial index is not matched by a parameter."""
    return literal_column(f"'{status.value}'", Text)


NAMED: Final = task.c.id == bindparam("id", type_=IdType)
"""The one task that the parameter `id` names."""

HOLDER: Final = bindparam("holder", type_=Text)

ATTEMPT: Final[Mapping[str, TypeEngine[Any]]] = {"id": IdType(), "attempt": Integer()}
"""What names an attempt in a batch."""

# The conditions of partial indexes, as they are declared.
PROCESSING: Final = task.c.status == constant(TaskStatus.PROCESSING)
RESTING: Final = task.c.status != constant(TaskStatus.PROCESSING)

_KEEP_IF_FAILED: Final[ColumnElement[int]] = literal_column(str(KEEP_IF_FAILED), BigInteger)
_LONGEST: Final[ColumnElement[int]] = literal_column(str(MAX_DURATION_MS), BigInteger)

KEPT_IF_FAILED: Final = task.c.retain_for == _KEEP_IF_FAILED

REMOVED_AT_ONCE: Final = task.c.retain_for.in_([literal_column("0"), _KEEP_IF_FAILED])
"""If it ends as success or cancelled."""


@cache
def clock(dialect: Dialect) -> Statement:
    """What time it is, by the clock that decides."""
    return dialect.compile(select(dialect.now))


def fence(
    dialect: Dialect, batch: FromClause, holder: ColumnElement[Any] = HOLDER
) -> ColumnElement[bool]:
    """The fence: the rows whose attempt, as the batch names it, is still the holder's.

    That the lease is not null says that the row is still processing, in a way that cannot tempt a
    planner into an index on the status.
    """
    return and_(
        dialect.same(task.c.id, batch.c.id),
        task.c.attempt == batch.c.attempt,
        task.c.thread_id == holder,
        task.c.lease_until.is_not(None),
    )


def retain_until(dialect: Dialect) -> ColumnElement[Any]:
    """Until when a task that ends now is kept."""
    return case(
        (
            task.c.retain_for.between(literal_column("1"), _LONGEST),
            dialect.after(dialect.now, task.c.retain_for),
        ),
        else_=null(),
    )


def claims(
    dialect: Dialect, chosen: ColumnElement[bool] | TextClause
) -> Mapping[type[HeldRow], Statement]:
    """The statements that hand chosen rows to a holder, by the kind of row that they return."""
    update_chosen = (
        update(task)
        .where(chosen)
        .values(
            status=constant(TaskStatus.PROCESSING),
            attempt=task.c.attempt + literal_column("1"),
            thread_id=HOLDER,
            lease_until=dialect.after(dialect.now, bindparam("lease", type_=BigInteger)),
            date_modified=dialect.now,
            date_started=dialect.now,
        )
    )
    return {
        TaskRow: dialect.compile(update_chosen.returning(*COLUMNS)),
        ClaimedRow: dialect.compile(update_chosen.returning(*TO_RUN)),
    }
