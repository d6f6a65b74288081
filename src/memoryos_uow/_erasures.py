"""Erasures in the ledger's rows: what is sealed, what is forgotten, and how it is shown that a tombstone says so.

To erase a record, every row of ``uow_writes`` that tells of it is *sealed*: its leaf, 32 bytes, goes into
``uow_sealed``, and everything else that was hashed goes away. The unit that does this is the *tombstone*. Its own
write is a delete in the same store, with the checksum ``sealed-sha256:<hex>`` over, in this order,

- ``w`` and the leaf of each write that it sealed, by ``write_id``;
- ``c`` and the receipt_hash (32 bytes) of each unit whose context it forgot, and ``u`` and the log leaf of each unit
  whose id it forgot, by commit_seq, ``c`` first.

Promise: roots, receipts, chain and log of sealed rows still verify, with the leaf in the place of the row. What is
sealed without a tombstone, or in the name of one that did not seal it, is found by `problems`: the checksum stands in
the tombstone's receipt.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from memoryos_uow import _ambient, _merkle
from memoryos_uow._names import Dialect
from memoryos_uow.receipts import ReceiptWrite

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from memoryos_uow.abc import Reader, Transaction
    from memoryos_uow.engines._contract import EngineTransaction

SEALED: Final = "sealed-sha256:"
"""Before the hex digits of a tombstone's checksum."""

FORGOTTEN: Final = "forgotten-"
"""What the new id of a unit whose own was forgotten begins with."""

