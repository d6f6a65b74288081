"""Which keys sign a ledger, from which unit to which: rows of ``uow_keys``.

Promise: at most one key is in use. A key that was put aside never signs again, and what it signed can be checked for
ever with the verifier key in its row. Handing over leaves a checkpoint that both keys have signed; without the old one
it has to be asked for, and leaves a checkpoint of the new key alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from memoryos_uow import _ambient, _notes, _receipt_tree
from memoryos_uow.errors import LedgerError, UsageError

if TYPE_CHECKING:
    from memoryos_uow._receipt_tree import LogEnd
    from memoryos_uow.abc import Reader, Transaction
    from memoryos_uow.signing import Signer


class KeyRecord(NamedTuple):
    """One key of a ledger; the fields are the columns of ``uow_keys``."""

    vkey: str
    since_seq: int
    until_seq: int | None
    handover: str | None
    revoked_ts: str | None


def keys(reader: Reader) -> list[KeyRecord]:
    """Return every key that has signed this ledger or does, oldest first."""
    found = reader.rows(
        "SELECT vkey, since_seq, until_seq, handover, revoked_ts FROM uow_keys ORDER BY since_seq, until_seq IS NULL"
    )
    return [KeyRecord(*row) for row in found]


def refuse_put_aside(reader: Reader, vkey: str) -> None:
    """Raise LedgerError if `vkey` was in use once and is not any more."""
    for key in keys(reader):
        if key.vkey == vkey and key.until_seq is not None:
            raise LedgerError(
                f"The key {_notes.shown_key(vkey)} was put aside: it signs this ledger no more.",
                hint="Nothing was written. Sign with another key; memoryos-uow keys new makes one.",
            )


def hand_over(tx: Transaction, origin: str, *, to: Signer | None, by: Signer | None) -> None:
    """Have `to` sign from the next unit on, or nobody, and put the key in use aside.

    `by` is the signer of the key in use; None: it is lost, or there is none.

    Raises:
        LedgerError: `by` is not the key in use, or `to` was put aside before.
        UsageError: nobody signs this ledger, and nobody shall, or the key in use shall follow itself.
    """
    log_end = _receipt_tree.end(tx)
    if by is not None and by.vkey != log_end.vkey:
        raise LedgerError(
            f"The key {_notes.shown_key(by.vkey)} is not the one that signs this ledger now.",
            hint="Nothing was changed. memoryos-uow keys show lists its keys.",
        )
    if log_end.vkey == (None if to is None else to.vkey):
        raise UsageError("This is what signs the ledger already.", hint="Nothing was changed.")
    last = log_end.commit_seq or 0
    if log_end.vkey is not None:
        tx.execute("UPDATE uow_keys SET until_seq = ? WHERE vkey = ?", (last, log_end.vkey))
    if to is not None:
        refuse_put_aside(tx, to.vkey)
        signers = [signer for signer in (by, to) if signer is not None]
        note = _notes.signed(_head(tx, origin, log_end), signers)
        tx.execute("INSERT INTO uow_keys (vkey, since_seq, handover) VALUES (?, ?, ?)", (to.vkey, last + 1, note))


def _head(tx: Transaction, origin: str, log_end: LogEnd) -> str:
    size = _receipt_tree.size(tx)
    return _notes.Head(_receipt_tree.epoch_origin(origin, log_end.epoch), size, _receipt_tree.root(tx)).text()


def revoke(tx: Transaction, vkey: str) -> None:
    """Say that signatures of `vkey` count for nothing from now on, whenever they were made.

    Raises:
        UsageError: it is no key of this ledger, or is in use: another has to take over first.
    """
    found = [key for key in keys(tx) if vkey in (key.vkey, _notes.shown_key(key.vkey))]
    if not found or found[0].until_seq is None:
        raise UsageError(
            "This key is in use: another has to take over first." if found else "No such key has signed this ledger.",
            hint="Nothing was changed. memoryos-uow keys show lists its keys, and keys rotate hands over.",
        )
    tx.execute(
        "UPDATE uow_keys SET revoked_ts = coalesce(revoked_ts, ?) WHERE vkey = ?", (_ambient.now_text(), found[0].vkey)
    )
