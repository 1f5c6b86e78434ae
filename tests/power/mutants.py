"""The broken variants of FAULTS, as changes of the real code, each with the tests that must fail.

An edit names a text that must be there exactly once: a mutant that no longer fits the code is an
error and not a mutant that survives.
"""

from __future__ import annotations

from dataclasses import dataclass

ATTEMPTS = "src/rowlock/_store/attempts.py"
ENDS = "src/rowlock/_store/ends.py"
SWEEP = "src/rowlock/_store/sweep.py"
TASKS = "src/rowlock/_store/tasks.py"
LANES = "src/rowlock/_store/postgres/claim.py"
STORE_TESTS = "tests/store/test_store.py"
SCHEDULE_ROWS = "src/rowlock/_store/schedule_rows.py"
TRIGGERS = "src/rowlock/_store/triggers.py"
SCHEDULE_TESTS = "tests/scheduling/test_schedules.py"

Edit = tuple[str, str, str]


@dataclass(frozen=True)
class Mutant:
    """A deliberate fault.

    Attributes:
        name: what is broken.
        edits: file, what stands there, what stands there instead.
        killers: the tests one of which at least must fail.
    """

    name: str
    edits: tuple[Edit, ...]
    killers: tuple[str, ...]


_HOLDER = 'task.c.thread_id == bindparam("holder", type_=Text)'
_LEASED = "task.c.lease_until.is_not(None)"
_FENCE = "fence(self._dialect, batch)"


def _guard(*conditions: str) -> str:
    return f"(task.c.id == batch.c.id){''.join(f' & ({each})' for each in conditions)}"


def _finish(*conditions: str) -> tuple[Edit, ...]:
    """Guard success, failure and removal by these conditions on a row beside its id."""
    guard = _guard(*conditions)
    success = "\n            .values(\n                status=constant(TaskStatus.SUCCESS),"
    # The sweeper names the holder of each row.
    own = f"{guard} if holder is HOLDER else fence(dialect, batch, holder)"
    return (
        (ATTEMPTS, f".where({_FENCE}){success}", f".where({guard}){success}"),
        (ENDS, ".where(fence(dialect, batch, holder))", f".where({own})"),
        (
            ENDS,
            "dialect.delete(batch, fence(dialect, batch, holder))",
            f"dialect.delete(batch, {own})",
        ),
    )


def _extension(*conditions: str) -> tuple[Edit, ...]:
    then = "\n            .values(lease_until="
    return ((ATTEMPTS, f".where({_FENCE}){then}", f".where({_guard(*conditions)}){then}"),)


def _sweep(*conditions: str) -> tuple[Edit, ...]:
    """Guard what the sweeper writes by these conditions, and look at the clock only as it reads."""
    fence = "fence(dialect, batch, holder)"
    guard = fence if "holder" in conditions else _guard(*conditions)
    swept = f"{fence} if holder is HOLDER else {guard}"
    return (
        (ENDS, f".where({fence})", f".where({swept})"),
        (ENDS, f"dialect.delete(batch, {fence})", f"dialect.delete(batch, {swept})"),
        (SWEEP, "batch.c.holder).where(expired)", "batch.c.holder)"),
        (
            SWEEP,
            "                .where(expired)\n                .returning",
            "                .returning",
        ),
    )


_LATE = f"{STORE_TESTS}::test_a_late_write_is_refused_and_changes_nothing"
_SWEEPS = (f"{STORE_TESTS}::test_what_happens_while_a_sweep_pauses_is_kept",)