_OF_RECORD: Final = """
SELECT w.id, l.commit_seq, l.first_write, u.created_ts, w.store_name, w.record_id, w.operation_type, w.bytes_written,
  w.checksum, w.ts, n.nonce
FROM uow_writes AS w
JOIN unit_of_work AS u ON u.uow_id = w.uow_id
JOIN uow_ledger AS l ON l.unit = u.rowid
LEFT JOIN uow_nonces AS n ON n.write_id = w.id
WHERE w.store_name = ? AND u.space_id = ? AND w.record_id IN (?, ?) ORDER BY w.id
"""
_SEAL: Final = """
UPDATE uow_writes SET record_id = NULL, ts = ?, operation_type = NULL, bytes_written = NULL, checksum = NULL
WHERE id = ?
"""
# Whole units only: a receipt that still has to speak of other records cannot go.
_WHOLLY_SEALED: Final = """
SELECT u.uow_id, substr(l.nodes, 1, 32) FROM uow_ledger AS l JOIN unit_of_work AS u ON u.rowid = l.unit
WHERE l.commit_seq = ? AND l.write_count = (
  SELECT count(*) FROM uow_sealed AS s WHERE s.write_id >= l.first_write AND s.write_id < l.first_write + l.write_count)
"""
# Its place in chain and log, its receipt_hash and its signature have to stay; of its times the day does.
_FORGET_UNIT: Final = """
UPDATE unit_of_work SET envelope_id = NULL, created_ts = substr(created_ts, 1, 10) || 'T00:00:00.000000Z',
  committed_ts = substr(committed_ts, 1, 10) || 'T00:00:00.000000Z', total_execution_time_ms = NULL,
  commit_time_ms = NULL, store_count = 0, total_bytes_written = 0, retry_count = 0, error_type = NULL,
  error_message = NULL, failed_store = NULL, error_ts = NULL, recovery_attempted = 0, actor_id = NULL,
  device_id = NULL, correlation_id = NULL
WHERE uow_id = ?
"""
# Wherever a unit's id stands: in the library's own tables, and in tables of the application that refer to units.
_HOLDERS: Final = {
    Dialect.SQLITE: r"""
SELECT m.name, c.name FROM sqlite_schema AS m JOIN pragma_table_info(m.name) AS c
WHERE m.type = 'table' AND c.name = 'uow_id' AND (m.name LIKE 'uow\_%' ESCAPE '\' OR m.name = 'unit_of_work')
UNION SELECT m.name, f."from" FROM sqlite_schema AS m JOIN pragma_foreign_key_list(m.name) AS f
WHERE m.type = 'table' AND lower(f."table") = 'unit_of_work' AND coalesce(f."to", 'uow_id') = 'uow_id'
""",
    # The unit's own row first: references that may not wait for the end of the transaction follow it by themselves.
    Dialect.POSTGRESQL: r"""
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), quote_ident(a.attname)
FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND (
  (n.nspname = current_schema() AND (
    (a.attname = 'uow_id' AND (c.relname LIKE 'uow\_%' OR c.relname = 'unit_of_work'))
    OR (a.attname = 'unit' AND c.relname = 'uow_ledger')))
  OR EXISTS (SELECT 1 FROM pg_constraint AS f WHERE f.contype = 'f' AND f.conrelid = c.oid AND f.conkey[1] = a.attnum
    AND f.confrelid = (SELECT oid FROM pg_class WHERE relname = 'unit_of_work' AND relnamespace = (
      SELECT oid FROM pg_namespace WHERE nspname = current_schema()))))
ORDER BY c.relname <> 'unit_of_work', 1, 2
""",
}
_DEFER: Final = {Dialect.SQLITE: "PRAGMA defer_foreign_keys = ON", Dialect.POSTGRESQL: "SET CONSTRAINTS ALL DEFERRED"}
_QUOTES: Final = {
    Dialect.SQLITE: "UPDATE unit_of_work SET error_message = NULL WHERE space_id = ? AND instr(error_message, ?) > 0",
    Dialect.POSTGRESQL: (
        "UPDATE unit_of_work SET error_message = NULL WHERE space_id = ? AND strpos(error_message, ?) > 0"
    ),
}
_FORGOTTEN_BY: Final = """
SELECT f.what, f.leaf, u.receipt_hash FROM uow_forgotten AS f
JOIN uow_ledger AS l ON l.commit_seq = f.commit_seq JOIN unit_of_work AS u ON u.rowid = l.unit
WHERE f.tombstone = ? ORDER BY f.commit_seq, f.what
"""
_TOMBSTONES: Final = """
WITH told (uow_id, checksum) AS (
  SELECT uow_id, {joined} FROM uow_writes
  WHERE operation_type = 'delete' AND checksum LIKE 'sealed-sha256:%' GROUP BY uow_id)
SELECT t.tombstone, u.uow_id, told.checksum
FROM (SELECT tombstone FROM uow_sealed UNION SELECT tombstone FROM uow_forgotten UNION SELECT uow_id FROM told) AS t
LEFT JOIN unit_of_work AS u ON u.uow_id = t.tombstone AND u.status = 'committed'
LEFT JOIN told ON told.uow_id = t.tombstone
"""
_JOINED: Final = {Dialect.SQLITE: "group_concat(checksum)", Dialect.POSTGRESQL: "string_agg(checksum, ',')"}
_NOT_EMPTIED: Final = """
SELECT s.tombstone, 'Write ' || s.write_id || ' is sealed, and ' || CASE WHEN w.id IS NULL THEN 'its row is gone.'
  ELSE 'its row still tells of the record.' END
FROM uow_sealed AS s LEFT JOIN uow_writes AS w ON w.id = s.write_id LEFT JOIN uow_nonces AS n ON n.write_id = s.write_id
WHERE w.id IS NULL OR w.record_id IS NOT NULL OR w.operation_type IS NOT NULL OR w.bytes_written IS NOT NULL
  OR w.checksum IS NOT NULL OR n.nonce IS NOT NULL
UNION ALL
SELECT f.tombstone, 'Unit number ' || f.commit_seq || ' was to be forgotten, and its row still tells of it.'
FROM uow_forgotten AS f LEFT JOIN uow_ledger AS l ON l.commit_seq = f.commit_seq
LEFT JOIN unit_of_work AS u ON u.rowid = l.unit
WHERE u.uow_id IS NULL OR coalesce(u.actor_id, u.device_id, u.correlation_id) IS NOT NULL
  OR l.context_nonce IS NOT NULL
  OR (f.what = 'unit' AND u.uow_id NOT LIKE 'forgotten-%')
"""


class Problem(NamedTuple):
    """Something that is sealed or forgotten and cannot have been by the tombstone that it names."""

    tombstone: str
    """The uow_id that is named."""
    sentence: str


class Pending(NamedTuple):
    """An erasure that is decided and not known to have left no trace."""

    uow_id: str
    store: str
    space_id: str | None
    key: str | None
    version: int
    rebuild: bool


# Sealing, inside the tombstone's transaction


