"""TaskQueue: what applications and workers use."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from importlib.metadata import version
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeVar

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
)

from rowlock import _arguments as check
from rowlock._background import Background
from rowlock._client.callbacks import Callbacks
from rowlock._client.group_commit import Inserts
from rowlock._client.home import Home
from rowlock._events import Events, TaskChanged, WorkerStarted
from rowlock._executors.context import importing
from rowlock._executors.handler import Handler
from rowlock._ids import as_id, new_id
from rowlock._json import dumps
from rowlock._loop import Loop
from rowlock._rows import KEEP_IF_FAILED, NewRow
from rowlock._store.ends import Policy
from rowlock._store.open import checked_engine, database_of
from rowlock._store.store import Store
from rowlock._store.url import async_url, default_database, shown
from rowlock.errors import (
    DatabaseUnavailableError,
    QueueClosedError,
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

if TYPE_CHECKING:
    from rowlock._worker.worker import Worker

T = TypeVar("T")

# Hints of one process are at least this many seconds apart: NOTIFY lets one commit wait for
# another. One that goes with an INSERT is a whole round trip sooner, but others wait until that
# is on disk, so it needs a longer silence.
_HINT_GAP = 0.005
_HINT_SILENCE = 0.010
_NO_HINT = 3600.0
# Of the tasks of a `create_many`, so many are checked before anything is sent, and the rest while
# PostgreSQL stores what came before.
_AHEAD = 1000
# Others may run after so many seconds of it; to send what was checked takes as long again.
_SLICE = 0.005


class Service(Protocol):
    """What opens, starts and stops with a queue."""

    async def open(self) -> None:
        """Write what was kept until the queue is open."""

    def start(self) -> None:
        """Begin."""

    async def stop(self, timeout: float) -> None:
        """End; what runs gets so many seconds. If it is cancelled, it is called again."""

    def skip_grace(self) -> None:
        """End the grace period of a `stop` that is under way."""

    def runs(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether `stop` would wait for an asyncio task."""

    def forget(self) -> None:
        """Forget what ran in an event loop that is closed, or before a fork."""


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
        self._database = (
            checked_engine(database)
            if isinstance(database, AsyncEngine)
            else async_url(default_database() if database is None else database)
        )
        self._retry_interval = check.duration("retry_interval", retry_interval)
        self._lease = check.duration("lease", lease, minimum=1000)
        self._sweep_interval = check.duration("sweep_interval", sweep_interval, minimum=50)
        self._poll_interval = check.duration("poll_interval", poll_interval, minimum=50)
        self._max_lost_workers = check.integer(
            "max_lost_workers", max_lost_workers, 1, check.MAX_INTEGER
        )
        self._stop_timeout = check.duration("stop_timeout", stop_timeout)
        self._keep_failed = _retention("keep_failed", keep_failed)
        if not isinstance(notify, bool):
            check.refuse("notify", notify, "a bool")
        if limits is not None and not isinstance(limits, SizeLimits):
            check.refuse("limits", limits, "SizeLimits")
        self._notify = notify
        self._limits = SizeLimits() if limits is None else limits
        self._handlers: dict[str, Handler] = {}
        self._callbacks_of: dict[str, Callback] = {}
        self._events = Events()
        self._callbacks = Callbacks(self._events, self._callbacks_of.get)
        self._home: Home | None = None
        self._opened: Store | None = None
        self._worker_store: Store
        self._entered = False
        self._closing = False
        self._inserts: Inserts
        self._worker: Worker | None = None
        self._services: list[Service] = []
        self._hinted: set[str] = set()
        self._hinted_at = 0.0
        self._hints = Loop("hints", self._send_hints, self._events.emit)

    async def __aenter__(self) -> Self:
        if self._entered and not self._is_gone():
            raise QueueStateError("`async with` of a queue inside another one of the same queue")
        await self.open()
        self._entered = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.close()
        finally:
            self._entered = False

    async def open(self) -> None:
        """Connect, and check that the schema is there. Does nothing if the queue is open.

        Raises:
            DatabaseUnavailableError: if the database cannot be reached.
            SchemaError: if the schema is missing or old, and the message names the command; or
                if the table is no single one.
            DatabaseError: if the database refuses to be read, or is not encoded as UTF8.
            EventLoopError: if the queue is open in another event loop.
        """
        home = self._settle()
        if self._opened is not None and not self._closing:
            return
        if self._closing and self._callbacks.is_calling():
            raise QueueClosedError("the queue is being closed, which waits for this callback")
        async with home.changing:
            if self._opened is None:
                await self._open(home)

    async def _open(self, home: Home) -> None:
        if importing.get():
            raise QueueStateError(
                "the module of a handler opens a queue while a worker process imports it: "
                'put that under `if __name__ == "__main__":`, or the handler into another module'
            )
        policy = Policy(self._retry_interval, self._max_lost_workers, self._keep_failed)
        store = Store(database_of(self._database), policy)
        home.held.add(store)
        try:
            await store.database.open()
        except BaseException:
            await self._close_store(home, store)
            raise
        self._opened = store
        self._worker_store = store.for_worker()
        home.held.add(self._worker_store)
        self._inserts = Inserts(store)
        if self._notify:
            self._hints = Loop("hints", self._send_hints, self._events.emit)
            self._hints.start()
        try:
            for companion in tuple(self._services):
                await companion.open()
        except BaseException:
            await self._close(home)
            raise

    async def close(self) -> None:
        """Stop, and give back every connection. The queue may be opened again.

        State change callbacks get `stop_timeout`, too; one that calls this goes on after it.

        Raises:
            EventLoopError: if the queue is open in another event loop, or before a fork.
            RowlockError: in an async handler, or a function, for which it would wait.
        """
        home = self._home
        if home is None or home.loop.is_closed():
            self._forget()
            return
        if self._opened is None and not home.changing.locked():
            return
        home.check()
        self._refuse_inside("close")
        if self._closing and self._callbacks.is_calling():
            return  # the other `close` waits for this callback
        async with home.changing:
            self._closing = True
            try:
                await self._close(home)
            finally:
                self._closing = False

    async def _close(self, home: Home) -> None:
        if self._opened is None:
            return
        if self._worker is not None:
            await self._end(home, self._worker)
        await self._callbacks.drain(self._stop_timeout / 1000)
        if self._notify:
            await self._hints.end(1)
            with suppress(Exception):
                async with asyncio.timeout(1):
                    await self._send_hints()
        store, self._opened = self._opened, None
        await self._close_store(home, store, self._worker_store)

    @staticmethod
    async def _close_store(home: Home, *stores: Store) -> None:
        async def close() -> None:
            for store in dict.fromkeys(stores):
                await store.database.close()

        # To its end though the caller is cancelled: nobody else could close it any more.
        await Background(close, "rowlock close").wait()
        home.held.difference_update(stores)

    @property
    def _store(self) -> Store:
        # The door of every public coroutine that needs the database, before it does anything.
        if self._opened is None:
            raise _not_open()
        self._checked_home()
        return self._opened

    @property
    def _shown(self) -> str:
        url = self._database.url if isinstance(self._database, AsyncEngine) else self._database
        return shown(url)

    # Where it is open.

    def _checked_home(self) -> Home:
        home = self._home
        assert home is not None  # noqa: S101
        home.check()
        return home

    def _is_gone(self) -> bool:
        return self._home is not None and self._home.is_gone

    def _settle(self) -> Home:
        """Return where the queue is to be opened, if it is not open elsewhere."""
        home = self._home
        if home is not None and not home.is_gone:
            if self._opened is not None or home.changing.locked():
                home.check()
            if home.loop is asyncio.get_running_loop():
                return home
        self._forget()
        self._home = Home()
        return self._home

    def _forget(self) -> None:
        """Forget what was left where nobody can close it any more."""
        self._opened = self._worker = self._events.worker = None
        self._entered = self._closing = False
        self._hinted = set()
        self._callbacks.forget()
        for companion in self._services:
            companion.forget()

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
        if self._worker is not None:
            self._checked_home()
        task_type = check.label("task_type", task_type, self._limits.name_length)
        if state_change_callback is not None:
            check.function("state_change_callback", state_change_callback)
        options = check.model("options", options, HandlerOptions)
        self._handlers[task_type] = handler = Handler.resolve(task_type, module, method, options)
        self._callbacks_of.pop(task_type, None)
        if state_change_callback is not None:
            self._callbacks_of[task_type] = state_change_callback
        if self._worker is not None:
            self._worker.set_handler(handler)

    async def unregister_handler(self, task_type: str) -> None:
        """Claim the type no more in this process, from the return on. What runs finishes."""
        if self._worker is not None:
            self._checked_home()
        task_type = check.label("task_type", task_type, self._limits.name_length)
        self._handlers.pop(task_type, None)
        if self._worker is not None:
            await self._worker.remove_handler(task_type)

    async def start(self) -> None:
        """Begin to run tasks of the registered types in this process, and to sweep.

        Does nothing if the queue is started; while it stops, waits for the end of that.

        Raises:
            QueueClosedError: if the queue is not open.
            DatabaseUnavailableError: if the connections that a worker needs cannot be had.
        """
        if self._closing:
            raise QueueClosedError("the queue is being closed")
        store, home = self._store, self._checked_home()
        if self._worker is not None and self._worker.stopping is not None:
            self._refuse_inside("start")
        async with home.changing:
            store = self._store
            if (worker := self._worker) is not None:
                if worker.stopping is None:
                    return
                await self._end(home, worker)
            await self._start(home, store)

    async def _start(self, home: Home, store: Store) -> None:
        from rowlock._worker.worker import Worker, WorkerSettings

        self._worker = worker = Worker(
            self._worker_store,
            self._events,
            WorkerSettings(
                lease=self._lease / 1000,
                sweep_interval=self._sweep_interval / 1000,
                poll_interval=self._poll_interval / 1000,
                stop_timeout=self._stop_timeout / 1000,
                notify=self._notify,
                limits=self._limits,
            ),
            self._callbacks_of.__contains__,
        )
        home.held.add(worker)
        self._events.worker = worker.holder
        try:
            await worker.start(self._handlers.values())
        except BaseException:
            home.held.discard(worker)
            self._worker = self._events.worker = None
            raise
        self._events.emit(
            WorkerStarted(
                worker=worker.holder,
                version=version("rowlock"),
                database=self._shown,
                revision=store.database.revision,
                types=", ".join(map(str, self._handlers.values())) or "none",
            )
        )
        for companion in self._services:
            companion.start()

    def _attach(self, companion: Service) -> None:
        is_started = self._worker is not None and self._worker.stopping is None
        if is_started:
            self._checked_home()
        self._services.append(companion)
        # One that is made during a `stop` is not among those that it stops.
        if is_started:
            companion.start()

    async def stop(self) -> None:
        """Claim no more; give what runs `stop_timeout` to finish, and put the rest back.

        What was claimed and has not begun, or still runs at the end of the time, goes back to
        pending without losing a try. Calling it again meanwhile ends the time at once.

        Raises:
            EventLoopError: if the queue is open in another event loop, or before a fork.
            RowlockError: in an async handler, or a function, for which it would wait.
        """
        if self._opened is None:
            return
        home = self._checked_home()
        self._refuse_inside("stop")
        if (worker := self._worker) is not None and worker.stopping is not None:
            worker.skip_grace()
            for companion in self._services:
                companion.skip_grace()
            await self._end(home, worker)
            return
        if self._closing:
            return  # it is stopped
        async with home.changing:
            if self._worker is not None:
                await self._end(home, self._worker)

    def _refuse_inside(self, name: str) -> None:
        worker, task = self._worker, asyncio.current_task()
        if worker is not None and (
            worker.runs(task) or any(companion.runs(task) for companion in self._services)
        ):
            raise QueueStateError(
                f"{name}() would wait for the handler, or the function of a scheduled task, that "
                f"calls it; `asyncio.create_task(queue.{name}())` does not"
            )

    async def _end(self, home: Home, worker: Worker) -> None:
        if worker.stopping is None:
            worker.stopping = Background(lambda: self._stop(worker), "rowlock stop")
        try:
            await worker.stopping.wait()
        finally:
            if worker.stopping.ended.done() and self._worker is worker:
                self._worker = self._events.worker = None
                home.held.discard(worker)

    async def _stop(self, worker: Worker) -> None:
        timeout = self._stop_timeout / 1000
        stops = (companion.stop(timeout) for companion in self._services)
        try:
            await asyncio.gather(worker.stop(), *stops)
        finally:
            self._events.emit(worker.tally())

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
        row = self._new_row(
            NewTask(
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
        )
        if connection is not None:
            return (await self._create_on(store, connection, [row]))[0]
        notify = self._notify and self._inserts.goes_alone(row) and self._is_silent()
        if notify:
            self._hinted_at = time.monotonic()
        task_id = await self._inserts.insert(row, notify=notify)
        self._hint({row.type}, told=notify)
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
        async for part in _in_parts(tasks):
            for task in part:
                if not isinstance(task, NewTask):
                    check.refuse("tasks", task, "NewTask")
            given += part
            ids += [new_id() for _ in part]
        if not given:
            return []
        has_keys = any(task.key is not None for task in given)
        types: set[str] = set()
        rows = _in_parts(self._new_rows(given, ids, types))
        if connection is not None:
            return await self._create_on(store, connection, await _all(rows))
        if has_keys:
            ids = await store.tasks.insert_many(await _all(rows))
        else:
            first: list[NewRow] = []
            async for checked in rows:
                first += checked
                if len(first) >= _AHEAD:
                    break
            await store.tasks.insert_new(first, rows)
        self._hint(types)
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
        self._events.emit(TaskChanged(task))
        self._hint({task.type})
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
            self._events.emit(TaskChanged(task))
            return True
        if self._worker is not None:
            self._worker.hint_cancel(task.thread_id)
        if self._notify:
            with suppress(DatabaseUnavailableError):  # it is stored, and the holder will look
                await self._store.database.hint_cancel(task.thread_id)
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
            row = self._new_row(tasks.popleft(), task_id)
            types.add(row.type)
            yield row

    def _new_row(self, task: NewTask, task_id: str | None = None) -> NewRow:
        limits = self._limits
        if task.run_at is not None and task.delay is not None:
            check.refuse("delay", task.delay, "only one of run_at and delay")
        if task.on_duplicate not in ("return", "raise"):
            check.refuse("on_duplicate", task.on_duplicate, "'return' or 'raise'")
        return NewRow(
            id=new_id() if task_id is None else task_id,
            type=check.label("task_type", task.task_type, limits.name_length),
            payload=None
            if task.payload is None
            else dumps(
                task.payload,
                name="payload",
                max_bytes=limits.payload_bytes,
                max_depth=limits.depth,
            ),
            retries_remaining=None
            if task.retry_count is None
            else check.integer("retry_count", task.retry_count, 0, check.MAX_INTEGER),
            retry_interval=None
            if task.retry_interval is None
            else check.duration("retry_interval", task.retry_interval),
            retain_for=KEEP_IF_FAILED
            if task.retain_for is None
            else _retention("retain_for", task.retain_for),
            priority=check.integer(
                "priority", task.priority, -check.MAX_INTEGER, check.MAX_INTEGER
            ),
            run_at=None if task.run_at is None else check.instant("run_at", task.run_at),
            delay=0 if task.delay is None else check.duration("delay", task.delay),
            key=None if task.key is None else check.label("key", task.key, limits.name_length),
            refuses=task.on_duplicate == "raise",
        )

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
            if self._notify:
                await store.database.hint_on(connection, {row.type for row in rows})
        return ids

    # Hints.

    def _hint(self, types: set[str], *, told: bool = False) -> None:
        if self._worker is not None:
            for task_type in types:
                self._worker.hint(task_type)
        if self._notify and not told:
            self._hinted |= types
            self._hints.wake()

    def _is_silent(self) -> bool:
        return not self._hinted and time.monotonic() - self._hinted_at >= _HINT_SILENCE

    async def _send_hints(self) -> float:
        if not self._hinted:
            return _NO_HINT
        await asyncio.sleep(self._hinted_at + _HINT_GAP - time.monotonic())
        hinted, self._hinted = self._hinted, set()
        self._hinted_at = time.monotonic()
        try:
            await self._store.database.hint(hinted)
        except Exception:
            self._hinted |= hinted
            raise
        return _NO_HINT


def _retention(name: str, value: Duration) -> int:
    if type(value) is int and value == -1:
        return -1
    return check.duration(name, value)


def _not_open() -> QueueClosedError:
    return QueueClosedError("the queue is not open: use `async with queue:` or open()")


async def _in_parts(items: Iterable[T]) -> AsyncIterator[list[T]]:
    """Take many items, and let others run after each slice of the time."""
    left = iter(items)
    clock = time.perf_counter
    while True:
        part: list[T] = []
        end = clock() + _SLICE
        for item in left:
            part.append(item)
            if clock() > end:
                break
        else:
            yield part
            return
        yield part
        await asyncio.sleep(0)


async def _all(parts: AsyncIterator[list[T]]) -> list[T]:
    return [item async for part in parts for item in part]
