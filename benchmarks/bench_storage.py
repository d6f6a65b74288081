"""How many bytes one unit of three writes takes: contract 1.0.0 beside 1.1.0, empty and filled, and what is ours.

`python -m benchmarks.bench_storage` prints the table at 100,000 units. Sizes are whole pages (SQLite's `dbstat`), so
what a page leaves empty counts too; where `dbstat` is not compiled in, only the size of the whole file is known.
"""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from benchmarks._command import options, section, workplace
from benchmarks._filled import INDEXES, insert_1_0_0, writes_of
from benchmarks._ratios import table
from benchmarks._work import DIGEST, HEX, INSERT_ENTRY, INSERT_UNIT, INSERT_WRITE, SPACE, TIME, entry_row, unit_row
from memoryos_uow import _schema

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

UNIT: Final = "row in unit_of_work"
OWN_INDEX: Final = "its primary key"
FIVE: Final = "the five indexes"
WRITES: Final = "rows in uow_writes"
OURS: Final = "receipt log"
PARTS: Final = (UNIT, OWN_INDEX, FIVE, WRITES, OURS)


def _base(connection: sqlite3.Connection, units: int) -> None:
    connection.executescript(_schema.text(_schema.BASE))
    insert_1_0_0(connection, units)


def _migrated(connection: sqlite3.Connection, units: int) -> None:
    _base(connection, units)
    connection.executescript(_schema.text(_schema.UP))


def _empty(connection: sqlite3.Connection, units: int) -> None:
    connection.executescript(_schema.text(_schema.BASE) + _schema.text(_schema.UP))
    insert_1_0_0(connection, units)


def _filled(connection: sqlite3.Connection, units: int) -> None:
    connection.executescript(_schema.text(_schema.BASE) + _schema.text(_schema.UP))
    numbers = range(1, units + 1)
    connection.execute("BEGIN")
    connection.executemany(INSERT_UNIT, (unit_row(number, commit_time_ms=1) for number in numbers))
    connection.executemany(INSERT_WRITE, (row for number in numbers for row in writes_of(number)))
    connection.execute("COMMIT")


def _with_receipts(connection: sqlite3.Connection, units: int) -> None:
    _filled(connection, units)
    connection.executescript(_schema.text(_schema.LEDGER))
    connection.execute("BEGIN")
    connection.executemany(INSERT_ENTRY, (entry_row(number) for number in range(1, units + 1)))
    connection.execute("UPDATE uow_ledger SET execution_us = 512, commit_us = 400")
    connection.execute("INSERT INTO uow_spaces VALUES (?, ?, ?)", (SPACE, units, DIGEST))
    connection.execute("INSERT INTO uow_identity VALUES (1, ?, 'example.com/benchmark', ?)", (HEX[:32], TIME))
    connection.execute("COMMIT")


Build: TypeAlias = "Callable[[sqlite3.Connection, int], None]"

VARIANTS: Final[dict[str, Build]] = {
    "1.0.0": _base,
    "1.0.0 rows, migrated to 1.1.0": _migrated,
    "1.1.0, new fields left empty": _empty,
    "1.1.0, new fields filled": _filled,
    "the same with the receipt log": _with_receipts,
}


def bytes_per_unit(build: Build, units: int, folder: Path) -> dict[str, float]:
    """Return the bytes that each part takes per unit; ``{"": whole file}`` where this SQLite has no `dbstat`."""
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        closing(sqlite3.connect(Path(place) / "sizes.db", isolation_level=None)) as connection,
    ):
        connection.execute("PRAGMA synchronous = OFF")
        build(connection, units)
        try:
            sizes = connection.execute("SELECT name, pgsize FROM dbstat WHERE aggregate = TRUE").fetchall()
        except sqlite3.OperationalError:
            pages, size = (connection.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "page_size"))
            return {"": pages * size / units}
    totals = dict.fromkeys(PARTS, 0)
    for name, size in sizes:
        part = _part(name)
        if part is not None:
            totals[part] += size
    return {part: size / units for part, size in totals.items()}


def _part(name: str) -> str | None:
    if name in INDEXES:
        return FIVE
    if name == "sqlite_schema":
        return None
    known = {"unit_of_work": UNIT, "sqlite_autoindex_unit_of_work_1": OWN_INDEX, "uow_writes": WRITES}
    return known.get(name, OURS)


def test_empty_fields_cost_little_and_filled_ones_much(tmp_path: Path) -> None:
    """A migrated unit grows by a fifth at most without the indexes; one with all fields filled more than doubles."""
    base, _, empty, filled, _ = (bytes_per_unit(build, 2000, tmp_path) for build in VARIANTS.values())
    if "" not in base:
        record = base[UNIT] + base[OWN_INDEX]
        assert empty[UNIT] + empty[OWN_INDEX] <= 1.2 * record
        assert sum(empty.values()) - empty[FIVE] <= 1.2 * sum(base.values())
    assert sum(filled.values()) > 2 * sum(base.values())


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one row per variant."""
    given = options(__doc__, arguments, units=100_000)
    with workplace(f"Bytes per unit at {given.units:,} units of three writes") as folder:
        found = {name: bytes_per_unit(build, given.units, folder) for name, build in VARIANTS.items()}
    base = found["1.0.0"]
    if "" in base:
        rows = [(name, f"{sizes['']:,.0f}", f"{sizes[''] / base['']:.2f}") for name, sizes in found.items()]
        section("This SQLite has no dbstat", table(("", "whole file", "x 1.0.0"), rows))
        return
    whole, bare = sum(base.values()), base[UNIT] + base[OWN_INDEX]
    section(
        "Bytes per unit",
        table(
            ("", *PARTS, "sum", "x 1.0.0", "without the five", "unit_of_work alone"),
            (
                (
                    name,
                    *(f"{sizes[part]:,.0f}" for part in PARTS),
                    f"{sum(sizes.values()):,.0f}",
                    f"{sum(sizes.values()) / whole:.2f}",
                    f"{(sum(sizes.values()) - sizes[FIVE]) / whole:.2f}",
                    f"{(sizes[UNIT] + sizes[OWN_INDEX]) / bare:.2f}",
                )
                for name, sizes in found.items()
            ),
        ),
    )


if __name__ == "__main__":
    main()