def seal_writes(
    tx: EngineTransaction, tombstone: str, *, store: str, space_id: str, names: tuple[str, str]
) -> tuple[int, list[int]]:
    """Seal every write of a record, known by its key or its pseudonym; return how many, and their units' commit_seq."""
    units: dict[int, None] = {}
    count = 0
    for row in tx.rows(_OF_RECORD, (store, space_id, *names)):
        write_id, commit_seq, first, created_ts, store_name, record_id, operation, size, checksum, ts, nonce = row
        hashed = ReceiptWrite(
            seq=write_id - first,
            store_name=store_name,
            record_id=record_id,
            operation_type=operation,
            bytes_written=size,
            checksum=checksum,
            ts=ts,
            nonce=nonce.hex() if isinstance(nonce, bytes) else nonce,
        )
        leaf = _merkle.leaf_hash(hashed.canonical())
        tx.later("INSERT INTO uow_sealed (write_id, leaf, tombstone) VALUES (?, ?, ?)", (write_id, leaf, tombstone))
        tx.later("DELETE FROM uow_nonces WHERE write_id = ?", (write_id,))
        tx.later(_SEAL, (created_ts, write_id))
        units[commit_seq] = None
        count += 1
    return count, list(units)


def forget_context(tx: Transaction, tombstone: str, commits: Sequence[int]) -> None:
    """Remove who acted, from where and why from these units; their receipts hold a digest of it only."""
    for commit_seq in commits:
        if _note(tx, commit_seq, "context", None, tombstone):
            tx.execute("UPDATE uow_ledger SET context_nonce = NULL WHERE commit_seq = ?", (commit_seq,))
            tx.execute(
                "UPDATE unit_of_work SET actor_id = NULL, device_id = NULL, correlation_id = NULL, envelope_id = NULL"
                " WHERE rowid = (SELECT unit FROM uow_ledger WHERE commit_seq = ?)",
                (commit_seq,),
            )


def forget_units(tx: Transaction, tombstone: str, commits: Sequence[int]) -> int:
    """Give those of these units a new, random id that wrote nothing but sealed records; return how many that were."""
    forgotten = 0
    holders: list[tuple[Any, ...]] = []
    for commit_seq in commits:
        for uow_id, leaf in tx.rows(_WHOLLY_SEALED, (commit_seq,)):
            holders = holders or _holders(tx)
            _note(tx, commit_seq, "unit", leaf, tombstone)
            tx.execute(_DEFER[tx.dialect])  # the id changes in one table after the other
            tx.execute(_FORGET_UNIT, (uow_id,))
            day = tx.rows("SELECT created_ts FROM unit_of_work WHERE uow_id = ?", (uow_id,))[0][0]
            tx.execute(
                "UPDATE uow_writes SET ts = ?1 WHERE id >= (SELECT first_write FROM uow_ledger WHERE commit_seq = ?2)"
                " AND id < (SELECT first_write + write_count FROM uow_ledger WHERE commit_seq = ?2)",
                (day, commit_seq),
            )
            tx.execute(
                "UPDATE uow_ledger SET context_nonce = NULL, nonce = NULL, execution_us = NULL, commit_us = NULL"
                " WHERE commit_seq = ?",
                (commit_seq,),
            )
            new = FORGOTTEN + _ambient.random_hex()
            for table, column in holders:
                tx.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (new, uow_id))  # noqa: S608
            forgotten += 1
    return forgotten


def _holders(tx: Transaction) -> list[tuple[Any, ...]]:
    """Return table and column, quoted, of every place where a unit's id may stand."""
    found = tx.rows(_HOLDERS[tx.dialect])
    if tx.dialect is Dialect.POSTGRESQL:
        return found
    return [tuple('"{}"'.format(name.replace('"', '""')) for name in row) for row in found]


def forget_messages(tx: EngineTransaction, space_id: str, texts: Sequence[str]) -> None:
    """Remove error texts that quote one of these `texts`: they are those of failed units, and no receipt binds them."""
    tx.execute_many(_QUOTES[tx.dialect], [(space_id, text) for text in texts])


def _note(tx: Transaction, commit_seq: int, what: str, leaf: bytes | None, tombstone: str) -> bool:
    """Say that something of a unit was forgotten; return whether it was not before."""
    values = (commit_seq, what, leaf, tombstone)
    return tx.execute("INSERT OR IGNORE INTO uow_forgotten VALUES (?, ?, ?, ?)", values) == 1


