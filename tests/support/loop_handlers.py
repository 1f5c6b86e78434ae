"""Handlers that do to the queue, or to all tasks of its loop, what they should not."""

from __future__ import annotations

import asyncio

from rowlock import TaskQueue

queue = TaskQueue("sqlite:///none.db")
answers: list[object] = []
after: list[asyncio.Task[None]] = []


async def quick() -> None:
    return


async def cancel_all() -> None:
    mine = asyncio.current_task()
    for task in asyncio.all_tasks():
        if task is not mine and task.get_name().startswith("rowlock"):
            task.cancel()


async def stop(how: str) -> None:
    try:
        await getattr(queue, how)()
    except Exception as error:
        answers.append(error)
    else:
        answers.append(None)


async def stop_beside() -> None:
    after.append(asyncio.create_task(queue.stop()))
