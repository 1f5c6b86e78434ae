"""What users write, as the type checkers of `test_typing` read it. Imported by nobody."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from rowlock import (
    HandlerError,
    HandlerOptions,
    InvalidPayloadError,
    NewTask,
    RowlockError,
    RunningTask,
    ScheduledTaskInfo,
    ScheduledTaskState,
    ScheduledTaskTime,
    SizeLimits,
    SortDirection,
    SortProperty,
    Task,
    TaskError,
    TaskPage,
    TaskQueue,
    TaskScheduler,
    TaskStatus,
    current_task,
)
from rowlock.schema import ignore_rowlock, upgrade

engine: AsyncEngine = create_async_engine("sqlite+aiosqlite:///tasks.db")
sessions = async_sessionmaker(engine)

QUEUES = (
    TaskQueue(),
    TaskQueue("sqlite:///tasks.db"),
    TaskQueue(URL.create("postgresql", host="db", database="tasks")),
    TaskQueue(engine, notify=False, poll_interval=200),
    TaskQueue(
        engine,
        retry_interval=timedelta(seconds=5),
        lease=30_000,
        sweep_interval=timedelta(minutes=1),
        poll_interval=timedelta(milliseconds=200),
        max_lost_workers=3,
        stop_timeout=timedelta(seconds=30),
        limits=SizeLimits(payload_bytes=1024 * 1024, depth=16),
    ),
)

OPTIONS = (
    HandlerOptions(),
    HandlerOptions(timeout=5000, cancel_timeout=1000),
    HandlerOptions(timeout=timedelta(seconds=5), cancel_timeout=timedelta(seconds=1)),
    HandlerOptions(idle_shutdown_timeout=timedelta(minutes=1), max_worker_count=2),
    HandlerOptions(executor="thread", initialise_method="begin", shutdown_method="end"),
    HandlerOptions(executor="process", max_tasks_per_worker=100, max_memory=2**30),
    HandlerOptions(executor=None, timeout=None, max_worker_count=None),
)

TIMES = (
    ScheduledTaskTime(interval_days=1, interval_hours=2, interval_minutes=3, interval_seconds=4),
    ScheduledTaskTime(next_trigger_time=datetime.now(UTC)),
    ScheduledTaskTime(next_trigger_time=datetime.now(UTC) + timedelta(hours=1), interval_days=1),
    ScheduledTaskTime(next_trigger_time=1_800_000_000_000, interval_days=None),
    ScheduledTaskTime(cron="0 9 * * MON-FRI", timezone="Europe/Berlin"),
)


def changed(task: Task) -> None:
    print(task.id)


async def changed_later(task: Task) -> None:
    print(task.id)


async def forwarded(task: Task) -> bool:
    return task.status is TaskStatus.SUCCESS


class Watcher:
    def __init__(self) -> None:
        self.seen: list[Task] = []

    def __call__(self, task: Task) -> int:
        self.seen.append(task)
        return len(self.seen)

    async def changed(self, task: Task) -> None:
        self.seen.append(task)


async def register(queue: TaskQueue, options: Mapping[str, Any]) -> None:
    seen: list[Task] = []
    watcher = Watcher()
    await queue.register_handler("t", __name__, "handler")
    await queue.register_handler("t", __name__, "handler", changed)
    await queue.register_handler("t", __name__, "handler", changed_later)
    await queue.register_handler("t", __name__, "handler", state_change_callback=forwarded)
    await queue.register_handler("t", __name__, "handler", state_change_callback=seen.append)
    await queue.register_handler("t", __name__, "handler", state_change_callback=print)
    await queue.register_handler("t", __name__, "handler", state_change_callback=watcher)
    await queue.register_handler("t", __name__, "handler", state_change_callback=watcher.changed)
    await queue.register_handler(
        "t", __name__, "handler", state_change_callback=lambda task: seen.append(task)
    )
    for given in OPTIONS:
        await queue.register_handler("t", __name__, "handler", options=given)
    await queue.register_handler("t", __name__, "handler", options=options)
    await queue.register_handler("t", __name__, "handler", options={"max_worker_count": 2})
    await queue.register_handler(
        "t", __name__, "handler", options={"executor": "thread", "timeout": timedelta(seconds=5)}
    )
    await queue.unregister_handler("t")


async def create(queue: TaskQueue, connection: AsyncConnection, session: AsyncSession) -> None:
    assert_type(await queue.create("t"), str)
    await queue.create("t", {"a": [1, 2.5, None, {"b": True}]}, retry_count=0, priority=-1)
    await queue.create("t", "text", retry_interval=timedelta(seconds=1), retain_for=-1)
    await queue.create("t", delay=timedelta(minutes=5), retain_for=timedelta(days=1), key="k")
    await queue.create("t", run_at=datetime.now(UTC), connection=connection)
    await queue.create("t", connection=session)
    assert_type(await queue.create_many(NewTask("t", {"n": n}) for n in range(3)), list[str])
    await queue.create_many([NewTask("t", delay=timedelta(hours=1), retain_for=60_000)])
    async with engine.begin() as own, sessions() as other:
        await queue.create_many([NewTask("t")], connection=own)
        await queue.create_many([NewTask("t")], connection=other)


async def look(queue: TaskQueue, task_id: str) -> None:
    task = await queue.get(task_id)
    if task is not None:
        assert_type(task, Task)
        assert_type(task.status, TaskStatus)
        assert_type(task.date_created, datetime)
        assert_type(task.date_completed, datetime | None)
        assert_type(task.retry_interval, int | None)
        assert_type(task.error, TaskError | None)
        if task.error is not None:
            assert_type(task.error.errors, list[TaskError] | None)
            assert_type(task.error.notes, list[str] | None)
        if task.progress is not None:
            assert_type(task.progress.message, str | None)
        print(task.status == "success", task.model_dump_json(by_alias=True))
    page = await queue.query("t", "pending", "dateCreated", "desc", limit=10)
    assert_type(page, TaskPage)
    await queue.query(task_status="failed", sort_property="dateModified", cursor=page.cursor)
    await queue.query(
        task_status=TaskStatus.PENDING,
        sort_property=SortProperty.STATUS,
        sort_direction=SortDirection.DESCENDING,
    )
    counts = await queue.counts("t")
    assert_type(counts["pending"], int)
    assert_type(counts[TaskStatus.PENDING], int)
    assert_type(sum(counts.values()), int)
    for status, count in counts.items():
        print(status.upper(), count, counts.get("failed", 0))
    assert_type(await queue.retry(task_id), bool)
    assert_type(await queue.cancel(task_id, running=True), bool)
    assert_type(await queue.remove(task_id), bool)


async def handler(payload: dict[str, Any]) -> dict[str, Any]:
    task = current_task()
    assert_type(task, RunningTask)
    assert_type(task.cancelled, bool)
    task.progress(0.5, "half-way", checkpoint={"row": 7})
    if payload["amount"] < 0:
        raise HandlerError("no", properties={"amount": payload["amount"]}, retry=False)
    return {"attempt": task.attempt, "row": task.checkpoint}


async def call(due: datetime) -> None:
    print(due)


def call_without() -> None:
    print("due")


async def schedule(queue: TaskQueue) -> None:
    scheduler = TaskScheduler(queue)
    await scheduler.add_task("a", [TIMES[0]], call)
    await scheduler.add_task("b", TIMES, call_without, misfire="catch_up")
    await scheduler.add_task("c", [{"interval_days": 1}], lambda: None)
    await scheduler.add_task(
        "d",
        (time for time in TIMES),
        task_type="t",
        payload={"a": 1},
        retain_for=timedelta(days=1),
        overlap="skip",
    )
    assert_type(await scheduler.tasks_info(), ScheduledTaskInfo)
    assert_type(await scheduler.task_state("a"), ScheduledTaskState | None)
    assert_type(await scheduler.trigger_task("a"), bool)
    assert_type(TaskScheduler.preview(TIMES, 3), list[datetime])
    for times in (await scheduler.tasks_info()).tasks.values():
        assert_type(times[0].next_trigger_time, int | None)


async def life() -> None:
    async with TaskQueue(engine) as queue:
        await queue.start()
        await queue.stop()
    try:
        await queue.open()
    except InvalidPayloadError as error:
        print(error.args)
    except RowlockError as error:
        print(TaskError.from_exception(error, "module.method", limit=1000))
    finally:
        await queue.close()


def attributes() -> None:
    assert_type(OPTIONS[0].timeout, int | None)
    assert_type(OPTIONS[0].cancel_timeout, int)
    assert_type(OPTIONS[0].idle_shutdown_timeout, int)
    assert_type(TIMES[0].interval, int)
    upgrade("sqlite:///tasks.db")
    print(ignore_rowlock())
