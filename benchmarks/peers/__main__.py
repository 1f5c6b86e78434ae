"""One process of a measurement: `python -m benchmarks.peers PEER URL install|fill|create|work`."""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from os import _exit
from pathlib import Path
from random import uniform
from typing import Any

from benchmarks.peers._marks import Marks, payload
from benchmarks.peers._peer import Peer

AT_ONCE = 20
WARM_UP = 20


def load(name: str) -> Peer:
    """Return the queue of a module; an ImportError says that it is not installed."""
    peer = importlib.import_module(f"benchmarks.peers.{name}").PEER
    assert isinstance(peer, Peer)
    return peer


async def _create(peer: Peer, url: str, mode: str, tasks: int) -> float:
    payloads = [payload(number) for number in range(WARM_UP + tasks)]
    at_once = AT_ONCE if mode == "create-concurrent" else 1
    async with peer.creating(url, at_once) as create:
        # As many at once as are timed, so that all connections are there.
        await asyncio.gather(*map(create.one, payloads[:at_once]))
        for text in payloads[at_once:WARM_UP]:
            await create.one(text)
        timed = payloads[WARM_UP:]
        began = time.perf_counter()
        if mode == "create-bulk":
            assert create.many is not None
            await create.many(timed)
        else:
            waiting = iter(timed)

            async def in_turn() -> None:
                for text in waiting:
                    await create.one(text)

            await asyncio.gather(*(in_turn() for _ in range(at_once)))
        return time.perf_counter() - began


async def _arrive(peer: Peer, url: str, tasks: int) -> float:
    """Create tasks at irregular intervals."""
    began = time.perf_counter()
    async with peer.creating(url, 1) as create:
        for number in range(tasks):
            await asyncio.sleep(uniform(0.015, 0.035))
            await create.one(payload(number))
    return time.perf_counter() - began


def _go() -> None:
    # As `rowlock worker` does, and then it is fair for all.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)
    print("ready", flush=True)
    sys.stdin.readline()
    # Nothing that is worth a measurement comes after the end.
    threading.Thread(target=lambda: _exit(len(sys.stdin.read())), daemon=True).start()


def main() -> None:
    """Do one thing."""
    logging.disable(logging.WARNING)
    name, url, action, *rest = sys.argv[1:]
    peer = load(name)
    run: Callable[[Coroutine[Any, Any, Any]], Any] = asyncio.run
    if peer.uvloop:
        import uvloop

        run = uvloop.run
    match action:
        case "install":
            run(peer.install(url))
        case "fill":
            run(peer.fill(url, [payload(number) for number in range(int(rest[0]))]))
        case "create":
            print(json.dumps(run(_create(peer, url, rest[0], int(rest[1])))))
        case "arrive":
            print(json.dumps(run(_arrive(peer, url, int(rest[0])))))
        case "work":
            place = int(rest[1])
            Marks(Path(rest[0])).handle_at(place)
            run(peer.work(url, _go, place))


if __name__ == "__main__":
    main()
