"""A database: connections, transactions, what drivers take and give, and who listens.

What is done in it stands in the modules beside this one, as operations. An operation is a
generator: it yields a statement with its parameters and is sent the rows. It knows no driver and
does not wait, so the same code runs between BEGIN and COMMIT of asyncpg and in one call inside
the thread of an SQLite connection, where a transaction must not span an `await`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager
from datetime import datetime
from enum import StrEnum
from functools import update_wrapper
from typing import Any, Concatenate, NamedTuple, ParamSpec, Protocol, Self, TypeVar

from sqlalchemy import URL, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from rowlock._rows import ClaimedRow, NewRow, TaskRow
from rowlock._store.codec import Codec
from rowlock._store.sql import Dialect, Statement, Statements
from rowlock._store.tables import REVISION, VERSION_TABLE
from rowlock._store.url import upgrade_command
from rowlock.errors import (
    DatabaseUnavailableError,
    InvalidArgumentError,
    RowlockError,
    SchemaError,
)

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R", ClaimedRow, TaskRow)

Operation = Generator[tuple[Statement, Mapping[str, Any]], Sequence[Any], T]

LOCK_TIMEOUT = 1000
"""Milliseconds, at most, that a worker waits for a row which somebody else has locked."""

MOST_OF_A_CLAIM = 1000
"""One claim takes no more tasks: they could not all begin soon, and others may want them."""

MOST_BYTES_OF_A_CLAIM = 16 * 2**20
"""Nor more bytes of payloads than these, and the row with which it comes to them.

What a claim brings has to come over the link within the timeout, and into memory.
"""

# rowlock's tables are where the queue's own connections find them, whatever the caller's tables
# are called for the time being.
_UNMAPPED = {"schema_translate_map": None}
_IDENTITY = "rowlock identity"


# Thrown into the operation that has yielded a statement, of which nothing was done.


class NoTableError(Exception):
    """A table of rowlock's is not there."""


class RowsLockedError(DatabaseUnavailableError):
    """Somebody else has a lock on a row, and has had it for longer than may be waited for."""


class KeyTakenError(RowlockError):
    """Another task has got the key meanwhile."""


class NoRoomForHintsError(Exception):
    """The server has no room for another notification."""


class HintKind(StrEnum):
    """What a hint is about."""

    WORK = "work"
    """There is a task of a type, the value."""
    CANCEL = "cancel"
    """Somebody has asked to cancel a task of a holder, the value."""
    SCHEDULES = "schedules"
    """Scheduled tasks have changed."""


class Hint(NamedTuple):
    """What one process tells others. It may be lost, and is never the truth.

    Attributes:
        kind: what it is about.
        value: which; None for any.
    """

    kind: HintKind
    value: str | None = None


Heard = Callable[[str | None], None]
"""What is called with the value of a hint."""


class _OnDatabase(Protocol):
    _database: Database


S = TypeVar("S", bound=_OnDatabase)
Method = Callable[Concatenate[S, P], Operation[T]]
Call = Callable[Concatenate[S, P], Coroutine[Any, Any, T]]


def autocommit(operation: Method[S, P, T]) -> Call[S, P, T]:
    """An operation that writes; on PostgreSQL each of its statements commits by itself."""

    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        return self._database.autocommit(operation(self, *args, **kwargs))

    update_wrapper(call, operation)
    return call


def transaction(operation: Method[S, P, T]) -> Call[S, P, T]:
    """An operation in one transaction, all of it or nothing."""

    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        return self._database.transaction(operation(self, *args, **kwargs))

    update_wrapper(call, operation)
    return call


def reading(operation: Method[S, P, T]) -> Call[S, P, T]:
    """An operation that only reads."""

    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        return self._database.read(operation(self, *args, **kwargs))

    update_wrapper(call, operation)
    return call


