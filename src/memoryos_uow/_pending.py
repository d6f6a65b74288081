"""The rows of units on PostgreSQL that are committed and have no number in the receipt log yet.

Promise: a unit's transaction leaves exactly one such row, and the transaction that numbers it takes it away. What
stands in it is what its receipt needs beside the specification's columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memoryos_uow.abc import Reader, Transaction

_INSERT: Final = (
    "INSERT INTO uow_pending (uow_id, stamp, context, context_nonce, nonce, writes_root, write_count, first_write)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_NEXT: Final = """
SELECT p.uow_id, p.stamp, p.context, p.context_nonce, p.nonce, p.writes_root, p.write_count, p.first_write,
  u.band, u.committed_ts, u.contract_version, u.created_ts, u.space_id, u.store_count, u.total_bytes_written
FROM uow_pending AS p JOIN unit_of_work AS u ON u.uow_id = p.uow_id ORDER BY p.stamp, p.uow_id LIMIT ?
"""


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


def insert_text() -> str:
    """Return the statement that leaves a row; its values are the first eight fields of `PendingUnit`."""
    return _INSERT


def following(reader: Reader, limit: int) -> list[PendingUnit]:
    """Return the units that come next, in the order in which they get their numbers."""
    return [PendingUnit(*row) for row in reader.rows(_NEXT, (limit,))]


def waits(reader: Reader, uow_ids: Sequence[str]) -> set[str]:
    """Return those of `uow_ids` that have no number yet."""
    marks = ", ".join("?" * len(uow_ids))
    found: list[tuple[Any, ...]] = reader.rows(f"SELECT uow_id FROM uow_pending WHERE uow_id IN ({marks})", uow_ids)  # noqa: S608
    return {uow_id for (uow_id,) in found}


def count(reader: Reader) -> int:
    """Return how many units have no number yet."""
    found: int = reader.rows("SELECT count(*) FROM uow_pending")[0][0]
    return found


def remove(tx: Transaction, uow_ids: Sequence[str]) -> None:
    """Take the rows of units away that have their numbers now."""
    tx.execute_many("DELETE FROM uow_pending WHERE uow_id = ?", [(uow_id,) for uow_id in uow_ids])
