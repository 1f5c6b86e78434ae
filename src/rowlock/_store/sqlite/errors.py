"""What SQLite, its driver and SQLAlchemy raise, as errors of rowlock without a value of any row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from rowlock._store.database import KeyTakenError, NoTableError, first_line, no_schema, used_up
from rowlock.errors import (
    DatabaseError,
    DatabaseUnavailableError,
    InvalidArgumentError,
    RowlockError,
    SchemaError,
)


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Raise what comes from the database as an error of rowlock, without a value of any row."""
    try:
        yield
    except RowlockError:
        raise
    except NoTableError:
        raise no_schema(url) from None
    except PoolTimeoutError:
        raise used_up() from None
    except (sqlite3.Error, DBAPIError) as error:
        cause = _origin(error)
        if _is_of_rowlock(cause):
            raise no_schema(url) from None
        told = f"SQLite {url.database}"
        if _is_unavailable(cause):
            raise DatabaseUnavailableError(f"{told}: {cause}") from (
                error if cause is error else None
            )
        raise DatabaseError(f"{told} refused a statement: {_reason(cause)}") from None


@contextmanager
def translated_of_caller(url: URL) -> Iterator[None]:
    """The same for a connection of the caller's, which may be used wrongly too."""
    try:
        with translated(url):
            yield
    except InvalidRequestError as error:
        raise InvalidArgumentError(f"connection: {first_line(error)}") from None


@contextmanager
def translated_of_migration(name: str) -> Iterator[None]:
    """The same while the schema is changed, where a statement fails that does not fit it."""
    try:
        yield
    except (sqlite3.Error, DBAPIError, OSError) as error:
        cause = _origin(error)
        told = f"{name}: {first_line(cause)}"
        code = getattr(cause, "sqlite_errorcode", None)
        if isinstance(cause, sqlite3.IntegrityError) or code == sqlite3.SQLITE_ERROR:
            raise SchemaError(told) from error
        raise DatabaseUnavailableError(told) from error


def for_operation(error: sqlite3.Error) -> Exception | None:
    """Return what an operation is told of the error of its statement, None if nothing."""
    if _is_of_rowlock(error):
        return NoTableError()
    # An index of somebody else's has nothing to do with keys.
    if isinstance(error, sqlite3.IntegrityError) and "rowlock_task.key" in str(error):
        return KeyTakenError(str(error))
    return None


def _origin(error: BaseException) -> BaseException:
    """The driver's error within SQLAlchemy's."""
    return (error.orig or error) if isinstance(error, DBAPIError) else error


def _is_of_rowlock(error: BaseException) -> bool:
    """Whether a table of rowlock's is not there, and not one that a trigger wants."""
    text = str(error)
    return isinstance(error, sqlite3.OperationalError) and "no such table: rowlock_" in text


def _is_unavailable(error: BaseException) -> bool:
    # For a file that is no database sqlite3 raises the base class. An error without a code is
    # raised by the module itself.
    if isinstance(error, sqlite3.OperationalError):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_ERROR
    return type(error) is sqlite3.DatabaseError


def _reason(error: BaseException) -> str:
    # The text comes from the trigger, which may quote a row.
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_CONSTRAINT_TRIGGER:
        return "a trigger raised an error, whose text may quote what is stored"
    return f"{type(error).__name__}: {error}"