class CommonStatements(Statements):
    """What no operation on tasks is about."""

    def __init__(self, dialect: Dialect) -> None:
        self.clock = dialect.statement(select(dialect.now))
        self.revision = dialect.statement(
            text(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608
        )


def clock(dialect: Dialect) -> Statement:
    """What time it is, by the clock that decides."""
    return CommonStatements.of(dialect).clock


class Database(ABC):
    """One database, and this queue's connections to it.

    Instants called `now` are `datetime | None`; None is the clock that the database goes by, and
    tests pass their own.

    Attributes:
        dialect: how statements are said to it.
        codec: what its driver takes and gives.
        url: as it was given, for the command that an error names.
        revision: of the schema, once it is open.
    """

    dialect: Dialect
    codec: Codec
    revision: str
    keeps_trying = False
    """Whether a worker that cannot extend its leases keeps its tasks until that is refused."""
    _identity: Any = None

    def __init__(self, engine: AsyncEngine, *, owns_engine: bool, url: URL | None = None) -> None:
        self._engine = engine
        self._owns_engine = owns_engine
        self.url = engine.url if url is None else url

    # Connections.

    @abstractmethod
    async def open(self) -> None:
        """Connect, and check that the schema is there.

        Raises:
            DatabaseUnavailableError: if the database cannot be reached within the timeout.
            SchemaError: if its schema is missing or old.
        """

    async def close(self) -> None:
        """Give every connection back."""
        if self._owns_engine:
            await self._engine.dispose()

    @abstractmethod
    def sibling(self, lock_timeout: int = LOCK_TIMEOUT) -> Self:
        """Return the same database with connections of its own, for another thread's loop too.

        Args:
            lock_timeout: milliseconds that it waits for a row which somebody else has locked.
        """

    @abstractmethod
    def for_worker(self) -> Self:
        """Return it for a worker in this loop, with connections that nobody else can take."""

    @abstractmethod
    async def keep_alive(self) -> None:
        """Use a connection, so that there is one when it is needed."""

    def _verify(self) -> Operation[str]:
        try:
            rows = yield CommonStatements.of(self.dialect).revision, {}
        except NoTableError:
            rows = []
        found = rows[0][0] if rows else None
        if found is None:
            raise no_schema(self.url)
        if found < REVISION:
            raise SchemaError(
                f"the rowlock schema is at revision {found}, {REVISION} is needed: "
                f"run {upgrade_command(self.url)}"
            )
        return str(found)

    # Transactions.

    @abstractmethod
    async def autocommit(self, operation: Operation[T]) -> T:
        """Run an operation that writes; on PostgreSQL each statement commits by itself."""

    @abstractmethod
    async def transaction(self, operation: Operation[T]) -> T:
        """Run an operation in one transaction, all of it or nothing."""

    @abstractmethod
    async def read(self, operation: Operation[T]) -> T:
        """Run an operation that only reads."""

    @abstractmethod
    async def read_in_index_order(self, operation: Operation[T]) -> T:
        """Run an operation that reads in the order of an index."""

    # What takes many rows at once.

    @abstractmethod
    async def bulk_insert(
        self,
        rows: Sequence[NewRow],
        more: AsyncIterator[Sequence[NewRow]],
        now: datetime | None = None,
    ) -> None:
        """Store many tasks without a key, all or none; `more` of them may be made meanwhile."""

    async def claim(
        self, holder: str, rooms: Mapping[str, int], lease: int, now: datetime | None = None
    ) -> list[TaskRow]:
        """Take due tasks, of each type as many as there is room for, in the order to run.

        Args:
            holder: who takes them.
            rooms: how many of each type.
            lease: milliseconds until they are taken for lost.
            now: the instant.
        """
        return await self._claim(TaskRow, holder, rooms, lease, now)

    async def claim_to_run(
        self, holder: str, rooms: Mapping[str, int], lease: int, now: datetime | None = None
    ) -> list[ClaimedRow]:
        """The same for who wants no more than what it takes to run them."""
        return await self._claim(ClaimedRow, holder, rooms, lease, now)

    @abstractmethod
    async def _claim(
        self,
        kind: type[R],
        holder: str,
        rooms: Mapping[str, int],
        lease: int,
        now: datetime | None,
    ) -> list[R]:
        """Claim rows of a kind."""

    @abstractmethod
    async def next_due(self, types: Iterable[str], now: datetime | None = None) -> float | None:
        """Return the seconds until a task of the types is due: 0 if one is, None if none waits."""

    # A connection of the caller's.

    @abstractmethod
    def for_caller(self) -> AbstractContextManager[None]:
        """Raise what goes wrong on a connection of the caller's as an error of rowlock."""

    @abstractmethod
    async def identity(self, connection: AsyncConnection | None = None) -> Any:
        """Return what tells the database of a connection from others; by default its own."""

    async def accept(self, connection: AsyncConnection) -> None:
        """Check a connection of the caller's, once for each connection of the driver.

        Raises:
            InvalidArgumentError: it leads to another database than the queue's.
        """
        kind = self.dialect.kind
        # Others derive from it, as that of CockroachDB.
        if not isinstance(connection.dialect, kind) or connection.dialect.name != kind.name:
            raise InvalidArgumentError(
                f"connection: of {connection.dialect.name} was given, of {kind.name} is allowed"
            )
        known = connection.info.get(_IDENTITY)
        if known is not None and known == self._identity:
            return
        theirs = await self.identity(connection)
        if theirs != self._identity:
            self._identity = await self.identity()
        if theirs != self._identity:
            raise InvalidArgumentError(
                "connection: it finds another database, or another schema of it, than the queue"
            )
        connection.info[_IDENTITY] = theirs

    async def on(self, connection: AsyncConnection, operation: Operation[T]) -> T:
        """Run an operation in the transaction of the caller's connection."""
        try:
            statement, parameters = next(operation)
            while True:
                result = await connection.execute(
                    statement.core,
                    self.codec.core_parameters(parameters),
                    execution_options=_UNMAPPED,
                )
                rows = result.all() if result.returns_rows else []
                statement, parameters = operation.send(rows)
        except StopIteration as stop:
            value: T = stop.value
            return value

    # Who listens, and what is said to them.

    @abstractmethod
    async def watch(
        self,
        kinds: frozenset[HintKind],
        heard: Callable[[Hint], None],
        look: Callable[[], None],
    ) -> float:
        """Look for what others did; return the seconds until the next look.

        Args:
            kinds: the hints that are wanted.
            heard: called with each of them.
            look: called in the loop when the next look is due before the seconds are over.
        """

    @abstractmethod
    async def unwatch(self) -> None:
        """Forget the last look, and give back what it took."""

    @abstractmethod
    async def hint(self, hints: Iterable[Hint]) -> None:
        """Tell other processes."""

    @abstractmethod
    async def hint_on(self, connection: AsyncConnection, hints: Iterable[Hint]) -> None:
        """Tell other processes as soon as the caller's transaction is committed."""


def no_schema(url: URL) -> SchemaError:
    """Return the error of a database without rowlock's tables."""
    return SchemaError(f"the database has no rowlock schema: run {upgrade_command(url)}")


def used_up() -> DatabaseUnavailableError:
    """Return the error of a pool whose connections are all lent."""
    return DatabaseUnavailableError(
        "the connection pool of the application's engine is used up: "
        "a larger pool_size, or connections that are given back sooner, are needed"
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text; of a server's, that is all but its DETAIL."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
