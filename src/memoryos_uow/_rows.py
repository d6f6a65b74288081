"""The ledger's own rows: every statement that reads or writes the specification's tables and ours beside them.

Promise: nothing else in the library knows these columns. A ledger of contract 1.0.0 that was opened without migrating
has the first five columns of each table only (`columns_of`), and nothing beside them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import _ambient
from memoryos_uow._records import UnitRecord, WriteRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from memoryos_uow.abc import Reader, Transaction
    from memoryos_uow.errors import UnitOfWorkError
    from memoryos_uow.receipts import Described, ReceiptWrite

_OURS: Final = ("writes", "commit_seq", "execution_us", "commit_us")
UNIT_COLUMNS: Final = tuple(f.name for f in fields(UnitRecord) if f.name not in _OURS)
WRITE_COLUMNS: Final = tuple(f.name for f in fields(WriteRecord))
_BASIC_UNIT_COLUMNS: Final = UNIT_COLUMNS[:5]
_BASIC_WRITE_COLUMNS: Final = WRITE_COLUMNS[:5]


_RECORD_TABLES: Final = ("uow_documents", "uow_vectors", "uow_blobs", "uow_heads")
# A ledger that was taken down to 1.0.0 and up again begins a new history; its records keep the versions of the former
# one, so the first number is beyond them all. Only then are they looked through. A store outside also keeps versions of
# deleted records, which no table of ours has any more: every version was a unit, and every unit left a row.
_OLD_VERSIONS: Final = " UNION ALL ".join(
    (
        *(f"SELECT max(version) AS version FROM {table}" for table in _RECORD_TABLES),  # noqa: S608 - names from above
        "SELECT max(rowid) FROM unit_of_work",
    )
)
_NEXT_COMMIT: Final = f"""
SELECT coalesce((SELECT max(commit_seq) FROM uow_ledger), (SELECT max(version) FROM ({_OLD_VERSIONS})), 0) + 1
"""  # noqa: S608 - names from above


def _insert(table: str, columns: Sequence[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608


@dataclass(frozen=True, slots=True)
class Position:
    """Where the next committed unit of a space goes; true as long as the write lock is held."""

    commit_seq: int
    space_seq: int | None
    prev: str | None


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a committed unit took, known only after its commit."""

    uow_id: str
    commit_seq: int
    execution_us: int
    """From the block's start to the decision."""
    commit_us: int
    """From the block's end to the decision, waiting for the lock included."""


def milliseconds(microseconds: int) -> int:
    """Return whole milliseconds, rounded half up."""
    return (microseconds + 500) // 1000


