"""PgBouncer in transaction mode, in front of the tests' PostgreSQL.

    ROWLOCK_TEST_PGBOUNCER=1 pytest -m "not session" -k "not sqlite" tests/store/test_store.py …

runs tests through it: the URLs of the fixtures lead to PgBouncer, and rowlock connects as the
README says, with unnamed statements. What a test does by itself goes to the server, and a process
that it starts knows nothing of this. `pytest --faults=ci tests/faults -k conformance` runs all
the modules that make sense.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from rowlock._store.postgres import database as _postgres
from tests.support.postgres_server import free_port, unprivileged_user

VARIABLE = "ROWLOCK_TEST_PGBOUNCER"
MODE = "transaction"
_START_TIMEOUT = 10.0


def find() -> str | None:
    """The program, None if there is none."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def pgbouncer(server: str, *, connections: int = 20) -> Iterator[str]:
    """A PgBouncer with so many connections for each database; yields the URL through it."""
    program = find()
    assert program is not None
    parts = urlsplit(server)
    user = unprivileged_user()
    with tempfile.TemporaryDirectory(prefix="rowlock-pgbouncer-", dir="/tmp") as name:
        directory = Path(name)
        port = free_port()
        (directory / "users").write_text(f'"{parts.username}" ""\n')
        (directory / "ini").write_text(
            f"""
[databases]
* = host={parts.hostname} port={parts.port or 5432}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {directory}/users
pool_mode = {MODE}
max_client_conn = 500
default_pool_size = {connections}
server_idle_timeout = 5
"""
        )
        for path in (directory, *directory.iterdir()):
            if user:
                os.chown(path, user["user"], user["group"])
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [program, directory / "ini"], stdout=log, stderr=log, cwd=directory, **user
            )
        try:
            deadline = time.monotonic() + _START_TIMEOUT
            while b"process up" not in (text := (directory / "log").read_bytes()):
                assert process.poll() is None, text.decode()
                assert time.monotonic() < deadline, text.decode()
                time.sleep(0.02)
            yield parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}").geturl()
        finally:
            process.kill()
            process.wait()


def by_way_of(pooler: str, url: str) -> str:
    """The same database, through PgBouncer."""
    return urlsplit(url)._replace(netloc=urlsplit(pooler).netloc).geturl()


def speak_to_it() -> None:
    """Have rowlock connect in this process as it must behind PgBouncer."""
    arguments = _postgres.connect_arguments()
    unnamed = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
    arguments["connect_args"].update(unnamed)
    _postgres.connect_arguments = lambda: arguments


def apply() -> None:
    """Do that where the environment says so."""
    if os.environ.get(VARIABLE):
        speak_to_it()


def send_tests_past(pooler: str, server: str) -> None:
    """Have what connects by a URL of PgBouncer, as tests do, connect to the server instead."""
    connect = asyncpg.connect
    there, here = urlsplit(pooler).netloc, urlsplit(server).netloc

    def past(*arguments: Any, **named: Any) -> Any:
        urls = [part.replace(there, here) if isinstance(part, str) else part for part in arguments]
        return connect(*urls, **named)

    asyncpg.connect = past
