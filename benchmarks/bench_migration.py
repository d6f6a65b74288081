"""A ledger of many units migrated from 1.0.0 to 1.1.0 and down again, beside the plain SQL scripts.

Going up is `Ledger.open`: one transaction, the file checked before and after. Going down in full writes a checked
backup of the whole file first; the ways by hand do not.

`python -m benchmarks.bench_migration` prints the times at 100,000 units; `--units N` asks for another number.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final, TypeAlias

from benchmarks._command import options, section, workplace
from benchmarks._filled import fill, fill_1_0_0
from benchmarks._ratios import Contender, race, table
from benchmarks._timing import measure
from benchmarks._work import connect
from memoryos_uow import Ledger, _migrations, _schema
from memoryos_uow.stores import DocumentStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

Way: TypeAlias = "Callable[[Path], object]"


def up(path: Path) -> None:
    """Open the ledger, which migrates it."""
    Ledger.open(path, stores=[DocumentStore("notes")]).close()


def up_by_hand(path: Path) -> None:
    """Run the specification's forward migration and nothing else."""
    with closing(connect(path, "full")) as connection:
        connection.executescript(f"BEGIN IMMEDIATE; {_schema.text(_schema.UP)} COMMIT;")


def down(path: Path) -> None:
    """Back up, then rebuild the tables of 1.0.0."""
    with closing(connect(path, "full")) as connection:
        backup = _migrations.migrate_down(connection, path)
        assert backup is not None


def down_softly(path: Path) -> None:
    """Give up what the columns of 1.1.0 hold."""
    with closing(connect(path, "full")) as connection:
        _migrations.migrate_down(connection, path, soft=True)


def down_by_hand(path: Path) -> None:
    """Drop the columns of 1.1.0 one by one, as SQLite can since 3.35; no backup."""
    drops = [f"ALTER TABLE {added.table} DROP COLUMN {added.column};" for added in _schema.added_columns()]
    indexes = [f"DROP INDEX {name};" for kind, name in _schema.created(_schema.UP) if kind == "index"]
    ours = [
        "DROP VIEW uow_receipts;",
        *(f"DROP TABLE {name};" for kind, name in _schema.created(_schema.LEDGER) if kind == "table"),
    ]
    with closing(connect(path, "full")) as connection:
        connection.executescript(" ".join(("BEGIN IMMEDIATE;", *indexes, *ours, *drops, "COMMIT;")))


WAYS_UP: Final[dict[str, Way]] = {"up, the script by hand": up_by_hand, "up, Ledger.open": up}
WAYS_DOWN: Final[dict[str, Way]] = {
    "down, 21 columns dropped by hand": down_by_hand,
    "down in full, backup included": down,
    "down softly": down_softly,
}


def _on_a_copy(name: str, way: Way, original: Path, number: int = 0) -> Contender:
    """Return a contender that works on a new copy of `original` each time."""
    place = original.with_name(f"{original.stem}-{number}")
    copy = place / "ledger.db"

    def make_copy() -> None:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        shutil.copyfile(original, copy)

    return Contender(name, lambda: way(copy), before=make_copy)


def test_migrating_up(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """A ledger of 1.0.0 is opened and then is one of 1.1.0."""
    path = tmp_path / "old.db"
    fill_1_0_0(path, 20_000 if benchmark.enabled else 50)
    contender = _on_a_copy("up", up, path)
    measure(benchmark, contender.once, before=contender.before, rounds=5)
    with closing(sqlite3.connect(tmp_path / "old-0" / "ledger.db")) as connection:
        assert _migrations.inspect(connection).kind is _migrations.Kind.CURRENT


def test_migrating_down(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """A ledger goes down to 1.0.0 in full."""
    path = tmp_path / "current.db"
    fill(path, 20_000 if benchmark.enabled else 50)
    contender = _on_a_copy("down", down, path)
    measure(benchmark, contender.once, before=contender.before, rounds=5)
    with closing(sqlite3.connect(tmp_path / "current-0" / "ledger.db")) as connection:
        assert _migrations.inspect(connection).kind is _migrations.Kind.BASIC


def test_the_other_ways_arrive(tmp_path: Path) -> None:
    """The ways by hand, which the tables compare ours with, do the same to the specification's tables."""
    old, current = tmp_path / "old.db", tmp_path / "current.db"
    fill_1_0_0(old, 5)
    fill(current, 5)
    up_by_hand(old)
    down_by_hand(current)
    for path, count in ((old, 23), (current, 5)):
        with closing(sqlite3.connect(path)) as connection:
            assert len(connection.execute("PRAGMA table_info(unit_of_work)").fetchall()) == count


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one row per way."""
    given = options(__doc__, arguments, units=100_000, rounds=5, seed=1)
    with workplace(f"Migrating a ledger of {given.units:,} units of three writes") as folder:
        old, current = folder / "old.db", folder / "current.db"
        fill_1_0_0(old, given.units)
        fill(current, given.units)
        rows = []
        for original, ways in ((old, WAYS_UP), (current, WAYS_DOWN)):
            contenders = [_on_a_copy(name, way, original, number) for number, (name, way) in enumerate(ways.items())]
            rows += [
                (result.name, f"{result.median_us / 1e6:.2f}", f"{result.ratio:.2f}")
                for result in race(contenders, rounds=given.rounds, seed=given.seed)
            ]
        section("Median time", table(("", "seconds", "x by hand"), rows))


if __name__ == "__main__":
    main()
