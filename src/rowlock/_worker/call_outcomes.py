"""The events of scheduled tasks: each is emitted once, and not in each pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from rowlock._events import (
    Event,
    ScheduleDamaged,
    ScheduleReplaced,
    ScheduleSkipped,
    ScheduleUnread,
)
from rowlock._store.schedule_rows import Definition, ScheduleRow, definition_of
from rowlock._store.schedules import Added, Schedules
from rowlock._store.triggers import Advance

# Seconds between two looks for definitions that others have replaced. There is none without a hint,
# but on SQLite every change of the file is one.
_COMPARE = 5.0
_BATCH = 100
_MOST_UNREAD = 10_000


@dataclass(slots=True)
class _Known:
    """What this process knows of the definition of a scheduled task.

    Attributes:
        own: as it has added it.
        seen: the other one that it has emitted last.
    """

    own: Definition
    seen: Definition | None = None


class ScheduleReports:
    """Remembers what was added here, and what was emitted.

    Args:
        emit: takes events.
    """

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._known: dict[str, _Known] = {}
        self._unread: dict[str, str] = {}
        self._hinted = False
        self._compare_at = 0.0

    def added(self, schedule_id: str, added: Added) -> None:
        """This process has added a scheduled task; what it has replaced may be another's."""
        known = self._known.get(schedule_id)
        if added.replaced is not None and (known is None or added.replaced != known.own):
            whose = "replaced what another process had added"
            self._emit_replaced(schedule_id, whose, added.replaced, added.definition)
        self._known[schedule_id] = _Known(added.definition)
        self._unread.pop(schedule_id, None)

    def forget(self, schedule_id: str) -> None:
        """It was removed."""
        self._known.pop(schedule_id, None)

    def hinted(self) -> None:
        """Others may have changed something."""
        self._hinted = True

    async def compare(self, schedules: Schedules, now: float) -> float:
        """Look whether others have replaced what this process has added, after a hint.

        Args:
            schedules: where to look.
            now: the loop's time.

        Returns:
            The seconds until the next look that a hint asks for.
        """
        if not self._hinted or not self._known:
            return math.inf
        if now < self._compare_at:
            return self._compare_at - now
        self._hinted = False
        self._compare_at = now + _COMPARE
        names = list(self._known)
        for start in range(0, len(names), _BATCH):
            for row in await schedules.rows(names[start : start + _BATCH]):
                self._see(row)
        return math.inf

    def advanced(self, done: Advance) -> None:
        """Emit what a pass has found."""
        for row in done.read:
            self._see(row)
        for schedule_id, reason in done.damaged:
            self._emit(ScheduleDamaged(schedule_id, reason))
        for schedule_id, reason in done.skipped:
            self._emit(ScheduleSkipped(schedule_id, reason))
        for schedule_id, reason in done.unread:
            if self._unread.get(schedule_id) != reason:
                if len(self._unread) >= _MOST_UNREAD:
                    self._unread.clear()
                self._unread[schedule_id] = reason
                self._emit(ScheduleUnread(schedule_id, reason))

    def _see(self, row: ScheduleRow) -> None:
        known = self._known.get(row.id)
        if known is None:
            return
        found = definition_of(row)
        if found not in (known.own, known.seen):
            known.seen = found
            self._emit_replaced(row.id, "another process has replaced it", known.own, found)

    def _emit_replaced(
        self, schedule_id: str, whose: str, before: Definition, after: Definition
    ) -> None:
        differs = [name for name in before if before[name] != after[name]]
        self._emit(ScheduleReplaced(schedule_id, whose, ", ".join(differs)))
