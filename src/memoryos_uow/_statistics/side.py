"""What was added up before, in a small SQLite file beside the ledger: ``<ledger>-stats``.

Promise: the file is disposable. It is made when first asked for, brought up to date by reading the units that are new,
and made anew when the ledger is another one, or an earlier one, or something was erased from it. Rows that were not
final when they were read are listed in it and read again. Where no file can be made, or somebody else's is in its
place, everything is added up in memory, each time. It holds names of spaces, actors and stores as far as bands allow,
and has the ledger's permissions. Who changes rows by hand has to delete it.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import sys
from collections import defaultdict
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from memoryos_uow._statistics import columns
from memoryos_uow._statistics.facts import newest_row, read, read_again
from memoryos_uow._statistics.tally import Tally
from memoryos_uow.engines._place import is_writable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from memoryos_uow._statistics.facts import CountedUnit
    from memoryos_uow.abc import Reader

ENDING: Final = "-stats"
"""What the name of the file ends with, behind the ledger's."""

_APPLICATION_ID: Final = 0x756F7773  # "uows"
_LAYOUT: Final = f"2 {sys.byteorder}"
_LOOKED_AT_AGAIN_MAX: Final = 10_000
_IN_MEMORY_MAX: Final = 20_000
_ROWS_BETWEEN_COMMITS: Final = 100_000
_WAIT_S: Final = 60.0

_TABLES: Final = """
CREATE TABLE known (id INTEGER PRIMARY KEY CHECK (id = 1), ledger TEXT NOT NULL, through INTEGER NOT NULL, last TEXT);
CREATE TABLE tallies (sort TEXT NOT NULL, key TEXT NOT NULL, band TEXT NOT NULL, facts TEXT NOT NULL,
  execution BLOB NOT NULL, "commit" BLOB NOT NULL, PRIMARY KEY (sort, key, band)) WITHOUT ROWID;
CREATE TABLE waiting (row INTEGER PRIMARY KEY);
CREATE TABLE layout (text TEXT NOT NULL)"""
# One row: who the ledger is, and what was taken out of it.
_LEDGER: Final = """
SELECT (SELECT ledger_id FROM uow_identity) || ' ' || (SELECT count(*) FROM uow_sealed) || ' '
  || (SELECT count(*) FROM uow_forgotten) || ' ' || (SELECT count(*) FROM uow_epochs)
"""


class Tallies(NamedTuple):
    """What was added up of all units up to a row."""

    side: sqlite3.Connection
    blocks: columns.Blocks
    loose: list[CountedUnit]
    """Units that are in no tally and no block yet, because something of them might still have changed."""

    def get(self, sort: str, *, key: str | None = None, band: str | None = None) -> Iterator[tuple[str, str, Tally]]:
        """Yield key, band and tally of what matches."""
        wanted = {"sort": sort} | ({} if key is None else {"key": key}) | ({} if band is None else {"band": band})
        where = " AND ".join(f"{column} = ?" for column in wanted)
        select = f'SELECT key, band, facts, execution, "commit" FROM tallies WHERE {where}'  # noqa: S608 - from above
        for found, of_band, *packed in self.side.execute(select, list(wanted.values())):
            yield found, of_band, Tally.unpacked(*packed)


@contextmanager
def up_to_date(
    reader: Reader, path: Path, *, basic: bool, in_memory: bool, progress: Callable[[str], None] | None
) -> Iterator[Tallies]:
    """Lend what was added up of the ledger at `path`, brought up to date; `in_memory` without looking for a file.

    While the units are read for the process that asks first, others that ask at the same time wait for it.

    Raises:
        sqlite3.Error: the file cannot be used, or is damaged; nothing is wrong with the ledger.
    """
    with closing(_opened(None if in_memory else _place(path))) as side:
        yield _brought_up(side, reader, basic=basic, progress=progress)


def forget(path: Path) -> None:
    """Remove what was added up of the ledger at `path`, if anything was."""
    file = side_file(path)
    if _is_ours(file):
        for one in (file, file.with_name(f"{file.name}-journal")):
            with suppress(OSError):
                one.unlink()


