r"""Receipts: the canonical record of a committed unit, and its SHA-256.

A receipt is one line of RFC 8785 JSON with 17 keys; ``hash`` is the SHA-256 of exactly these bytes, so that::

    sqlite3 memory.db "SELECT receipt FROM uow_receipts WHERE uow_id = '...'" | tr -d '\n' | sha256sum

prints the same digits as ``unit_of_work.receipt_hash``. It binds the unit's identity and context, the ledger it belongs
to (``origin``), its place in its space's history (``space_seq``, ``prev``) and, through ``writes_root``, every write.
A bare hash shows accident, not malice: whoever can rewrite the whole file can rewrite the hashes too.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, fields
from json.encoder import encode_basestring as quoted
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from memoryos_uow import _merkle
from memoryos_uow._canonical import MAX_SAFE_INTEGER, Shape, sha256_hex
from memoryos_uow.errors import LedgerBusy, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from memoryos_uow._merkle import Frontier

RECEIPT_TYPE: Final = "memoryos-uow/receipt/1"


class ReceiptWrite(NamedTuple):
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
        seq, store, record, operation, size, checksum, ts, nonce = self
        # Nearly every one, at sight; where there is anything else about it, `Shape` decides.
        if type(size) is int and 0 <= size <= MAX_SAFE_INTEGER and type(seq) is int and 0 <= seq <= MAX_SAFE_INTEGER:
            try:
                text = (
                    f'{{"bytes_written":{size},"checksum":{"null" if checksum is None else quoted(checksum)}'
                    f',"nonce":{"null" if nonce is None else quoted(nonce)},"operation_type":{quoted(operation)}'
                    f',"record_id":{"null" if record is None else quoted(record)},"seq":{seq}'
                    f',"store_name":{quoted(store)},"ts":{quoted(ts)}}}'
                )
                if "\\u0000" not in text:
                    return text.encode()
            except (TypeError, UnicodeEncodeError):
                pass
        return _WRITE(self)


_WRITE: Final = Shape(ReceiptWrite._fields)


def writes_root(writes: Iterable[ReceiptWrite], *, after: Frontier | None = None) -> str:
    """Return the hex RFC 6962 tree hash over the writes in seq order: of nothing, SHA-256 of the empty string.

    `after` stands for the leaves of the writes before them.
    """
    if after is not None:
        return grown(after, writes).root().hex()
    return _merkle.tree_root([_merkle.leaf_hash(write.canonical()) for write in writes]).hex()


def grown(frontier: Frontier, writes: Iterable[ReceiptWrite]) -> Frontier:
    """Return a copy of `frontier` to which the leaves of `writes` were appended."""
    grown = frontier.copy()
    for write in writes:
        grown.append(_merkle.leaf_hash(write.canonical()))
    return grown


def context_digest(*, actor_id: str | None, correlation_id: str | None, device_id: str | None, nonce: str) -> str:
    """Return ``sha256:<hex>`` over who acted, salted with a 128-bit `nonce` that is kept aside and can be erased."""
    return f"sha256:{sha256_hex(_CONTEXT(_Context(actor_id, correlation_id, device_id, nonce)))}"


class _Context(NamedTuple):
    actor_id: str | None
    correlation_id: str | None
    device_id: str | None
    nonce: str


_CONTEXT: Final = Shape(_Context._fields)


class _Beside:
    """What a receipt keeps that is no field of it: bytes and hash, once made, and how to prove that the log has it."""

    __slots__ = ("_await", "_bytes", "_hash", "_prove")

    _await: Awaited
    _bytes: bytes
    _hash: str
    _prove: Callable[[str | None], str]


class Numbered(NamedTuple):
    """What the receipt log gives a unit, where it does so after the commit."""

    space_seq: int
    prev: str | None
    signature: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt(_Beside):
    """The canonical record of one committed unit.

    The 17 fields are the receipt; `signature` is beside it (None without a signer): the signed checkpoint of a log that
    holds this receipt and every earlier one. Times are RFC 3339 UTC text.

    On PostgreSQL the log numbers units right after their commit, many at once. Until then a receipt is `pending`, and
    asking for what depends on its number (`hash`, `canonical`, `prev`, `space_seq`, `signature`, `proof`) waits.
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

    @property
    def pending(self) -> bool:
        """Whether the unit has no number in the receipt log yet, as far as this process knows; it is committed."""
        try:
            object.__getattribute__(self, "prev")
        except AttributeError:
            known = self._await.numbered
            if known is None:
                return True
            self._learn(known)
        return False

    def wait(self, timeout: float | None = None) -> Receipt:
        """Wait until the receipt is not `pending`, and return it: at once where it is not.

        Args:
            timeout: seconds; default: the ledger's ``busy_timeout``.

        Raises:
            LedgerBusy: it is pending still. The unit is committed all the same.
            LedgerError: the ledger cannot be read.
        """
        if self.pending:
            self._settle(timeout)
        return self

    def _settle(self, timeout: float | None) -> None:
        self._learn(self._await(timeout))

    def _learn(self, numbered: Numbered) -> None:
        for name, value in numbered._asdict().items():
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        """Wait for what a pending receipt does not have yet."""
        if name in Numbered._fields:
            self._settle(None)
            return object.__getattribute__(self, name)
        raise AttributeError(name)

    def __repr__(self) -> str:
        if self.pending:
            return f"<Receipt of {self.uow_id}, pending>"
        shown = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields(self))
        return f"Receipt({shown})"

    def canonical(self) -> bytes:
        """Return the receipt as RFC 8785 bytes: all 17 keys, no trailing newline."""
        try:
            return self._bytes
        except AttributeError:
            made = _RECEIPT(self)
            object.__setattr__(self, "_bytes", made)
            return made

    @property
    def hash(self) -> str:
        """SHA-256 of `canonical()` as 64 hex digits; also in ``unit_of_work.receipt_hash``."""
        try:
            return self._hash
        except AttributeError:
            made = sha256_hex(self.canonical())
            object.__setattr__(self, "_hash", made)
            return made

    def proof(self) -> str:
        """Return the proof that this receipt stands in its ledger's log: a C2SP tlog-proof (https://c2sp.org/tlog-proof).

        It holds the checkpoint of `signature`; where there is none, the newest checkpoint that covers the unit, or else
        an unsigned head, which is marked as such. `memoryos-uow check-proof` checks it without the ledger.

        Raises:
            UsageError: the receipt did not come from an open ledger, or that is closed by now.
            LedgerError: the ledger cannot be read.
        """
        try:
            prove = self._prove
        except AttributeError:
            raise UsageError(
                "This receipt did not come from an open ledger, so it cannot be looked up in a log.",
                hint="ledger.receipt(uow_id).proof() can, and `memoryos-uow prove`.",
            ) from None
        return prove(self.signature)


