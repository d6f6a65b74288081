"""Where the time of one unit goes: its stages by the wall clock, and in each what SQLite takes and what Python takes.

A sampling or tracing profiler makes a function of many small calls look dearer than it is; here some twenty functions
are wrapped, which costs a few microseconds in all. `python -m benchmarks.bench_profile` prints the table.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from functools import wraps
from statistics import median
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final, get_args
from unittest.mock import patch

from benchmarks._command import options, section, workplace
from benchmarks._ratios import table
from benchmarks._work import ByLibrary, Durability, grow_log
from memoryos_uow import _coordinator, _deciding
from memoryos_uow._leftovers import Leftovers
from memoryos_uow._registry import StoreRegistry
from memoryos_uow._rows import LedgerRows
from memoryos_uow.engines._transaction import SQLiteReader, SQLiteTransaction
from memoryos_uow.engines.sqlite import SQLiteEngine
from memoryos_uow.stores import DocumentStore
from memoryos_uow.unit import UnitOfWork

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

SQLITE: Final = "SQLite"

STAGES: Final[tuple[tuple[object, str, str], ...]] = (
    (UnitOfWork, "__init__", "begin: arguments checked, unit id"),
    (UnitOfWork, "__enter__", "begin: arguments checked, unit id"),
    (UnitOfWork, "_write", "three writes: checked and buffered"),
    (DocumentStore, "encode", "three writes: to JSON, hashed"),
    (SQLiteEngine, "begin", "take the lock, BEGIN IMMEDIATE"),
    (Leftovers, "write", "timing of the unit before"),
    (StoreRegistry, "refresh", "is the schema still the one known?"),
    (LedgerRows, "next_position", "place in the log and in the space"),
    (_coordinator.Coordinator, "commit", "coordinator and protocol"),
    (DocumentStore, "apply", "the documents' rows"),
    (_deciding, "describe", "receipt: leaves, root, context"),
    (_deciding, "committed_record", "receipt: its hash; the unit's record"),
    (LedgerRows, "insert_unit", "row of unit_of_work, five indexes"),
    (LedgerRows, "insert_writes", "rows of uow_writes"),
    (LedgerRows, "_insert_entry", "rows of uow_ledger and uow_spaces"),
    (SQLiteTransaction, "commit", "COMMIT"),
)
STATEMENTS: Final = (
    (SQLiteReader, "rows"),
    (SQLiteTransaction, "execute"),
    (SQLiteTransaction, "execute_many"),
    (SQLiteTransaction, "insert"),
)
REST: Final = "the block itself, the caller's work included"


class Clock:
    """Adds up the time between its calls to the innermost stage that is open."""

    def __init__(self) -> None:
        self.taken: dict[tuple[str, bool], int] = defaultdict(int)
        self._open: list[tuple[str, bool]] = [(REST, False)]
        self._since = perf_counter_ns()

    def enter(self, stage: str | None) -> None:
        """Open `stage`; None means that SQLite is working for the stage that is open."""
        self._account()
        self._open.append((self._open[-1][0], True) if stage is None else (stage, False))

    def leave(self) -> None:
        """Close the innermost stage."""
        self._account()
        self._open.pop()

    def _account(self) -> None:
        now = perf_counter_ns()
        self.taken[self._open[-1]] += now - self._since
        self._since = now

    def take(self) -> dict[tuple[str, bool], int]:
        """Return what was added up, in nanoseconds, and begin anew."""
        self._account()
        taken, self.taken = self.taken, defaultdict(int)
        return taken


def _timed(function: Callable[..., Any], clock: Clock, stage: str | None) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        clock.enter(stage)
        try:
            return function(*args, **kwargs)
        finally:
            clock.leave()

    return call


def _wrap(stack: ExitStack, clock: Clock, owner: Any, name: str, stage: str | None) -> None:
    found = vars(owner).get(name) or getattr(owner, name)
    function = found.__func__ if isinstance(found, staticmethod) else found
    timed = _timed(function, clock, stage)
    stack.enter_context(patch.object(owner, name, staticmethod(timed) if isinstance(found, staticmethod) else timed))


def profile(path: Path, durability: Durability, *, units: int, warmup: int) -> dict[str, tuple[float, float]]:
    """Return for each stage the median microseconds per unit that Python and SQLite took in it."""
    clock = Clock()
    taken: dict[tuple[str, bool], list[int]] = defaultdict(list)
    with ByLibrary(path, durability) as unit, ExitStack() as stack:
        grow_log(unit, at_most=warmup)
        for owner, name, label in STAGES:
            _wrap(stack, clock, owner, name, label)
        for owner, name in STATEMENTS:
            _wrap(stack, clock, owner, name, None)
        unit()
        clock.take()
        for _ in range(units):
            unit()
            for key, nanoseconds in clock.take().items():
                taken[key].append(nanoseconds)
    labels = dict.fromkeys((*(label for _, _, label in STAGES), REST))
    medians = {key: median(times) / 1000 for key, times in taken.items()}
    found = {label: (medians.get((label, False), 0.0), medians.get((label, True), 0.0)) for label in labels}
    # The lock and the commit are SQLite's own work from their first microseconds to their last.
    for label in (label for owner, _, label in STAGES if owner in (SQLiteEngine, SQLiteTransaction)):
        found[label] = (0.0, sum(found[label]))
    return found


def test_every_stage_is_met(tmp_path: Path) -> None:
    """Each stage of the table takes some time; one that takes none has moved, and STAGES has to follow it."""
    stages = profile(tmp_path / "profile.db", "normal", units=3, warmup=1)
    assert [label for label, times in stages.items() if not sum(times)] == []


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one table per durability."""
    given = options(__doc__, arguments, units=4000, warmup=8000)
    with workplace("Where the time of one unit goes") as folder:
        for durability in get_args(Durability):
            stages = profile(folder / f"{durability}.db", durability, units=given.units, warmup=given.warmup)
            everything = sum(map(sum, stages.values()))
            rows = [
                (label, f"{python:.0f}", f"{sqlite:.0f}", f"{(python + sqlite) / everything:.0%}")
                for label, (python, sqlite) in stages.items()
            ]
            python, sqlite = (sum(times[which] for times in stages.values()) for which in (0, 1))
            rows.append(("all", f"{python:.0f}", f"{sqlite:.0f}", "100%"))
            section(f'durability="{durability}"', table(("stage", "Python us", "SQLite us", "share"), rows))


if __name__ == "__main__":
    main()
