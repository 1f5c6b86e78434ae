"""What PostgreSQL, asyncpg and SQLAlchemy raise, as errors of rowlock.

No message, and no traceback of an error that the server gave for what it was sent, shows a value:
the server quotes the row in its DETAIL, SQLAlchemy the parameters, and a function may say anything.
The driver's own error is the `__context__`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import Pool, QueuePool

from rowlock._batch_size import StatementTooSlowError
from rowlock._store.database import (
    KeyTakenError,
    NoRoomForHintsError,
    NoTableError,
    RowsLockedError,
    first_line,
    no_schema,
    used_up,
)
from rowlock.errors import (
    DatabaseError,
    DatabaseUnavailableError,
    InvalidArgumentError,
    RowlockError,
    SchemaError,
)

UNAVAILABLE: Final = (
    OSError,
    TimeoutError,
    UnicodeError,  # no name of a host
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.PostgresSystemError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)

# Their text may quote a value: data exceptions, those that functions raise (P0001) or that
# other languages do, and internal errors.
_QUOTING: Final = ("22", "38", "39", "P0", "XX")
# These of the data exceptions quote one character.
_ENCODING: Final = ("22021", "22P05")
_FUNCTION: Final = re.compile(r"^PL/\w+ function .*$", re.MULTILINE)


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Raise what comes from the database as an error of rowlock.

    Args:
        url: of the database, for the command that an error names.
    """
    try:
        yield
    except RowlockError:
        raise
    except NoTableError:
        raise no_schema(url) from None
    except NoRoomForHintsError as error:  # of an operation that gives no hint, or without it too
        raise DatabaseError(str(error)) from None
    except (asyncpg.PostgresError, DBAPIError, PoolTimeoutError, *UNAVAILABLE) as error:
        cause = _origin(error)
        if isinstance(cause, asyncpg.UndefinedTableError) and _is_of_rowlock(cause):
            raise no_schema(url) from None
        told = _translation(cause)
        is_harmless = isinstance(told, DatabaseUnavailableError) and cause is error
        raise told from (error if is_harmless else None)


@contextmanager
def translated_of_caller(url: URL) -> Iterator[None]:
    """The same for a connection of the caller's, which may be used wrongly too."""
    try:
        with translated(url):
            yield
    except InvalidRequestError as error:
        raise InvalidArgumentError(f"connection: {first_line(error)}") from None


@contextmanager
def translated_of_migration(name: str, timeout: float) -> Iterator[None]:
    """The same while the schema is changed, where a statement fails that does not fit it.

    Args:
        name: of the database, for messages.
        timeout: the seconds that connecting may take.
    """
    try:
        yield
    except TimeoutError as error:
        raise DatabaseUnavailableError(f"{name}: no answer within {timeout:g} s") from error
    except (DBAPIError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        cause = _origin(error)
        told = f"{name}: {first_line(cause)}"
        if isinstance(cause, asyncpg.InsufficientPrivilegeError):
            raise DatabaseError(f"{told}; who changes the schema must own it") from error
        if isinstance(cause, asyncpg.PostgresError) and not isinstance(cause, UNAVAILABLE):
            raise SchemaError(told) from error
        raise DatabaseUnavailableError(told) from error


def for_operation(error: Exception) -> Exception | None:
    """Return what an operation is told of the error of its statement, None if nothing."""
    match error:
        case StatementTooSlowError():
            return error
        case asyncpg.UndefinedTableError() if _is_of_rowlock(error):
            return NoTableError()
        case asyncpg.ProgramLimitExceededError():
            return NoRoomForHintsError(_refused(error))
        case asyncpg.LockNotAvailableError():
            return RowsLockedError(f"PostgreSQL: {first_line(error)}")
        # An index of somebody else's has nothing to do with keys.
        case asyncpg.UniqueViolationError() if "rowlock" in (error.constraint_name or ""):
            return KeyTakenError(f"PostgreSQL: {first_line(error)}")
    return None


def _is_of_rowlock(error: asyncpg.UndefinedTableError) -> bool:
    """Whether it is a table of rowlock's that is not there, and not one that a trigger wants."""
    return "rowlock_" in str(error)


def is_used_up(pool: Pool) -> bool:
    """Whether every connection that a pool may open is lent."""
    if not isinstance(pool, QueuePool) or pool._max_overflow < 0:
        return False
    return pool.checkedout() >= pool.size() + pool._max_overflow


def _origin(error: BaseException) -> BaseException:
    """The driver's error within SQLAlchemy's two."""
    if isinstance(error, DBAPIError):
        return (error.orig and error.orig.__cause__) or error.orig or error
    return error


def _translation(error: BaseException) -> RowlockError:
    if isinstance(error, PoolTimeoutError):
        return used_up()
    if isinstance(error, UNAVAILABLE) or not isinstance(error, asyncpg.PostgresError):
        # asyncpg's own advice, as where to look for certificates.
        hint = getattr(error, "hint", None) if isinstance(error, asyncpg.InterfaceError) else None
        return DatabaseUnavailableError(
            f"PostgreSQL: {first_line(error)}" + (f": {hint}" if hint else "")
        )
    return DatabaseError(_refused(error))


def _refused(error: asyncpg.PostgresError) -> str:
    return f"PostgreSQL refused a statement: {_reason(error)}"


def _reason(error: asyncpg.PostgresError) -> str:
    state = error.sqlstate or ""
    context = getattr(error, "context", None) or ""
    function = _FUNCTION.search(context)
    where = f" in {function[0]}" if function else ""
    raised = function is not None and "at RAISE" in function[0]
    if raised or (state.startswith(_QUOTING) and state not in _ENCODING):
        return (
            f"{type(error).__name__} ({state}){where}; its text, which may quote what is stored, "
            "is in the server's log"
        )
    remedy = ""
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        remedy = '; the README lists under "Operate it" which rights are needed'
    elif state in _ENCODING:
        remedy = "; rowlock needs a database with the encoding UTF8"
    return f"{first_line(error)}{where}{remedy}"
