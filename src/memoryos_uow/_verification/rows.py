"""Every statement with which verification reads the ledger's rows.

Promise: reads only; tables are walked in the order of their row numbers, so that nothing is sorted in memory and a
damaged table is noticed by numbers that do not rise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from memoryos_uow._names import Dialect
from memoryos_uow.errors import LedgerCorrupt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memoryos_uow.abc import Reader

R = TypeVar("R", bound=tuple[Any, ...])

UNIT_FORM: Final = (
    "u.status, u.total_execution_time_ms, u.commit_time_ms, u.retry_count, u.recovery_attempted, u.envelope_id,"
    " u.error_type, u.error_message, u.failed_store, u.error_ts"
)


class LoggedRow(NamedTuple):
    """One row of the receipt log with its unit, as the file has them: any value may be of any type."""

    commit_seq: Any
    unit: Any
    """Number of the unit's row."""
    space_seq: Any
    prev: Any
    context: Any
    context_nonce: Any
    nonce: Any
    writes_root: Any
    write_count: Any
    first_write: Any
    execution_us: Any
    commit_us: Any
    nodes: Any
    forgotten_context: Any
    """1 if an erasure took who acted."""
    forgotten_unit: Any
    """The leaf that is left of a unit whose id and times an erasure took; None for all others."""
    uow_id: Any
    """None if there is no such unit."""
    created_ts: Any
    committed_ts: Any
    store_count: Any
    total_bytes_written: Any
    receipt_hash: Any
    receipt_signature: Any
    space_id: Any
    actor_id: Any
    device_id: Any
    correlation_id: Any
    band: Any
    contract_version: Any
    status: Any
    total_execution_time_ms: Any
    commit_time_ms: Any
    retry_count: Any
    recovery_attempted: Any
    envelope_id: Any
    error_type: Any
    error_message: Any
    failed_store: Any
    error_ts: Any


class WriteRow(NamedTuple):
    """One row of ``uow_writes`` with its nonce."""

    id: Any
    uow_id: Any
    store_name: Any
    record_id: Any
    ts: Any
    operation_type: Any
    bytes_written: Any
    checksum: Any
    nonce: Any
    sealed: Any
    """The leaf that is left of a write whose record was erased; None for all others."""


