"""A PostgreSQL of a test's own, to crash, to make read-only and to fill up."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from rowlock.schema import upgrade
from tests.support import postgres_server as postgres
from tests.support.helpers import eventually
from tests.support.stores import execute


class Server:
    """A server with a data directory that survives it; it can be stopped and started again."""

    def __init__(self, binaries: Path, data: Path, user: dict[str, Any]) -> None:
        self._binaries, self._data, self._user = binaries, data, user
        self._port = postgres.free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of its database `postgres`, which has rowlock's schema."""
        return f"postgresql://postgres@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Start it, which recovers what a crash has left."""
        # What is acknowledged is on disk, as in production.
        settings = {"fsync": "on"}
        self._process = postgres.launch(
            self._binaries, self._data, self._user, self._port, settings
        )

    def crash(self) -> None:
        """Stop it in immediate mode: nothing is written any more, and nobody is told."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self.stop()

    def stop(self) -> None:
        """Stop it, unless it is stopped."""
        if self._process is not None:
            postgres.stop(self._process)
            self._process = None

    async def read_only(self, on: bool) -> None:
        """Make every transaction read-only, those of connections that are open too; or end that."""
        # Of this connection alone, so that it can end it.
        connection = await asyncpg.connect(
            self.url, server_settings={"default_transaction_read_only": "off"}
        )
        try:
            await connection.execute(
                f"ALTER SYSTEM SET default_transaction_read_only = {'on' if on else 'off'}"
            )
            await connection.execute("SELECT pg_reload_conf()")
        finally:
            await connection.close()

        async def has_begun() -> bool:
            connection = await asyncpg.connect(self.url)
            try:
                found = await connection.fetchval("SHOW transaction_read_only")
            finally:
                await connection.close()
            return bool(found == ("on" if on else "off"))

        await eventually(has_begun, message="the server is not reconfigured")

    def fill(self, spare: int) -> None:
        """Fill its disk until so many bytes are left."""
        filler = self._data.parent / "filler"
        room = shutil.disk_usage(filler.parent).free - spare
        with filler.open("ab", buffering=0) as file:
            file.write(bytes(max(0, room)))

    async def empty(self) -> None:
        """Take away what fills its disk, and start it if it could not go on."""
        (self._data.parent / "filler").unlink(missing_ok=True)

        async def is_up() -> bool:
            assert self._process is not None
            if self._process.poll() is not None:
                self.stop()
                self.start()
            try:
                await execute(self.url, "SELECT 1")
            except (OSError, asyncpg.PostgresError):
                return False
            return True

        await eventually(is_up, 60, "up again")

    def log(self) -> str:
        """The end of what it has logged."""
        return (self._data.parent / "log").read_text(errors="replace")[-10_000:]


@contextmanager
def server(*, megabytes: int | None = None) -> Iterator[Server]:
    """A started server with the schema; on request its data is on a small disk of its own."""
    binaries, user = postgres.binaries_and_user()
    with tempfile.TemporaryDirectory(prefix="rowlock-faults-", dir="/tmp") as name:
        directory = Path(name)
        with _disk(directory, megabytes):
            if user:
                os.chown(directory, user["user"], user["group"])
            binaries = postgres.usable(binaries, directory, user)
            options = ["--wal-segsize=1"] if megabytes else []
            data = postgres.initialise(binaries, directory, user, options)
            own = Server(binaries, data, user)
            own.start()
            try:
                upgrade(own.url)
                yield own
            finally:
                own.stop()


@contextmanager
def _disk(directory: Path, megabytes: int | None) -> Iterator[None]:
    if megabytes is None:
        yield
        return
    mount: Sequence[str | Path] = ("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs")
    try:
        done = subprocess.run([*mount, directory], capture_output=True, text=True)
    except FileNotFoundError as error:
        pytest.skip(f"no small disk: {error}")
    if done.returncode != 0:
        pytest.skip(f"no small disk, which takes root and the right to mount: {done.stderr}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)
