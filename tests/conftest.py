from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rowlock.schema import upgrade
from tests.support import pgbouncer as _pgbouncer
from tests.support.postgres_server import (
    PostgresUnavailableError,
    postgres_server,
    temporary_database,
)

_NO_POSTGRES = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults", "tests/faults")
    group.addoption(
        "--faults",
        choices=("short", "ci", "long"),
        default="short",
        help="how often each fault is made (default: short)",
    )
    group.addoption(
        "--faults-seed", type=int, default=9, help="decides what chance decides (default: 9)"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run `async def` tests, each in a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if reason := config.stash.get(_NO_POSTGRES, None):
        terminalreporter.write_sep("!", "the PostgreSQL tests did NOT run", red=True, bold=True)
        terminalreporter.write_line(reason)


@pytest.fixture
def size(request: pytest.FixtureRequest) -> Callable[..., int]:
    """Choose a number by `--faults`; a long run has the one for CI where there is no other."""

    def choose(*, short: int, ci: int, long: int | None = None) -> int:
        return {"short": short, "ci": ci, "long": ci if long is None else long}[
            request.config.getoption("--faults")
        ]

    return choose


@pytest.fixture(scope="session")
def postgres_server_url(pytestconfig: pytest.Config) -> Iterator[str]:
    # Only where nobody asked for PostgreSQL may its tests be left out.
    required = ("CI", "ROWLOCK_TEST_POSTGRES", "ROWLOCK_TEST_POSTGRES_URL")
    with ExitStack() as stack:
        try:
            url = stack.enter_context(postgres_server())
        except PostgresUnavailableError as error:
            if any(os.environ.get(name) for name in required):
                raise
            pytestconfig.stash[_NO_POSTGRES] = str(error)
            pytest.skip(f"no PostgreSQL: {error}")
        yield url


@pytest.fixture(scope="session")
def _postgres_template(postgres_server_url: str) -> Iterator[str]:
    with temporary_database(postgres_server_url) as url:
        upgrade(url)
        yield urlsplit(url).path.removeprefix("/")


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    upgrade(f"sqlite:///{path}")
    # The copies are of this one file, so nothing may be left in its WAL.
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture(scope="session")
def _pooler_url(postgres_server_url: str) -> Iterator[str]:
    if not os.environ.get(_pgbouncer.VARIABLE):
        yield postgres_server_url
        return
    with _pgbouncer.pgbouncer(postgres_server_url) as url:
        _pgbouncer.speak_to_it()
        _pgbouncer.send_tests_past(url, postgres_server_url)
        yield url


@pytest.fixture
def postgres_url(
    postgres_server_url: str, _pooler_url: str, _postgres_template: str
) -> Iterator[str]:
    """A fresh PostgreSQL database with the schema."""
    with temporary_database(postgres_server_url, template=_postgres_template) as url:
        yield _pgbouncer.by_way_of(_pooler_url, url)


@pytest.fixture
def sqlite_url(tmp_path: Path, _sqlite_template: Path) -> str:
    """A fresh SQLite database with the schema."""
    return f"sqlite:///{shutil.copyfile(_sqlite_template, tmp_path / 'test.db')}"


@pytest.fixture
def _empty_postgres_url(postgres_server_url: str) -> Iterator[str]:
    with temporary_database(postgres_server_url) as url:
        yield url


@pytest.fixture
def _empty_sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'empty.db'}"


# The fixture is looked up by name, so that a test on SQLite starts no PostgreSQL.
@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """A fresh database with the schema: the test runs once on each kind."""
    name = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    return str(request.getfixturevalue(name))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh empty database: the test runs once on each kind."""
    name = {"sqlite": "_empty_sqlite_url", "postgresql": "_empty_postgres_url"}[request.param]
    return str(request.getfixturevalue(name))