def seal_text(reader: Reader, tombstone: str) -> str:
    """Return the checksum of a tombstone's write, as the rows that name this tombstone make it."""
    digest = hashlib.sha256()
    for (leaf,) in reader.stream("SELECT leaf FROM uow_sealed WHERE tombstone = ? ORDER BY write_id", (tombstone,)):
        digest.update(b"w" + _bytes(leaf))
    for what, leaf, receipt_hash in reader.stream(_FORGOTTEN_BY, (tombstone,)):
        digest.update(b"u" + _bytes(leaf) if what == "unit" else b"c" + _bytes(receipt_hash))
    return SEALED + digest.hexdigest()


def _bytes(hashed: object) -> bytes:
    """Return a hash that is kept as bytes or in hex; of what is damaged nothing, and then the checksum does not fit."""
    try:
        return hashed if isinstance(hashed, bytes) else bytes.fromhex(str(hashed))
    except ValueError:
        return b""


# For verification


def sealed_leaf(reader: Reader, write_id: int) -> bytes | None:
    """Return the leaf of a sealed write, None for one that is not sealed."""
    found = reader.rows("SELECT leaf FROM uow_sealed WHERE write_id = ?", (write_id,))
    return found[0][0] if found else None


def sealed_unit(reader: Reader, commit_seq: int) -> bytes | None:
    """Return the leaf in the log of a unit whose id was forgotten, None for any other."""
    found = reader.rows("SELECT leaf FROM uow_forgotten WHERE commit_seq = ? AND what = 'unit'", (commit_seq,))
    return found[0][0] if found else None


def problems(reader: Reader) -> Iterator[Problem]:
    """Yield everything sealed or forgotten that no tombstone vouches for, and rows that say more than they may.

    That a tombstone's own write is bound by its receipt is for the caller to verify, as for every other unit.
    """
    for tombstone, uow_id, checksum in reader.rows(_TOMBSTONES.replace("{joined}", _JOINED[reader.dialect])):
        if uow_id is None:
            yield Problem(tombstone, "Writes are sealed in the name of a unit that is not in the ledger.")
        elif checksum is None:
            yield Problem(tombstone, "Writes are sealed in the name of a unit that erased nothing.")
        elif checksum != seal_text(reader, tombstone):
            yield Problem(tombstone, "What is sealed in the name of this unit is not what its receipt says.")
    yield from map(Problem._make, reader.rows(_NOT_EMPTIED))


# What is still to be done


def add_pending(tx: Transaction, pending: Pending) -> None:
    """Keep what is left to do of an erasure that is about to be decided."""
    tx.execute("INSERT INTO uow_erasing VALUES (?, ?, ?, ?, ?, ?)", (*pending[:-1], int(pending.rebuild)))


def pending(reader: Reader) -> list[Pending]:
    """Return the erasures of which traces may be left, oldest first."""
    rows = reader.rows("SELECT uow_id, store, space_id, key, version, rebuild FROM uow_erasing ORDER BY version")
    return [
        Pending(uow_id, store, space, key, version, bool(anew)) for uow_id, store, space, key, version, anew in rows
    ]


def is_owed(reader: Reader, erased: Pending) -> bool:
    """Say whether a store has still to publish a write of this record, whose content waits in the ledger for that."""
    return bool(
        reader.rows(
            "SELECT 1 FROM uow_redo WHERE store = ? AND space_id = ? AND key = ? AND commit_seq <= ?",
            (erased.store, erased.space_id, erased.key, erased.version),
        )
    )


def note_outside_done(tx: Transaction, uow_ids: Sequence[str]) -> None:
    """Forget which records these erasures were about: only free pages are left to be dealt with."""
    tx.execute_many("UPDATE uow_erasing SET space_id = NULL, key = NULL WHERE uow_id = ?", [(one,) for one in uow_ids])


def note_done(tx: Transaction, uow_ids: Sequence[str]) -> None:
    """Forget erasures of which nothing is left to do."""
    tx.execute_many("DELETE FROM uow_erasing WHERE uow_id = ?", [(one,) for one in uow_ids])


# The content key's id


def key_id(reader: Reader) -> str | None:
    """Return the id of the content key under which this ledger's HMACs are, None if it has none."""
    found = reader.rows("SELECT key_id FROM uow_content_key")
    return found[0][0] if found else None


def record_key_id(tx: Transaction, key_id: str) -> None:
    """Record the content key's id, unless there is one already."""
    tx.execute("INSERT OR IGNORE INTO uow_content_key VALUES (1, ?, ?)", (key_id, _ambient.now_text()))
