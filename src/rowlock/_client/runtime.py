"""Where a queue is open, and what runs in it: opened, started, stopped and closed in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from rowlock._background import Background
from rowlock._client.callbacks import Callbacks
from rowlock._client.group_commit import Inserts
from rowlock._client.hints import Hints
from rowlock._client.home import Home
from rowlock._events import Events, WorkerStarted
from rowlock._executors.context import importing
from rowlock._executors.handler import Handler
from rowlock._store.database import Heard, HintKind
from rowlock._store.ends import Policy
from rowlock._store.open import database_of
from rowlock._store.store import Store
from rowlock._store.url import shown
from rowlock.errors import QueueClosedError, QueueStateError
from rowlock.models import Callback

if TYPE_CHECKING:
    from rowlock._worker.settings import WorkerSettings
    from rowlock._worker.worker import Worker


class Service(Protocol):
    """What opens, starts and stops with a queue.

    Attributes:
        hears: what is called with the value of each hint of a kind, while it is started.
    """

    hears: Mapping[HintKind, Heard]

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


class Runtime:
    """What a queue has while it is open, and while it is started.

    Args:
        database: its URL, or the application's engine.
        policy: of failures.
        settings: of the worker.

    Attributes:
        events: of everything in it.
        handlers: by task type.
        callbacks_of: the state change callbacks, by task type.
        services: what opens, starts and stops with it.
        home: where it was opened last.
        worker: while it is started.
        inserts: of the open queue.
        hints: of the open queue.
        worker_store: the store of the open queue by connections of its own, which no call of
            the application can take.
    """

    inserts: Inserts
    hints: Hints
    worker_store: Store

    def __init__(self, database: URL | AsyncEngine, policy: Policy, settings: WorkerSettings):
        self.settings = settings
        self.events = Events()
        self.handlers: dict[str, Handler] = {}
        self.callbacks_of: dict[str, Callback] = {}
        self.services: list[Service] = []
        self.worker: Worker | None = None
        self._database = database
        self._policy = policy
        self._callbacks = Callbacks(self.events, self.callbacks_of.get)
        self.home: Home | None = None
        self._opened: Store | None = None
        self._closing = False
        # The worker beside which the services were started.
        self._serving: Worker | None = None

    # Where it is open.

    @property
    def is_open(self) -> bool:
        """Whether it has been opened, and not closed."""
        return self._opened is not None

    @property
    def is_entered(self) -> bool:
        """Whether the caller may be inside `async with` of the queue."""
        home = self.home
        return home is not None and home.entered and not home.is_gone

    @property
    def store(self) -> Store:
        """The store; the door of every public coroutine that needs the database.

        Raises:
            QueueClosedError: if the queue is not open.
            EventLoopError: if it is open elsewhere.
        """
        if self._opened is None:
            raise QueueClosedError("the queue is not open: use `async with queue:` or open()")
        self.checked_home()
        return self._opened

    def checked_home(self) -> Home:
        """Return where it is open.

        Raises:
            EventLoopError: if that is elsewhere.
        """
        home = self.home
        assert home is not None  # noqa: S101
        home.check()
        return home

    def _home_here(self) -> Home:
        """Return where the queue is to be opened, if it is not open elsewhere."""
        home = self.home
        if home is not None and not home.is_gone:
            if self._opened is not None or home.changing.locked():
                home.check()
            if home.loop is asyncio.get_running_loop():
                return home
        self._forget()
        self.home = Home()
        return self.home

    def _forget(self) -> None:
        """Forget what was left where nobody can close it any more."""
        self._opened = self.worker = self.events.worker = None
        self._closing = False
        self._callbacks.forget()
        for service in self.services:
            service.forget()

    # Open and close.

    async def open(self) -> None:
        """Connect, unless it is open; see `TaskQueue.open`."""
        home = self._home_here()
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
        store = Store(database_of(self._database), self._policy)
        home.held.add(store)
        try:
            await store.database.open()
        except BaseException:
            await _close_stores(home, store)
            raise
        self._opened = store
        self.worker_store = store.for_worker()
        home.held.add(self.worker_store)
        self.inserts = Inserts(store)
        self.hints = Hints(store.database, self.events.emit, enabled=self.settings.notify)
        self.hints.start()
        try:
            for service in tuple(self.services):
                await service.open()
        except BaseException:
            await self._close(home)
            raise

    async def close(self) -> None:
        """Stop, and give back every connection; see `TaskQueue.close`."""
        home = self.home
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
        if self.worker is not None:
            await self._end(home, self.worker)
        await self._callbacks.drain(self.settings.stop_timeout)
        # From here on it goes to its end by itself, and what is opened next is another one.
        store, self._opened = self._opened, None
        await _close_stores(home, store, self.worker_store, hints=self.hints)

    # Start and stop.

    @property
    def is_started(self) -> bool:
        """Whether the worker and the services are started, and not being stopped."""
        worker = self.worker
        return worker is not None and worker is self._serving and not worker.stopping

    async def start(self) -> None:
        """Begin to run tasks; see `TaskQueue.start`."""
        if self._closing:
            raise QueueClosedError("the queue is being closed")
        store, home = self.store, self.checked_home()
        if self.worker is not None and self.worker.stopping:
            self._refuse_inside("start")
        async with home.changing:
            store = self.store
            if (worker := self.worker) is not None:
                if not worker.stopping:
                    return
                await self._end(home, worker)
            await self._start(home, store)

    async def _start(self, home: Home, store: Store) -> None:
        from rowlock._worker.worker import Worker

        self.worker = worker = Worker(
            self.worker_store,
            self.events,
            self.settings,
            self.callbacks_of.__contains__,
            self.hints.send,
        )
        home.held.add(worker)
        self.events.worker = worker.holder
        try:
            await worker.start(self.handlers.values())
        except BaseException:
            home.held.discard(worker)
            self.worker = self.events.worker = None
            raise
        self.hints.listen(worker.hears)
        self.events.emit(
            WorkerStarted(
                worker=worker.holder,
                version=version("rowlock"),
                database=self._shown,
                revision=store.database.revision,
                types=", ".join(map(str, self.handlers.values())) or "none",
            )
        )
        self._serving = worker
        for service in self.services:
            self._start_service(service)

    @property
    def _shown(self) -> str:
        url = self._database.url if isinstance(self._database, AsyncEngine) else self._database
        return shown(url)

    def attach(self, service: Service) -> None:
        """Open, start and stop a service with the queue."""
        is_started = self.is_started
        if is_started:
            self.checked_home()
        self.services.append(service)
        # One that is made during a `stop` is not among those that it stops.
        if is_started:
            self._start_service(service)

    def _start_service(self, service: Service) -> None:
        service.start()
        self.hints.listen(service.hears)

    async def stop(self) -> None:
        """Claim no more and drain; see `TaskQueue.stop`."""
        if self._opened is None:
            return
        home = self.checked_home()
        self._refuse_inside("stop")
        if (worker := self.worker) is not None and worker.stopping:
            worker.skip_grace()
            for service in self.services:
                service.skip_grace()
            await self._end(home, worker)
            return
        if self._closing:
            return  # it is stopped
        async with home.changing:
            if self.worker is not None:
                await self._end(home, self.worker)

    def _refuse_inside(self, name: str) -> None:
        worker, task = self.worker, asyncio.current_task()
        if worker is not None and (
            worker.runs(task) or any(service.runs(task) for service in self.services)
        ):
            raise QueueStateError(
                f"{name}() would wait for the handler, or the function of a scheduled task, that "
                f"calls it; `asyncio.create_task(queue.{name}())` does not"
            )

    async def _end(self, home: Home, worker: Worker) -> None:
        try:
            await worker.stop(self._stop_services, partial(self.hints.unlisten, worker.hears))
        finally:
            if worker.stopped and self.worker is worker:
                self.worker = self.events.worker = None
                home.held.discard(worker)

    async def _stop_services(self) -> None:
        timeout = self.settings.stop_timeout
        try:
            await asyncio.gather(*(service.stop(timeout) for service in self.services))
        finally:
            for service in self.services:
                self.hints.unlisten(service.hears)


async def _close_stores(home: Home, *stores: Store, hints: Hints | None = None) -> None:
    async def close() -> None:
        if hints is not None:
            await hints.close()
        for store in dict.fromkeys(stores):
            await store.database.close()

    # To its end though the caller is cancelled: nobody else could close it any more.
    await Background(close, "rowlock close").wait()
    home.held.difference_update(stores)
