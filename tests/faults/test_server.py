"""The server crashes, becomes read-only, or has no room left."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.faults.harness import PATIENCE, Run
from tests.faults.servers import Server, server
from tests.support.helpers import eventually

Begin = Callable[[str, str], Awaitable[Run]]
Size = Callable[..., int]

# Megabytes; a new server takes a third of them.
DISK = 160
WRITABLE_WITHIN = 5.0


@pytest.fixture
def own_server(postgres_server_url: str) -> Iterator[Server]:
    """A server to hurt. Where the other tests have none, there is none here."""
    with server() as own:
        yield own


async def test_server_crash(own_server: Server, begin: Begin, size: Size) -> None:
    """It is stopped in immediate mode in the midst of the work, and started again.

    Fails where a create is acknowledged before its row is durable (variant "acknowledge-early"),
    and where commits do not wait for the disk (`synchronous_commit=off` in `server.start`).
    """
    run = await begin("server crash", own_server.url)
    workers = [run.worker("quick", options={"max_worker_count": 4}) for _ in range(2)]
    producer = run.producer("quick", payload={"seconds": 0.02}, gap=0.01, keyed=True)
    await run.ready()
    for _ in range(size(short=3, ci=100, long=500)):
        await run.recorded(run.count("end") + run.random.randrange(1, 60), "end")
        own_server.crash()
        own_server.start()
        run.cycles += 1
        assert all(node.process.poll() is None for node in [*workers, producer]), run.log()
    await run.recorded(run.count("acknowledged") + 1, "acknowledged")
    producer.kill()
    # More was created meanwhile than was run.
    await run.finish(PATIENCE + run.cycles)


@pytest.fixture
def small_server(postgres_server_url: str) -> Iterator[Server]:
    with server(megabytes=DISK) as small:
        yield small


async def test_disk_full(small_server: Server, begin: Begin, size: Size) -> None:
    """What cannot be stored is refused with an error that says why.

    Fails where a create is acknowledged before its row is durable (variant "acknowledge-early").
    """
    run = await begin("disk full", small_server.url)
    worker = run.worker("quick", options={"max_worker_count": 4})
    # Random, so that it cannot be stored in less.
    filling = run.random.randbytes(10_000).hex()
    producer = run.producer("quick", payload={"filling": filling}, gap=0.01, keyed=True)
    await run.ready()

    def says_why() -> bool:
        return any("No space left" in record["error"] for record in run.ledger.records("unknown"))

    wanted = size(short=1, ci=10)
    # Where its log is what finds no room, the server goes down and cannot say why.
    while run.cycles < wanted or not says_why():
        assert run.cycles < wanted + 10
        await run.recorded(run.count("end") + 1, "end")
        small_server.fill(run.random.randrange(0, 4_000_000))
        await run.recorded(run.count("unknown") + 1, "unknown")
        await small_server.empty()
        await run.recorded(run.count("acknowledged") + 1, "acknowledged")
        run.cycles += 1
        assert worker.process.poll() is None
    producer.kill()
    await run.finish()


async def test_read_only_flip(own_server: Server, begin: Begin, size: Size) -> None:
    """It refuses writes, as a primary that was demoted does, and takes them again.

    Fails with `misread-read-only`. That a connection is dropped, which takes writes again by
    itself here, is held by `test_bounds`.
    """
    run = await begin("read-only flip", own_server.url)
    worker = run.worker("quick", options={"max_worker_count": 4})
    producer = run.producer("quick", payload={"seconds": 0.02}, gap=0.01, keyed=True)
    await run.ready()
    for _ in range(size(short=2, ci=20)):
        await run.recorded(run.count("end") + 1, "end")
        await own_server.read_only(True)
        await run.recorded(run.count("unknown") + 1, "unknown")
        await own_server.read_only(False)
        acknowledged, ended = run.count("acknowledged"), run.count("end")
        await eventually(
            lambda a=acknowledged, e=ended: run.count("acknowledged") > a and run.count("end") > e,  # type: ignore[misc]
            WRITABLE_WITHIN,
            "working again",
        )
        run.cycles += 1
    assert worker.process.poll() is None
    producer.kill()
    await run.finish()