class Awaited(Protocol):
    """The number that a unit will have, and how to wait for it."""

    @property
    def numbered(self) -> Numbered | None:
        """What is known of it without waiting."""
        ...

    def __call__(self, timeout: float | None) -> Numbered:
        """Wait for it, for so many seconds at most."""
        ...


def make_pending(receipt: Receipt, wait: Awaited) -> Receipt:
    """Have `receipt`, which nobody has been given yet, ask `wait` for what it does not know; return the receipt."""
    for name in (*Numbered._fields, "_bytes", "_hash"):
        with suppress(AttributeError):  # it was never asked for
            object.__delattr__(receipt, name)
    object.__setattr__(receipt, "_await", wait)
    return receipt


class NotAwaited:
    """Stands for the number as long as nobody has asked for it: an interrupt came right after the commit."""

    numbered: Final = None

    def __call__(self, timeout: float | None) -> Numbered:  # noqa: ARG002
        """Raise LedgerBusy: this will not change."""
        raise LedgerBusy(
            "The receipt of this unit is pending, and nobody has asked for its number yet.",
            hint="If the unit is committed, ledger.receipt(uow_id) has its receipt.",
        )


def sign_receipt(receipt: Receipt, signature: str | None) -> None:
    """Put the signature into `receipt`, which nobody has been given yet."""
    object.__setattr__(receipt, "signature", signature)


def make_provable(receipt: Receipt, prove: Callable[[str | None], str]) -> Receipt:
    """Have ``receipt.proof()`` answer what `prove` returns for the receipt's signature; return the receipt.

    `prove` must not hold the receipt: the two would keep each other until Python looks for such rings.
    """
    object.__setattr__(receipt, "_prove", prove)
    return receipt


_RECEIPT: Final = Shape(field.name for field in fields(Receipt) if field.name != "signature")


@dataclass(frozen=True, slots=True)
class Described:
    """A receipt, the writes that its root commits to, and the nonce that opens its context."""

    receipt: Receipt
    writes: list[ReceiptWrite]
    context_nonce: str
    first_write: int | None = None
    """``uow_writes.id`` of the unit's first write, if rows of writes before these were written already."""
