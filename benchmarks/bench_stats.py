"""Statistics of a ledger that has been in use for long: the first answer, and every one after it.

`python -m benchmarks stats` prints the times at 1,000,000 units; filling the ledger takes some minutes before.
"""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks._command import options, section, workplace
from benchmarks._filled import fill, time_of
from benchmarks._ratios import table
from memoryos_uow import Ledger
from memoryos_uow._statistics.side import forget, side_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


def fill_with_durations(path: Path, units: int, *, seed: int = 1) -> None:
    """Make a ledger of `units` units whose durations are spread as real ones are: log-normal, median 0.67 ms."""
    fill(path, units, seed=seed)
    chance = random.Random(seed)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.create_function("spread", 1, lambda _number: int(chance.lognormvariate(6.5, 0.8)))
        connection.execute("BEGIN")
        connection.execute("UPDATE uow_ledger SET execution_us = spread(commit_seq)")
        connection.execute("UPDATE uow_ledger SET commit_us = execution_us * 7 / 10")
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def questions(units: int) -> dict[str, dict[str, Any]]:
    """What is asked; of times the second half of the ledger's, and its last hour."""
    half, hour = time_of(units // 2 + 617), time_of(max(units - 3600, 1))
    return {
        "all of it": {},
        **{f"by {by}": {"by": by} for by in ("band", "store", "space", "actor", "hour", "day")},
        "one space": {"space_id": "space:0003"},
        "GREEN by space": {"band": "GREEN", "by": "space"},
        "the second half of its time": {"since": half},
        "the second half, by day": {"since": half, "by": "day"},
        "the last hour, by space": {"since": hour, "by": "space"},
        "one space, by day": {"space_id": "space:0003", "by": "day"},
        "the largest space, by actor": {"space_id": "space:0000", "by": "actor"},
        "the second half, by space": {"since": half, "by": "space"},
        "the second half, by actor": {"since": half, "by": "actor"},
        "the second half, by store": {"since": half, "by": "store"},
        "nine tenths of its time, by space": {"since": time_of(units // 10 + 617), "by": "space"},
    }


def _answers(path: Path, units: int, rounds: int) -> Iterator[tuple[str, float, float]]:
    """Yield each question with the median seconds of its answers: processor time, and by the clock."""
    with Ledger.open(path) as ledger:
        for name, question in questions(units).items():
            busy, taken = [], []
            for _ in range(rounds):
                begun, cpu = time.perf_counter(), time.process_time()
                ledger.stats(**question)
                busy.append(time.process_time() - cpu)
                taken.append(time.perf_counter() - begun)
            yield name, median(busy), median(taken)


def measure(path: Path, units: int, rounds: int) -> None:
    """Print what a filled ledger answers, and how fast."""
    forget(path)
    with Ledger.open(path) as ledger:
        begun, cpu = time.perf_counter(), time.process_time()
        ledger.stats()
        first: Final = time.perf_counter() - begun, time.process_time() - cpu
    rows = [("the first answer, which reads every unit", f"{first[1]:,.1f}", f"{first[0]:,.1f}")]
    rows += [(name, f"{busy:.3f}", f"{taken:.3f}") for name, busy, taken in _answers(path, units, rounds)]
    section("Median seconds to an answer", table(("", "processor time", "by the clock"), rows))
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "memoryos_uow", "stats", str(path), "--json"], check=True, capture_output=True
    )
    command_s = time.perf_counter() - begun
    bytes_kept = side_file(path).stat().st_size
    facts = [
        ("bytes kept beside the ledger, per unit", f"{bytes_kept / units:,.1f}"),
        ("`memoryos-uow stats`, whole process, s", f"{command_s:.2f}"),
    ]
    section("Beside that", table(("", ""), facts))


def test_statistics_of_a_small_ledger(tmp_path: Path) -> None:
    """The table can be made."""
    fill_with_durations(tmp_path / "ledger.db", 200)
    assert all(taken > 0 for _, _, taken in _answers(tmp_path / "ledger.db", 200, rounds=1))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one row per question."""
    given = options(__doc__, arguments, units=1_000_000, rounds=9)
    with workplace(f"Statistics of a ledger of {given.units:,} units") as folder:
        fill_with_durations(folder / "ledger.db", given.units)
        measure(folder / "ledger.db", given.units, given.rounds)


if __name__ == "__main__":
    main()
