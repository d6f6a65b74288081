"""What one unit writes inside the transaction that decides it.

Promise: everything that has to be there if the unit is committed is written here; whoever commits the transaction
(`_group_commit`) knows nothing of what a unit consists of. Several units may lie in one transaction, one after the
other: `Deciding.write` once for each, then `Deciding.seal` once for all. Writing a unit may be tried again after
a rollback.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from memoryos_uow import _coordination, _idempotency, _saving
from memoryos_uow._describe import committed_record, describe, own_columns
from memoryos_uow._protocol import Event
from memoryos_uow._transactions import blaming
from memoryos_uow.abc import Redo
from memoryos_uow.errors import ConflictError
from memoryos_uow.receipts import sign_receipt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from memoryos_uow._idempotency import Claim
    from memoryos_uow._receipt_log import ReceiptLog
    from memoryos_uow._registry import StoreRegistry
    from memoryos_uow._rows import LedgerRows
    from memoryos_uow._transactions import UnitTransactions
    from memoryos_uow._unit_state import UnitState
    from memoryos_uow.engines._contract import EngineTransaction
    from memoryos_uow.receipts import Described, Receipt


@dataclass(slots=True)
class Decision:
    """A unit whose decision was asked for, and what came of that."""

    unit: UnitState
    tx: EngineTransaction | None = None
    """The transaction that held all of the unit when it was to be committed: it knows whether that is durable."""
    event: Event | None = None
    """What happens to the unit if `tx` is decided; None until everything is written."""
    receipt: Receipt | None = None
    row: int = 0
    """The number of the unit's row."""
    was_asked: bool = False
    """Another store was asked to commit, and has not refused."""

    @property
    def is_written(self) -> bool:
        """Whether all of the unit lies in `tx`."""
        return self.event is not None

    @property
    def stands(self) -> bool:
        """Whether the unit's commit is durable, whatever exception is on its way."""
        return self.tx is not None and self.tx.decided

    @property
    def answer_lost(self) -> bool:
        """Whether the commit failed in such a way that a crash might still bring it back."""
        return self.tx is not None and self.tx.answer_lost

    def forget(self, reads: dict[tuple[str, str], object]) -> None:
        """Be as before it was written: that was rolled back. Writing it has used up what it had read."""
        self.tx = self.event = self.receipt = None
        unit = self.unit
        unit.tx = unit.position = None
        unit.buffer.applied = 0
        unit.reads = reads


class Deciding:
    """Writes the units of one ledger into their transactions."""

    def __init__(
        self,
        rows: LedgerRows,
        registry: StoreRegistry,
        transactions: UnitTransactions,
        at_work: set[str],
        *,
        log: ReceiptLog | None,
    ) -> None:
        self._rows = rows
        self._registry = registry
        self._transactions = transactions
        self._at_work = at_work
        self._log = log
        self._origin = log.origin if log is not None else None

    def write(self, decision: Decision) -> None:
        """Write all of the unit into its transaction, begun if need be."""
        unit = decision.unit
        self._refuse_if_taken_over(unit)
        tx = self._transactions.flush(unit, last=True)
        event = self._write_coordination(unit, tx)
        if unit.claim is not None:
            self._settle(unit.claim, unit, tx)
        described = describe(unit, self._origin)
        decision.row = self._write_rows(unit, tx, described)
        decision.tx, decision.event, decision.receipt = tx, event, described.receipt

    def _write_rows(self, unit: UnitState, tx: EngineTransaction, described: Described) -> int:
        """Write the rows that describe the unit; return the number of its own."""
        place, nodes = unit.place, b""
        if self._log is not None and place.log_end is not None:
            nodes = self._log.append(tx, place.log_end, place.commit_seq, described.receipt.canonical())
        return self._rows.insert_committed(tx, committed_record(unit, described.receipt), described, place, nodes)

    def seal(self, batch: Sequence[Decision]) -> None:
        """Write what all units of one transaction have in common, right before its commit: the receipt log's head."""
        last = batch[-1]
        place, tx = last.unit.place, last.tx
        if self._log is None or place.log_end is None or tx is None:
            return
        sealed = self._log.seal(tx, place.log_end, [(one.unit.place.commit_seq, one.row) for one in batch])
        batch[0].unit.sealed = sealed  # one of them will release it for all
        for decision in batch:
            assert decision.receipt is not None  # noqa: S101 - it is written
            receipt = decision.receipt
            sign_receipt(receipt, sealed.signature)
            decision.receipt = self._log.provable(receipt, decision.unit.place.commit_seq)

    def leave(self, unit: UnitState) -> None:
        """Let recovery have the unit: nobody here is at work on it any more."""
        self._at_work.discard(unit.facts.uow_id)

    def release(self, unit: UnitState) -> None:
        """Let the log's head out that was sealed with this unit: its commit is durable."""
        if unit.sealed is not None and self._log is not None:
            self._log.release(unit.sealed)

    def _refuse_if_taken_over(self, unit: UnitState) -> None:
        """Turn the intent into a decision, before anything else: a record may have changed because of the takeover."""
        if unit.has_intent and not _coordination.decide(self._transactions.open(unit), unit.facts.uow_id, unit.epoch):
            raise ConflictError(
                "Recovery took this unit over, because its process had not been heard of for too long.",
                hint="Nothing was written. Run the whole block again.",
            )

    @staticmethod
    def _settle(claim: Claim, unit: UnitState, tx: EngineTransaction) -> None:
        """Use up the unit's idempotency key."""
        if not _idempotency.settle(tx, claim, unit.facts.uow_id):
            claim.lost = True
            raise ConflictError(
                "Another unit took this one's idempotency key over, because its process could not be seen.",
                hint="Nothing was written. Run it again: it will be given the other one's receipt.",
            )

    def _write_coordination(self, unit: UnitState, tx: EngineTransaction) -> Event:
        """Write what stores outside have to publish; return what the decision will mean."""
        unit.owed = dict(self._redo(unit)) if unit.buffer.reaches_outside else {}
        for name, entries in unit.owed.items():
            _coordination.insert_redo(tx, name, entries)
        uow_id = unit.facts.uow_id
        if unit.is_saved:
            _saving.forget(tx, [uow_id])
        if unit.owed:
            self._at_work.add(uow_id)
            if not unit.has_intent:
                _coordination.insert(tx, uow_id, decided=True, unit=own_columns(unit), plan={})
            return Event.DECIDED_WITH_MORE
        if unit.has_intent:
            _coordination.forget(tx, [uow_id])
        return Event.DECIDED

    def _redo(self, unit: UnitState) -> Iterator[tuple[str, list[Redo]]]:
        for name in unit.stores():
            store = self._registry.publisher(name)
            if store is not None and name != unit.last:
                with blaming(unit, name):
                    yield (
                        name,
                        [
                            Redo(
                                unit.place.commit_seq,
                                seq,
                                unit.facts.uow_id,
                                unit.facts.space_id,
                                write.key or "",
                                write.operation,
                                store.redo(unit.facts, write),
                            )
                            for seq, write in unit.buffer.numbered()
                            if write.store == name
                        ],
                    )
