"""The receipt log of a ledger that is being opened: who signs it, and whether it is what it was.

Promise: a signer that cannot sign this ledger, whatever the reason, is refused here; nobody ever goes on unsigned
without having said so. A ledger that was put back is opened, so that it can be looked at, and refuses units.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from memoryos_uow import _epochs, _keys, _notes, _pending, _receipt_log, _receipt_tree, _released_head
from memoryos_uow._names import Durability
from memoryos_uow._receipt_log import ReceiptLog
from memoryos_uow._released_head import ReleasedHead
from memoryos_uow.errors import UsageError, VerificationError

_MODE: Final = 0o640
"""Permissions of the head of a ledger in a database."""

if TYPE_CHECKING:
    from pathlib import Path

    from memoryos_uow.engines._contract import Engine
    from memoryos_uow.signing import Signer


def check_signer(signer: object, origin: str | None) -> None:
    """Refuse what cannot sign, before any file is touched; `origin` may not be known yet.

    Raises:
        UsageError: it is neither a signer nor the path of a key file.
        LedgerError: the key file cannot be used.
    """
    if signer is not None:
        _signer(signer, origin or "any")


def _signer(signer: object, origin: str) -> Signer:
    from memoryos_uow.signing import KeyFileSigner, Signer  # noqa: PLC0415 - most ledgers are not signed

    if isinstance(signer, (str, os.PathLike)):
        return KeyFileSigner(signer, name=origin)
    if not isinstance(signer, Signer):
        raise UsageError(
            f"A signer has name, vkey and sign, or is the path of a key file; this is a {type(signer).__name__}.",
            hint='Nothing was opened. For example signer="ledger-key.pem".',
        )
    try:
        key = _notes.parse_vkey(signer.vkey)
    except VerificationError as error:
        raise UsageError("The signer's vkey is not an Ed25519 verifier key.", hint="Nothing was opened.") from error
    if key.name != signer.name:
        raise UsageError("The signer's vkey has another name than the signer.", hint="Nothing was opened.")
    return signer


def open_log(
    engine: Engine,
    origin: str | None,
    *,
    file: Path | None,
    signer: object,
    durability: Durability,
    accept_rollback: bool,
) -> ReceiptLog | None:
    """Return the receipt log, ready to append; None in basic mode, which has none.

    `file` is the ledger's file, beside which its last head is kept; None for a ledger in a database, whose head is kept
    in the folder that ``$MEMORYOS_UOW_HEADS`` names, if it does.

    Raises:
        UsageError: the signer's name is not the ledger's, or the ledger is of contract 1.0.0.
        LedgerError: the signer's key is not the one that signs this ledger, or was put aside.
    """
    if origin is None:
        if signer is not None:
            raise UsageError("A ledger of contract 1.0.0 has no receipts to sign.", hint="Open it with migrate=True.")
        return None
    used = None if signer is None else bound_signer(signer, origin)
    if engine.read_only:
        return ReceiptLog(origin, engine.reader, signer=used)
    mode = None if file is not None else _MODE
    file = file or _released_head.elsewhere(origin)
    head = None if file is None else ReleasedHead(file, at_once=durability is Durability.FULL, mode=mode)
    log = ReceiptLog(origin, engine.reader, signer=used, head=head)
    released = None if file is None else _released_head.read(file)
    with engine.reader() as reader:
        in_use = _receipt_tree.end(reader).vkey
        if used is not None:
            _refuse_wrong_key(in_use, used)
            _keys.refuse_put_aside(reader, used.vkey)
        log.refusal = _epochs.find_rollback(reader, origin, released, file, engine.place)
    if log.refusal is not None and accept_rollback and released is not None and head is not None:
        _begin_epoch(engine, log, head, released.text)
    log.may_refuse = log.refusal is not None or (in_use is not None and used is None)
    return log


def bound_signer(signer: object, origin: str) -> Signer:
    """Return the signer, under the name of the ledger.

    Raises:
        UsageError: it is neither a signer nor the path of a key file, or it signs for another ledger.
        LedgerError: the key file cannot be used.
    """
    bound = _signer(signer, origin)
    if bound.name != origin:
        raise UsageError(
            f"The signer signs for {bound.name!r}, and this ledger's origin is {origin!r}.",
            hint="Nothing was written. Give the signer the ledger's origin as its name.",
        )
    return bound


def _refuse_wrong_key(in_use: str | None, signer: Signer) -> None:
    if in_use is not None and in_use != signer.vkey:
        raise _receipt_log.other_key(in_use, signer.vkey)


def _begin_epoch(engine: Engine, log: ReceiptLog, head: ReleasedHead, abandoned: str) -> None:
    tx = engine.begin()
    try:
        if not engine.excludes_others:
            _pending.fence_off(tx)
        text = _epochs.begin_next(tx, log.origin, abandoned)
        tx.commit()
    finally:
        tx.rollback()
    head.start_again(text)
    log.refusal = None
