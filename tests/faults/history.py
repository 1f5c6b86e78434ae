"""The history: every change of a status or an attempt, noted by the database itself.

A trigger writes it in the transaction of the change, so that it says exactly what was committed,
also of a process that was killed before it could write to the ledger.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.support.stores import execute

_TABLE = """
CREATE TABLE fault_history (
    seq {serial}, id text, key text, retain_for bigint, before text, after text,
    attempt integer, retries_before integer, retries integer, wrote integer
)
"""
_COLUMNS = "id, key, retain_for, before, after, attempt, retries_before, retries, wrote"

_POSTGRES = [
    _TABLE.format(serial="bigserial PRIMARY KEY"),
    f"""
CREATE FUNCTION fault_note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO fault_history ({_COLUMNS}) VALUES (
            replace(NEW.id::text, '-', ''), NEW.payload->>'key', NEW.retain_for, NULL,
            NEW.status, NEW.attempt, NULL, NEW.retries_remaining, NULL);
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO fault_history ({_COLUMNS}) VALUES (
            replace(OLD.id::text, '-', ''), OLD.payload->>'key', OLD.retain_for, OLD.status,
            NULL, OLD.attempt, OLD.retries_remaining, NULL, NULL);
    ELSIF OLD.status <> NEW.status OR OLD.attempt <> NEW.attempt THEN
        INSERT INTO fault_history ({_COLUMNS}) VALUES (
            replace(NEW.id::text, '-', ''), NEW.payload->>'key', NEW.retain_for, OLD.status,
            NEW.status, NEW.attempt, OLD.retries_remaining, NEW.retries_remaining,
            CASE NEW.status
                WHEN 'success' THEN (NEW.result->>'attempt')::integer
                WHEN 'failed' THEN (NEW.error->'properties'->>'attempt')::integer
            END);
    END IF;
    RETURN NULL;
END $$
""",
    """
CREATE TRIGGER fault_note AFTER INSERT OR UPDATE OR DELETE ON rowlock_task
FOR EACH ROW EXECUTE FUNCTION fault_note()
""",
]
_SQLITE = [
    _TABLE.format(serial="INTEGER PRIMARY KEY AUTOINCREMENT"),
    f"""
CREATE TRIGGER fault_note_insert AFTER INSERT ON rowlock_task BEGIN
    INSERT INTO fault_history ({_COLUMNS}) VALUES (
        NEW.id, json_extract(NEW.payload, '$.key'), NEW.retain_for, NULL, NEW.status,
        NEW.attempt, NULL, NEW.retries_remaining, NULL);
END
""",
    f"""
CREATE TRIGGER fault_note_delete AFTER DELETE ON rowlock_task BEGIN
    INSERT INTO fault_history ({_COLUMNS}) VALUES (
        OLD.id, json_extract(OLD.payload, '$.key'), OLD.retain_for, OLD.status, NULL,
        OLD.attempt, OLD.retries_remaining, NULL, NULL);
END
""",
    f"""
CREATE TRIGGER fault_note_update AFTER UPDATE ON rowlock_task
WHEN OLD.status <> NEW.status OR OLD.attempt <> NEW.attempt BEGIN
    INSERT INTO fault_history ({_COLUMNS}) VALUES (
        NEW.id, json_extract(NEW.payload, '$.key'), NEW.retain_for, OLD.status, NEW.status,
        NEW.attempt, OLD.retries_remaining, NEW.retries_remaining,
        CASE NEW.status
            WHEN 'success' THEN json_extract(NEW.result, '$.attempt')
            WHEN 'failed' THEN json_extract(NEW.error, '$.properties.attempt')
        END);
END
""",
]


class Change(NamedTuple):
    """A row was made (`before` is None), changed or deleted (`after` is None).

    Attributes:
        wrote: which attempt says that it wrote the outcome, None if it does not say.
    """

    id: str
    key: str | None
    retain_for: int
    before: str | None
    after: str | None
    attempt: int
    retries_before: int | None
    retries: int | None
    wrote: int | None


async def install(url: str) -> None:
    """Have the database note the history of its tasks from now on."""
    for statement in _SQLITE if url.startswith("sqlite") else _POSTGRES:
        await execute(url, statement)


async def read(url: str) -> list[Change]:
    """Return all that was committed; the changes of one task are in their order."""
    rows = await execute(url, f"SELECT {_COLUMNS} FROM fault_history ORDER BY seq")
    return [Change(*row) for row in rows]