LOGGED_COLUMNS: Final = (
    "l.commit_seq, l.unit, l.space_seq, l.prev, l.context, l.context_nonce, l.nonce, l.writes_root,"
    " l.write_count, l.first_write, l.execution_us, l.commit_us, l.nodes, c.commit_seq IS NOT NULL, f.leaf,"
    " u.uow_id, u.created_ts, u.committed_ts,"
    " u.store_count, u.total_bytes_written, u.receipt_hash, u.receipt_signature, u.space_id, u.actor_id, u.device_id,"
    f" u.correlation_id, u.band, u.contract_version, {UNIT_FORM}"
)
_LOGGED: Final = (
    f"SELECT {LOGGED_COLUMNS}"  # noqa: S608
    " FROM uow_ledger AS l LEFT JOIN unit_of_work AS u ON u.rowid = l.unit"
    " LEFT JOIN uow_forgotten AS c ON c.commit_seq = l.commit_seq AND c.what = 'context'"
    " LEFT JOIN uow_forgotten AS f ON f.commit_seq = l.commit_seq AND f.what = 'unit' ORDER BY l.commit_seq"
)
WRITE_COLUMNS: Final = (
    "w.uow_id, w.store_name, w.record_id, w.ts, w.operation_type, w.bytes_written, w.checksum, n.nonce, s.leaf"
)
_WRITES: Final = (
    f"SELECT w.id, {WRITE_COLUMNS} FROM uow_writes AS w LEFT JOIN uow_nonces AS n ON n.write_id = w.id"  # noqa: S608
    " LEFT JOIN uow_sealed AS s ON s.write_id = w.id ORDER BY w.id"
)
# A space's units in the order of their commits are numbered from 1, each with the receipt of the one before. The
# receipt hash is text in the specification's table, and bytes in ours.
_PREV: Final = {
    Dialect.SQLITE: "CASE typeof(l.prev) WHEN 'null' THEN NULL WHEN 'blob' THEN lower(hex(l.prev)) ELSE '' END",
    Dialect.POSTGRESQL: "lower(hex(l.prev))",
}
_HEAD: Final = {
    Dialect.SQLITE: "typeof(s.head) IS NOT 'blob' OR lower(hex(s.head)) IS NOT x.receipt_hash",
    Dialect.POSTGRESQL: "lower(hex(s.head)) IS NOT x.receipt_hash",
}
# The last of them is what is recorded as the end of its space.
_CHAIN: Final = """
SELECT x.uow_id, x.band, x.space_seq IS NOT x.place OR x.prev IS NOT x.before FROM (
  SELECT u.uow_id, u.band, u.space_id, u.receipt_hash, l.space_seq, {prev} AS prev, row_number() OVER space AS place,
    lag(u.receipt_hash) OVER space AS before, lead(l.commit_seq) OVER space AS after
  FROM uow_ledger AS l JOIN unit_of_work AS u ON u.rowid = l.unit
  WHERE CAST(?1 AS TEXT) IS NULL OR u.space_id = ?1
  WINDOW space AS (PARTITION BY u.space_id ORDER BY l.commit_seq)
) AS x LEFT JOIN uow_spaces AS s ON x.after IS NULL AND s.space_id = x.space_id
WHERE x.space_seq IS NOT x.place OR x.prev IS NOT x.before OR (x.after IS NULL AND (s.space_seq IS NOT x.space_seq
  OR {head}))
"""
_STRANGE_ENDS: Final = """
SELECT s.space_id FROM uow_spaces AS s WHERE (CAST(?1 AS TEXT) IS NULL OR s.space_id = ?1)
AND NOT EXISTS (SELECT 1 FROM unit_of_work AS u JOIN uow_ledger AS l ON l.unit = u.rowid WHERE u.space_id = s.space_id)
"""
_UNLOGGED: Final = (
    f"SELECT u.rowid, u.uow_id, u.band, u.receipt_hash, u.receipt_signature, u.created_ts, {UNIT_FORM}"  # noqa: S608
    " FROM unit_of_work AS u LEFT JOIN uow_ledger AS l ON l.unit = u.rowid"
    " WHERE l.unit IS NULL ORDER BY u.rowid"
)
_BEGINNING: Final = "SELECT unit, first_write FROM uow_ledger ORDER BY commit_seq LIMIT 1"
_STRANGE_NONCES: Final = """
SELECT n.write_id FROM uow_nonces AS n LEFT JOIN uow_writes AS w ON w.id = n.write_id WHERE w.id IS NULL
"""
_OLD_ORPHANS: Final = """
SELECT w.id, w.uow_id FROM uow_writes AS w LEFT JOIN unit_of_work AS u ON u.uow_id = w.uow_id
WHERE w.id < ? AND u.uow_id IS NULL
"""
_OLD_RECORDS: Final = "SELECT DISTINCT store_name, record_id FROM uow_writes WHERE id < ? AND record_id IS NOT NULL"


class UnloggedRow(NamedTuple):
    """A unit that the receipt log does not have."""

    rowid: Any
    uow_id: Any
    band: Any
    receipt_hash: Any
    receipt_signature: Any
    created_ts: Any
    status: Any
    total_execution_time_ms: Any
    commit_time_ms: Any
    retry_count: Any
    recovery_attempted: Any
    envelope_id: Any
    error_type: Any
    error_message: Any
    failed_store: Any
    error_ts: Any


