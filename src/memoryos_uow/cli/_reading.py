"""A ledger opened for looking only.

Promise: no file is made, nothing is migrated, and nothing is written but what SQLite itself has to finish after a crash
(its own recovery). `Ledger.open` cannot promise that: it makes files, stores and a write-ahead log where they are
missing. What is said of a ledger in a database is in `_reading_postgres`.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from memoryos_uow import _exporting, _validation
from memoryos_uow._describe import rebuilt_receipt
from memoryos_uow._migrations import Kind, inspect
from memoryos_uow._migrations.up import refuse_unfit
from memoryos_uow._names import Dialect
from memoryos_uow._relay import rows as _outbox_rows
from memoryos_uow._relay.arguments import check_topics
from memoryos_uow._rows import LedgerRows
from memoryos_uow.cli._reading_postgres import reading_database
from memoryos_uow.cli._withheld import bands_that_show
from memoryos_uow.engines._place import is_settled, is_writable
from memoryos_uow.engines._sqlite_errors import translated
from memoryos_uow.engines._transaction import SQLiteReader
from memoryos_uow.errors import LedgerError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from memoryos_uow._exporting import ExportedUnit
    from memoryos_uow._messages import OutboxEntry
    from memoryos_uow._migrations import SchemaState
    from memoryos_uow._records import UnitRecord, Violation
    from memoryos_uow.cli._arguments import LedgerPlace
    from memoryos_uow.engines._contract import EngineReader

PART_CHARACTERS_MIN: Final = 4
"""The least of an id that stands for it."""

_CANDIDATES_SHOWN: Final = 3
_ALL: Final = 2**62
_ENDS_WITH: Final = {
    Dialect.SQLITE: "substr(uow_id, -length(?1)) = ?1",
    Dialect.POSTGRESQL: "right(uow_id, length(?1)) = ?1",
}


class ReadLedger:
    """What the commands ask of a ledger."""

    def __init__(self, reader: EngineReader, rows: LedgerRows, place: str) -> None:
        self.basic = rows.basic
        self.place = place
        """How messages name the ledger."""
        self._reader = reader
        self._rows = rows

    def units(
        self, filters: dict[str, str], *, since: str | None, limit: int, slow_ms: int | None = None
    ) -> list[UnitRecord]:
        """Return the newest units that match, newest first, without their writes; a negative `limit` means all.

        Units whose band does not show what is asked for do not match.
        """
        columns = [*filters, *(() if slow_ms is None else ("total_execution_time_ms",))]
        return self._rows.units(
            self._reader, filters, since=since, limit=_at_most(limit), slow_ms=slow_ms, bands=bands_that_show(columns)
        )

    def count(self) -> int:
        """Return how many units the ledger has."""
        counted: int = self._reader.rows("SELECT count(*) FROM unit_of_work")[0][0]
        return counted

    @property
    def reader(self) -> EngineReader:
        """For queries of the command's own."""
        return self._reader

    def receipt(self, part: str) -> tuple[UnitRecord, bytes]:
        """Return the unit that `part` stands for, as `unit` finds it, and the bytes of its receipt.

        Raises:
            UsageError: there is no such unit, or it has no receipt.
        """
        record = self.unit(part)
        parts = None if self.basic else self._rows.receipt_parts(self._reader, record.uow_id)
        if parts is None or record.receipt_hash is None:
            raise UsageError(f"The unit {record.uow_id} has no receipt: it is {record.status}.")
        return record, rebuilt_receipt(record, parts, None).canonical()

    def validate(self) -> list[Violation]:
        """Return every row that breaks one of the five contract validations."""
        return _validation.validate(self._reader)

    def outbox(self, topics: Iterable[str] | None, *, parked_only: bool, limit: int) -> list[OutboxEntry]:
        """Return the oldest undelivered messages, oldest first; a negative `limit` means all."""
        return _outbox_rows.listed(self._reader, check_topics(topics), parked_only=parked_only, limit=_at_most(limit))

    def history(self, space_id: str) -> Iterator[ExportedUnit]:
        """Yield every unit of a space, oldest first, with receipt and proof."""
        return _exporting.history(self._reader, self._rows, space_id)

    def unit(self, part: str) -> UnitRecord:
        """Return the unit whose id is `part`, or is the only one that begins or else ends with it, with its writes.

        Ends count as well because ids of units made within a minute begin alike.

        Raises:
            UsageError: there is no such unit, or more than one.
        """
        record = self._rows.unit(self._reader, part)
        if record is None:
            record = self._rows.unit(self._reader, self._only_id(part))
        if record is None:  # gone since it was found
            raise _no_unit(part)
        return record

    def _only_id(self, part: str) -> str:
        if len(part) < PART_CHARACTERS_MIN:
            raise UsageError(
                f"The unit id {part!r} is too short.",
                hint=f"Give at least {PART_CHARACTERS_MIN} characters from its beginning or its end.",
            )
        for condition in ("substr(uow_id, 1, length(?1)) = ?1", _ENDS_WITH[self._reader.dialect]):
            sql = f"SELECT uow_id FROM unit_of_work WHERE {condition} ORDER BY rowid DESC LIMIT ?2"  # noqa: S608
            found = [row[0] for row in self._reader.rows(sql, (part, _CANDIDATES_SHOWN + 1))]
            if len(found) > 1:
                shown = ", ".join(found[:_CANDIDATES_SHOWN]) + (" and more" if len(found) > _CANDIDATES_SHOWN else "")
                raise UsageError(f"{part!r} stands for more than one unit: {shown}.", hint="Give more of the id.")
            if found:
                return str(found[0])
        raise _no_unit(part)


