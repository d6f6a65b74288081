r"""Receipts: the canonical record of a committed unit, and its SHA-256.

A receipt is one line of RFC 8785 JSON with 17 keys; ``hash`` is the SHA-256 of exactly these bytes, so that::

    sqlite3 memory.db "SELECT receipt FROM uow_receipts WHERE uow_id = '...'" | tr -d '\n' | sha256sum

prints the same digits as ``unit_of_work.receipt_hash``. It binds the unit's identity and context, the ledger it belongs
to (``origin``), its place in its space's history (``space_seq``, ``prev``) and, through ``writes_root``, every write.
A bare hash shows accident, not malice: whoever can rewrite the whole file can rewrite the hashes too.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

from memoryos_uow import _merkle
from memoryos_uow._canonical import canonical, sha256_hex

if TYPE_CHECKING:
    from collections.abc import Iterable

RECEIPT_TYPE: Final = "memoryos-uow/receipt/1"


@dataclass(frozen=True, slots=True)
class ReceiptWrite:
    """One write as the receipt commits to it (design, receipts: ``write``)."""

    seq: int
    store_name: str
    record_id: str | None
    operation_type: str
    bytes_written: int
    checksum: str | None
    ts: str
    nonce: str | None = None

    def canonical(self) -> bytes:
        """Return the RFC 8785 bytes of this write, which its leaf hashes."""
        return canonical({f.name: getattr(self, f.name) for f in fields(self)})


def writes_root(writes: Iterable[ReceiptWrite]) -> str:
    """Return the hex RFC 6962 tree hash over the writes in seq order: of nothing, SHA-256 of the empty string."""
    return _merkle.tree_root(_merkle.leaf_hash(write.canonical()) for write in writes).hex()


def context_digest(*, actor_id: str | None, correlation_id: str | None, device_id: str | None, nonce: str) -> str:
    """Return ``sha256:<hex>`` over who acted, salted with a 128-bit `nonce` that is kept aside and can be erased."""
    context = {"actor_id": actor_id, "correlation_id": correlation_id, "device_id": device_id, "nonce": nonce}
    return f"sha256:{sha256_hex(canonical(context))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The canonical record of one committed unit.

    The 17 fields are the receipt; `signature` is beside it (None without a signer). Times are RFC 3339 UTC text.
    """

    band: str | None
    committed_ts: str
    context: str | None
    contract_version: str
    created_ts: str
    nonce: str | None
    origin: str | None
    outcome: str
    prev: str | None
    """``receipt_hash`` of the same space's previous unit; None for its first."""
    space_id: str | None
    space_seq: int | None
    """Number of the unit in its space's history, from 1."""
    store_count: int
    total_bytes_written: int
    type: str
    uow_id: str
    write_count: int
    writes_root: str
    signature: str | None = None

    def canonical(self) -> bytes:
        """Return the receipt as RFC 8785 bytes: all 17 keys, no trailing newline."""
        return canonical({f.name: getattr(self, f.name) for f in fields(self) if f.name != "signature"})

    @property
    def hash(self) -> str:
        """SHA-256 of `canonical()` as 64 hex digits; also in ``unit_of_work.receipt_hash``."""
        return sha256_hex(self.canonical())


@dataclass(frozen=True, slots=True)
class Described:
    """A receipt, the writes that its root commits to, and the nonce that opens its context."""

    receipt: Receipt
    writes: list[ReceiptWrite]
    context_nonce: str