MUTANTS = (
    Mutant("finish guarded by status only", _finish(_LEASED), (_LATE,)),
    Mutant("finish guarded by holder only", _finish(_HOLDER), (_LATE,)),
    Mutant("finish guarded by nothing", _finish("literal_column('true')"), (_LATE,)),
    Mutant("extension by id", _extension(_LEASED), (_LATE,)),
    Mutant("extension by holder", _extension(_LEASED, _HOLDER), (_LATE,)),
    Mutant("sweep by id", _sweep("literal_column('true')"), _SWEEPS),
    Mutant("sweep by status", _sweep(_LEASED), _SWEEPS),
    Mutant("sweep without re-checking expiry", _sweep("holder"), _SWEEPS),
    Mutant(
        "claim from a stale list of candidates",
        (
            (
                LANES,
                "ctid = ANY(ARRAY(\n    SELECT taken.ctid FROM (\n    SELECT chosen.ctid",
                "id = ANY(ARRAY(\n    SELECT taken.id FROM (\n    SELECT chosen.id",
            ),
            (LANES, "SELECT due.ctid", "SELECT due.id"),
            (LANES, "SELECT k.ctid, COALESCE", "SELECT k.id, COALESCE"),
            (LANES, "            FOR UPDATE SKIP LOCKED\n", ""),
        ),
        (f"{STORE_TESTS}::test_claimers_at_once_never_share_a_task",),
    ),
    Mutant(
        "tries counted where a failure is handled, not where a worker was lost",
        (
            (
                ENDS,
                'task.c.retries_remaining - literal_column("1")',
                'task.c.retries_remaining - (literal_column("1") - batch.c.lost)',
            ),
            (
                ENDS,
                "            + batch.c.lost,",
                "            + literal_column('0'),",
            ),
        ),
        (
            f"{STORE_TESTS}::test_a_lost_worker_counts_as_a_try_and_is_named",
            f"{STORE_TESTS}::test_lost_workers_are_bounded_with_unlimited_retries",
        ),
    ),
    Mutant(
        "ids reused",
        (("src/rowlock/_ids.py", "return uuid7().hex", "return '0197' + 28 * '0'"),),
        (f"{_LATE}[sqlite-_removed_and_made_again]",),
    ),
    Mutant(
        "cancel over a terminal status",
        (
            (
                TASKS,
                "task.c.status == constant(TaskStatus.PENDING), not_(REMOVED_AT_ONCE)",
                "not_(REMOVED_AT_ONCE)",
            ),
        ),
        (f"{STORE_TESTS}::test_cancel",),
    ),
    Mutant(
        "a lost reply taken for a failure",
        (
            (
                "src/rowlock/_worker/finishes.py",
                "        except DatabaseUnavailableError:\n            raise\n"
                "        except Exception as error:\n            return await self._write_one",
                "        except Exception as error:\n            return await self._write_one",
            ),
        ),
        ("tests/worker/test_worker_faults.py::test_an_answer_that_does_not_come_is_no_failure",),
    ),
    Mutant(
        "schedules: no compare-and-set",
        (
            (
                SCHEDULE_ROWS,
                ", scheduled_task.c.token == batch.c.token)",
                ")",
            ),
            (
                TRIGGERS,
                "\n        .with_for_update(skip_locked=True)",
                "",
            ),
        ),
        (
            f"{SCHEDULE_TESTS}::test_nodes_that_look_at_once_trigger_once",
            f"{SCHEDULE_TESTS}::test_a_row_that_changed_is_not_written",
        ),
    ),
    Mutant(
        "schedules: advance and insert in two transactions",
        (
            (
                TRIGGERS,
                "    @transaction\n    def advance(",
                "    async def advance(self, *args: Any) -> Advance:\n"
                "        self._later: list[NewRow] = []\n"
                "        done = await self._database.transaction(self._in_one(*args))\n"
                "        create = self._create(self._later, self._codec.instant(args[2]))\n"
                "        await self._database.transaction(create)\n"
                "        return done\n\n"
                "    def _in_one(",
            ),
            (
                TRIGGERS,
                '        yield from self._create(tasks, parameters["now"])\n',
                "        self._later += tasks\n",
            ),
        ),
        (f"{SCHEDULE_TESTS}::test_no_task_no_advance",),
    ),
)
