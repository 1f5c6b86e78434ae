"""The worker of one process: wires the loops, starts them, drains and stops."""

from __future__ import annotations

import asyncio
import contextvars
import os
import socket
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import Any

from rowlock._background import Background
from rowlock._events import Events, HookFailed, WorkerStopped
from rowlock._executors.context import running_task
from rowlock._executors.handler import Handler
from rowlock._ids import new_id
from rowlock._loop import Loop
from rowlock._store.database import Heard, Hint, HintKind
from rowlock._store.store import Store
from rowlock._worker.cancels import Cancels
from rowlock._worker.claims import Claims
from rowlock._worker.concurrent_pool import ConcurrentPool
from rowlock._worker.contention import StatementGate
from rowlock._worker.finishes import Finishes
from rowlock._worker.held import Held
from rowlock._worker.leases import LeaseThread, lock_timeout
from rowlock._worker.pool import Owner
from rowlock._worker.pools import Pools, close
from rowlock._worker.progress import Reports
from rowlock._worker.quarantine import Quarantine
from rowlock._worker.releases import Releases
from rowlock._worker.settings import WorkerSettings
from rowlock._worker.side_tasks import SideTasks
from rowlock._worker.slot_pool import SlotPool
from rowlock._worker.sweeper import Sweeper

# Seconds that the last writes get, and each loop for its last pass.
_LAST_WRITES = 5.0


def new_holder() -> str:
    """Return a name for this start of this process that no other start has."""
    return f"{socket.gethostname()[:64]}:{os.getpid()}:{new_id()[-12:]}"