def side_file(path: Path) -> Path:
    """Return the place of the file for the ledger at `path`."""
    return path.with_name(path.name + ENDING)


def _place(path: Path) -> Path | None:
    """Return the path of the file, made or made anew if need be; None where there can be none."""
    file = side_file(path)
    try:
        if not is_writable(path) or file.is_symlink():
            return None
        if file.exists():
            return file if _is_ours(file) and os.access(file, os.W_OK) else None
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, path.stat().st_mode & 0o666))
    except FileExistsError:
        return file  # made by another process this very moment
    except OSError:
        return None
    return file


def _is_ours(file: Path) -> bool:
    """Say whether a file is one of these, or empty: nobody else's is ever written or removed."""
    try:
        with file.open("rb") as opened:
            head = opened.read(72)
    except OSError:
        return False
    return not head or (head.startswith(b"SQLite format 3\0") and head[68:] == _APPLICATION_ID.to_bytes(4))


def _opened(file: Path | None) -> sqlite3.Connection:
    """Open the file, or a database in memory, with its tables made."""
    side = sqlite3.connect(":memory:" if file is None else file, timeout=_WAIT_S, isolation_level=None)
    try:
        for setting in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "synchronous = NORMAL"):
            side.execute(f"PRAGMA {setting}")
        if _layout(side) != _LAYOUT:
            with _transaction(side):
                _make_tables(side)
    except BaseException:
        side.close()
        raise
    return side


def _make_tables(side: sqlite3.Connection) -> None:
    if _layout(side) == _LAYOUT:  # another process was faster
        return
    side.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    for (name,) in side.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
        side.execute(f'DROP TABLE "{name}"')
    for statement in (*_TABLES.split(";\n"), *columns.TABLES.split(";\n")):
        side.execute(statement)
    side.execute("INSERT INTO layout VALUES (?)", (_LAYOUT,))


def _layout(side: sqlite3.Connection) -> object:
    if not side.execute("SELECT 1 FROM sqlite_schema WHERE name = 'layout'").fetchone():
        return None
    return (side.execute("SELECT text FROM layout").fetchone() or (None,))[0]


# Bringing it up to date


def _brought_up(
    side: sqlite3.Connection, reader: Reader, *, basic: bool, progress: Callable[[str], None] | None
) -> Tallies:
    """Read what is new, and return everything that was added up then."""
    update = _Update(side, reader, basic=basic)
    with _transaction(side):
        update.begin()
        update.look_again()
    for batch in update.batches(progress):
        with _transaction(side):
            update.take(batch)
    side.execute("BEGIN")  # what others add while the answer is made is not seen; closing ends it
    waiting = [row for (row,) in side.execute("SELECT row FROM waiting ORDER BY row")]
    return Tallies(side, columns.Blocks(side), list(read_again(reader, waiting, basic=basic)))


@contextmanager
def _transaction(side: sqlite3.Connection) -> Iterator[None]:
    side.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        side.execute("ROLLBACK")
        raise
    side.execute("COMMIT")


