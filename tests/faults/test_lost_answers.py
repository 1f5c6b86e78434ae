"""The server commits, and its answer does not come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from rowlock import ScheduledTaskTime, TaskQueue, TaskScheduler
from tests.faults.harness import PATIENCE, Run
from tests.faults.producer import create
from tests.faults.proxy import Proxy, proxied
from tests.support.helpers import eventually
from tests.support.stores import execute

Begin = Callable[[str, str], Awaitable[Run]]
Size = Callable[..., int]

SCHEDULES = 5

CREATE = "INSERT INTO rowlock_task"
CLAIM = ("UPDATE rowlock_task SET status='processing'",)
# Of tasks that are kept, and of those that go with their end.
FINISH = (
    "UPDATE rowlock_task SET status='success'",
    "DELETE FROM rowlock_task USING unnest",
)


async def lose(proxy: Proxy, sql: str) -> None:
    """Lose the next answer to a statement, and wait until it is lost."""
    count = len(proxy.lost)
    proxy.lose_answer(sql)
    await eventually(lambda: len(proxy.lost) > count, PATIENCE, f"lost: {sql}")


async def test_lost_answer_to_create(postgres_url: str, begin: Begin, size: Size) -> None:
    """It is repeated by its key until it is acknowledged: one row for each key.

    Fails where a create with a key inserts a row whatever is there.
    """
    run = await begin("answer lost: create", postgres_url)
    with proxied(run.url) as (proxy, url):
        async with TaskQueue(url) as queue:
            for number in range(size(short=10, ci=100)):
                proxy.lose_answer(CREATE)
                key = f"k{number}"
                assert await create(queue, run.ledger, key, "quick", keyed=True) is None
                task_id = await create(queue, run.ledger, key, "quick", keyed=True)
                assert task_id is not None
                run.cycles += 1
        assert len(proxy.lost) == run.cycles
        run.worker("quick")
        await run.finish()


async def test_lost_answer_to_claim(postgres_url: str, begin: Begin, size: Size) -> None:
    """What it had claimed is run by another attempt when the lease has run out.

    Fails where nobody sweeps (variant "no-sweep").
    """
    run = await lose_while_working("answer lost: claim", CLAIM, postgres_url, begin, size)
    assert run.count("start", attempt=2) > 0


async def test_lost_answer_to_finish(postgres_url: str, begin: Begin, size: Size) -> None:
    """The finish is repeated and refused, and nothing runs again.

    Fails where an attempt runs again whose finish was not answered.
    """
    run = await lose_while_working("answer lost: finish", FINISH, postgres_url, begin, size)
    assert run.count("write", write="finish", accepted=False) > 0
    assert run.count("start") == run.count("start", attempt=1)


async def lose_while_working(
    name: str, statements: Sequence[str], database: str, begin: Begin, size: Size
) -> Run:
    run = await begin(name, database)
    with proxied(run.url) as (proxy, url):
        run.worker("quick", url=url)
        producer = run.producer("quick", gap=0.02)
        await run.ready()
        for _ in range(size(short=6, ci=100)):
            await lose(proxy, run.random.choice(statements))
            run.cycles += 1
            # It works again, or the next answer would be lost to a worker that backs off.
            await run.recorded(
                run.count("change", status="success") + 1, "change", status="success"
            )
        producer.kill()
        await run.finish()
    return run


async def another_trigger(url: str) -> None:
    """Wait for one more task that a schedule has created."""

    async def tasks() -> int:
        ((count,),) = await execute(url, "SELECT count(*) FROM rowlock_task")
        return int(count)

    before = await tasks()

    async def more() -> bool:
        return await tasks() > before

    await eventually(more, PATIENCE, "another trigger")


async def test_lost_answer_to_trigger(postgres_url: str, begin: Begin, size: Size) -> None:
    """Each instant of a schedule makes one task.

    Fails where the advance is written in a transaction of its own, before that of its tasks.
    """
    run = await begin("answer lost: trigger", postgres_url)
    with proxied(run.url) as (proxy, url):
        async with TaskQueue(url) as queue:
            scheduler = TaskScheduler(queue)
            await queue.start()
            start = datetime.now(UTC)
            for number in range(SCHEDULES):
                due = start + timedelta(milliseconds=1000 * number // SCHEDULES)
                time = ScheduledTaskTime(next_trigger_time=due, interval_seconds=1)
                await scheduler.add_task(
                    f"s{number}", [time], task_type="quick", payload={}, misfire="catch_up",
                    retain_for=-1,
                )  # fmt: skip
            for _ in range(size(short=2 * SCHEDULES, ci=100)):
                await lose(proxy, "COMMIT")
                run.cycles += 1
                await another_trigger(run.url)
        run.worker("quick")
        await run.finish()
    created: dict[str, list[datetime]] = {}
    for schedule_id, instant in await execute(
        run.url, "SELECT schedule_id, scheduled_for FROM rowlock_task ORDER BY scheduled_for"
    ):
        created.setdefault(schedule_id, []).append(instant)
    assert len(created) == SCHEDULES
    for instants in created.values():
        assert {later - sooner for sooner, later in pairwise(instants)} == {timedelta(seconds=1)}
    assert sum(map(len, created.values())) > run.cycles