class Worker:
    """Runs the handlers of one process.

    Args:
        store: the tasks.
        events: where changes and troubles are emitted.
        settings: how it behaves.
        observed: tells whether anybody wants the changes of a type.
        send: gives a hint to other processes.

    Attributes:
        hears: what is called with the value of each hint of a kind.
    """

    def __init__(
        self,
        store: Store,
        events: Events,
        settings: WorkerSettings,
        observed: Callable[[str], bool],
        send: Callable[[Hint], None],
    ) -> None:
        self.holder = new_holder()
        self._store = store
        self._events = events
        self._settings = settings
        # Of who starts the worker; handlers that are registered later run in no other.
        self._context = contextvars.copy_context()
        self._began_at = time.monotonic()
        self._stop: Background | None = None
        self._grace_ended = asyncio.Event()
        self._side_tasks = SideTasks()
        gate = StatementGate()
        held = self.held = Held(self.holder, store.attempts, events, int(settings.lease * 1000))
        quarantine = Quarantine(store.policy.max_lost_workers, held.jobs)
        self._reports = Reports(store.attempts, self.holder, events)
        self._releases = Releases(store.attempts, held, self._reports, events, send)
        self.pools = Pools(self._releases, self._side_tasks)
        self.finishes = Finishes(
            store.attempts,
            held,
            self._reports,
            quarantine,
            gate,
            events,
            limits=settings.limits,
            observed=observed,
            claim_soon=self._claim_soon,
        )
        self.claims = Claims(
            store,
            held,
            self.pools,
            self._releases,
            self.finishes,
            quarantine,
            gate,
            self._side_tasks,
            events,
            poll_interval=settings.poll_interval,
            observed=observed,
        )
        self.cancels = Cancels(store.attempts, held, events, settings.poll_interval)
        self.hears: Mapping[HintKind, Heard] = {
            HintKind.WORK: self.claims.hint,
            HintKind.CANCEL: self.cancels.hint,
        }
        self._sweeper = Sweeper(store.sweep, events, settings.sweep_interval, settings.lease, held)
        self._leases = LeaseThread(
            held, store.sibling(lock_timeout(settings.lease)), events, settings.lease
        )

    def _claim_soon(self) -> None:
        self.claims.loop.wake()

    # Start and stop.

    async def start(self, handlers: Iterable[Handler]) -> None:
        """Begin to claim.

        Raises:
            DatabaseUnavailableError: if no connection can be had, for leases or for the rest.
        """
        await self._leases.start()
        try:
            await self._store.database.keep_alive()
        except BaseException:
            await asyncio.to_thread(self._leases.stop)
            raise
        for handler in handlers:
            self.set_handler(handler)
        for loop in (
            self.claims.loop,
            self.finishes.loop,
            self._reports.loop,
            self.cancels.loop,
            self._sweeper.loop,
        ):
            loop.start()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stop is not None

    @property
    def stopped(self) -> bool:
        """Whether that has ended, in whichever way."""
        return self._stop is not None and self._stop.ended.done()

    async def stop(
        self, services: Callable[[], Coroutine[Any, Any, Any]], ended: Callable[[], None]
    ) -> None:
        """Drain: claim nothing, finish what runs, put back what has not begun.

        All calls wait for the same end, which comes though they are cancelled.

        Args:
            services: ends meanwhile what was started with the worker; called again if the
                asyncio task that does so was cancelled.
            ended: called once all of it has ended.
        """
        if self._stop is None:
            self.claims.close()
            self._stop = Background(lambda: self._end_with(services, ended), "rowlock stop")
        await self._stop.wait()

    def skip_grace(self) -> None:
        """End the time that running handlers get in a `stop` under way."""
        self._grace_ended.set()

    async def _end_with(
        self, services: Callable[[], Coroutine[Any, Any, Any]], ended: Callable[[], None]
    ) -> None:
        try:
            await asyncio.gather(self._end(), services())
        finally:
            ended()
            self._events.emit(self._tally())

    async def _end(self) -> None:
        try:
            await self._drain()
        finally:
            await asyncio.to_thread(self._leases.stop)

    async def _drain(self) -> None:
        await self._end_loops(self.claims.loop, self._sweeper.loop)
        pools = self.pools.all()
        await self._releases.put_back([job for pool in pools for job in pool.take_waiting()])
        closing = asyncio.create_task(close(pools))
        skipped = asyncio.create_task(self._grace_ended.wait())
        waiting: set[asyncio.Task[Any]] = {closing, skipped}
        await asyncio.wait(
            waiting,
            timeout=self._settings.stop_timeout,
            return_when=asyncio.FIRST_COMPLETED,
        )
        skipped.cancel()
        late = [job for pool in pools for job in pool.running]
        for job in late:
            job.begun = True
            job.abandon()
        await self._releases.put_back(late)
        await asyncio.wait({closing}, timeout=1)
        for pool in pools:
            pool.abort()
        # A handler that swallows its cancellation must not keep `stop` for ever.
        await asyncio.wait({closing}, timeout=1)
        closing.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WRITES):
                while not self.finishes.is_idle:
                    self.finishes.loop.wake()
                    await asyncio.sleep(0.005)
        await self._end_loops(self.finishes.loop, self._reports.loop, self.cancels.loop)
        await self._side_tasks.wait(_LAST_WRITES)

    async def _end_loops(self, *loops: Loop) -> None:
        await asyncio.gather(*(loop.end(_LAST_WRITES) for loop in loops))

    def _tally(self) -> WorkerStopped:
        """Return what became of what this worker has held."""
        names = ("succeeded", "failed", "retried", "cancelled", "lost", "released")
        return WorkerStopped(
            worker=self.holder,
            seconds=time.monotonic() - self._began_at,
            **{name: self.held.ends[name] for name in names},
        )

    # Handlers.

    def set_handler(self, handler: Handler) -> None:
        """Run a type from now on; what runs with an earlier handler of the type finishes."""
        kind = ConcurrentPool if handler.executor == "async" else SlotPool
        owner = Owner(
            finished=self.finishes.add,
            progressed=self._reports.progressed,
            refill=self.claims.refill,
            give_back=self.claims.give_back,
            hook_failed=self._hook_failed,
        )
        self.pools.add(self._context.run(kind, handler, self._settings.limits, owner))
        self.claims.hint(handler.task_type)

    def _hook_failed(self, task_type: str, error: BaseException) -> None:
        self._events.emit(HookFailed(task_type, error))

    async def remove_handler(self, task_type: str) -> None:
        """Claim a type no more; return when no claim of it is under way."""
        self.pools.remove(task_type)
        await self.claims.wait()

    def runs(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether an asyncio task is a handler's."""
        running = running_task.get(None)
        if running is None or running.runs_in is not task:
            return False
        return self.held.holds((running.id, running.attempt))
