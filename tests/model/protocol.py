"""What each operation does to the row of a task, in plain Python, and under which condition.

It is what the statements of `rowlock._store.statements` say, with time left out: a lease is live
or has expired, a task that waits is due or not. `Rules` holds the conditions, one to a field, so
that a broken variant of the protocol differs from it in one place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

PENDING: Final = "pending"
PROCESSING: Final = "processing"
SUCCESS: Final = "success"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
TERMINAL: Final = frozenset({SUCCESS, FAILED, CANCELLED})

NOBODY: Final = "0"

# How an attempt ends.
RETURNED: Final = "returned"
RAISED: Final = "raised"
RAISED_FOR_GOOD: Final = "raised for good"

# What a fence compares, beside the id.
ATTEMPT: Final = "attempt"
HOLDER: Final = "holder"
LEASED: Final = "leased"
EXPIRED: Final = "expired"


@dataclass(frozen=True, slots=True)
class Rules:
    """The conditions of the protocol.

    Attributes:
        finish, extend, release, sweep: what the write compares with the row.
        claims_unseen: a claim takes what is pending as it writes, whatever its list says.
        cancels: the statuses that a cancellation ends at once.
        counts_lost: a lost worker costs a try.
        max_lost: with so many lost workers a task has failed.
        unique_ids: no two tasks ever have the same id.
        keyed: a create that is repeated, because its answer was lost, names the same key.
        lost_is_failed: a worker whose outcome got no answer writes a failure instead.
        clears_retention: retry() takes the date of removal off the row.
        sweeps: there is a sweeper.
    """

    finish: frozenset[str] = frozenset({ATTEMPT, HOLDER, LEASED})
    extend: frozenset[str] = frozenset({ATTEMPT, HOLDER, LEASED})
    release: frozenset[str] = frozenset({ATTEMPT, HOLDER, LEASED})
    sweep: frozenset[str] = frozenset({ATTEMPT, HOLDER, LEASED, EXPIRED})
    claims_unseen: bool = True
    cancels: frozenset[str] = frozenset({PENDING})
    counts_lost: bool = True
    max_lost: int = 2
    unique_ids: bool = True
    keyed: bool = True
    lost_is_failed: bool = False
    clears_retention: bool = True
    sweeps: bool = True


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        id: its id.
        retries: how often a failure is tried again; None for ever.
        retain: 0 removes it at its end, 1 some time after it, -1 never.
        status: its status.
        attempt: how often it was claimed.
        holder: who has, or last had it.
        leased: it has a lease.
        expired: the lease has run out.
        lost: how many workers were lost with it.
        asked: somebody asked to cancel it while it was processing.
        due: if it is pending, it may be claimed.
        dated: it has a date of removal.
        life: which create made it; the code knows nothing of this.
    """

    id: str
    retries: int | None
    retain: int
    status: str = PENDING
    attempt: int = 0
    holder: str = NOBODY
    leased: bool = False
    expired: bool = False
    lost: int = 0
    asked: bool = False
    due: bool = True
    dated: bool = False
    life: int = 1


class Held(NamedTuple):
    """An attempt, as a worker or a sweeper knows it."""

    id: str
    attempt: int
    holder: str


def fits(row: Row | None, held: Held, fence: frozenset[str]) -> bool:
    """The fence lets the write through."""
    return (
        row is not None
        and row.id == held.id
        and (ATTEMPT not in fence or row.attempt == held.attempt)
        and (HOLDER not in fence or row.holder == held.holder)
        and (LEASED not in fence or row.leased)
        and (EXPIRED not in fence or (row.leased and row.expired))
    )


def claimable(row: Row | None) -> bool:
    """A claim finds the row."""
    return row is not None and row.status == PENDING and row.due


def claim(row: Row, holder: str) -> Row:
    """The row with a new attempt."""
    return row._replace(
        status=PROCESSING, attempt=row.attempt + 1, holder=holder, leased=True, expired=False
    )


def extend(row: Row) -> Row:
    """The row with a new lease."""
    return row._replace(leased=True, expired=False)


def finish(row: Row, ending: str) -> Row | None:
    """The row after its attempt; None where it is removed at once."""
    if ending == RETURNED:
        return _end(row, SUCCESS)
    again = ending == RAISED and row.retries != 0
    if row.asked:
        return _end(row, CANCELLED, waits_for_removal=again)
    return _again(row) if again else _end(row, FAILED)


def sweep(row: Row, rules: Rules) -> Row | None:
    """The row after its worker was lost."""
    if not rules.counts_lost:
        return _end(row, CANCELLED) if row.asked else _back(row)._replace(due=False)
    row = row._replace(lost=row.lost + 1)
    return finish(row, RAISED if row.lost < rules.max_lost else RAISED_FOR_GOOD)


def release(row: Row) -> Row | None:
    """The row when its holder gives it back."""
    return _end(row, CANCELLED, waits_for_removal=True) if row.asked else _back(row)


def cancel(row: Row | None, rules: Rules) -> tuple[Row | None, bool]:
    """The row after cancel(running=True), and whether it changed anything."""
    if row is None:
        return None, False
    if row.status in rules.cancels:
        return _end(row, CANCELLED), True
    if row.status == PROCESSING:
        return row._replace(asked=True), True
    return row, False


def retry(row: Row | None, rules: Rules) -> tuple[Row | None, bool]:
    """The row after retry(), and whether it changed anything."""
    if row is None:
        return None, False
    if row.status == PENDING and not row.due:
        return row._replace(due=True), True
    if row.status in (FAILED, CANCELLED):
        dated = row.dated and not rules.clears_retention
        return _back(row)._replace(lost=0, due=True, dated=dated), True
    return row, False


def _again(row: Row) -> Row:
    retries = None if row.retries is None else row.retries - 1
    return _back(row)._replace(retries=retries, due=False)


def _back(row: Row) -> Row:
    return row._replace(status=PENDING, holder=NOBODY, leased=False, expired=False, asked=False)


def _end(row: Row, status: str, *, waits_for_removal: bool = False) -> Row | None:
    # Where only the row knew that it was cancelled, it is removed by a second statement.
    if row.retain == 0 and not waits_for_removal:
        return None
    return row._replace(
        status=status, leased=False, expired=False, asked=False, dated=row.retain != -1
    )
