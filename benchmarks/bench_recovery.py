"""What recovery costs: ledgers with units that dead processes left, decided and undecided.

`python -m benchmarks.bench_recovery` prints how long it takes until all of them are settled, by the clock and in
processor time, which does not depend on what else the machine does.
"""

from __future__ import annotations

from functools import partial
from time import perf_counter, process_time
from typing import TYPE_CHECKING

from benchmarks._command import options, section, workplace
from benchmarks._ratios import table
from benchmarks._timing import measure
from tests import leftovers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture


def left(folder: Path, units: int, *, decided: bool) -> Path:
    """Return a new ledger in `folder` with `units` left over: decided ones owe a record to a second file each."""
    folder.mkdir()
    leftovers.open_ledger(folder).close()
    leftovers.leave(folder, units, decided=decided)
    return folder


def recover(folder: Path) -> None:
    """Open the ledger, which recovers for a bounded time, and have the rest settled too."""
    with leftovers.open_ledger(folder) as ledger:
        ledger.recover()


def test_recovery(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Units that were decided and not published are."""
    units = 10_000 if benchmark.enabled else 20
    folder = left(tmp_path / "ledger", units, decided=True)
    measure(benchmark, partial(recover, folder), rounds=1)
    assert leftovers.unsettled(folder) == []


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    given = options(__doc__, arguments, units=100_000)
    with workplace("Recovery") as folder:
        rows = []
        for name, share, decided in (("decided", 0.6, True), ("undecided", 0.4, False), ("decided", 1.0, True)):
            units = int(given.units * share)
            place = left(folder / f"{name}-{units}", units, decided=decided)
            begun, worked = perf_counter(), process_time()
            recover(place)
            took = (perf_counter() - begun, process_time() - worked)
            if leftovers.unsettled(place):
                raise RuntimeError("Recovery has left units unsettled.")
            rows.append((f"{units:,} {name}", *(f"{seconds:.2f}" for seconds in took)))
        section("Until all units are settled", table(("left over", "s", "processor s"), rows))


if __name__ == "__main__":
    main()
