"""URLs as providers of PostgreSQL hand them out, and paths of SQLite that stay where they are."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import URL, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from typer.testing import CliRunner

from rowlock import (
    DatabaseUnavailableError,
    InvalidArgumentError,
    SchemaError,
    TaskQueue,
    schema,
)
from rowlock._store.url import async_url, connecting, shown, upgrade_command
from rowlock.cli.db import db
from tests.support.stores import execute


def arguments(query: str, hosts: str = "host") -> dict[str, Any]:
    return connecting(async_url(f"postgresql://ada:pw@{hosts}/name{query and '?'}{query}"))[1]


def refusal(url: Any) -> str:
    """Of both that take a URL, before anything is sent."""
    messages = set()
    for take in (TaskQueue, schema.current):
        with pytest.raises(InvalidArgumentError, match=r"^database: ") as error:
            take(url)
        messages.add(str(error.value))
        assert "\n" not in str(error.value)
        assert error.value.__cause__ is None
        assert error.value.__suppress_context__ or error.value.__context__ is None
    (message,) = messages
    return message


# The password and the hosts.


@pytest.mark.parametrize("end", ["", "\n", " \t\r\n"])
@pytest.mark.parametrize(
    ("given", "password"),
    [
        ("pw", "pw"),
        ("p@w", "p@w"),
        ("@", "@"),
        ("p@w:x@y", "p@w:x@y"),
        ("p:w", "p:w"),
        ("p%40%2F%3A%23%3Fw", "p@/:#?w"),
        ("100%", "100%"),
        ("p+w", "p+w"),
    ],
)
def test_a_password_that_can_be_read_in_one_way_only(given: str, password: str, end: str) -> None:
    """Fails where the host begins behind the first @, as in SQLAlchemy's own parser."""
    url = async_url(f" postgresql://ada:{given}@host:1/name{end}")
    assert (url.username, url.password) == ("ada", password)
    assert (url.host, url.port, url.database) == ("host", 1, "name")


@pytest.mark.parametrize(
    "password",
    [
        "secret/x",
        "/secret",
        "secret#x",
        "#secret",
        "secret?x",
        "sec@ret/x",
        "sec@ret?x",
        "s@t#ecret",
    ],
)
@pytest.mark.parametrize("user", ["ada:", "ada:123"])
def test_a_password_that_could_be_read_otherwise_is_refused(user: str, password: str) -> None:
    """Fails where what follows is taken for a path or a query, and the user for a host."""
    for end in ("/name", "/name?sslmode=require", ""):
        message = refusal(f"postgresql://{user}{password}@host{end}")
        assert "percent-encoded" in message
        assert "ecret" not in message
        assert "123" not in message


def test_a_password_that_looks_like_parameters_is_not_shown() -> None:
    for url in (
        "postgresql://ada:12?secret=x@host/name",
        "postgresql://ada:12?sslmode=secret@host/name",
        "postgresql://ada:12?connect_timeout=secret@host/name",
    ):
        assert "secret" not in refusal(url)


def test_an_at_in_a_parameter_is_understood() -> None:
    assert connecting(async_url("postgresql://host/name?user=ada@server"))[1] == {
        "user": "ada@server"
    }


@pytest.mark.parametrize(
    ("url", "hosts", "ports"),
    [
        ("//h1:1,h2:2/n", ["h1", "h2"], [1, 2]),
        ("//ada:p@w@h1,h2:2/n", ["h1", "h2"], [5432, 2]),
        ("//h1,h2/n", ["h1", "h2"], None),
        ("//[::1]:1,[fe80::2]:2/n", ["::1", "fe80::2"], [1, 2]),
        ("/n?host=h1&host=h2", ["h1", "h2"], None),
        ("/n?host=h1:1&host=h2:2", ["h1", "h2"], [1, 2]),
        ("/n?host=h1,h2&port=1,2", ["h1", "h2"], [1, 2]),
        ("/n?host=h1,h2&port=7", ["h1", "h2"], [7, 7]),
        ("//h1,h2/n?port=1,2", ["h1", "h2"], [1, 2]),
        ("//ignored:9/n?host=h1:1", ["h1"], [1]),
        ("/n?host=::1", ["::1"], None),
        ("/n?hostaddr=::1&port=3", ["::1"], [3]),
        ("/n?host=/cloudsql/project:region:instance", ["/cloudsql/project:region:instance"], None),
        ("//%2Frun%2Fpostgresql:5/n", ["/run/postgresql"], [5]),
    ],
)
def test_hosts(url: str, hosts: list[str], ports: list[int] | None) -> None:
    bare, given = connecting(async_url("postgresql:" + (url if url[1] == "/" else "//" + url)))
    assert (given.get("host"), given.get("port")) == (hosts, ports)
    assert bare.database == "n"
    assert not bare.query


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("//h1,,h2/n", "HOST:PORT"),
        ("//h1:1,h2:70000/n", "1 to 65535"),
        ("//h:0/n", "1 to 65535"),
        ("/n?host=h1,h2&port=1,2,3", "as many as there are hosts"),
        ("/n?port=x&host=h", "one number"),
        ("//h/n?hostaddr=127.0.0.1", "give the address as the host"),
        ("//h/n?sslmode", "has no value"),
    ],
)
def test_hosts_that_are_refused(url: str, reason: str) -> None:
    assert reason in refusal("postgresql:" + (url if url[1] == "/" else "//" + url))