def _at_most(limit: int) -> int:
    """Return how many rows to ask for; SQLite alone takes a negative number for all."""
    return limit if limit >= 0 else _ALL


def _no_unit(part: str) -> UsageError:
    return UsageError(
        f"This ledger has no unit {part!r}.",
        hint="memoryos-uow list shows the newest. A unit that wrote nothing leaves no row.",
    )


@contextmanager
def reading(ledger: LedgerPlace, *, busy_timeout_s: float) -> Iterator[ReadLedger]:
    """Lend the ledger, which exists; of a file that keeps contract 1.0.0 only its columns (basic mode).

    Raises:
        SchemaTooNew: a later version of this library wrote it.
        LedgerBusy: others kept it locked against reading.
        LedgerError: it is damaged, or no ledger; or its server is out of reach.
    """
    if ledger.path is not None:
        with _reading_file(ledger.path, busy_timeout_s) as opened:
            yield opened
    else:
        with reading_database(ledger.address, busy_timeout_s=busy_timeout_s) as (reader, rows, place):
            yield ReadLedger(reader, rows, place)


@contextmanager
def _reading_file(path: Path, busy_timeout_s: float) -> Iterator[ReadLedger]:
    with translated(str(path)), closing(connect(path)) as connection:
        connection.execute(f"PRAGMA busy_timeout = {int(busy_timeout_s * 1000)}")
        for setting in ("query_only = ON", "trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0"):
            connection.execute(f"PRAGMA {setting}")
        state = inspect(connection, busy_timeout_s=busy_timeout_s)
        refuse_unreadable(connection, state, path)
        rows = LedgerRows(basic=state.kind is not Kind.CURRENT)
        yield ReadLedger(SQLiteReader(connection, str(path)), rows, str(path))


def connect(path: Path) -> sqlite3.Connection:
    """Open the file at `path`, which exists, without making anything."""
    # Not mode=ro where it can be helped: such a connection leaves its -wal and -shm files behind.
    mode = "rw"
    if not is_writable(path):
        mode = "ro&immutable=1" if is_settled(path) else "ro"
    address = f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}"
    return sqlite3.connect(address, uri=True, timeout=0, isolation_level=None)


def refuse_unreadable(connection: sqlite3.Connection, state: SchemaState, path: Path) -> None:
    """Refuse a file that is no ledger, or one that this library cannot read.

    Raises:
        SchemaTooNew: a later version of this library wrote it.
        LedgerError: it is damaged, or no ledger.
    """
    refuse_unfit(connection, state)
    if state.kind is Kind.NEW:
        raise LedgerError(f"{path} holds no ledger.", hint="Check the path: no unit of work was ever recorded in it.")
    if not state.has_base_tables:
        raise LedgerError(
            f"{path} holds only a part of a ledger's tables.",
            hint="`memoryos-uow migrate` completes them and keeps every row.",
        )
