"""What statements are made of: the dialect, the columns, and the fence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, Self, TypeVar

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
    Update,
    and_,
    bindparam,
    case,
    literal_column,
    null,
    update,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.sql.compiler import Compiled
from sqlalchemy.types import TypeEngine

from rowlock._rows import KEEP_IF_FAILED, ClaimedRow, TaskRow
from rowlock._store.tables import IdType, task
from rowlock.models import MAX_DURATION_MS, TaskStatus

T = TypeVar("T")

COLUMNS: Final = [
    sql_cast(task.c[name], Text).label(name)
    if name in ("payload", "result", "error", "progress", "attempts")
    else task.c[name]
    for name in TaskRow._fields
]
"""Of a `TaskRow`."""

TO_RUN: Final = COLUMNS[: len(ClaimedRow._fields)]
"""Of a `ClaimedRow`."""


class _lazy(Generic[T]):
    """An attribute that is made when it is read first.

    `functools.cached_property` holds a lock meanwhile on Python 3.11, one for all instances: a fork
    beside the lease thread would inherit it held, and wait for it for ever. Two threads may both
    make the value here, and it is the same.
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> T:
        value = instance.__dict__[self._name] = self._make(instance)
        return value


class Statement:
    """A statement, compiled when it is sent first.

    A process that only creates tasks sends two of about a hundred.

    Args:
        dialect: of the database.
        core: the statement, None where it is on a batch.
        make: makes it for a batch, or for those rows of one that nobody else has locked.
    """

    def __init__(
        self,
        dialect: DefaultDialect,
        core: Executable | None = None,
        make: Callable[[bool], Executable] | None = None,
    ) -> None:
        self._dialect = dialect
        self._core = core
        self._make = make

    @_lazy
    def core(self) -> Executable:
        """What a connection of the caller's executes."""
        if self._core is not None:
            return self._core
        assert self._make is not None  # noqa: S101
        return self._make(False)

    @_lazy
    def skipping(self) -> Statement:
        """The one that leaves out what somebody else has locked, and waits for no lock."""
        assert self._make is not None  # noqa: S101
        return Statement(self._dialect, self._make(True))

    @property
    def is_on_batch(self) -> bool:
        """Whether there is one that is `skipping`."""
        return self._make is not None

    @_lazy
    def _compiled(self) -> Compiled:
        compiled: Compiled = self.core.compile(dialect=self._dialect)  # type: ignore[attr-defined]
        return compiled

    @_lazy
    def sql(self) -> str:
        """What the driver is sent."""
        return str(self._compiled)

    @_lazy
    def names(self) -> Sequence[str]:
        """The names of its parameters, in the order of their places (PostgreSQL)."""
        return self._compiled.positiontup or ()  # type: ignore[attr-defined]

    @_lazy
    def constants(self) -> Mapping[str, Any]:
        """Parameters that always have the same value (SQLite)."""
        given = self._compiled.params
        return {name: value for name, value in given.items() if value is not None}


class Dialect(ABC):
    """What the statements need said differently on each database."""

    kind: type[DefaultDialect]
    """What SQLAlchemy's dialects of this database have in common."""

    now: ColumnElement[Any]
    """The instant that decides what is due, expired and past retention."""

    def __init__(self, dialect: DefaultDialect) -> None:
        self._dialect = dialect
        self.groups: dict[type[Statements], Any] = {}

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

    def statement(self, core: Executable) -> Statement:
        """Return a statement for the driver."""
        return Statement(self._dialect, core)

    def on_batch(self, make: Callable[[bool], Executable]) -> Statement:
        """Return a statement on a batch, made when it is needed; see `Statement`."""
        return Statement(self._dialect, make=make)


class Statements(ABC):
    """The statements on one subject, as attributes; every statement is in such a class."""

    @abstractmethod
    def __init__(self, dialect: Dialect) -> None: ...

    @classmethod
    def of(cls, dialect: Dialect) -> Self:
        """Return those of a database, which are built once in a process."""
        if cls not in dialect.groups:
            dialect.groups[cls] = cls(dialect)
        statements: Self = dialect.groups[cls]
        return statements


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


def claimed(dialect: Dialect, chosen: ColumnElement[bool] | TextClause) -> Update:
    """The UPDATE that hands chosen rows to a holder."""
    return (
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