class VerifierRows:
    """Reads the ledger's rows through one reader, which holds one snapshot."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def count(self) -> int:
        """Return how many units the log has, for telling how far things are."""
        counted: int = self.reader.rows("SELECT count(*) FROM uow_ledger")[0][0]
        return counted

    def identities(self) -> list[tuple[Any, ...]]:
        """Return the rows that say who this ledger is: there should be one."""
        return self.reader.rows("SELECT id, ledger_id, origin FROM uow_identity")

    def problems_of_file(self, at_most: int) -> list[str]:
        """Return what SQLite itself finds wrong with the file's pages, indexes and constraints."""
        found = [str(row[0]) for row in self.reader.rows(f"PRAGMA integrity_check({at_most:d})")]
        return [] if found == ["ok"] else found

    def logged(self) -> Iterator[LoggedRow]:
        """Yield the receipt log with its units, in commit order."""
        return rising(self.reader.stream(_LOGGED), LoggedRow, "uow_ledger")

    def writes(self) -> Iterator[WriteRow]:
        """Yield every write with its nonce, in the order of ids."""
        return rising(self.reader.stream(_WRITES), WriteRow, "uow_writes")

    def pending(self) -> VerifierRows | None:
        """Return the same questions about units that have no number in the log yet; None where there are none ever."""
        return None

    def strays(self) -> Iterator[tuple[Any, ...]]:
        """Yield id and unit of writes in no unit's range, where the walk along the log does not meet them."""
        return iter(())

    def beginning(self) -> tuple[Any, Any] | None:
        """Return where receipts begin: row number of the first unit with one, and id of its first write."""
        found = self.reader.rows(_BEGINNING)
        return (found[0][0], found[0][1]) if found else None

    def unlogged(self) -> Iterator[UnloggedRow]:
        """Yield the units that the log does not have, in the order of their recording."""
        return map(UnloggedRow._make, self.reader.stream(_UNLOGGED))

    def broken_links(self, space_id: str | None) -> Iterator[tuple[Any, ...]]:
        """Yield units that do not fit into their space's history: id, band, and 1 for number or link, 0 for its end."""
        dialect = self.reader.dialect
        return self.reader.stream(_CHAIN.format(prev=_PREV[dialect], head=_HEAD[dialect]), (space_id,))

    def ends(self, space_id: str | None) -> Iterator[tuple[Any, ...]]:
        """Yield the recorded end of each space: the space, its last number, and the hash of its last receipt."""
        return self.reader.stream(
            "SELECT space_id, space_seq, head FROM uow_spaces WHERE CAST(?1 AS TEXT) IS NULL OR space_id = ?1",
            (space_id,),
        )

    def strange_ends(self, space_id: str | None) -> list[Any]:
        """Return spaces whose end is recorded, and that have no unit."""
        return [row[0] for row in self.reader.rows(_STRANGE_ENDS, (space_id,))]

    def keys(self) -> list[tuple[Any, ...]]:
        """Return vkey, since_seq, until_seq, handover and revoked_ts of each key, in the order of their use."""
        return self.reader.rows(
            "SELECT vkey, since_seq, until_seq, handover, revoked_ts FROM uow_keys"
            " ORDER BY since_seq, until_seq IS NULL"
        )

    def epochs(self) -> list[tuple[Any, ...]]:
        """Return the epochs after the first: number, and size of the log when it began."""
        return self.reader.rows("SELECT epoch, since_size FROM uow_epochs ORDER BY epoch")

    def unfinished_erasures(self) -> list[Any]:
        """Return the ids of erasures of which traces may be left."""
        return [row[0] for row in self.reader.rows("SELECT uow_id FROM uow_erasing")]

    def newest_write(self) -> int:
        """Return the id of the newest write that this snapshot holds."""
        newest: int = self.reader.rows("SELECT coalesce(max(id), 0) FROM uow_writes")[0][0]
        return newest

    def written_since(self, newest: int, store: str, key: str) -> bool:
        """Say whether a unit has written the record, or one whose key it does not tell, after the write `newest`."""
        return bool(
            self.reader.rows(
                "SELECT 1 FROM uow_writes WHERE id > ? AND store_name = ?"
                " AND (record_id = ? OR record_id IS NULL OR record_id LIKE 'p:%')",
                (newest, store, key),
            )
        )

    def records_of(self, uow_id: str) -> list[tuple[Any, ...]]:
        """Return space, key and band of everything that a unit wrote."""
        return self.reader.rows(
            "SELECT DISTINCT u.space_id, w.record_id, u.band FROM unit_of_work AS u JOIN uow_writes AS w USING (uow_id)"
            " WHERE u.uow_id = ? AND w.record_id IS NOT NULL",
            (uow_id,),
        )

    def knows(self, uow_id: str) -> bool:
        """Say whether the ledger has such a unit."""
        return bool(self.reader.rows("SELECT 1 FROM unit_of_work WHERE uow_id = ?", (uow_id,)))

    def spaces(self) -> int:
        """Return how many spaces have a history."""
        counted: int = self.reader.rows("SELECT count(*) FROM uow_spaces")[0][0]
        return counted

    def strange_nonces(self) -> Iterator[tuple[Any, ...]]:
        """Yield nonces of writes that are not there."""
        return self.reader.stream(_STRANGE_NONCES)

    def old_orphans(self, before: int) -> Iterator[tuple[Any, ...]]:
        """Yield id and unit of writes, from before there were receipts, whose unit is not there."""
        return self.reader.stream(_OLD_ORPHANS, (before,))

    def old_records(self, before: int) -> Iterator[tuple[Any, ...]]:
        """Yield store and key of what was written before there were receipts."""
        return self.reader.stream(_OLD_RECORDS, (before,))


def rising(rows: Iterator[tuple[Any, ...]], kind: type[R], table: str) -> Iterator[R]:
    """Pass on `rows` as `kind`, as long as the number that each begins with rises.

    Raises:
        LedgerCorrupt: it does not, so a page of the table is there twice or in the wrong place.
    """
    last = -(2**63) - 1
    make = tuple.__new__  # what the named tuple's own _make does, without a Python call for each row
    for row in rows:
        number = row[0]
        if number.__class__ is not int or number <= last:
            raise LedgerCorrupt(
                f"The rows of {table} are not in order after number {last}.",
                hint="It was left as it is. Restore the file from a copy.",
            )
        last = number
        yield make(kind, row)
