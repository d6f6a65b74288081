"""What it costs to begin: the import, and opening a ledger that is in order.

`python -m benchmarks.bench_opening` prints the times; ledgers of 0 and of 100,000 units.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import memoryos_uow
from benchmarks._command import options, section, workplace
from benchmarks._filled import fill
from benchmarks._ratios import Contender, race, table
from benchmarks._timing import measure
from memoryos_uow import Ledger
from memoryos_uow.stores import DocumentStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_benchmark.fixture import BenchmarkFixture


STATEMENTS: Final = ("pass", "import sqlite3", "import memoryos_uow", "from memoryos_uow import Ledger, UnitOfWork")


def starting(statement: str, folder: Path) -> Contender:
    """Return a contender that starts Python and runs `statement`, with compiled files in `folder`."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(folder)
    environment["PYTHONPATH"] = str(Path(memoryos_uow.__file__).parents[1])

    def start() -> None:
        subprocess.run([sys.executable, "-c", statement], env=environment, check=True)

    start()  # compiles
    return Contender(statement, start)


def children_ns() -> int:
    """Return the processor time of all child processes that have ended: waiting for others does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((used.ru_utime + used.ru_stime) * 1e9)


def open_and_close(path: Path) -> None:
    """Open a ledger, with all that is looked at, and close it."""
    Ledger.open(path, stores=[DocumentStore("notes")]).close()


def test_opening(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """A ledger that is in order opens."""
    path = tmp_path / "ledger.db"
    fill(path, 100_000 if benchmark.enabled else 50)
    benchmark(open_and_close, path)


def test_import(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """A new interpreter imports what a unit of work needs."""
    measure(benchmark, starting(STATEMENTS[-1], tmp_path).once, rounds=20)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    given = options(__doc__, arguments, units=100_000, rounds=200, seed=1)
    with workplace("Import and opening") as folder:
        contenders = [starting(statement, folder / "compiled") for statement in STATEMENTS]
        bare, *others = race(contenders, rounds=given.rounds // 2, seed=given.seed, clock=children_ns)
        rows = [
            (result.name, f"{result.median_us / 1000:.1f}", f"{(result.median_us - bare.median_us) / 1000:.1f}")
            for result in (bare, *others)
        ]
        section("Processor time of a new interpreter", table(("statement", "ms", "more than nothing, ms"), rows))

        paths = {f"{units:,} units": folder / f"{units}.db" for units in (0, given.units)}
        for units, path in zip((0, given.units), paths.values(), strict=True):
            fill(path, units)
        contenders = [Contender(name, partial(open_and_close, path)) for name, path in paths.items()]
        results = race(contenders, rounds=given.rounds, seed=given.seed)
        section(
            "Ledger.open and close",
            table(("", "median us", "x"), ((r.name, f"{r.median_us:,.0f}", f"{r.ratio:.2f}") for r in results)),
        )


if __name__ == "__main__":
    main()
