"""Roles of PostgreSQL that have certain rights and no others."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import make_url

from tests.support.stores import execute


@asynccontextmanager
async def role(url: str, *grants: str) -> AsyncIterator[str]:
    """The URL for a new role with these rights: of each `{role}` is its name."""
    name, password = f"rl_{secrets.token_hex(6)}", secrets.token_hex(6)
    await execute(url, f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
    try:
        for grant in grants:
            await execute(url, grant.format(role=name))
        given = make_url(url).set(username=name, password=password)
        yield given.render_as_string(hide_password=False)
    finally:
        await execute(url, f"DROP OWNED BY {name} CASCADE")
        await execute(url, f"DROP ROLE {name}")