# The parameters.


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {}),
        ("application_name=a%20b", {"server_settings": {"application_name": "a b"}}),
        ("fallback_application_name=a", {"server_settings": {"application_name": "a"}}),
        (
            "fallback_application_name=a&application_name=b",
            {"server_settings": {"application_name": "b"}},
        ),
        (
            "options=-csearch_path%3Djobs%20-c%20work_mem%3D8MB",
            {"server_settings": {"options": "-csearch_path=jobs -c work_mem=8MB"}},
        ),
        ("connect_timeout=5", {"timeout": 5.0}),
        ("connect_timeout=5&connect_timeout=6", {"timeout": 6.0}),
        ("target_session_attrs=read-write", {"target_session_attrs": "read-write"}),
        ("prepared_statement_cache_size=0", {"prepared_statement_cache_size": 0}),
        ("channel_binding=prefer&gssencmode=disable&client_encoding=UTF8", {}),
        ("keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3", {}),
        ("tcp_user_timeout=1000&load_balance_hosts=disable&sslcompression=0&sslsni=1", {}),
        ("sslnegotiation=postgres", {"direct_tls": False}),
        ("sslmode=verify-full&sslrootcert=system", {"ssl": True}),
        ("sslrootcert=system&sslnegotiation=postgres", {"ssl": True, "direct_tls": False}),
        *[
            (f"{name}={mode}", {"dsn": f"postgresql://?sslmode={mode}"})
            for name in ("ssl", "sslmode")
            for mode in ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
        ],
    ],
)
def test_parameters_as_asyncpg_takes_them(query: str, expected: dict[str, Any]) -> None:
    if query.startswith("ssl="):
        expected = {"dsn": expected["dsn"]}
    assert arguments(query) == expected


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("sslmode=requird", "allowed are disable, allow, prefer, require, verify-ca, verify-full"),
        ("sslmode=REQUIRE", "allowed are disable"),
        ("ssl=true", "allowed are disable"),
        ("sslnegotiation=tls", "allowed are postgres and direct"),
        ("sslnegotiation=direct", "sslmode must be one of require"),
        ("sslnegotiation=direct&sslmode=prefer", "sslmode must be one of require"),
        ("sslrootcert=system&sslmode=require", "must be verify-full"),
        ("sslrootcert=system&sslcert=/dev/null", "must be a file"),
        ("sslrootcert=/nowhere/root.crt", "no file '/nowhere/root.crt' that can be read"),
        ("sslcrldir=/crl", "name it by sslcrl"),
        ("channel_binding=require", "leave it out"),
        ("gssencmode=require", "use TLS"),
        ("client_encoding=latin1", "leave it out"),
        ("require_auth=scram-sha-256", "leave it out"),
        ("load_balance_hosts=random", "leave it out"),
        ("sslsni=0", "leave it out"),
        ("connect_timeout=soon", "whole number from 1"),
        ("connect_timeout=0", "whole number from 1"),
        ("schema=jobs", "options=-csearch_path"),
        ("pgbouncer=true", "give an engine"),
        ("colour=red", "unknown parameter 'colour'"),
    ],
)
def test_parameters_that_are_refused_with_a_remedy(query: str, reason: str) -> None:
    assert reason in refusal(f"postgresql://ada:pw@host/name?{query}")


