"""A TCP proxy that speaks enough of PostgreSQL's protocol to lose what a test wants lost.

It runs in a thread, so that it does not wait for the loop of a test, and shows every fault of a
network without touching the machine's: silence in one or both directions, cut connections, and a
server that has committed but whose answer never comes.
"""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

_SSL_REQUEST = 80877103
_START_TIMEOUT = 10.0

Statement = str


@dataclass(eq=False)
class Link:
    """One connection through the proxy.

    Attributes:
        statement: the SQL that the server works on, or worked on last.
        heard: how many channels it listens to.
        silenced: the directions in which it has lost bytes. It never carries one again there: a
            stream with a hole would be another fault than a network that is gone.
    """

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    statement: Statement = ""
    heard: int = 0
    silenced: set[str] = field(default_factory=set)
    losing: bool = False
    healed: asyncio.Event = field(default_factory=asyncio.Event)
    prepared: dict[bytes, Statement] = field(default_factory=dict)

    def abort(self) -> None:
        """Cut it, as a host resets what it does not know any more."""
        self.healed.set()
        for writer in (self.client, self.server):
            writer.transport.abort()


class Proxy:
    """Forwards from a port of its own to a server.

    Args:
        server: the URL of the server.

    Attributes:
        lost: the statements whose answer was lost, in order.
        links: the connections that are open.
    """

    def __init__(self, server: str) -> None:
        parts = urlsplit(server)
        self._host, self._port = str(parts.hostname), parts.port or 5432
        self.port = 0
        self.lost: list[Statement] = []
        self.links: set[Link] = set()
        self._silent: frozenset[str] = frozenset()
        self._to_lose: list[str] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def url(self, url: str) -> str:
        """The same database by way of the proxy."""
        parts = urlsplit(url)
        user = f"{parts.username}@" if parts.username else ""
        return parts._replace(netloc=f"{user}127.0.0.1:{self.port}").geturl()

    # The faults. Each may be called from any thread, and has begun when it returns.

    def silence(self, *directions: str) -> None:
        """Swallow all that goes "up" to the server, "down" from it, or both."""
        self._silent = frozenset(directions)

    def heal(self) -> None:
        """Forward again, on new connections; those of before are cut."""
        silent, self._silent = self._silent, frozenset()
        self._abort(lambda link: bool(silent or link.silenced))

    def cut(self) -> None:
        """Cut every connection."""
        self._abort(lambda link: True)

    def _abort(self, which: Callable[[Link], bool]) -> None:
        def abort() -> None:
            for link in filter(which, list(self.links)):
                link.abort()

        self._call(abort)

    def deafen(self) -> int:
        """Swallow both directions of the connections that listen, now; return how many."""
        listening = [link for link in self.links if link.heard and not link.silenced]
        for link in listening:
            link.silenced = {"up", "down"}
        return len(listening)

    def lose_answer(self, sql: str) -> None:
        """Cut the connection of the next statement that begins so, once it is done.

        The server has committed then, and its answer is not forwarded.
        """
        self._to_lose.append(sql)

    def spare_answers(self) -> None:
        """Lose no answer that is not lost yet."""
        self._to_lose.clear()

    # The thread.

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(_START_TIMEOUT), "the proxy did not start"
        return self

    def __exit__(self, *error: object) -> None:
        self._call(self._stop.set)
        self._thread.join()

    def _call(self, function: Callable[[], object]) -> None:
        done = threading.Event()

        def call() -> None:
            function()
            done.set()

        self._loop.call_soon_threadsafe(call)
        assert done.wait(_START_TIMEOUT), "the proxy does not answer"

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for link in list(self.links):
            link.abort()
        while self.links:
            await asyncio.sleep(0.001)

    async def _connected(self, up: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            down, server = await asyncio.open_connection(self._host, self._port)
        except OSError:
            client.transport.abort()
            return
        link = Link(client, server)
        self.links.add(link)
        pumps = [asyncio.ensure_future(self._pump_up(link, up))]
        pumps.append(asyncio.ensure_future(self._pump_down(link, down)))
        ends = dict(zip(pumps, ("up", "down"), strict=True))
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            # Over a network that is gone, neither host hears of the other's end.
            if all(ends[pump] in link.silenced | self._silent for pump in done):
                await link.healed.wait()
        finally:
            link.abort()
            self.links.discard(link)
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump_up(self, link: Link, reader: asyncio.StreamReader) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while await self._start_up(link, reader):
                pass
            while True:
                kind, body = await _message(reader)
                if kind == b"P":
                    name, _, rest = body.partition(b"\0")
                    link.prepared[name] = rest.partition(b"\0")[0].decode()
                elif kind == b"B":
                    name = body.split(b"\0", 2)[1]
                    link.statement = link.prepared.get(name, "")
                elif kind == b"Q":
                    link.statement = body[:-1].decode()
                await self._send(link, "up", kind + _framed(body))

    async def _start_up(self, link: Link, reader: asyncio.StreamReader) -> bool:
        """Forward the first message, which has no type; return whether another one follows."""
        body = await _body(reader)
        (code,) = struct.unpack("!I", body[:4])
        if code == _SSL_REQUEST:
            link.client.write(b"N")
            return True
        await self._send(link, "up", _framed(body))
        return False

    async def _pump_down(self, link: Link, reader: asyncio.StreamReader) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                kind, body = await _message(reader)
                if kind == b"C" and body.startswith(b"LISTEN"):
                    link.heard += 1
                if kind == b"C" and self._is_to_be_lost(link.statement):
                    link.losing = True
                if not link.losing:
                    await self._send(link, "down", kind + _framed(body))
                elif kind == b"Z":
                    # Before it, the transaction of a single statement may not be committed yet.
                    self.lost.append(link.statement)
                    return

    def _is_to_be_lost(self, statement: Statement) -> bool:
        for sql in self._to_lose:
            if statement.startswith(sql):
                self._to_lose.remove(sql)
                return True
        return False

    async def _send(self, link: Link, direction: str, data: bytes) -> None:
        if direction in self._silent:
            link.silenced.add(direction)
        if direction in link.silenced:
            return
        writer = link.server if direction == "up" else link.client
        writer.write(data)
        await writer.drain()


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    return await reader.readexactly(1), await _body(reader)


async def _body(reader: asyncio.StreamReader) -> bytes:
    (length,) = struct.unpack("!I", await reader.readexactly(4))
    return await reader.readexactly(length - 4)


def _framed(body: bytes) -> bytes:
    return struct.pack("!I", len(body) + 4) + body


@contextmanager
def proxied(url: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy, and the database's URL through it."""
    with Proxy(url) as proxy:
        yield proxy, proxy.url(url)