class _Update:
    """Reads what is new in a ledger."""

    def __init__(self, side: sqlite3.Connection, reader: Reader, *, basic: bool) -> None:
        self._side = side
        self._reader = reader
        self._basic = basic
        self._blocks = columns.Blocks(side)
        self._cache: dict[tuple[str, str, str], Tally] = {}
        self._changed: set[tuple[str, str, str]] = set()
        self._version: int | None = None
        self._through = 0

    def begin(self) -> None:
        """Find out how far units were read; forget everything if it was another ledger's, or an earlier state's."""
        ledger = "1.0.0" if self._basic else self._reader.rows(_LEDGER)[0][0] or "none"
        known = self._side.execute("SELECT ledger, through, last FROM known").fetchone()
        if known is None or known[0] != ledger or self._mark(known[1]) != known[2]:
            for table in ("tallies", "waiting", "blocks", "names", "known"):
                self._side.execute(f"DELETE FROM {table}")  # noqa: S608 - from above
            self._side.execute("INSERT INTO known VALUES (1, ?, 0, ?)", (ledger, self._mark(0)))
        self._through = self._side.execute("SELECT through FROM known").fetchone()[0]

    def _mark(self, row: int) -> str | None:
        """Return what tells the row of the last unit that was read from one in its place."""
        columns = "uow_id, created_ts" + ("" if self._basic else ", receipt_hash")
        found = self._reader.rows(f"SELECT {columns} FROM unit_of_work WHERE rowid = ?", (row,))  # noqa: S608
        return hashlib.sha256(repr(found[0]).encode("utf-8", "surrogatepass")).hexdigest() if found else None

    def look_again(self) -> None:
        """Add units that have become final since they were read."""
        self._drop_what_others_changed()
        waiting = [row for (row,) in self._side.execute("SELECT row FROM waiting ORDER BY row DESC")]
        # A process that dies leaves a unit without timings for ever. So many of them are looked at, newest first.
        given_up = set(waiting[_LOOKED_AT_AGAIN_MAX:])
        ready = [
            one for one in read_again(self._reader, waiting, basic=self._basic) if one.final or one.row in given_up
        ]
        self._add(ready)
        self._side.executemany("DELETE FROM waiting WHERE row = ?", [(one.row,) for one in ready])
        self._write()

    def _drop_what_others_changed(self) -> None:
        (version,) = self._side.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self._cache.clear()
            self._blocks.forget()
            self._version = version

    def batches(self, progress: Callable[[str], None] | None) -> Iterator[list[CountedUnit]]:
        """Yield the units that are new, as many at once as are added in one transaction."""
        last, begun = newest_row(self._reader), self._through
        batch: list[CountedUnit] = []
        for units in read(self._reader, basic=self._basic, after=begun):
            batch += units
            if progress is not None and last > begun:
                percent = min(100 * (batch[-1].row - begun) // (last - begun), 100)
                progress(f"{percent} % of {last - begun:,} new units read")
            if len(batch) >= _ROWS_BETWEEN_COMMITS:
                yield batch
                batch = []
        if batch:
            yield batch

    def take(self, batch: list[CountedUnit]) -> None:
        """Add new units, as far as no other process did."""
        self._drop_what_others_changed()
        (begun,) = self._side.execute("SELECT through FROM known").fetchone()
        new = [one for one in batch if one.row > begun]
        if new:
            self._add([one for one in new if one.final])
            self._side.executemany("INSERT INTO waiting VALUES (?)", [(one.row,) for one in new if not one.final])
            last = new[-1].row
            self._side.execute("UPDATE known SET through = ?, last = ?", (last, self._mark(last)))
            self._write()

    def _add(self, units: Sequence[CountedUnit]) -> None:
        """Add units to every tally that they belong to, and to the blocks."""
        self._blocks.add(units)
        by: defaultdict[tuple[str, str, str], list[CountedUnit]] = defaultdict(list)
        for one in units:
            band = one.band
            by["band", "", band].append(one)
            by["space", one.space, band].append(one)
            by["actor", one.actor, band].append(one)
            by["hour", one.hour, band].append(one)
            for share in one.stores:
                by["store", share.key, band].append(one)
        for which, some in by.items():
            self._changed.add(which)
            self._tally(which).add(some, store=which[1] if which[0] == "store" else None)

    def _tally(self, which: tuple[str, str, str]) -> Tally:
        tally = self._cache.get(which)
        if tally is None:
            row = self._side.execute(
                'SELECT facts, execution, "commit" FROM tallies WHERE sort = ? AND key = ? AND band = ?', which
            ).fetchone()
            tally = self._cache[which] = Tally() if row is None else Tally.unpacked(*row)
        return tally

    def _write(self) -> None:
        self._side.executemany(
            "REPLACE INTO tallies VALUES (?, ?, ?, ?, ?, ?)",
            ((*which, *self._cache[which].packed()) for which in self._changed),
        )
        self._changed.clear()
        if len(self._cache) > _IN_MEMORY_MAX:
            self._cache.clear()