def test_files_of_certificates_are_named_from_the_root_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where the path is left to a connection that is made after a change of directory."""
    for name in ("root", "cert", "key", "crl"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    query = "sslrootcert=root&sslcert=cert&sslkey=key&sslcrl=crl&sslpassword=x"
    dsn = arguments(query)["dsn"]
    for name in ("root", "cert", "key", "crl"):
        assert quote(f"{tmp_path}/{name}", safe="") in dsn
    assert dsn.endswith("&sslpassword=x")


async def test_the_server_takes_what_a_url_says(postgres_url: str) -> None:
    """Fails where a parameter is dropped on the way, for the queue or for the schema."""
    host = make_url(postgres_url).host or "127.0.0.1"
    port = make_url(postgres_url).port or 5432
    rest = postgres_url.rpartition("/")[2]
    user = make_url(postgres_url).render_as_string(hide_password=False).split("//")[1]
    user = user.partition("@")[0] + "@" if "@" in user else ""
    closed = _closed_port()
    url = (
        f"postgresql://{user}{host}:{closed},{host}:{port}/{rest}?target_session_attrs=read-write"
        "&application_name=named%20so&options=-cgeqo_threshold%3D7%20--from_collapse_limit%3D6"
        "&connect_timeout=5&channel_binding=prefer&sslmode=prefer\n"
    )
    assert await asyncio.to_thread(schema.current, url) == schema.head()
    async with TaskQueue(url) as queue:
        await queue.create("t")
        names = await execute(
            postgres_url,
            "SELECT application_name FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        assert set(names) == {("named so",)}
        store: Any = queue._store
        async with store.database._session() as fetch:
            rows = await fetch.driver.fetchrow(
                "SELECT current_setting('geqo_threshold'),"
                " current_setting('from_collapse_limit'), current_setting('jit')"
            )
        assert tuple(rows) == ("7", "6", "off")


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


async def test_connect_timeout_bounds_the_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where the queue, or the schema, keeps to its own ten seconds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        url = f"postgresql://127.0.0.1:{port}/name?sslmode=disable&connect_timeout=1"
        with pytest.raises(DatabaseUnavailableError, match="no connection within 1 s"):
            await TaskQueue(url).open()
        with pytest.raises(DatabaseUnavailableError, match="no answer within 1 s"):
            await asyncio.to_thread(schema.current, url)


# TLS, by a server that speaks it in front of the real one.


def _certificate(folder: Path, name: str) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-keyout",
         folder / f"{name}.key", "-out", folder / f"{name}.crt", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip


@asynccontextmanager
async def _tls_in_front_of(url: str, folder: Path) -> AsyncIterator[int]:
    server = make_url(url)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "right.crt", folder / "right.key")
    busy: set[asyncio.Task[None]] = set()

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                sink.write(data)
        except OSError:
            pass
        finally:
            sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)  # SSLRequest
        writer.write(b"S")
        try:
            await writer.start_tls(context)
        except OSError:
            return
        there, back = await asyncio.open_connection(server.host or "127.0.0.1", server.port or 5432)
        for each in (pump(reader, back), pump(there, writer)):
            busy.add(task := asyncio.create_task(each))
            task.add_done_callback(busy.discard)

    listening = await asyncio.start_server(serve, "localhost", 0, family=socket.AF_INET)
    async with listening:
        yield listening.sockets[0].getsockname()[1]
        for task in list(busy):
            task.cancel()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
async def test_the_servers_certificate_is_looked_at(postgres_url: str, tmp_path: Path) -> None:
    """Fails where sslrootcert is taken and not heeded, or verify-full does not look at the name."""
    for name in ("right", "wrong"):
        await asyncio.to_thread(_certificate, tmp_path, name)
    async with _tls_in_front_of(postgres_url, tmp_path) as port:

        def through(host: str, mode: str, root: str) -> str:
            url = make_url(postgres_url).set(host=host, port=port)
            text = url.render_as_string(hide_password=False)
            return f"{text}?sslmode={mode}&sslrootcert={tmp_path}/{root}.crt"

        for url in (
            through("localhost", "verify-full", "right"),
            through("127.0.0.1", "verify-ca", "right"),
            through("localhost", "prefer", "wrong"),
        ):
            async with TaskQueue(url, notify=False) as queue:
                await queue.create("t")
            assert await asyncio.to_thread(schema.current, url) == schema.head()
        for url in (
            through("localhost", "verify-full", "wrong"),
            through("localhost", "require", "wrong"),
            through("127.0.0.1", "verify-full", "right"),
        ):
            with pytest.raises(DatabaseUnavailableError, match=r"(?i)certificate"):
                await TaskQueue(url).open()
            with pytest.raises(DatabaseUnavailableError, match=r"(?i)certificate"):
                await asyncio.to_thread(schema.current, url)


# Paths of SQLite.


@pytest.mark.parametrize(
    ("database", "expected"),
    [
        ("sqlite:///a b/c.db", "{cwd}/a b/c.db"),
        ("sqlite:///./a.db", "{cwd}/a.db"),
        ("sqlite:////x/../a.db", "/a.db"),
        ("sqlite:///a.db?timeout=3", "{cwd}/a.db"),
        ("sqlite:///file:a.db?uri=true", "file:{cwd}/a.db"),
        ("sqlite:///file:a%2520b.db?uri=true&mode=ro", "file:{cwd}/a%20b.db"),
        ("sqlite:///file:///x/a.db?uri=true", "file:///x/a.db"),
        ("sqlite:///file:/x/a.db?uri=true", "file:/x/a.db"),
        # Not asked to be read as a URI, it is the name of a file.
        ("sqlite:///file:a.db", "{cwd}/file:a.db"),
    ],
)
def test_a_path_is_made_absolute_once(
    database: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = async_url(database)
    assert url.database == expected.format(cwd=tmp_path)
    assert async_url(url) == url


@pytest.mark.parametrize("form", ["sqlite:///test.db", "sqlite:///file:test.db?uri=true"])
async def test_a_relative_path_is_of_the_directory_in_which_the_queue_was_made(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Fails where the path is left relative until a connection is opened."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    queue = TaskQueue(form)
    monkeypatch.chdir(elsewhere)
    async with queue:
        task_id = await queue.create("t")
        sibling = queue._store.sibling()
        await sibling.database.open()
        assert await sibling.tasks.get(task_id) is not None
        await sibling.database.close()
    assert await execute(sqlite_url, "SELECT count(*) FROM rowlock_task") == [(1,)]
    assert os.listdir(elsewhere) == []


# What messages say.


@pytest.mark.parametrize(
    ("database", "short", "whole"),
    [
        (
            "postgresql://ada:secret@h1:1,h2:2/na%20me?application_name=a&password=secret",
            "postgresql://h1:1,h2:2/na me",
            "postgresql://ada@h1:1,h2:2/na me?application_name=a",
        ),
        (
            "postgres://a%40b:secret@[::1]:5/n?sslmode=require&sslpassword=secret",
            "postgresql://[::1]:5/n",
            "postgresql://a%40b@[::1]:5/n?sslmode=require",
        ),
        (
            "postgresql://ada@/n?host=/run/x&port=7",
            "postgresql:///n",
            "postgresql://ada@/n?host=%2Frun%2Fx&port=7",
        ),
        ("postgresql:///?dbname=n&host=h", "postgresql://h/n", "postgresql://h/n"),
        ("sqlite:////x/it's $HOME.db", "sqlite:////x/it%27s %24HOME.db", None),
    ],
)
def test_the_command_of_a_message_can_be_pasted(
    database: str, short: str, whole: str | None
) -> None:
    url = async_url(database)
    assert shown(url) == short
    command = upgrade_command(url)
    assert "secret" not in command
    assert ("PGPASSWORD" in command) == ("secret" in database)
    words = shlex.split(command.partition("`")[2].partition("`")[0])
    assert words == ["rowlock", "db", "upgrade", "--database", whole or short]
    # It is the same database, but for the password.
    again = async_url(words[-1])
    assert (shown(again), upgrade_command(again).split()[4]) == (short, command.split()[4])


@pytest.mark.parametrize("old", [False, True])
async def test_a_schema_error_names_the_command_that_mends_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, old: bool
) -> None:
    """Fails where the command leaves out the database, which then is another one."""
    if old:
        await asyncio.to_thread(schema.upgrade, database_url, "0001")
    given: list[Any] = [database_url]
    if not database_url.startswith("sqlite") or old:
        given.append(create_async_engine(async_url(database_url)))
    messages = set()
    for database in given:
        with pytest.raises(SchemaError) as error:
            await TaskQueue(database).open()
        messages.add(str(error.value))
    if len(given) > 1:
        await given[1].dispose()
    assert len(messages) == 1
    words = shlex.split(messages.pop().partition("`")[2].partition("`")[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ROWLOCK_DATABASE_URL", raising=False)
    password = make_url(database_url).password
    result = await asyncio.to_thread(
        CliRunner().invoke, db, words[2:], env={"PGPASSWORD": str(password or "")}
    )
    assert result.exit_code == 0, result.output
    async with TaskQueue(database_url) as queue:
        await queue.create("t")


def test_a_url_object_is_read_alike() -> None:
    given = URL.create(
        "postgresql", host="h", database="n", query={"host": ("h1:1", "h2:2"), "sslmode": "allow"}
    )
    assert connecting(async_url(given))[1] == {
        "host": ["h1", "h2"],
        "port": [1, 2],
        "dsn": "postgresql://?sslmode=allow",
    }
