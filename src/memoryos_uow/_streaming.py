"""A unit of very many writes: applied, described and out of memory chunk by chunk, long before it commits.

Promise: the rows, the receipt and the records are the same as if all writes had waited; what a savepoint undoes is
undone here as well, because rows of writes lie in the same transaction as the records. A chunk goes wholly or stays.

The price: from the first chunk on the unit's transaction is open, so the ledger's write lock is held until the unit
ends. How many writes wait before that is in `Limits`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memoryos_uow._buffer import Streamed
from memoryos_uow._describe import open_record, receipt_writes
from memoryos_uow._merkle import Frontier
from memoryos_uow.receipts import grown

if TYPE_CHECKING:
    from memoryos_uow._rows import LedgerRows
    from memoryos_uow._transactions import UnitTransactions
    from memoryos_uow._unit_state import UnitState
    from memoryos_uow.engines._contract import EngineTransaction


class Streaming:
    """Has the writes of the units of one ledger leave memory."""

    def __init__(self, rows: LedgerRows, transactions: UnitTransactions) -> None:
        self._rows = rows
        self._transactions = transactions

    def relieve(self, unit: UnitState) -> None:
        """Apply every waiting write, put the rows of all into the unit's transaction, and forget them.

        Raises:
            StoreError: a store refused one of them, made at any time before.
            ConflictError: a record was changed by another unit after this one had read it.
            LedgerError: the ledger could not be locked or written. Nothing has left memory.
        """
        tx = self._transactions.flush(unit)
        with tx.step():
            streamed = self._describe(unit, tx)
        unit.buffer.let_go(streamed, unit.marks)

    def _describe(self, unit: UnitState, tx: EngineTransaction) -> Streamed:
        """Write the rows of all writes in memory; return what is to be known of them and of those before."""
        before, uow_id = unit.buffer.streamed, unit.facts.uow_id
        if before is None:
            # The rows of writes refer to this one. When the unit commits it gets its true values.
            self._rows.insert_unit(tx, open_record(unit))
            before = Streamed(0, 0, (), Frontier(), first_row=self._rows.next_write(tx))
        writes = receipt_writes(unit)
        self._rows.insert_writes(tx, uow_id, before.first_row, writes)
        return Streamed(
            count=unit.buffer.count,
            bytes_written=before.bytes_written + sum(write.bytes_written for write in writes),
            stores=tuple(unit.buffer.stores()),
            frontier=grown(before.frontier, writes),
            first_row=before.first_row,
        )
