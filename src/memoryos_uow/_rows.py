"""The ledger's own rows: every statement that reads or writes the specification's tables and ours beside them.

Promise: nothing else in the library knows these columns. A ledger of contract 1.0.0 that was opened without migrating
has the first five columns of each table only (`columns_of`), and nothing beside them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import _ambient, _receipt_tree
from memoryos_uow._records import UnitRecord, WriteRecord

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from memoryos_uow._receipt_tree import LogEnd
    from memoryos_uow.abc import Reader, Transaction
    from memoryos_uow.errors import UnitOfWorkError
    from memoryos_uow.receipts import Described, ReceiptWrite

CONTEXT_PREFIX: Final = "sha256:"
"""Before the hex of a receipt's context."""

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
_FIRST_COMMIT: Final = f"SELECT coalesce(max(version), 0) + 1 FROM ({_OLD_VERSIONS})"  # noqa: S608 - names from above


_RECEIPT_PARTS: Final = (
    "SELECT l.space_seq, l.prev, l.context, l.nonce, l.writes_root, l.write_count, (SELECT origin FROM uow_identity)"
    " FROM unit_of_work u JOIN uow_ledger l ON l.unit = u.rowid WHERE u.uow_id = ?"
    " AND NOT EXISTS (SELECT 1 FROM uow_forgotten f WHERE f.commit_seq = l.commit_seq AND f.what = 'unit')"
)
_NAMED_SILENT: Final = "SELECT uow_id FROM unit_of_work WHERE failed_store IS NOT NULL"


def digest_text(content: Any) -> str | None:
    """Return a digest or nonce as hex, as receipts have it; what is no such thing but damage, as it is."""
    return content.hex() if isinstance(content, bytes) else content


def digest_bytes(text: str | None) -> bytes | None:
    """Return the bytes of a digest or nonce in hex, with or without the name of its algorithm."""
    return None if text is None else bytes.fromhex(text.removeprefix(CONTEXT_PREFIX))


