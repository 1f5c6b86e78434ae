"""The errors that rowlock raises: one root and a short tree.

```
RowlockError
├── InvalidArgumentError (also a ValueError)
│   ├── InvalidPayloadError
│   ├── InvalidCursorError
│   └── DuplicateKeyError
├── SchemaError
├── QueueStateError
│   └── QueueClosedError
├── EventLoopError
├── DatabaseUnavailableError
├── DatabaseError
├── RowUnreadableError
├── OutsideTaskError
├── LeaseLostError
├── WorkerProcessError
└── HandlerError
```
"""

from __future__ import annotations

from typing import Any


class RowlockError(Exception):
    """The root of every error that rowlock raises by itself."""


class InvalidArgumentError(RowlockError, ValueError):
    """An argument was refused before any SQL was sent; the message names it."""


class InvalidPayloadError(InvalidArgumentError):
    """A value cannot be stored as JSON exactly and equally on both databases; it says where."""


class InvalidCursorError(InvalidArgumentError):
    """A cursor is damaged, or belongs to another sort, direction or filter."""


class DuplicateKeyError(InvalidArgumentError):
    """A task that has neither failed nor been cancelled has the key already.

    Attributes:
        task_id: the id of that task.
    """

    def __init__(self, message: str, task_id: str) -> None:
        super().__init__(message)
        self.task_id = task_id


class SchemaError(RowlockError):
    """The database has no rowlock schema, or an old one; the message names the command."""


class QueueStateError(RowlockError):
    """The queue cannot do that as it is, or where it is called; the message says what can be done.

    For example `stop` in a handler, which would wait for that handler.
    """


class QueueClosedError(QueueStateError):
    """The queue is used before it was opened or after it was closed."""


class EventLoopError(RowlockError):
    """The queue is used in another event loop or process than the one that opened it."""


class DatabaseUnavailableError(RowlockError):
    """The database did not answer in time, refused the connection, or cannot be written."""


class DatabaseError(RowlockError):
    """The database refused a statement, or is of a kind that rowlock cannot use.

    A right is missing, say, or row security, a constraint or a trigger is against it. The message
    shows no value of a row, and neither does a traceback. The driver's own error, which may, is
    the `__context__`.
    """


class RowUnreadableError(RowlockError):
    """A row of the tables holds what rowlock has not written."""


class OutsideTaskError(RowlockError):
    """`current_task` was called outside a handler."""


class LeaseLostError(RowlockError):
    """The attempt no longer holds its task: its lease ran out, or the task was removed."""


class WorkerProcessError(RowlockError):
    """A worker process ended by a signal or an exit of its own, or could not start."""


class HandlerError(RowlockError):
    """Raised by a handler to say more about its failure than a message.

    Args:
        message: what went wrong; stored as the error's `message`.
        properties: JSON values stored as the error's `properties`. What is no JSON is stored as
            words that say so, and where.
        retry: False ends the task as failed although tries remain; also inside an
            ExceptionGroup, whatever its other members are, but not as the cause of another error.
    """

    def __init__(
        self, message: str, *, properties: dict[str, Any] | None = None, retry: bool = True
    ) -> None:
        super().__init__(message)
        self.properties = properties
        self.retry = retry
