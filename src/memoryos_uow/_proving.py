"""Proofs of one unit and of one of its writes, read from a ledger's rows.

Promise: reads only. A proof is what `_proofs` can check without the ledger: the unit's receipt as the entry of a proof
in the receipt log, and a write as the entry of a proof in that receipt's ``writes_root``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from memoryos_uow import _merkle, _proofs, _receipt_tree
from memoryos_uow._rows import digest_text
from memoryos_uow.errors import LedgerCorrupt, UsageError
from memoryos_uow.receipts import ReceiptWrite

if TYPE_CHECKING:
    from memoryos_uow._records import UnitRecord
    from memoryos_uow.abc import Reader


class Proven(NamedTuple):
    """An entry and the proof of it."""

    entry: bytes
    proof: str


_LEAVES = (
    "SELECT w.store_name, w.record_id, w.operation_type, w.bytes_written, w.checksum, w.ts, n.nonce, s.leaf"
    " FROM uow_ledger AS l JOIN uow_writes AS w ON w.id >= l.first_write AND w.id < l.first_write + l.write_count"
    " LEFT JOIN uow_nonces AS n ON n.write_id = w.id LEFT JOIN uow_sealed AS s ON s.write_id = w.id"
    " WHERE l.commit_seq = ? ORDER BY w.id"
)


def prove_unit(reader: Reader, record: UnitRecord, entry: bytes) -> Proven:
    """Return the proof that `entry`, the unit's receipt, stands in the log.

    Raises:
        UsageError: the unit has no receipt.
        LedgerCorrupt: the log has another receipt for it than its rows give, or is damaged.
    """
    if record.commit_seq is None:
        raise UsageError(f"The unit {record.uow_id} has no receipt: it is {record.status}.", hint="Prove another one.")
    index = _receipt_tree.index_of(reader, record.commit_seq)
    if _receipt_tree.leaf(reader, index) != _merkle.leaf_hash(entry):
        raise LedgerCorrupt(
            f"The rows of unit {record.uow_id} are not what its receipt in the log was made from.",
            hint="Nothing was changed. `memoryos-uow verify` says more.",
        )
    origin: str = reader.rows("SELECT origin FROM uow_identity")[0][0]
    return Proven(entry, _receipt_tree.proof(reader, origin, record.commit_seq, record.receipt_signature))


def prove_write(reader: Reader, record: UnitRecord, seq: int) -> Proven:
    """Return the proof that the unit's receipt commits to its write number `seq`.

    Raises:
        UsageError: it has no such write, or its record was erased: then only its place is left.
    """
    leaves: list[bytes] = []
    wanted: bytes | None = None
    for number, (*fields, nonce, sealed) in enumerate(reader.stream(_LEAVES, (record.commit_seq,))):
        if sealed is not None:
            leaves.append(sealed)
            continue
        store_name, record_id, operation, bytes_written, checksum, ts = fields
        write = ReceiptWrite(
            number, store_name, record_id, operation, bytes_written, checksum, ts, digest_text(nonce)
        ).canonical()
        leaves.append(_merkle.leaf_hash(write))
        if number == seq:
            wanted = write
    if wanted is None and 0 <= seq < len(leaves):
        raise UsageError(f"Write {seq} of unit {record.uow_id} was erased; nothing of it is left to prove.")
    proof = _proofs.write_proof_text(record.uow_id, leaves, seq)
    assert wanted is not None  # noqa: S101 - or else there is no such write, and that was said
    return Proven(wanted, proof)
