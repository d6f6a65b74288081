"""Going on with a ledger that is not the one whose head lies beside it: noticing it, and the next epoch.

Promise: a ledger that is shorter than the head that it released last, or whose first leaves are others, appends nothing
until somebody says that this is meant to be. From then on its checkpoints carry another origin line, so that no two
heads of one name contradict each other, and ``uow_epochs`` keeps the head that was given up.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from memoryos_uow import _ambient, _notes, _receipt_tree, _released_head
from memoryos_uow.errors import LedgerCorrupt, LedgerRollback

if TYPE_CHECKING:
    from pathlib import Path

    from memoryos_uow._released_head import Released
    from memoryos_uow.abc import Reader, Transaction


_AUTOMATIC: Final = re.compile(r"memoryos-uow/[0-9a-f]+(/[0-9]+)?", re.ASCII)
"""Origins that the library made up."""


def find_rollback(
    reader: Reader, origin: str, released: Released | None, path: Path | None, place: str | None = None
) -> LedgerRollback | None:
    """Return what is to be said if this ledger does not contain the head that was kept beside it; None if it does.

    `path` is beside what the head is kept, `place` how the ledger is called, if that is another thing.
    """
    if released is None or path is None:
        return None
    ledger = place or str(path)
    head, epoch = released.head, _receipt_tree.end(reader).epoch
    earlier = {_receipt_tree.epoch_origin(origin, n) for n in range(1, epoch)}
    if head.origin in earlier:
        return None  # killed right after the new epoch had begun: its first row keeps that head
    size = _receipt_tree.size(reader)
    if head.origin != _receipt_tree.epoch_origin(origin, epoch):
        if size == 0 and _AUTOMATIC.match(head.origin) and not _notes.parse(released.text).signatures:
            return None  # somebody has thrown away a ledger that nobody had named or signed, and begins another one
        return _rollback(ledger, path, f"it is another ledger than {head.origin}")
    if head.size > size:
        return _rollback(ledger, path, f"it has {size} committed units, and had {head.size}")
    try:
        same = _receipt_tree.root(reader, head.size) == head.root
    except LedgerCorrupt:
        same = False
    return (
        None if same else _rollback(ledger, path, f"its first {head.size} committed units are not the ones that it had")
    )


def _rollback(ledger: str, path: Path, how: str) -> LedgerRollback:
    beside = _released_head.path_beside(path).name
    return LedgerRollback(
        f"The ledger {ledger} is not what it was when it was last written: {how}, says {beside}.",
        hint=(
            "Nothing is written to it until this is settled. Put the right one back; or, if it was meant to be, go on"
            " with Ledger.open(..., accept_rollback=True) or `memoryos-uow recover --accept-rollback`."
        ),
    )


def begin_next(tx: Transaction, origin: str, abandoned: str) -> str:
    """Begin the next epoch, giving up the head `abandoned`; return the new head, which is not signed yet."""
    size = _receipt_tree.size(tx)
    epoch = _receipt_tree.end(tx).epoch + 1
    tx.execute(
        "INSERT INTO uow_epochs (epoch, since_size, abandoned, started_ts) VALUES (?, ?, ?, ?)",
        (epoch, size, abandoned, _ambient.now_text()),
    )
    head = _notes.Head(_receipt_tree.epoch_origin(origin, epoch), size, _receipt_tree.root(tx))
    return _notes.unsigned(head.text())
