"""Where a claim on PostgreSQL looks, and how it passes by dead rows.

Tasks of one type and one priority are a lane: a range of the claim index, sorted by when they are
due. A claim begins at the start of each lane. A transaction that stays open keeps dead rows, and
what leads to them in the index, in their place, so that the start of a lane is soon all tasks
that were done long ago, and each claim reads them again. When that has become expensive, most
claims begin where the last one ended, and only some at the start: those find what a transaction
committed late, what was put back, and lanes not seen before.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text

from rowlock._rows import ClaimedRow, HeldRow, TaskRow
from rowlock._store.database import MOST_BYTES_OF_A_CLAIM, MOST_OF_A_CLAIM
from rowlock._store.sql import COLUMNS, TO_RUN, Dialect, Statement, Statements, claimed

# Seconds: a claim is slow if it takes longer than the first and the second for each row that it
# took, the round trip not counted. It has then probably read many dead rows.
_TOLERATED = 0.015
_TOLERATED_PER_ROW = 0.0001
# After so many slow claims in succession dead rows are taken for the cause. A single one may have
# waited for the processor.
_SLOW_CLAIMS = 3
# A slow claim from the start is followed by 19 times its duration without one, so these take a
# twentieth of the time; but no more than so many seconds pass without one.
_SPARED = 19
_LONGEST = 5.0
# Lanes of a type that are remembered. With more priorities, each task may have one of its own.
_MOST_LANES = 16

# For each type the priorities that occur are found one by one from the index, each with the first
# of its rows, and within each the due rows from there on are one range: neither tasks of other
# types nor tasks due later are looked at, and dead rows no more than once. The outer LIMIT ends the
# search as soon as the room is filled, which is why nothing above it sorts; the inner one only
# tells the planner that few rows are wanted. A remembered lane is read from a little before where
# it was left: tasks become visible in another order than that of their instants.
_LANES = """
    SELECT r.priority, r.since - INTERVAL '500 ms',
           CAST('00000000-0000-0000-0000-000000000000' AS uuid)
    FROM unnest(
        (SELECT CAST(CAST(:lane_types AS text) AS text[])),
        (SELECT CAST(CAST(:lane_priorities AS text) AS integer[])),
        (SELECT CAST(CAST(:lane_sinces AS text) AS timestamptz[]))
    ) AS r(type, priority, since)
    WHERE r.type = wanted.type
    UNION ALL
    (WITH RECURSIVE lane(priority, run_at, id) AS (
        (SELECT k.priority, k.run_at, k.id FROM rowlock_task k
         WHERE wanted.whole AND k.status = 'pending' AND k.type = wanted.type
         ORDER BY k.priority DESC, k.run_at, k.id LIMIT 1)
        UNION ALL
        SELECT below.*
        FROM lane CROSS JOIN LATERAL (
            SELECT k.priority, k.run_at, k.id FROM rowlock_task k
            WHERE k.status = 'pending' AND k.type = wanted.type AND k.priority < lane.priority
            ORDER BY k.priority DESC, k.run_at, k.id LIMIT 1
        ) AS below
    )
    SELECT * FROM lane)
"""
# In a subquery the planner does not see what an array holds. If it did, it would plan each claim
# again for the values, which takes as long as to execute it. Arrays are sent as texts.
_TYPES = """
    (SELECT CAST(CAST(:types AS text) AS text[])), (SELECT CAST(CAST(:wholes AS text) AS boolean[]))
