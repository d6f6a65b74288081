"""One unit over four stores: a document with full text, a row, a vector and a blob; beside the same writes by hand.

By hand it is not atomic, and has no ledger. `python -m benchmarks.bench_stores` prints the ratios; the write-ahead logs
are grown first.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Final, get_args

import pytest

from benchmarks._command import options, section, workplace
from benchmarks._four import SIZES, FourByHand, FourByLibrary
from benchmarks._ratios import ratio_table
from benchmarks._timing import measure
from benchmarks._work import Durability, connect, race_on_files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

    from benchmarks._ratios import Result

CONTENDERS: Final[dict[str, type[FourByHand | FourByLibrary]]] = {
    "by hand, not atomic": FourByHand,
    "unit of work": FourByLibrary,
}


def compare(
    folder: Path, durability: Durability, blob_bytes: int, *, rounds: int, warmup: int, seed: int
) -> list[Result]:
    """Race the contenders, each on a file of its own in `folder`."""
    kinds = {name: partial(kind, durability=durability, blob_bytes=blob_bytes) for name, kind in CONTENDERS.items()}
    return race_on_files(kinds, folder, name=f"{durability}-{blob_bytes}", rounds=rounds, warmup=warmup, seed=seed)


@pytest.mark.parametrize("durability", get_args(Durability))
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CONTENDERS)
def test_unit_over_four_stores(
    benchmark: BenchmarkFixture, tmp_path: Path, name: str, size: str, durability: Durability
) -> None:
    """A unit over four stores commits; this is the plain time of each contender by itself."""
    with CONTENDERS[name](tmp_path / "work.db", durability, SIZES[size]) as work:
        measure(benchmark, work, rounds=300, warmup=300)


def test_the_comparison_runs(tmp_path: Path) -> None:
    """Both contenders end with the same records in their tables."""
    compare(tmp_path, "full", SIZES["blob of 256 KiB"], rounds=3, warmup=1, seed=1)
    for path in tmp_path.glob("*.db"):
        with closing(connect(path, "full")) as connection:
            for table in ("uow_documents", "orders", "uow_vectors", "uow_blobs"):
                assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (4,)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each size and durability."""
    given = options(__doc__, arguments, rounds=1000, warmup=1500, seed=1)
    with workplace("One unit over four stores") as folder:
        for durability in get_args(Durability):
            for size, blob_bytes in SIZES.items():
                results = compare(
                    folder, durability, blob_bytes, rounds=given.rounds, warmup=given.warmup, seed=given.seed
                )
                section(f'{size}, durability="{durability}"', ratio_table(results))


if __name__ == "__main__":
    main()
