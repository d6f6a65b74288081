"""The nine things that the library promises about speed, each measured and held against its target.

`python -m benchmarks.targets` prints the table, `python -m benchmarks.targets F1 F8` some of its rows; it takes a
quarter of an hour. `--size 10` does a tenth of the work: quicker, and less sure. A target that is missed is printed as
such. Which machine it was, and how busy, decides over absolute times, and to a lesser degree over ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, median
from time import perf_counter
from typing import TYPE_CHECKING, Final, TypeAlias

from benchmarks import bench_peers, bench_processes, bench_storage, bench_streaming, bench_threads, bench_three
from benchmarks import bench_unit as one_unit
from benchmarks._command import section, workplace
from benchmarks._filled import fill
from benchmarks._ratios import Contender, race, table
from benchmarks._work import ByHand, ByLibrary, documents
from benchmarks.bench_opening import open_and_close
from benchmarks.bench_queries import Filled
from benchmarks.counts import why_no_strace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SLOW_US: Final = 2000
"""How much longer each sync takes on the emulated ordinary disk."""
DOING_LESS: Final = (
    "SQLAlchemy ORM",
    "Django, bulk_create",
    "peewee, create",
    "diskcache, transact",
    "zope transaction and SQLAlchemy ORM",
    "DBOS, workflow of one transaction",
)
_ROOT: Final = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Found:
    """One figure beside its target."""

    what: str
    value: float
    target: float
    at_least: bool = False
    unit: str = "x"

    @property
    def holds(self) -> bool:
        """Whether the target is met."""
        return self.value >= self.target if self.at_least else self.value <= self.target

    def row(self, name: str) -> tuple[str, str, str, str]:
        """Return the cells of its row."""
        sign = ">=" if self.at_least else "<="
        figures = (f"{sign} {self.target:g} {self.unit}", f"{self.value:,.2f} {self.unit}")
        return (f"{name} {self.what}", *figures, "pass" if self.holds else "MISSED")


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured, in percent of what a careful measurement takes."""

    percent: int = 100

    def of(self, number: int, at_least: int = 2) -> int:
        """Return so many percent of `number`."""
        return max(number * self.percent // 100, at_least)

    @property
    def rounds(self) -> dict[str, int]:
        """What every race of single units is given."""
        return {"rounds": self.of(2000), "warmup": self.of(4000), "seed": 1}

    @property
    def shifts(self) -> dict[str, int]:
        """What every comparison of rates is given."""
        return {"rounds": self.of(8, 1), "milliseconds": self.of(700, 20), "seed": 1}


# Each measurement returns figures; those under a slow disk run in a child process


def unit_full(folder: Path, scale: Scale) -> list[Found]:
    """F1: one unit of three documents at full durability, and the same beside others that do less."""
    ours = one_unit.compare(folder, "full", **scale.rounds)[-1]
    found = [Found("3 writes, receipt and 5 indexes, durability=full", ours.ratio, 1.6)]
    for apart in (False, True):
        results = {result.name: result for result in bench_peers.compare(folder, "full", **scale.rounds, apart=apart)}
        mine = results[bench_peers.OURS].times_us
        for name in DOING_LESS:
            if name in results:
                ratio = median(a / b for a, b in zip(mine, results[name].times_us, strict=True))
                found.append(Found(f"the same, beside {name}", ratio, 1.0))
    return found


def unit_full_slow(folder: Path, scale: Scale) -> list[Found]:
    """F1 where each sync takes 2 ms longer."""
    ours = one_unit.compare(folder, "full", rounds=scale.of(500), warmup=scale.of(1500), seed=1)[-1]
    return [Found("the same, a sync takes 2 ms longer", ours.ratio, 1.1)]


def unit_normal(folder: Path, scale: Scale) -> list[Found]:
    """F2: the same without waiting for the disk."""
    return [Found("3 writes, durability=normal", one_unit.compare(folder, "normal", **scale.rounds)[-1].ratio, 5.0)]


def three_stores(folder: Path, scale: Scale) -> list[Found]:
    """F3: three places, atomic, beside three commits by hand."""
    hand, ours = bench_three.compare(folder, rounds=scale.of(600), warmup=scale.of(1000), seed=1)
    mean = fmean(ours.times_us) / fmean(hand.times_us)
    return [Found("ledger, blob, second file: median", ours.ratio, 0.8), Found("the same: mean", mean, 0.9)]


def three_stores_slow(folder: Path, scale: Scale) -> list[Found]:
    """F3 where each sync takes 2 ms longer."""
    _, ours = bench_three.compare(folder, rounds=scale.of(200), warmup=scale.of(200), seed=1)
    return [Found("the same, a sync takes 2 ms longer", ours.ratio, 0.35)]


def threads(folder: Path, scale: Scale) -> list[Found]:
    """F4: units a second of many threads."""
    few, many = (bench_threads.race(folder, count, **scale.shifts)[-1] for count in bench_threads.THREADS)
    return [
        Found("8 threads, units/s", median(few.ratios), 1.5, at_least=True),
        Found("32 threads, units/s", median(many.ratios), 4.0, at_least=True),
        Found("32 threads, p99", median(shift.p99_ms for shift in many.shifts), 15, unit="ms"),
    ]


def threads_slow(folder: Path, scale: Scale) -> list[Found]:
    """F4 where each sync takes 2 ms longer."""
    ours = bench_threads.race(folder, 8, **scale.shifts)[-1]
    return [Found("8 threads, a sync takes 2 ms longer", median(ours.ratios), 4.0, at_least=True)]


def processes(folder: Path, scale: Scale) -> list[Found]:
    """F5: four processes on one ledger."""
    ours = bench_processes.race(folder, 4, **scale.shifts)[-1]
    evenness = median(shift.evenness for shift in ours.shifts)
    return [
        Found("4 processes, slowest for each unit of the fastest", evenness, 0.5, at_least=True, unit=""),
        Found("the same, all together", median(ours.ratios), 0.8, at_least=True),
    ]


def many_writes(folder: Path, scale: Scale) -> list[Found]:
    """F6: one unit of very many writes."""
    writes = scale.of(10_000)
    hand, ours = _ManyByHand(folder / "hand.db", writes), _ManyByLibrary(folder / "ours.db", writes)
    with hand, ours:
        contenders = [Contender("by hand", hand), Contender("unit of work", ours)]
        ratio = race(contenders, rounds=scale.of(12), seed=1)[-1].ratio
    peaks = [
        bench_streaming.measured(folder / f"{name}.db", number)["peak_kib"]
        for name, number in {"few": scale.of(10_000), "many": scale.of(1_000_000)}.items()
    ]
    return [
        Found(f"one unit of {writes:,} writes", ratio, 3.5),
        Found("memory at a hundred times as many", peaks[1] / peaks[0], 1.1),
    ]


class _ManyByHand(ByHand):
    """So many rows in one transaction."""

    def __init__(self, path: Path, writes: int) -> None:
        super().__init__(path, "full")
        self.writes = writes

    def _write(self) -> None:
        numbers = range(self.number * self.writes, (self.number + 1) * self.writes, 3)
        self.connection.executemany(self.INSERT, (row for number in numbers for row in self.rows(number)))


class _ManyByLibrary(ByLibrary):
    """So many writes in one unit."""

    def __init__(self, path: Path, writes: int) -> None:
        super().__init__(path, "full")
        self.writes = writes

    def __call__(self) -> None:
        self.number += 1
        numbers = range(self.number * self.writes, (self.number + 1) * self.writes, 3)
        with self.ledger.unit(space_id="space", band="GREEN") as uow:
            notes = uow["notes"]
            for number in numbers:
                for key, value in documents(number):
                    notes.create(key, value)


def recovery_and_opening(folder: Path, scale: Scale) -> list[Found]:
    """F7: units that were left in the middle, and a ledger that is in order."""
    from tests import leftovers

    units = scale.of(100_000)
    leftovers.open_ledger(folder).close()
    leftovers.leave(folder, units, decided=True)
    begun = perf_counter()
    with leftovers.open_ledger(folder) as ledger:
        ledger.recover()
    taken = perf_counter() - begun
    opened = scale.of(1_000_000)
    path = folder / "clean.db"
    fill(path, opened)
    contenders = [Contender("opening", partial(open_and_close, path))]
    took = race(contenders, rounds=scale.of(100), seed=1)[0].median_us / 1000
    return [
        Found(f"recovery of {units:,} units", taken, 3, unit="s"),
        Found(f"opening, {opened:,} units", took, 2, unit="ms"),
    ]


def queries(folder: Path, scale: Scale) -> list[Found]:
    """F8: what is asked of a large ledger."""
    units = scale.of(1_000_000, 100)
    asked = {
        "newest 50 of a space": Filled.space,
        "newest 50 of an actor": Filled.actor,
        "newest 50 of a band": Filled.band_green,
        "failed in the last hour": Filled.failed_last_hour,
        "by correlation id": Filled.correlation,
        "the writes of one unit": Filled.one_unit,
    }
    found = []
    with Filled(folder / "queries.db", units, indexed=True) as filled:
        for name, question in asked.items():
            took = race([Contender(name, partial(question, filled))], rounds=scale.of(50), seed=1)[0]
            found.append(Found(f"{name}, {units:,} units", took.median_us / 1000, 1, unit="ms"))
    return found


def storage(folder: Path, scale: Scale) -> list[Found]:
    """F9: bytes of a unit in the specification's tables."""
    units = scale.of(100_000, 2000)
    sizes = [
        sum(bench_storage.bytes_per_unit(bench_storage.VARIANTS[name], units, folder).values())
        for name in (
            "1.0.0",
            "1.1.0, new fields filled",
            "1.0.0 rows, migrated to 1.1.0",
            "1.1.0, new fields left empty",
        )
    ]
    return [
        Found("bytes, all fields filled", sizes[1] / sizes[0], 2.0),
        Found("bytes, new fields empty, migrated in place", sizes[2] / sizes[0], 1.2),
        Found("bytes, new fields empty, written anew", sizes[3] / sizes[0], 1.2),
    ]


Measure: TypeAlias = "Callable[[Path, Scale], list[Found]]"

ROWS: Final[dict[str, tuple[Measure, ...]]] = {
    "F1": (unit_full, unit_full_slow),
    "F2": (unit_normal,),
    "F3": (three_stores, three_stores_slow),
    "F4": (threads, threads_slow),
    "F5": (processes,),
    "F6": (many_writes,),
    "F7": (recovery_and_opening,),
    "F8": (queries,),
    "F9": (storage,),
}
SLOW: Final = {measure.__name__: measure for measure in (unit_full_slow, three_stores_slow, threads_slow)}


def measured(measure: Measure, scale: Scale) -> list[Found]:
    """Return what `measure` finds in a folder of its own; on a slow disk where that is what it measures."""
    if measure.__name__ in SLOW:
        return _measured_slowly(measure.__name__, scale) if why_no_strace() is None else []
    with tempfile.TemporaryDirectory(prefix="uow-targets-") as folder:
        return measure(Path(folder), scale)


def _measured_slowly(name: str, scale: Scale) -> list[Found]:
    """Return what a child process finds whose syncs return later."""
    injected = f"inject=fsync,fdatasync:delay_exit={SLOW_US}"
    strace = ("strace", "--seccomp-bpf", "-f", "-qq", "-o", os.devnull, "-e", "trace=fsync,fdatasync", "-e", injected)
    command = (sys.executable, "-m", "benchmarks.targets", "--slowly", name, "--size", str(scale.percent))
    done = subprocess.run([*strace, *command], stdout=subprocess.PIPE, text=True, check=True, cwd=_ROOT)
    return [Found(**each) for each in json.loads(done.stdout)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the rows asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="ROW", help=f"{', '.join(ROWS)}; default: all")
    parser.add_argument("--size", type=int, default=100, metavar="PERCENT", help="of the whole work; default 100")
    parser.add_argument("--slowly", choices=SLOW, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    scale = Scale(given.size)
    if given.slowly:
        with tempfile.TemporaryDirectory(prefix="uow-targets-") as folder:
            print(json.dumps([asdict(each) for each in SLOW[given.slowly](Path(folder), scale)]))
        return
    if unknown := set(given.names) - ROWS.keys():
        parser.error(f"there is no row called {min(unknown)}")
    with workplace("Targets"):
        rows = []
        for name in given.names or ROWS:
            for measure in ROWS[name]:
                for each in measured(measure, scale):
                    rows.append(each.row(name))
                    print(" ".join(rows[-1]), file=sys.stderr, flush=True)
        section("Measured", table(("", "target", "measured", ""), rows))


if __name__ == "__main__":
    main()
