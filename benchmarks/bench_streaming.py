"""One unit of very many writes: how long it takes, and how much memory at the most.

`python -m benchmarks.bench_streaming` prints the table for 10,000, 100,000 and 1,000,000 documents in one unit; each
size runs in a process of its own, whose largest resident size is what counts. `--writes N` sets the largest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import memoryos_uow
from benchmarks._command import options, section, workplace
from benchmarks._ratios import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_benchmark.fixture import BenchmarkFixture

LARGEST: Final = 1_000_000

_CHILD: Final = """
import json, resource, sys, time
from pathlib import Path
from memoryos_uow import Ledger
from memoryos_uow.stores import DocumentStore
path, writes = Path(sys.argv[1]), int(sys.argv[2])
with Ledger.open(path, stores=[DocumentStore("notes")]) as ledger:
    begun = time.perf_counter()
    log = 0
    with ledger.unit(space_id="s", band="GREEN") as uow:
        uow["notes"].create_many((f"k{n}", {"text": "x" * 100, "n": n}) for n in range(writes))
        log = Path(f"{path}-wal").stat().st_size if writes >= 10_000 else 0
    seconds = time.perf_counter() - begun
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert uow.receipt.write_count == writes
print(json.dumps({"seconds": seconds, "peak_kib": peak_kib, "log": log, "file": path.stat().st_size}))
"""


def measured(path: Path, writes: int) -> dict[str, Any]:
    """Return what one unit of so many writes took, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(memoryos_uow.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path), str(writes)], env=environment, check=True, capture_output=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_streaming(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """One unit streams its writes."""
    paths = (tmp_path / f"{number}.db" for number in range(1_000_000))
    writes = 100_000 if benchmark.enabled else 200
    benchmark(lambda: measured(next(paths), writes))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    given = options(__doc__, arguments, writes=LARGEST)
    with workplace("Units of very many writes") as folder:
        rows = []
        for writes in (given.writes // 100, given.writes // 10, given.writes):
            found = measured(folder / f"{writes}.db", writes)
            rows.append(
                (
                    f"{writes:,}",
                    f"{found['seconds']:.1f}",
                    f"{writes / found['seconds']:,.0f}",
                    f"{found['peak_kib'] / 1024:.0f}",
                    f"{found['log'] / 2**20:,.0f}",
                    f"{found['file'] / 2**20:,.0f}",
                )
            )
        headings = (
            "writes in one unit",
            "seconds",
            "writes/s",
            "peak memory, MiB",
            "log before commit, MiB",
            "file, MiB",
        )
        section("One unit of documents of 130 bytes", table(headings, rows))


if __name__ == "__main__":
    main()