"""
_CLAIMABLE = f"""ctid = ANY(ARRAY(
    SELECT taken.ctid FROM (
    SELECT chosen.ctid, SUM(chosen.bytes) OVER (ROWS UNBOUNDED PRECEDING) - chosen.bytes AS before
    FROM unnest({_TYPES}, (SELECT CAST(CAST(:rooms AS text) AS integer[])))
        AS wanted(type, whole, room)
    CROSS JOIN LATERAL (
        SELECT due.ctid, due.bytes
        FROM ({_LANES}) AS lane(priority, run_at, id)
        CROSS JOIN LATERAL (
            SELECT k.ctid, COALESCE(octet_length(CAST(k.payload AS text)), 0) AS bytes
            FROM rowlock_task k
            WHERE k.status = 'pending' AND k.type = wanted.type AND k.priority = lane.priority
              AND k.attempt < 2147483647
              AND (k.run_at, k.id) >= (lane.run_at, lane.id)
              AND k.run_at <= COALESCE(CAST(:now AS timestamptz), statement_timestamp())
            ORDER BY k.run_at, k.id LIMIT {MOST_OF_A_CLAIM}
            FOR UPDATE SKIP LOCKED
        ) AS due
        LIMIT wanted.room
    ) AS chosen
    LIMIT {MOST_OF_A_CLAIM}
    ) AS taken WHERE taken.before < {MOST_BYTES_OF_A_CLAIM}
))"""  # noqa: S608
_NEXT_DUE = f"""
    SELECT EXTRACT(EPOCH FROM MIN(first.run_at)
                   - COALESCE(CAST(:now AS timestamptz), statement_timestamp()))::float8
    FROM unnest({_TYPES}) AS wanted(type, whole)
    CROSS JOIN LATERAL ({_LANES}) AS lane(priority, run_at, id)
    CROSS JOIN LATERAL (
        SELECT k.run_at FROM rowlock_task k
        WHERE k.status = 'pending' AND k.type = wanted.type AND k.priority = lane.priority
          AND (k.run_at, k.id) >= (lane.run_at, lane.id)
        ORDER BY k.run_at, k.id LIMIT 1
    ) AS first
"""  # noqa: S608


class ClaimStatements(Statements):
    """How tasks are claimed, and how it is known when the next one is due."""

    def __init__(self, dialect: Dialect) -> None:
        update = claimed(dialect, text(_CLAIMABLE))
        self.claim = dialect.statement(update.returning(*COLUMNS))
        self.claim_to_run = dialect.statement(update.returning(*TO_RUN))
        self.next_due = dialect.statement(text(_NEXT_DUE))
        self.claims: dict[type[HeldRow], Statement] = {
            TaskRow: self.claim,
            ClaimedRow: self.claim_to_run,
        }


ScanStart = dict[str, list[Any]]


class ClaimPositions:
    """Remembers how far the lanes have been claimed, for as long as that is worth it."""

    def __init__(self) -> None:
        self._since: dict[str, dict[int, datetime]] = {}
        self._spared_until = 0.0
        self._slow = 0

    def seconds_to_full_scan(self) -> float | None:
        """Return the seconds until a claim is to begin at the start again; none: all do."""
        return max(0.0, self._spared_until - time.monotonic()) if self._since else None

    def scan_from(self, types: Iterable[str]) -> ScanStart:
        """Return where to look for tasks of these types, as parameters of the statements."""
        types = list(types)
        known = self._since
        if self.seconds_to_full_scan() == 0:
            known = {}
            # Set before it is sent: if it times out, the next claims do not start over too.
            self._spared_until = time.monotonic() + _LONGEST
        lanes = [
            (name, priority, since)
            for name in types
            for priority, since in sorted(known.get(name, {}).items(), reverse=True)
        ]
        return {
            "types": types,
            "wholes": [name not in known for name in types],
            "lane_types": [name for name, _, _ in lanes],
            "lane_priorities": [priority for _, priority, _ in lanes],
            "lane_sinces": [since for _, _, since in lanes],
        }

    def claimed(
        self,
        rooms: Mapping[str, int],
        look: ScanStart,
        rows: Sequence[HeldRow],
        seconds: float,
    ) -> None:
        """Take note of what a claim took, in rows and in time."""
        ignored: set[str] = set()
        if all(look["wholes"]):
            if seconds <= _TOLERATED + _TOLERATED_PER_ROW * len(rows):
                self._slow = 0
                self._since.clear()
                return
            self._slow += 1
            if self._slow < _SLOW_CLAIMS:
                return
            self._spared_until = time.monotonic() + min(_SPARED * seconds, _LONGEST)
            # A type whose room was filled may have lanes that were not reached.
            taken = Counter(row.type for row in rows)
            filled = len(rows) >= MOST_OF_A_CLAIM
            ignored = {name for name, count in taken.items() if filled or count >= rooms[name]}
            ignored -= self._since.keys()
        for row in rows:
            if row.type in ignored or row.run_at.tzinfo is None:  # an infinity
                continue
            lanes = self._since.setdefault(row.type, {})
            lanes[row.priority] = max(row.run_at, lanes.get(row.priority, row.run_at))
        for name in [name for name, lanes in self._since.items() if len(lanes) > _MOST_LANES]:
            del self._since[name]