class LedgerRows:
    """Reads and writes the ledger's rows; `basic` is a 1.0.0 ledger opened without migrating."""

    def __init__(self, *, basic: bool) -> None:
        self.basic = basic
        self._unit_columns = _BASIC_UNIT_COLUMNS if basic else UNIT_COLUMNS
        self._write_columns = _BASIC_WRITE_COLUMNS if basic else WRITE_COLUMNS
        self._insert_unit = _insert("unit_of_work", self._unit_columns)
        self._insert_write = _insert("uow_writes", self._write_columns)
        columns = ", ".join(f"u.{column}" for column in self._unit_columns)
        self._select_unit = f"SELECT {columns}" + (  # noqa: S608 - names from our own dataclass
            ", NULL, NULL, NULL FROM unit_of_work u"
            if basic
            else ", l.commit_seq, l.execution_us, l.commit_us FROM unit_of_work u LEFT JOIN uow_ledger l USING (uow_id)"
        )

    # Writing, inside the decision's transaction

    def next_position(self, tx: Transaction, space_id: str) -> Position:
        """Return the place that the next committed unit of `space_id` will take."""
        if self.basic:
            # Rows are only ever appended, so the row number serves as the records' version.
            return Position(tx.rows("SELECT coalesce(max(rowid), 0) + 1 FROM unit_of_work")[0][0], None, None)
        commit_seq = tx.rows(_NEXT_COMMIT)[0][0]
        space = tx.rows("SELECT space_seq, head FROM uow_spaces WHERE space_id = ?", (space_id,))
        space_seq, head = space[0] if space else (0, None)
        return Position(commit_seq, space_seq + 1, head)

    def insert_unit(self, tx: Transaction, record: UnitRecord) -> None:
        """Write the unit's row: committed, failed or rolled back."""
        tx.execute(self._insert_unit, [getattr(record, column) for column in self._unit_columns])

    def insert_committed(self, tx: Transaction, record: UnitRecord, described: Described, position: Position) -> None:
        """Write everything about a committed unit: its row, its writes, and what its receipt needs beside them."""
        self.insert_unit(tx, record)
        first_write = self._insert_writes(tx, record.uow_id, described.writes)
        if not self.basic:
            self._insert_entry(tx, position, described, first_write)

    def _insert_writes(self, tx: Transaction, uow_id: str, writes: Sequence[ReceiptWrite]) -> int:
        """Write one row per write, in order, with consecutive ids; return the first id."""
        first: int = tx.rows("SELECT coalesce(max(id), 0) + 1 FROM uow_writes")[0][0]
        tx.execute_many(self._insert_write, (self._write_row(first + w.seq, uow_id, w) for w in writes))
        nonces = [(first + w.seq, w.nonce) for w in writes if w.nonce is not None]
        if nonces and not self.basic:
            tx.execute_many("INSERT INTO uow_nonces (write_id, nonce) VALUES (?, ?)", nonces)
        return first

    def _write_row(self, row_id: int, uow_id: str, w: ReceiptWrite) -> tuple[object, ...]:
        basic = (row_id, uow_id, w.store_name, w.record_id, w.ts)
        return basic if self.basic else (*basic, w.operation_type, w.bytes_written, w.checksum)

    @staticmethod
    def _insert_entry(tx: Transaction, position: Position, described: Described, first_write: int) -> None:
        """Write what the receipt needs beside the specification's columns, and move the space's head."""
        receipt = described.receipt
        tx.execute(
            "INSERT INTO uow_ledger (commit_seq, uow_id, space_seq, prev, context, context_nonce, nonce, writes_root,"
            " write_count, first_write) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                position.commit_seq,
                receipt.uow_id,
                receipt.space_seq,
                receipt.prev,
                receipt.context,
                described.context_nonce,
                receipt.nonce,
                receipt.writes_root,
                receipt.write_count,
                first_write,
            ),
        )
        tx.execute(
            "INSERT INTO uow_spaces (space_id, space_seq, head) VALUES (?, ?, ?)"
            " ON CONFLICT (space_id) DO UPDATE SET space_seq = excluded.space_seq, head = excluded.head",
            (receipt.space_id, receipt.space_seq, receipt.hash),
        )

    def record_silence(self, tx: Transaction, uow_id: str, silent: Mapping[str, UnitOfWorkError]) -> None:
        """Note on a committed unit that a store has not answered; a later success leaves the note and its time."""
        if self.basic or not silent:
            return
        store, error = next(iter(silent.items()))
        tx.execute(
            "UPDATE unit_of_work SET error_type = ?, failed_store = ?, error_ts = ?, recovery_attempted = 1"
            " WHERE uow_id = ?",
            (type(error).__qualname__, store, _ambient.now_text(), uow_id),
        )

    def record_recovery(self, tx: Transaction, uow_ids: Iterable[str]) -> None:
        """Note on units that recovery was tried."""
        if not self.basic:
            tx.execute_many(
                "UPDATE unit_of_work SET recovery_attempted = 1 WHERE uow_id = ?", [(uow_id,) for uow_id in uow_ids]
            )

    def exists(self, reader: Reader, uow_id: str) -> bool:
        """Say whether the ledger has a row of this unit."""
        return bool(reader.rows("SELECT 1 FROM unit_of_work WHERE uow_id = ?", (uow_id,)))

    def fill_in(self, tx: Transaction, timings: Iterable[Timing]) -> None:
        """Write how long committed units took."""
        if self.basic:
            return
        for timing in timings:
            tx.execute(
                "UPDATE unit_of_work SET total_execution_time_ms = ?, commit_time_ms = ? WHERE uow_id = ?",
                (milliseconds(timing.execution_us), milliseconds(timing.commit_us), timing.uow_id),
            )
            tx.execute(
                "UPDATE uow_ledger SET execution_us = ?, commit_us = ? WHERE commit_seq = ?",
                (timing.execution_us, timing.commit_us, timing.commit_seq),
            )

    # Reading

    def unit(self, reader: Reader, uow_id: str) -> UnitRecord | None:
        """Return one unit with its writes, or None."""
        found = reader.rows(f"{self._select_unit} WHERE u.uow_id = ?", (uow_id,))
        if not found:
            return None
        return self._record(found[0], tuple(self._writes(reader, uow_id, found[0][-3])))

    def _writes(self, reader: Reader, uow_id: str, commit_seq: int | None) -> Iterator[WriteRecord]:
        # The specification has no index on uow_writes(uow_id). Units of ours have consecutive ids that the ledger
        # knows; only rows that 1.0.0 wrote have to be searched for.
        select = f"SELECT {', '.join(self._write_columns)} FROM uow_writes WHERE uow_id = ?"  # noqa: S608
        if commit_seq is not None:
            select += (
                " AND id >= (SELECT first_write FROM uow_ledger WHERE commit_seq = ?2)"
                " AND id < (SELECT first_write + write_count FROM uow_ledger WHERE commit_seq = ?2)"
            ).replace("?2", str(int(commit_seq)))
        for row in reader.rows(f"{select} ORDER BY id", (uow_id,)):
            yield WriteRecord(*row)

    def units(self, reader: Reader, filters: Mapping[str, Any], *, since: str | None, limit: int) -> list[UnitRecord]:
        """Return the newest units that match, newest first, without their writes.

        Ordered by row number, which is the order of recording: SQLite's indexes end in it, so the specification's
        indexes on space, actor, band and correlation give the newest of each without sorting.
        """
        conditions = [f"u.{column} = ?" for column in filters]
        values: list[Any] = list(filters.values())
        if since is not None:
            conditions.append("u.created_ts >= ?")
            values.append(since)
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        rows = reader.rows(f"{self._select_unit}{where} ORDER BY u.rowid DESC LIMIT ?", [*values, limit])
        return [self._record(row, ()) for row in rows]

    def _record(self, row: tuple[Any, ...], writes: tuple[WriteRecord, ...]) -> UnitRecord:
        *columns, commit_seq, execution_us, commit_us = row
        named = dict(zip(self._unit_columns, columns, strict=True))
        return UnitRecord(**named, writes=writes, commit_seq=commit_seq, execution_us=execution_us, commit_us=commit_us)

    def receipt_parts(self, reader: Reader, uow_id: str) -> dict[str, Any] | None:
        """Return the receipt's fields that only our own table holds, by name; None if the unit has no receipt."""
        names = ("space_seq", "prev", "context", "nonce", "writes_root", "write_count")
        found = reader.rows(
            f"SELECT {', '.join(names)}, (SELECT origin FROM uow_identity) FROM uow_ledger WHERE uow_id = ?",  # noqa: S608
            (uow_id,),
        )
        return dict(zip((*names, "origin"), found[0], strict=True)) if found else None

    @staticmethod
    def triggers(reader: Reader) -> list[tuple[str, str]]:
        """Return name and table of every trigger on a table of ours: none is of our making."""
        return [
            (row[0], row[1])
            for row in reader.rows(
                "SELECT name, tbl_name FROM sqlite_schema WHERE type = 'trigger'"
                r" AND (lower(tbl_name) IN ('unit_of_work', 'uow_writes') OR lower(tbl_name) LIKE 'uow\_%' ESCAPE '\')"
            )
        ]