def _insert(table: str, columns: Sequence[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608


@dataclass(frozen=True, slots=True)
class Position:
    """Where the next committed unit of a space goes; true as long as the write lock is held."""

    commit_seq: int
    space_seq: int | None
    prev: str | None
    log_end: LogEnd | None = None
    """Where the receipt log ends before this unit; None in basic mode."""
    first_write: int | None = None
    """The id that the next row of ``uow_writes`` will have; None in basic mode."""
    numbered: bool = True
    """False: the receipt log gives the unit its number after the commit, and `commit_seq` is only its version."""


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


def _by_status(filters: Mapping[str, Any]) -> bool:
    """Say whether the index on status is the one to search: alone, or for statuses that few units have."""
    if "correlation_id" in filters:
        return False
    return filters.get("status", "committed") != "committed" or filters.keys() == {"status"}


class LedgerRows:
    """Reads and writes the ledger's rows; `basic` is a 1.0.0 ledger opened without migrating."""

    def __init__(self, *, basic: bool) -> None:
        self.basic = basic
        self._unit_columns = _BASIC_UNIT_COLUMNS if basic else UNIT_COLUMNS
        self._write_columns = _BASIC_WRITE_COLUMNS if basic else WRITE_COLUMNS
        self._insert_unit = _insert("unit_of_work", self._unit_columns)
        self._unit_values = attrgetter(*self._unit_columns)
        self._insert_write = _insert("uow_writes", self._write_columns)
        columns = ", ".join(f"u.{column}" for column in self._unit_columns)
        self._select_unit = f"SELECT {columns}" + (  # noqa: S608 - names from our own dataclass
            ", NULL, NULL, NULL FROM unit_of_work u"
            if basic
            else ", l.commit_seq, l.execution_us, l.commit_us FROM unit_of_work u"
            " LEFT JOIN uow_ledger l ON l.unit = u.rowid"
        )

    # Writing, inside the decision's transaction

    def next_position(self, tx: Transaction, space_id: str) -> Position:
        """Return the place that the next committed unit of `space_id` will take."""
        if self.basic:
            # Rows are only ever appended, so the row number serves as the records' version.
            return Position(tx.rows("SELECT coalesce(max(rowid), 0) + 1 FROM unit_of_work")[0][0], None, None)
        log_end, space_seq, head, first_write = _receipt_tree.ends(tx, space_id)
        commit_seq = tx.rows(_FIRST_COMMIT)[0][0] if log_end.commit_seq is None else log_end.commit_seq + 1
        return Position(commit_seq, space_seq + 1, None if head is None else head.hex(), log_end, first_write)

    def insert_unit(self, tx: Transaction, record: UnitRecord) -> int:
        """Write the unit's row: committed, failed or rolled back; return its row number."""
        return tx.insert(self._insert_unit, self._unit_values(record))

    def insert_committed(
        self, tx: Transaction, record: UnitRecord, described: Described, position: Position, nodes: bytes
    ) -> int:
        """Write everything about a committed unit: its row, its writes, and what its receipt needs beside them.

        `nodes` is what the receipt log keeps of it. Return the number of the unit's row.
        """
        first_write = described.first_write
        if first_write is None:
            unit = self.insert_unit(tx, record)
            first_write = self.next_write(tx) if position.first_write is None else position.first_write
        else:
            unit = self._update_unit(tx, record)
        self.insert_writes(tx, record.uow_id, first_write, described.writes)
        if not self.basic:
            self._insert_entry(tx, position, described, (unit, first_write, nodes))
        return unit

    def _update_unit(self, tx: Transaction, record: UnitRecord) -> int:
        """Fill in the row under which the unit's first writes went into the transaction; return its row number."""
        columns = [column for column in self._unit_columns if column != "uow_id"]
        tx.execute(
            f"UPDATE unit_of_work SET {', '.join(f'{column} = ?' for column in columns)} WHERE uow_id = ?",  # noqa: S608
            [*(getattr(record, column) for column in columns), record.uow_id],
        )
        row: int = tx.rows("SELECT rowid FROM unit_of_work WHERE uow_id = ?", (record.uow_id,))[0][0]
        return row

    def next_write(self, tx: Transaction) -> int:
        """Return the id that the next row of ``uow_writes`` will have: a unit's ids are consecutive from its first."""
        first: int = tx.rows("SELECT coalesce(max(id), 0) + 1 FROM uow_writes")[0][0]
        return first

    def insert_writes(self, tx: Transaction, uow_id: str, first: int, writes: Sequence[ReceiptWrite]) -> None:
        """Write one row per write; `first` is the id of the unit's first one."""
        tx.execute_many(self._insert_write, (self._write_row(first + w.seq, uow_id, w) for w in writes))
        nonces = [(first + w.seq, bytes.fromhex(w.nonce)) for w in writes if w.nonce is not None]
        if nonces and not self.basic:
            tx.execute_many("INSERT INTO uow_nonces (write_id, nonce) VALUES (?, ?)", nonces)

    def _write_row(self, row_id: int, uow_id: str, w: ReceiptWrite) -> tuple[object, ...]:
        basic = (row_id, uow_id, w.store_name, w.record_id, w.ts)
        return basic if self.basic else (*basic, w.operation_type, w.bytes_written, w.checksum)

    @staticmethod
    def _insert_entry(tx: Transaction, position: Position, described: Described, links: tuple[int, int, bytes]) -> None:
        """Write what the receipt needs beside the specification's columns, and move the space's head."""
        receipt = described.receipt
        unit, first_write, nodes = links
        tx.execute(
            "INSERT INTO uow_ledger (commit_seq, unit, space_seq, prev, context, context_nonce, nonce, writes_root,"
            " write_count, first_write, nodes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                position.commit_seq,
                unit,
                receipt.space_seq,
                digest_bytes(receipt.prev),
                digest_bytes(receipt.context),
                digest_bytes(described.context_nonce),
                digest_bytes(receipt.nonce),
                digest_bytes(receipt.writes_root),
                receipt.write_count,
                first_write,
                nodes,
            ),
        )
        tx.execute(
            "INSERT INTO uow_spaces (space_id, space_seq, head) VALUES (?, ?, ?)"
            " ON CONFLICT (space_id) DO UPDATE SET space_seq = excluded.space_seq, head = excluded.head",
            (receipt.space_id, receipt.space_seq, digest_bytes(receipt.hash)),
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

    def named_silent(self, reader: Reader, uow_ids: Sequence[str]) -> set[str]:
        """Return those of committed units whose rows name a store that has not answered."""
        if self.basic or not uow_ids:
            return set()
        marks = ", ".join("?" * len(uow_ids))
        return {uow_id for (uow_id,) in reader.rows(f"{_NAMED_SILENT} AND uow_id IN ({marks})", uow_ids)}

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

    def units(
        self,
        reader: Reader,
        filters: Mapping[str, Any],
        *,
        since: str | None,
        limit: int,
        slow_ms: int | None = None,
        bands: Collection[str] | None = None,
    ) -> list[UnitRecord]:
        """Return the newest units that match, newest first, without their writes; with `bands` only of these.

        Ordered by row number, which is the order of recording: SQLite's indexes end in it, so the specification's
        indexes on space, actor, band and correlation give the newest of each without sorting. The one on status has the
        time in between, so where status is what narrows the search the order is that of time.
        """
        conditions = [f"u.{column} = ?" for column in filters]
        values: list[Any] = list(filters.values())
        if since is not None:
            conditions.append("u.created_ts >= ?")
            values.append(since)
        if slow_ms is not None:
            conditions.append("u.total_execution_time_ms >= ?")
            values.append(slow_ms)
        if bands is not None:
            # coalesce: so that the index on the band is not what narrows the search
            conditions.append(f"coalesce(u.band, '') IN ({', '.join('?' * len(bands))})")
            values += sorted(bands)
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        order = "u.created_ts DESC, u.rowid DESC" if _by_status(filters) else "u.rowid DESC"
        rows = reader.rows(f"{self._select_unit}{where} ORDER BY {order} LIMIT ?", [*values, limit])
        return [self._record(row, ()) for row in rows]

    def _record(self, row: tuple[Any, ...], writes: tuple[WriteRecord, ...]) -> UnitRecord:
        *columns, commit_seq, execution_us, commit_us = row
        named = dict(zip(self._unit_columns, columns, strict=True))
        return UnitRecord(**named, writes=writes, commit_seq=commit_seq, execution_us=execution_us, commit_us=commit_us)

    def receipt_parts(self, reader: Reader, uow_id: str) -> dict[str, Any] | None:
        """Return the receipt's fields that only our own table holds, by name; None if the unit has no receipt."""
        found = reader.rows(_RECEIPT_PARTS, (uow_id,))
        if not found:
            return None
        space_seq, prev, context, nonce, root, write_count, origin = found[0]
        return {
            "space_seq": space_seq,
            "prev": digest_text(prev),
            "context": CONTEXT_PREFIX + (digest_text(context) or ""),
            "nonce": digest_text(nonce),
            "writes_root": digest_text(root),
            "write_count": write_count,
            "origin": origin,
        }
