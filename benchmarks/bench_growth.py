"""How the cost of a unit grows: with the units that are in the ledger already, and with the threads that write at once.

For the first, ledger and floor hold so many units of three documents, and the processor time of the next units is
measured. For the second, units a second are counted; a table of `bench_threads` says more about two of the numbers.
`python -m benchmarks.bench_growth` prints both tables, `--plots docs/plots` draws them too.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median
from time import process_time_ns
from typing import TYPE_CHECKING, Final

from benchmarks import bench_threads
from benchmarks._command import section, workplace
from benchmarks._least import ByHandWithReceipt
from benchmarks._plot import plot
from benchmarks._ratios import Contender, race, table
from benchmarks._work import (
    DIGEST,
    INSERT_ENTRY,
    INSERT_UNIT,
    INSERT_WRITE,
    SPACE,
    WRITES,
    ByHand,
    ByLibrary,
    entry_row,
    unit_id_of,
    unit_row,
    write_row,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Lines = Mapping[str, Sequence[tuple[float, float]]]

UNITS: Final = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
WRITERS: Final = (1, 2, 4, 8, 16, 32)
KINDS: Final[dict[str, type[ByHand | ByLibrary]]] = {
    "by hand": ByHand,
    "by hand, rows and receipt": ByHandWithReceipt,
    "unit of work": ByLibrary,
}


def _fill(path: Path, numbers: range, *, ledger: bool) -> None:
    """Add the rows of units, as the library would have written them one by one."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        connection.executemany(ByHand.INSERT, (row for number in numbers for row in ByHand.rows(number)))
        if ledger:
            writes = (
                write_row(WRITES * number + part, unit_id_of(number), number)
                for number in numbers
                for part in range(WRITES)
            )
            connection.executemany(INSERT_UNIT, (unit_row(number, commit_time_ms=1) for number in numbers))
            connection.executemany(INSERT_WRITE, writes)
            connection.executemany(INSERT_ENTRY, map(entry_row, numbers))
            connection.execute(
                "INSERT INTO uow_spaces VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET space_seq = excluded.space_seq",
                (SPACE, numbers[-1], DIGEST),
            )
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def by_units(folder: Path, sizes: Sequence[int], *, rounds: int) -> Lines:
    """Return microseconds of processor time for one unit of each kind, by how many there are; none waits for a sync."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in KINDS}
    for kind in KINDS.values():
        kind(folder / f"{kind.__name__}.db", "normal").close()
    there = 0
    for size in sizes:
        for kind in KINDS.values():
            _fill(folder / f"{kind.__name__}.db", range(there + 1, size + 1), ledger=kind is not ByHand)
        there = size
        with ExitStack() as stack:
            contenders = [Contender(name, _at_work(stack, folder, kind, size)) for name, kind in KINDS.items()]
            # A ledger of ten units would not be one of ten any more after some hundred rounds.
            for result in race(contenders, rounds=min(rounds, max(size, 30)), clock=process_time_ns):
                found[result.name].append((size, result.median_us))
    return found


def _at_work(stack: ExitStack, folder: Path, kind: type[ByHand | ByLibrary], size: int) -> ByHand | ByLibrary:
    """Return what does units of this kind on a copy of its file, until `stack` ends."""
    path = folder / f"{kind.__name__}-{size}.db"  # never one name for two: the library would notice that it was swapped
    shutil.copy(folder / f"{kind.__name__}.db", path)
    stack.callback(_remove, path)
    work = kind(path, "normal")
    stack.callback(work.close)
    work.number = size
    if isinstance(work, ByHandWithReceipt):
        work.peaks = [DIGEST] * size.bit_count()
    for _ in range(10):
        work()
    return work


def _remove(path: Path) -> None:
    """Remove a database and what lies beside it."""
    for left in path.parent.glob(f"{path.name}*"):
        left.unlink()


def by_writers(folder: Path, counts: Sequence[int], *, rounds: int, milliseconds: int) -> Lines:
    """Return units a second of all threads together, by how many threads there are; each waits for the disk."""
    found: dict[str, list[tuple[float, float]]] = {kind.name: [] for kind in bench_threads.CONTENDERS}
    for count in counts:
        for rates in bench_threads.race(folder, count, rounds=rounds, milliseconds=milliseconds, seed=1):
            found[rates.name].append((count, median(shift.rate for shift in rates.shifts)))
    return found


def _table(heading: str, lines: Lines) -> str:
    rows = zip(*lines.values(), strict=True)
    return table((heading, *lines), ((f"{row[0][0]:,.0f}", *(f"{value:,.0f}" for _, value in row)) for row in rows))


def test_the_cost_is_measured_and_drawn(tmp_path: Path) -> None:
    """Both tables have a line for each number, and their pictures say the same in words."""
    units = by_units(tmp_path, (1, 10), rounds=4)
    assert [[size for size, _ in line] for line in units.values()] == [[1, 10]] * len(KINDS)
    writers = by_writers(tmp_path, (1, 2), rounds=1, milliseconds=5)
    assert _table("threads", writers).count("\n") == 3
    drawn = plot("A title & more", writers, across="threads", up="units a second", twos=True)
    assert drawn.count("<polyline") == len(bench_threads.CONTENDERS)
    assert "A title &amp; more" in drawn
    assert "units a second, by threads. by hand, own connections:" in drawn


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables; draw them if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=UNITS[-1], metavar="N", help="up to so many; default a million")
    parser.add_argument("--rounds", type=int, default=400, metavar="N", help="default 400")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="where to draw the plots")
    given = parser.parse_args(arguments)
    with workplace("How the cost grows") as folder:
        sizes = [size for size in UNITS if size <= given.units]
        units = by_units(folder, sizes, rounds=given.rounds)
        section("Processor microseconds for one unit", _table("units in the ledger", units))
        writers = by_writers(folder, WRITERS, rounds=max(given.rounds // 100, 1), milliseconds=500)
        section('Units a second, durability="full"', _table("threads", writers))
    if given.plots:
        given.plots.mkdir(parents=True, exist_ok=True)
        title = "Processor time of one unit of three documents, by how many units the ledger holds"
        drawn = plot(title, units, across="units in the ledger", up="microseconds")
        (given.plots / "units.svg").write_text(drawn, encoding="utf-8")
        title = "Units a second, by how many threads write to one ledger at once"
        drawn = plot(title, writers, across="threads", up="units a second", twos=True)
        (given.plots / "writers.svg").write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
