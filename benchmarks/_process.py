"""Other processes, which are modules of this package."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]


@asynccontextmanager
async def other(module: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a module until its standard input ends; it has said that it is ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"benchmarks.{module}",
        *arguments,
        cwd=_ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
        if line != b"ready\n":
            raise SystemExit(f"{module} did not start: {line!r}")
        yield process
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(40):
                status = await process.wait()
        except TimeoutError:
            process.kill()
            status = await process.wait()
        if status:
            raise SystemExit(f"{module} ended with status {status}")


def ready() -> None:
    """Say it."""
    print("ready", flush=True)


async def until_stdin_ends() -> None:
    """Return when the process that started this one wants it to end."""
    await (await _standard_input()).read()


async def ask(process: asyncio.subprocess.Process, word: str) -> dict[str, Any]:
    """Send a word to a process, and return what it answers."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{word}\n".encode())
    answer: dict[str, Any] = json.loads(await process.stdout.readline())
    return answer


async def asked() -> AsyncIterator[str]:
    """Yield the words that the process that started this one sends; each wants an `answer`."""
    stdin = await _standard_input()
    while line := await stdin.readline():
        yield line.decode().strip()


def answer(found: dict[str, Any]) -> None:
    """Answer a word."""
    print(json.dumps(found), flush=True)


async def _standard_input() -> asyncio.StreamReader:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader
