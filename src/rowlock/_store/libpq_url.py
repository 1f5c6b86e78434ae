"""URLs of PostgreSQL as libpq reads them, and what asyncpg takes in their place.

SQLAlchemy's own parser takes one host, and hands the parameters to asyncpg as arguments, whose
names and values are others than libpq's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn
from urllib.parse import parse_qsl, quote, unquote, urlencode

from sqlalchemy import URL

from rowlock.errors import InvalidArgumentError

_SSLMODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_VERIFYING: Final = _SSLMODES[3:]

# asyncpg has the same arguments, and takes them as text.
_ARGUMENTS: Final = (
    "gsslib",
    "krbsrvname",
    "passfile",
    "password",
    "prepared_statement_cache_size",
    "service",
    "servicefile",
    "target_session_attrs",
    "user",
)
_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
# asyncpg makes of them what libpq does, but only where they stand in a DSN.
_TLS: Final = (
    "sslmode",
    *_FILES,
    "sslpassword",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
)
_SECRET: Final = ("password", "sslpassword")
_TRANSLATED: Final = (
    "application_name",
    "connect_timeout",
    "dbname",
    "fallback_application_name",
    "host",
    "hostaddr",
    "options",
    "port",
    "ssl",
    "sslnegotiation",
)

# What asyncpg cannot do, or does in one way only. A value that asks for what happens anyway is
# taken; None: any value, as nothing depends on it but how soon a dead connection is noticed, for
# which rowlock has bounds of its own. Else the remedy is told.
_FIXED: Final[Mapping[str, tuple[frozenset[str] | None, str]]] = {
    "channel_binding": (
        frozenset({"disable", "prefer"}),
        "asyncpg has no channel binding: leave it out, and let sslmode=verify-full with "
        "sslrootcert tell the server from others",
    ),
    "client_encoding": (
        frozenset({"auto", "utf8", "utf-8", "unicode"}),
        "rowlock speaks UTF8 with every server: leave it out",
    ),
    "gssencmode": (
        frozenset({"disable", "prefer"}),
        "asyncpg has no encryption by GSSAPI: leave it out, or use TLS (sslmode)",
    ),
    "keepalives": (None, ""),
    "keepalives_count": (None, ""),
    "keepalives_idle": (None, ""),
    "keepalives_interval": (None, ""),
    "load_balance_hosts": (
        frozenset({"disable"}),
        "asyncpg tries the hosts in their order: leave it out",
    ),
    "pgbouncer": (
        frozenset({"false"}),
        'for a pooler give an engine, as the README says under "Operate it"',
    ),
    "require_auth": (frozenset(), "asyncpg cannot insist on a method: leave it out"),
    "schema": (frozenset(), "a schema is named by options=-csearch_path%3DNAME"),
    "search_path": (frozenset(), "a schema is named by options=-csearch_path%3DNAME"),
    # Nobody compresses any more, libpq included.
    "sslcompression": (None, ""),
    "sslcrldir": (frozenset(), "asyncpg takes one file: name it by sslcrl"),
    "sslsni": (frozenset({"1"}), "asyncpg always sends the server's name: leave it out"),
    "tcp_user_timeout": (None, ""),
}

_ENCODE: Final = (
    "a character of the user, the password or the name is not percent-encoded "
    "(@ is %40, / is %2F, : is %3A, ? is %3F, # is %23)"
)


def parse(text: str) -> URL:
    """Read a URL. An `@` or `:` of the password need not be encoded, other special characters do.

    Several hosts are in the query of what is returned, as SQLAlchemy writes them.

    Raises:
        InvalidArgumentError: it cannot be read in one way only. Nothing of it is quoted, as a
            password may be anywhere.
    """
    scheme, _, rest = text.partition("://")
    end = next((place for place, sign in enumerate(rest) if sign in "/?#"), len(rest))
    authority, (path, _, query) = rest[:end], rest[end:].partition("?")
    # What follows the host is the path, so behind an @ there the authority has ended too soon.
    if "@" in path or path.startswith("#"):
        _refuse(_ENCODE)
    userinfo, at, hosts = authority.rpartition("@")
    user, colon, password = userinfo.partition(":")
    pairs = _pairs(query)
    single = {name: values[-1] for name, values in pairs.items()}
    places = [_host_and_port(place) for place in hosts.split(",")] if hosts else []
    host, port = places[0] if len(places) == 1 else (None, None)
    if "host" in pairs:
        single["host"] = ",".join(pairs["host"])
    elif len(places) > 1:
        single["host"] = ",".join(_joined(*place) for place in places)
    elif host is not None and host.startswith("/"):
        single["host"], host = host, None
    return URL.create(
        scheme,
        username=unquote(user) if at else None,
        password=unquote(password) if colon else None,
        host=host,
        port=port,
        database=unquote(path[1:]) or None,
        query=single,
    )


def _pairs(query: str) -> dict[str, list[str]]:
    pairs: dict[str, list[str]] = {}
    try:
        for name, value in parse_qsl(query, strict_parsing=bool(query)):
            pairs.setdefault(name, []).append(value)
    except ValueError:
        _refuse(f"a parameter has no value, or {_ENCODE}")
    if "@" in query and any(not _is_known(name) for name in pairs):
        _refuse(_ENCODE)
    return pairs


def _is_known(name: str) -> bool:
    return name in _ARGUMENTS or name in _TLS or name in _TRANSLATED or name in _FIXED


def _host_and_port(place: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"(\[[^\[\]]+\]|[^\[\]:]+)(?::(\d*))?", place)
    if found is None:
        _refuse(f"not HOST or HOST:PORT behind the scheme and the user, or {_ENCODE}")
    host, port = found.groups()
    return unquote(host.strip("[]")), int(port) if port else None


def _joined(host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


def hosts_of(url: URL) -> list[tuple[str, int | None]]:
    """Return the hosts that a URL names, each with its port if it has one; sockets included."""
    given = url.query.get("host")
    ports = _list(url.query.get("port"))
    if not given:
        host, port = url.query.get("hostaddr") or url.host, url.port
        places = [] if host is None else [(str(host), port)]
    else:
        places = [
            # A socket's directory, or an address of IPv6, may stand there by itself.
            (part, None)
            if part.startswith("/") or re.fullmatch(r"[^\[]*:[^\[]*:.*", part)
            else _host_and_port(part)
            for part in _list(given)
        ]
        if url.port is not None:
            places = [(host, port or url.port) for host, port in places]
    if not ports:
        return places
    if len(ports) not in (1, len(places)) or not all(port.isdecimal() for port in ports):
        _refuse(f"port: one number, or as many as there are hosts ({len(places)}), with commas")
    if len(ports) == 1:
        ports = ports * len(places)
    return [(host, int(port)) for (host, _), port in zip(places, ports, strict=True)]


def _list(value: str | tuple[str, ...] | None) -> list[str]:
    values = () if value is None else (value,) if isinstance(value, str) else value
    return [part for each in values for part in each.split(",")]


def without_password(url: URL, *, bare: bool = False) -> str:
    """Return a URL as it is written, but for its password.

    Args:
        url: the URL, as `parse` returns it or as SQLAlchemy has it.
        bare: also without the user and the parameters.
    """
    places = hosts_of(url)
    is_socket = any(host.startswith("/") for host, _ in places)
    hosts = "" if is_socket else ",".join(_joined(*place) for place in places)
    name = _last(url.query.get("dbname")) or url.database
    left_out = _SECRET if is_socket else (*_SECRET, "host", "hostaddr", "port", "dbname")
    query = {key: value for key, value in url.query.items() if key not in left_out and not bare}
    if is_socket and url.port is not None and not bare:
        query["port"] = str(url.port)
    user = "" if url.username is None or bare else quote(url.username, safe="") + "@"
    rest = URL.create("postgresql", database=name, query=query).render_as_string()
    return rest.replace("://", f"://{user}{hosts}", 1)


def _last(value: str | tuple[str, ...] | None) -> str | None:
    # Of several values the last counts, as in libpq.
    return value if value is None or isinstance(value, str) else value[-1]


def connect_timeout(url: URL) -> float | None:
    """Return the seconds of libpq's `connect_timeout`, None if the URL has none."""
    value = _last(url.query.get("connect_timeout"))
    return (
        None if value is None else float(_whole({"connect_timeout": value}, "connect_timeout", 1))
    )


def connecting(url: URL) -> tuple[URL, dict[str, Any]]:
    """Return the URL without parameters, and the arguments of asyncpg's `connect` instead.

    Raises:
        InvalidArgumentError: for a parameter that asyncpg cannot heed; the message has the remedy.
    """
    query = {name: _last(value) or "" for name, value in url.query.items()}
    for name, value in query.items():
        _check(name, value)
    if "ssl" in query:
        query.setdefault("sslmode", query["ssl"])
    arguments: dict[str, Any] = {name: query[name] for name in _ARGUMENTS if name in query}
    if "prepared_statement_cache_size" in arguments:
        arguments["prepared_statement_cache_size"] = _whole(query, "prepared_statement_cache_size")
    if (timeout := connect_timeout(url)) is not None:
        arguments["timeout"] = timeout
    settings = _settings(query)
    if settings:
        arguments["server_settings"] = settings
    arguments.update(_tls(query))
    arguments.update(_places(url))
    database = query.get("dbname", url.database)
    return url.set(database=database, query={}), arguments


def _check(name: str, value: str) -> None:
    if not _is_known(name):
        known = sorted({*_ARGUMENTS, *_TLS, *_TRANSLATED, *_FIXED} - {"pgbouncer", "schema"})
        _refuse(f"unknown parameter {name!r} of a PostgreSQL URL; allowed are {', '.join(known)}")
    allowed, remedy = _FIXED.get(name, (None, ""))
    if allowed is not None and value.lower() not in allowed:
        _refuse(f"{name}={_shown(value)}: {remedy}")


def _whole(query: Mapping[str, str], name: str, least: int = 0) -> int:
    value = query[name]
    if not re.fullmatch(r"\d{1,6}", value) or int(value) < least:
        _refuse(f"{name}: {_shown(value)}; allowed is a whole number from {least}")
    return int(value)


def _settings(query: Mapping[str, str]) -> dict[str, str]:
    """The parameters that go to the server as they are; it takes `options` apart itself."""
    settings = {name: query[name] for name in ("options", "application_name") if name in query}
    if fallback := query.get("fallback_application_name"):
        settings.setdefault("application_name", fallback)
    return settings


def _tls(query: Mapping[str, str]) -> dict[str, Any]:
    mode = query.get("sslmode")
    if mode is not None and mode not in _SSLMODES:
        _refuse(f"sslmode: {_shown(mode)}; allowed are {', '.join(_SSLMODES)}")
    given = {name: query[name] for name in _TLS if name in query}
    arguments: dict[str, Any] = {}
    negotiation = query.get("sslnegotiation")
    if negotiation is not None:
        if negotiation not in ("postgres", "direct"):
            _refuse(f"sslnegotiation: {_shown(negotiation)}; allowed are postgres and direct")
        if negotiation == "direct" and mode not in _VERIFYING:
            _refuse(f"sslnegotiation=direct: sslmode must be one of {', '.join(_VERIFYING)}")
        arguments["direct_tls"] = negotiation == "direct"
    if given.get("sslrootcert") == "system":
        # The certificates of the system are no file, and asyncpg has them only like this.
        if mode not in (None, "verify-full"):
            _refuse("sslrootcert=system: sslmode must be verify-full")
        others = [name for name in given if name not in ("sslmode", "sslrootcert")]
        if others:
            _refuse(f"{others[0]}: with it sslrootcert must be a file, not system")
        return {**arguments, "ssl": True}
    for name in _FILES:
        if name in given:
            # Once and for all: a program may change its directory.
            given[name] = os.path.abspath(given[name])
            if not os.access(given[name], os.R_OK):
                _refuse(f"{name}: there is no file {given[name]!r} that can be read")
    if given:
        arguments["dsn"] = "postgresql://?" + urlencode(given, quote_via=quote)
    return arguments


def _places(url: URL) -> dict[str, Any]:
    if "hostaddr" in url.query and ("host" in url.query or url.host):
        _refuse(
            "hostaddr: asyncpg cannot connect to one address under the name of another host; "
            "give the address as the host, or leave it out"
        )
    places = hosts_of(url)
    for host, port in places:
        if not host:
            _refuse("an empty host; several are written as HOST1:PORT1,HOST2:PORT2")
        if port is not None and not 0 < port < 65536:
            _refuse(f"port {port}; allowed are 1 to 65535")
    arguments: dict[str, Any] = {}
    if places and (len(places) > 1 or "host" in url.query or "hostaddr" in url.query):
        arguments["host"] = [host for host, _ in places]
    if any(port is not None for _, port in places):
        arguments["port"] = [port or 5432 for _, port in places]
    elif "port" in url.query:
        arguments["port"] = _whole({"port": _list(url.query["port"])[0]}, "port", 1)
    if "host" not in arguments and isinstance(arguments.get("port"), list):
        arguments["port"] = arguments["port"][0]
    return arguments


def _shown(value: str) -> str:
    # Of a URL that was read in another way than it was meant it might be a password.
    return repr(value) if re.fullmatch(r"[\w.-]{1,40}", value) else "another value"


def _refuse(reason: str) -> NoReturn:
    # What it comes from may quote the URL.
    raise InvalidArgumentError(f"database: {reason}") from None
