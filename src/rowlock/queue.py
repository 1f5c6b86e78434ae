"""TaskQueue: what applications and workers use."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Literal, Self

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
)

from rowlock import _arguments as check
from rowlock._client.new_tasks import new_row, retention
from rowlock._client.parts import gathered, in_parts
from rowlock._client.runtime import Runtime
from rowlock._events import TaskChanged
from rowlock._executors.handler import Handler
from rowlock._ids import as_id, new_id
from rowlock._rows import NewRow
from rowlock._store.database import Hint, HintKind
from rowlock._store.ends import Policy
from rowlock._store.open import checked_engine
from rowlock._store.store import Store
from rowlock._store.url import async_url, default_database
from rowlock._worker.settings import WorkerSettings
from rowlock.errors import (
    QueueStateError,
)
from rowlock.models import (
    Callback,
    Duration,
    HandlerOptions,
    NewTask,
    SizeLimits,
    SortDirection,
    SortProperty,
    Task,
    TaskPage,
    TaskStatus,
)

# Of the tasks of a `create_many`, so many are checked before anything is sent, and the rest while
# PostgreSQL stores what came before.
_AHEAD = 1000


class TaskQueue:
    """A durable task queue in a PostgreSQL or SQLite database.

    Use it as an async context manager, or call `open` and `close`. While it is open it belongs to
    the event loop and the process that opened it: its coroutines raise EventLoopError anywhere
    else. In a fork of the process, and where that loop was closed before the queue, `open` opens it
    anew; what was open there it leaves alone.

    Args:
        database: a URL (`postgresql://…`, `sqlite:///…`; the async driver is picked by itself),
            or an `AsyncEngine` of the application's. By default `ROWLOCK_DATABASE_URL`, or
            `sqlite:///rowlock.db`.
        retry_interval: milliseconds between two tries, where the task does not say.
        lease: milliseconds after which a worker that gave no sign of life has lost its tasks;
            at least 1,000.
        sweep_interval: milliseconds between two passes of the sweeper; at least 50.
        poll_interval: milliseconds between two looks for due tasks where no hint came; at
            least 50.
        max_lost_workers: a task that was held by so many workers that were lost is failed.
        stop_timeout: milliseconds that running handlers get to finish in `stop`.
        notify: False to do without hints (NOTIFY on PostgreSQL, looking at the file on SQLite)
            and rely on polling, as behind a pooler that does not pass LISTEN.
        limits: how large what is stored may be.
        keep_failed: milliseconds that a task which ended as failed is kept where its creator
            gave no `retain_for`, so that somebody can look at it and retry it; -1 for ever, 0
            until the next pass of the sweeper. The setting of the queue counts that runs it.

    Raises:
        InvalidArgumentError: for an unknown database, a URL that cannot be heeded in full, or a
            setting out of bounds.
    """

    def __init__(
        self,
        database: str | URL | AsyncEngine | None = None,
        *,
        retry_interval: Duration = 5000,
        lease: Duration = 30_000,
        sweep_interval: Duration = 30_000,
        poll_interval: Duration = 1000,
        max_lost_workers: int = 5,
        stop_timeout: Duration = 30_000,
        notify: bool = True,
        limits: SizeLimits | None = None,
        keep_failed: Duration = timedelta(days=7),
    ) -> None:
        if not isinstance(notify, bool):
            check.refuse("notify", notify, "a bool")
        if limits is not None and not isinstance(limits, SizeLimits):
            check.refuse("limits", limits, "SizeLimits")
        self._limits = SizeLimits() if limits is None else limits
        self._runtime = Runtime(
            checked_engine(database)
            if isinstance(database, AsyncEngine)
            else async_url(default_database() if database is None else database),
            Policy(
                check.duration("retry_interval", retry_interval),
                check.integer("max_lost_workers", max_lost_workers, 1, check.MAX_INTEGER),
                retention("keep_failed", keep_failed),
            ),
            WorkerSettings(
                lease=check.duration("lease", lease, minimum=1000) / 1000,
                sweep_interval=check.duration("sweep_interval", sweep_interval, minimum=50) / 1000,
                poll_interval=check.duration("poll_interval", poll_interval, minimum=50) / 1000,
                stop_timeout=check.duration("stop_timeout", stop_timeout) / 1000,
                notify=notify,
                limits=self._limits,
            ),
        )

    async def __aenter__(self) -> Self:
        if self._runtime.is_entered:
            raise QueueStateError("`async with` of a queue inside another one of the same queue")
        await self.open()
        self._runtime.checked_home().entered = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        home = self._runtime.home
        try:
            await self.close()
        finally:
            if home is not None:
                home.entered = False

    async def open(self) -> None:
        """Connect, and check that the schema is there. Does nothing if the queue is open.

        Raises:
            DatabaseUnavailableError: if the database cannot be reached.
            SchemaError: if the schema is missing or old, and the message names the command; or
                if the table is no single one.
            DatabaseError: if the database refuses to be read, or is not encoded as UTF8.
            EventLoopError: if the queue is open in another event loop.
            QueueStateError: while a worker process imports the module of a handler.
        """
        await self._runtime.open()

    async def close(self) -> None:
        """Stop, and give back every connection. The queue may be opened again.

        State change callbacks get `stop_timeout`, too; one that calls this goes on after it.

        Raises:
            EventLoopError: if the queue is open in another event loop, or before a fork.
            QueueStateError: in an async handler, or a function, for which it would wait.
        """
        await self._runtime.close()

    async def start(self) -> None:
        """Begin to run tasks of the registered types in this process, and to sweep.

        Does nothing if the queue is started; while it stops, waits for the end of that.

        Raises:
            QueueClosedError: if the queue is not open.
            DatabaseUnavailableError: if the connections that a worker needs cannot be had.
        """
        await self._runtime.start()

    async def stop(self) -> None:
        """Claim no more; give what runs `stop_timeout` to finish, and put the rest back.

        What was claimed and has not begun, or still runs at the end of the time, goes back to
        pending without losing a try. Calling it again meanwhile ends the time at once.

        Raises:
            EventLoopError: if the queue is open in another event loop, or before a fork.
            QueueStateError: in an async handler, or a function, for which it would wait.
        """
        await self._runtime.stop()

    @property
    def runtime(self) -> Runtime:
        """What runs in the queue, for other parts of this library; no application needs it."""
        return self._runtime

    @property
    def has_scheduler(self) -> bool:
        """Whether a `TaskScheduler` was made for it."""
        return bool(self._runtime.services)

    @property
    def task_types(self) -> list[str]:
        """The task types that this process has handlers for, sorted."""
        return sorted(self._runtime.handlers)

    @property
    def _store(self) -> Store:
        return self._runtime.store

    # Handlers.

    async def register_handler(
        self,
        task_type: str,
        module: str,
        method: str,
        state_change_callback: Callback | None = None,
        options: HandlerOptions | Mapping[str, Any] | None = None,
    ) -> None:
        """Let this process run a task type. Registering a type again replaces its handler.

        Args:
            task_type: the type.
            module: the module's dotted name, as in `import`.
            method: the name of the handler, a `def` or `async def` function of the module. It
                is called with the payload, or with nothing if it takes nothing. What it returns
                is the task's result: a JSON value, with pydantic models and dataclasses in it,
                which are stored as their JSON by alias. What cannot be stored fails the task,
                without further tries.
            state_change_callback: called in this process, after each change of a task of the
                type that this process makes, with the task as it is after the change.
            options: how its workers run; also as a mapping of its fields.

        Raises:
            InvalidArgumentError: if a name cannot be imported, or an option does not fit.
            EventLoopError: if the queue is started in another event loop.
        """
        runtime = self._runtime
        if runtime.worker is not None:
            runtime.checked_home()
        task_type = check.label("task_type", task_type, self._limits.name_length)
        if state_change_callback is not None:
            check.function("state_change_callback", state_change_callback)
        options = check.model("options", options, HandlerOptions)
        handler = Handler.resolve(task_type, module, method, options)
        runtime.handlers[task_type] = handler
        runtime.callbacks_of.pop(task_type, None)
        if state_change_callback is not None:
            runtime.callbacks_of[task_type] = state_change_callback
        if runtime.worker is not None:
            runtime.worker.set_handler(handler)

    async def unregister_handler(self, task_type: str) -> None:
        """Claim the type no more in this process, from the return on. What runs finishes."""
        runtime = self._runtime
        if runtime.worker is not None:
            runtime.checked_home()
        task_type = check.label("task_type", task_type, self._limits.name_length)
        runtime.handlers.pop(task_type, None)
        if runtime.worker is not None:
            await runtime.worker.remove_handler(task_type)

    # Tasks.

    async def create(
        self,
        task_type: str,
        payload: Any = None,
        *,
        retry_count: int | None = None,
        retry_interval: Duration | None = None,
        retain_for: Duration | None = None,
        priority: int = 0,
        run_at: datetime | None = None,
        delay: Duration | None = None,
        key: str | None = None,
        on_duplicate: Literal["return", "raise"] = "return",
        connection: AsyncConnection | AsyncSession | None = None,
    ) -> str:
        """Store a task. It is durable when this returns (or when the caller's transaction is).

        Args:
            task_type: which handler is to run it, in this process or another.
            payload: a JSON value; see `SizeLimits`.
            retry_count: how often a failure is tried again; None for ever, 0 never.
            retry_interval: milliseconds between two tries; None for the queue's default.
            retain_for: milliseconds that the row is kept after its end; 0 removes it at once,
                -1 keeps it for ever. None: it is removed at once, but if it has failed, kept for
                the `keep_failed` of the queue that ran it.
            priority: the higher first, among the due tasks of a type.
            run_at: not before this instant.
            delay: not before so many milliseconds from now; excludes `run_at`.
            key: an idempotency key, unique among the tasks of the type that have neither failed
                nor been cancelled: if one has it, no row is made.
            on_duplicate: what then: "return" the id of that task, or "raise".
            connection: the caller's own connection or session to the same database; the task
                commits or rolls back with it. On SQLite a transaction that spans an `await`
                keeps every writer waiting, so commit soon.

        Returns:
            The id of the task: 32 lower-case hex digits; with a `key` that a task has, of that
            task.

        Raises:
            InvalidArgumentError: if an argument is refused; InvalidPayloadError for the payload;
                DuplicateKeyError with `on_duplicate="raise"`, if a task has the key.
            QueueClosedError: if the queue is not open.
            DatabaseUnavailableError: if the database cannot be reached.
            DatabaseError: if it refuses the task, as a constraint or a missing right does.
        """
        store = self._store
        task = NewTask(
            task_type,
            payload,
            retry_count=retry_count,
            retry_interval=retry_interval,
            retain_for=retain_for,
            priority=priority,
            run_at=run_at,
            delay=delay,
            key=key,
            on_duplicate=on_duplicate,
        )
        row = new_row(task, self._limits)
        if connection is not None:
            return (await self._create_on(store, connection, [row]))[0]
        runtime = self._runtime
        inserts, hints = runtime.inserts, runtime.hints
        notify = inserts.goes_alone(row) and hints.goes_along()
        task_id = await inserts.insert(row, notify=notify)
        hints.tell((Hint(HintKind.WORK, row.type),), sent=notify)
        return task_id

    async def create_many(
        self,
        tasks: Iterable[NewTask],
        *,
        connection: AsyncConnection | AsyncSession | None = None,
    ) -> list[str]:
        """Store many tasks, all or none, much faster than one by one.

        Args:
            tasks: what to store. Their payloads are read until this returns.
            connection: as in `create`.

        Returns:
            The ids in the order given; new ones ascend.

        Raises:
            InvalidArgumentError: if an argument of any of them is refused, or one that is to
                raise has a key that a task has; nothing is stored.
            QueueClosedError: if the queue is not open.
            DatabaseUnavailableError: if the database cannot be reached.
            DatabaseError: if it refuses a task; nothing is stored.
        """
        store = self._store
        if isinstance(tasks, str | bytes) or not isinstance(tasks, Iterable):
            check.refuse("tasks", tasks, "an iterable of NewTask")
        # The ids before any clock is asked: a task is not older than its first change.
        given: deque[NewTask] = deque()
        ids: list[str] = []
        async for part in in_parts(tasks):
            for task in part:
                if not isinstance(task, NewTask):
                    check.refuse("tasks", task, "NewTask")
            given += part
            ids += [new_id() for _ in part]
        if not given:
            return []
        has_keys = any(task.key is not None for task in given)
        types: set[str] = set()
        rows = in_parts(self._new_rows(given, ids, types))
        if connection is not None:
            return await self._create_on(store, connection, await gathered(rows))
        if has_keys:
            ids = await store.tasks.insert_many(await gathered(rows))
        else:
            first: list[NewRow] = []
            async for checked in rows:
                first += checked
                if len(first) >= _AHEAD:
                    break
            await store.tasks.insert_new(first, rows)
        self._runtime.hints.tell(_work_of(types))
        return ids

    async def get(self, task_id: str) -> Task | None:
        """Return a task, None if there is none with this id (any more), or it cannot be an id."""
        store = self._store
        known = as_id(task_id)
        return None if known is None else await store.tasks.get(known)

    async def retry(self, task_id: str) -> bool:
        """Run a task now that waits for its next try, or that has failed or was cancelled.

        Returns:
            False if it is neither, or there is none; then nothing has changed.

        Raises:
            DuplicateKeyError: if another task has got its key since it ended.
        """
        store = self._store
        known = as_id(task_id)
        task = None if known is None else await store.tasks.retry(known)
        if task is None:
            return False
        self._runtime.events.emit(TaskChanged(task))
        self._runtime.hints.tell(_work_of({task.type}))
        return True

    async def cancel(self, task_id: str, *, running: bool = False) -> bool:
        """Cancel a pending task.

        Args:
            task_id: which.
            running: a task that runs, in whichever process, is cancelled too. Its holder is
                asked and stops the handler, so the task ends a little later: as cancelled,
                unless its success is stored before its holder hears of it. A handler in the
                loop gets a CancelledError; one in a process or a thread may look at
                `current_task().cancelled`, and is killed or given up after `cancel_timeout`.

        Returns:
            False if it is neither, or there is none; then nothing has changed.
        """
        if not isinstance(running, bool):
            check.refuse("running", running, "a bool")
        store = self._store
        known = as_id(task_id)
        task = None if known is None else await store.tasks.cancel(known, running=running)
        if task is None:
            return False
        if task.status is not TaskStatus.PROCESSING:
            self._runtime.events.emit(TaskChanged(task))
            return True
        self._runtime.hints.tell((Hint(HintKind.CANCEL, task.thread_id),))
        return True

    async def remove(self, task_id: str) -> bool:
        """Delete a task whatever its status; if a worker holds it, its outcome is dropped.

        Returns:
            False if there was none.
        """
        store = self._store
        known = as_id(task_id)
        return False if known is None else await store.tasks.remove(known)

    async def query(
        self,
        task_type: str | None = None,
        task_status: TaskStatus | str | None = None,
        sort_property: SortProperty | str = SortProperty.DATE_CREATED,
        sort_direction: SortDirection | str = SortDirection.ASCENDING,
        cursor: str | None = None,
        limit: int = 40,
    ) -> TaskPage:
        """Return a page of tasks. Its cost does not grow with its depth.

        Args:
            task_type: only tasks of this type.
            task_status: only tasks with this status.
            sort_property: what to sort by. Ties are broken by id; tasks without the value come
                last in either direction.
            sort_direction: which way.
            cursor: of the page before; the other arguments but `limit` must be the same.
            limit: how many tasks, 1 to 500.

        Raises:
            InvalidArgumentError: if an argument is refused.
            InvalidCursorError: if the cursor is damaged or of another walk.
        """
        store = self._store
        if task_type is not None:
            task_type = check.label("task_type", task_type, self._limits.name_length)
        if task_status is not None:
            task_status = check.member("task_status", task_status, TaskStatus)
        return await store.pages.page(
            task_type,
            task_status,
            check.member("sort_property", sort_property, SortProperty),
            check.member("sort_direction", sort_direction, SortDirection),
            cursor,
            check.integer("limit", limit, 1, 500),
        )

    async def counts(self, task_type: str | None = None) -> dict[str, int]:
        """Return how many tasks there are of each status. Reads an index of all of them.

        Returns:
            By status, which is a `TaskStatus` and its string alike: `counts["pending"]`.
        """
        if task_type is not None:
            task_type = check.label("task_type", task_type, self._limits.name_length)
        found = await self._store.tasks.counts(task_type)
        return {status: found.get(status, 0) for status in TaskStatus}

    def _new_rows(
        self, tasks: deque[NewTask], ids: Iterable[str], types: set[str]
    ) -> Iterator[NewRow]:
        for task_id in ids:
            # To free all of them at once would take long, too.
            row = new_row(tasks.popleft(), self._limits, task_id)
            types.add(row.type)
            yield row

    async def _create_on(
        self, store: Store, connection: AsyncConnection | AsyncSession, rows: list[NewRow]
    ) -> list[str]:
        if not isinstance(connection, AsyncConnection | AsyncSession):
            check.refuse("connection", connection, "an AsyncConnection or AsyncSession")
        with store.database.for_caller():
            if isinstance(connection, AsyncSession):
                connection = await connection.connection()
            await store.database.accept(connection)
            ids = await store.tasks.insert_on(connection, rows)
            if self._runtime.settings.notify:
                await store.database.hint_on(connection, _work_of({row.type for row in rows}))
        return ids


def _work_of(types: Iterable[str]) -> list[Hint]:
    return [Hint(HintKind.WORK, task_type) for task_type in types]
