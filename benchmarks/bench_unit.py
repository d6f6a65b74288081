"""One unit of three documents, every context column filled in, beside the same writes by hand.

`python -m benchmarks.bench_unit` prints the ratios; the write-ahead logs are grown first. `--slow 2000` makes every
sync of the disk take 2,000 us longer, as on a disk of the ordinary kind, by running itself under strace.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Final, get_args

import pytest

from benchmarks._command import options, section, workplace
from benchmarks._least import FLOOR
from benchmarks._ratios import ratio_table
from benchmarks._timing import measure
from benchmarks._work import ByLibrary, Durability, race_on_files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

    from benchmarks._ratios import Result
    from benchmarks._work import ByHand

CONTENDERS: Final[dict[str, type[ByHand | ByLibrary]]] = {
    **FLOOR,
    "unit of work": ByLibrary,
}


def compare(folder: Path, durability: Durability, *, rounds: int, warmup: int, seed: int) -> list[Result]:
    """Race the contenders, each on a file of its own in `folder`."""
    kinds = {name: partial(kind, durability=durability) for name, kind in CONTENDERS.items()}
    return race_on_files(kinds, folder, name=durability, rounds=rounds, warmup=warmup, seed=seed)


@pytest.mark.parametrize("durability", get_args(Durability))
@pytest.mark.parametrize("name", CONTENDERS)
def test_unit_of_three_writes(benchmark: BenchmarkFixture, tmp_path: Path, name: str, durability: Durability) -> None:
    """A unit of three documents commits; this is the plain time of each contender by itself."""
    with CONTENDERS[name](tmp_path / "work.db", durability) as work:
        measure(benchmark, work, rounds=1000, warmup=2500)


def test_the_comparison_runs(tmp_path: Path) -> None:
    """Every contender runs once in every round, and the floor is compared with itself."""
    results = compare(tmp_path, "full", rounds=5, warmup=1, seed=1)
    assert [(result.name, len(result.times_us)) for result in results] == [(name, 5) for name in CONTENDERS]
    assert results[0].ratio == 1
    assert ratio_table(results).count("\n") == 1 + len(CONTENDERS)


def _run_slowly(delay_us: int, rounds: int, warmup: int) -> None:
    """Run the comparison at full durability in a child process whose syncs return `delay_us` later."""
    injected = f"inject=fsync,fdatasync:delay_exit={delay_us}"
    strace = ("strace", "--seccomp-bpf", "-f", "-qq", "-o", os.devnull, "-e", "trace=fsync,fdatasync", "-e", injected)
    command = (sys.executable, "-m", "benchmarks.bench_unit", "--normal", "0", "--rounds", rounds, "--warmup", warmup)
    sys.stdout.flush()
    done = subprocess.run([*strace, *map(str, command)], stdout=subprocess.PIPE, text=True, check=True)
    print(done.stdout, end="")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    given = options(__doc__, arguments, rounds=4000, warmup=8000, seed=1, slow=0, normal=1)
    if given.slow:
        _run_slowly(given.slow, given.rounds, given.warmup)
        return
    with workplace("One unit of three documents") as folder:
        for durability in get_args(Durability) if given.normal else ("full",):
            results = compare(folder, durability, rounds=given.rounds, warmup=given.warmup, seed=given.seed)
            section(f'durability="{durability}"', ratio_table(results))


if __name__ == "__main__":
    main()
