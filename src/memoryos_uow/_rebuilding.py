"""The receipt of a committed unit from the ledger's rows, whether the receipt log has numbered it yet or not.

Promise: reads only. A receipt without its number is `pending`, and learns it when it is asked for what depends on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memoryos_uow import _pending
from memoryos_uow._describe import rebuilt_receipt
from memoryos_uow.receipts import make_pending

if TYPE_CHECKING:
    from memoryos_uow._receipt_log import ReceiptLog
    from memoryos_uow._rows import LedgerRows
    from memoryos_uow._sequencer import Sequencer
    from memoryos_uow.abc import Reader
    from memoryos_uow.receipts import Receipt


def receipt_of(
    reader: Reader, rows: LedgerRows, uow_id: str, *, log: ReceiptLog | None, sequencer: Sequencer | None
) -> Receipt | None:
    """Return the receipt of a unit; None if there is no such unit, or it has none."""
    if sequencer is not None and log is not None:
        # First: what is not waiting any more by now has its number in whatever is read next.
        parts = _pending.parts(reader, uow_id)
        record = None if parts is None else rows.unit(reader, uow_id)
        if parts is not None and record is not None:
            receipt = log.provable_later(rebuilt_receipt(record, parts, None))
            return make_pending(receipt, sequencer.expect(uow_id))
    record = rows.unit(reader, uow_id)
    parts = None if record is None else rows.receipt_parts(reader, uow_id)
    if record is None or parts is None or record.receipt_hash is None:
        return None
    return rebuilt_receipt(record, parts, log)
