"""Every unit once more, column by column, for the questions that no tally answers.

Some 30 bytes for each unit, in blocks of some thousands of units: a column of whole numbers each for the row, the time,
the space and so on, names as numbers. A million of them are looked through in about half a second, where the ledger's
own rows take half a minute.

Promise: what was put in comes out (`Column` chooses the width). Nothing is in here that `CountedUnit` does not tell.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from functools import lru_cache
from itertools import compress
from typing import TYPE_CHECKING, Final, TypeAlias

from memoryos_uow._statistics.facts import NO_TIME, microseconds

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Sequence

    from memoryos_uow._statistics.facts import CountedUnit

TABLES: Final = """
CREATE TABLE names (code INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE blocks (id INTEGER PRIMARY KEY, units INTEGER NOT NULL, earliest INTEGER, latest INTEGER,
  timed INTEGER NOT NULL, "row" BLOB NOT NULL, created BLOB NOT NULL, hour BLOB NOT NULL, outcome BLOB NOT NULL,
  band BLOB NOT NULL, space BLOB NOT NULL, actor BLOB NOT NULL, writes BLOB NOT NULL, n_bytes BLOB NOT NULL,
  retries BLOB NOT NULL, execution BLOB NOT NULL, "commit" BLOB NOT NULL, share_of BLOB NOT NULL,
  share_store BLOB NOT NULL, share_writes BLOB NOT NULL, share_bytes BLOB NOT NULL)"""

UNIT_COLUMNS: Final = (
    "row",
    "created",
    "hour",
    "outcome",
    "band",
    "space",
    "actor",
    "writes",
    "n_bytes",
    "retries",
    "execution",
    "commit",
)
"""One number for each unit. Times are microseconds since 1970; the name of an `outcome` is JSON: status, type of error,
store that failed. `execution` and `commit` are 0 where they are not known, and greater by one where they are."""
SHARE_COLUMNS: Final = ("share_of", "share_store", "share_writes", "share_bytes")
"""One number for each store of each unit; the first is the unit's place in its block."""

NEVER: Final = -(2**62)
"""When a unit was created of which that is not known."""
_BLOCK_UNITS: Final = 8192
_SAMPLED_MAX: Final = 20
_WIDTHS: Final = (("B", 8), ("H", 16), ("I", 32))

Columns: TypeAlias = "dict[str, Sequence[int]]"
Wanted: TypeAlias = "Callable[[int], bool]"


class Counted:
    """Units counted column by column; numbers as they stand in the columns."""

    __slots__ = ("commit", "execution", "n_bytes", "outcome", "retries", "writes")

    def __init__(self) -> None:
        self.outcome: Counter[int] = Counter()
        self.execution: Counter[int] = Counter()
        self.commit: Counter[int] = Counter()
        self.writes = self.n_bytes = self.retries = 0

    def add(self, columns: Columns) -> None:
        """Add units."""
        self.outcome.update(columns["outcome"])
        self.execution.update(columns["execution"])
        self.commit.update(columns["commit"])
        self.writes += sum(columns["writes"])
        self.n_bytes += sum(columns["n_bytes"])
        self.retries += sum(columns["retries"])


def pack(numbers: Sequence[int]) -> bytes:
    """Return whole numbers as bytes: the letter of the narrowest type that holds them all, then they themselves."""
    if numbers and min(numbers) >= 0:
        greatest = max(numbers)
        for letter, bits in _WIDTHS:
            if greatest < 1 << bits:
                return letter.encode() + array(letter, numbers).tobytes()
    return b"q" + array("q", numbers).tobytes()


def unpack(packed: bytes) -> array[int]:
    """Return what `pack` was given."""
    numbers = array(packed[:1].decode())
    numbers.frombytes(packed[1:])
    return numbers


@lru_cache(maxsize=1024)
def _outcome(status: str, error: tuple[str | None, str | None] | None) -> str:
    return json.dumps([status, *(error or (None, None))] if error is not None else [status])


def _one_more(us: int | None) -> int:
    return 0 if us is None else min(us, 2**63 - 2) + 1


class Blocks:
    """The units in the file beside the ledger."""

    def __init__(self, side: sqlite3.Connection) -> None:
        self._side = side
        self._codes: dict[str, int] = {}
        self._names: dict[int, str] = {}

    # Names

    def forget(self) -> None:
        """Look up names anew: another process may have begun anew."""
        self._codes.clear()
        self._names.clear()

    def name(self, code: int) -> str:
        """Return the name that has a number."""
        name = self._names.get(code)
        if name is None:
            (found,) = self._side.execute("SELECT name FROM names WHERE code = ?", (code,)).fetchone()
            name = self._names[code] = str(found)
        return name

    def code(self, name: str) -> int | None:
        """Return the number of a name, None if it has none."""
        found = self._side.execute("SELECT code FROM names WHERE name = ?", (name,)).fetchone()
        return None if found is None else int(found[0])

    def _coded(self, name: str) -> int:
        code = self._codes.get(name)
        if code is None:
            code = self.code(name)
            if code is None:
                code = self._side.execute("INSERT INTO names (name) VALUES (?)", (name,)).lastrowid
            assert code is not None  # noqa: S101 - of a row that was inserted
            self._codes[name] = code
        return code

    # Putting units in

    def add(self, units: Sequence[CountedUnit]) -> None:
        """Add units, to the last block as far as that has room."""
        last = self._side.execute("SELECT id, units FROM blocks ORDER BY id DESC LIMIT 1").fetchone()
        begin = 0
        if last is not None and last[1] < _BLOCK_UNITS:
            begin = _BLOCK_UNITS - last[1]
            self._put(self._joined(self._load(last[0], (*UNIT_COLUMNS, *SHARE_COLUMNS)), units[:begin]), last[0])
        for start in range(begin, len(units), _BLOCK_UNITS):
            self._put(self._columns(units[start : start + _BLOCK_UNITS]), None)

    def _columns(self, units: Sequence[CountedUnit]) -> Columns:
        coded = self._coded
        shares = [(place, share) for place, one in enumerate(units) for share in one.stores]
        return {
            "row": [one.row for one in units],
            "created": [NEVER if one.created == NO_TIME else microseconds(one.created) for one in units],
            "hour": [coded(one.hour) for one in units],
            "outcome": [coded(_outcome(one.status, one.error)) for one in units],
            "band": [coded(one.band) for one in units],
            "space": [coded(one.space) for one in units],
            "actor": [coded(one.actor) for one in units],
            "writes": [one.writes for one in units],
            "n_bytes": [one.n_bytes for one in units],
            "retries": [one.retries for one in units],
            "execution": [_one_more(one.execution_us) for one in units],
            "commit": [_one_more(one.commit_us) for one in units],
            "share_of": [place for place, _ in shares],
            "share_store": [coded(share.key) for _, share in shares],
            "share_writes": [share.writes for _, share in shares],
            "share_bytes": [share.n_bytes for _, share in shares],
        }

    def _joined(self, columns: Columns, units: Sequence[CountedUnit]) -> Columns:
        more, before = self._columns(units), len(columns["row"])
        more["share_of"] = [place + before for place in more["share_of"]]
        return {name: [*column, *more[name]] for name, column in columns.items()}

    def _put(self, columns: Columns, number: int | None) -> None:
        times = [time for time in columns["created"] if time != NEVER]
        units = len(columns["row"])
        values = (number, units, min(times, default=None), max(times, default=None), len(times) == units)
        names = (*UNIT_COLUMNS, *SHARE_COLUMNS)
        marks = ", ".join("?" * (len(values) + len(names)))
        self._side.execute(
            f"REPLACE INTO blocks VALUES ({marks})",  # noqa: S608 - question marks
            (*values, *(pack(columns[name]) for name in names)),
        )

    # Taking them out

    def within(self, times: Iterable[tuple[int | None, int | None]]) -> dict[int, bool]:
        """Return the numbers of the blocks with units from a time on, up to before another; None is no limit.

        Each comes with whether all of its units are of one such time.
        """
        found: dict[int, bool] = {}
        for since, until in times:
            for number, is_inside in self._side.execute(
                "SELECT id, timed AND (?1 IS NULL OR earliest >= ?1) AND (?2 IS NULL OR latest < ?2) FROM blocks"
                " WHERE (?1 IS NULL OR latest >= ?1) AND (?2 IS NULL OR earliest < ?2)",
                (since, until),
            ):
                found[number] = found.get(number, False) or bool(is_inside)
        return dict(sorted(found.items()))

    def all(self) -> list[int]:
        """Return the numbers of all blocks."""
        return [number for (number,) in self._side.execute("SELECT id FROM blocks ORDER BY id")]

    def part(self, time: tuple[int | None, int | None]) -> float:
        """Return about which part of all units is of a time."""
        (found,) = self._side.execute(
            "SELECT sum(CASE WHEN (?1 IS NULL OR latest >= ?1) AND (?2 IS NULL OR earliest < ?2) THEN units END)"
            " * 1.0 / sum(units) FROM blocks",
            time,
        ).fetchone()
        return found or 0.0

    def share_of(self, space: str) -> float:
        """Return about which part of all units is of a space."""
        code, units, of_space = self.code(space), 0, 0
        for number in self.all()[-_SAMPLED_MAX:]:
            column = self._load(number, ("space",))["space"]
            units += len(column)
            of_space += 0 if code is None else column.count(code)
        return of_space / units if units else 0.0

    def _load(self, number: int, names: Sequence[str]) -> Columns:
        wanted = ", ".join(f'"{name}"' for name in names)
        found = self._side.execute(f"SELECT {wanted} FROM blocks WHERE id = ?", (number,)).fetchone()  # noqa: S608
        return {name: unpack(packed) for name, packed in zip(names, found, strict=True)}

    def select(self, number: int, wanted: dict[str, Wanted], names: Sequence[str]) -> Columns:
        """Return a block's columns of these names for the units whose numbers in others are `wanted`."""
        columns = self._load(number, tuple(dict.fromkeys((*names, *wanted))))
        return _chosen(columns, wanted) if wanted else columns


def _chosen(columns: Columns, wanted: dict[str, Wanted]) -> Columns:
    """Return what is left of a block's columns with the units that are wanted."""
    places: Sequence[int] | None = None
    for name, is_wanted in wanted.items():
        column = columns[name]
        if places is None:
            places = list(compress(range(len(column)), map(is_wanted, column)))
        else:
            places = list(compress(places, map(is_wanted, map(column.__getitem__, places))))
    assert places is not None  # noqa: S101 - something is wanted
    left: Columns = {
        name: list(map(column.__getitem__, places)) for name, column in columns.items() if name not in SHARE_COLUMNS
    }
    if "share_of" in columns:
        new = {place: at for at, place in enumerate(places)}
        kept = [at for at, place in enumerate(columns["share_of"]) if place in new]
        for name in SHARE_COLUMNS:
            left[name] = list(map(columns[name].__getitem__, kept))
        left["share_of"] = list(map(new.__getitem__, left["share_of"]))
    return left
