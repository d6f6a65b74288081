"""The rows of units on PostgreSQL that are committed and have no number in the receipt log yet.

Promise: a unit's transaction leaves exactly one such row, and the transaction that numbers it takes it away. What
stands in it is what its receipt needs beside the specification's columns.

Numbers are given in the order of ``stamp``: the time, by the database's clock, at which the unit wrote this row, which
is the last thing that it writes. All that it has written is locked by then, and what it has read was committed before;
so of two units of which one saw, or wrote over, what the other had written, that one has the later time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from memoryos_uow._rows import CONTEXT_PREFIX, digest_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memoryos_uow.abc import Reader
    from memoryos_uow.engines._contract import EngineTransaction

_INSERT: Final = (
    "INSERT INTO uow_pending (stamp, uow_id, context, context_nonce, nonce, writes_root, write_count, first_write)"
    " VALUES (CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT), ?, ?, ?, ?, ?, ?, ?)"
)
# The limits inside say what no statistics tell the planner: few of many units, each looked up by its key.
_NEXT: Final = """
SELECT p.uow_id, p.stamp, p.context, p.context_nonce, p.nonce, p.writes_root, p.write_count, p.first_write, u.*, s.*
FROM (SELECT * FROM uow_pending ORDER BY stamp, uow_id LIMIT ?) AS p
CROSS JOIN LATERAL (SELECT band, committed_ts, contract_version, created_ts, space_id, store_count, total_bytes_written
  FROM unit_of_work WHERE uow_id = p.uow_id LIMIT 1) AS u
LEFT JOIN LATERAL (SELECT space_seq, head FROM uow_spaces WHERE space_id = u.space_id LIMIT 1) AS s ON TRUE
ORDER BY p.stamp, p.uow_id
"""
_PARTS: Final = (
    "SELECT context, nonce, writes_root, write_count, (SELECT origin FROM uow_identity) FROM uow_pending"
    " WHERE uow_id = ?"
)
_WRITING: Final = (
    "SELECT 1 FROM uow_pending AS p JOIN unit_of_work AS u ON u.uow_id = p.uow_id"
    " JOIN uow_writes AS w ON w.id >= p.first_write AND w.id < p.first_write + p.write_count"
    " WHERE u.space_id = ? AND w.store_name = ? LIMIT 1"
)


class PendingUnit(NamedTuple):
    """A unit that waits for its number; digests and nonces are their bytes."""

    uow_id: str
    stamp: int
    context: bytes
    context_nonce: bytes | None
    nonce: bytes | None
    writes_root: bytes
    write_count: int
    first_write: int | None
    band: str | None
    committed_ts: str
    contract_version: str
    created_ts: str
    space_id: str
    store_count: int
    total_bytes_written: int
    last_seq: int | None = None
    """Number of the last unit of its space that has one."""
    head: bytes | None = None
    """Hash of that unit's receipt."""


def insert_text() -> str:
    """Return the statement that leaves a row; its values are the fields of `PendingUnit` up to `first_write`.

    But for `stamp`, which the database says. It must be the last statement of the unit's transaction.
    """
    return _INSERT


def following(reader: Reader, limit: int) -> list[PendingUnit]:
    """Return the units that come next, in the order in which they get their numbers."""
    return [PendingUnit(*row) for row in reader.rows(_NEXT, (limit,))]


def exist(reader: Reader) -> bool:
    """Say whether any unit has no number yet."""
    return bool(reader.rows("SELECT 1 FROM uow_pending LIMIT 1"))


def parts(reader: Reader, uow_id: str) -> dict[str, Any] | None:
    """Return what `LedgerRows.receipt_parts` does, of a unit that has no number yet; None for any other."""
    found = reader.rows(_PARTS, (uow_id,))
    if not found:
        return None
    context, nonce, root, write_count, origin = found[0]
    return {
        "space_seq": None,
        "prev": None,
        "context": CONTEXT_PREFIX + context.hex(),
        "nonce": digest_text(nonce),
        "writes_root": root.hex(),
        "write_count": write_count,
        "origin": origin,
    }


def any_writes_to(reader: Reader, space_id: str, store: str) -> bool:
    """Say whether a unit without a number has written to this store of a space."""
    return bool(reader.rows(_WRITING, (space_id, store)))


def remove(tx: EngineTransaction, uow_ids: Sequence[str]) -> None:
    """Take the rows of units away that have their numbers now."""
    tx.later("DELETE FROM uow_pending WHERE uow_id = ANY(CAST(? AS TEXT[]))", (list(uow_ids),))


def fence_off(tx: EngineTransaction) -> None:
    """Have nobody number units until `tx` ends: whoever is at it finds its lease gone, and begins again after it."""
    tx.execute("UPDATE uow_sequencer SET epoch = epoch + 1, owner = NULL WHERE id = 1")
