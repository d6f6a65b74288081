"""Carries out what the protocol decides: the only caller of stores that write, and the only place that commits.

The commit, in one sitting:

1.  `commit` tells the protocol that the block has ended well; the protocol answers with effects.
2.  RECORD_INTENT and PREPARE, only for stores that make bytes outside the ledger: the ledger notes what is about to be
    made, then the stores make it durable. No lock is held meanwhile.
3.  DECIDE: one ledger transaction, which units of several threads may share (`_group_commit`). In it `_deciding` writes
    all of a unit: records that it has read are compared with what is there now; the buffered writes are applied in
    order; then come what stores outside will have to publish, the rows that describe the unit, and its receipt. COMMIT
    is the decision.
4.  ANNOUNCE: only now the unit is committed in memory. How long it took goes along with a later transaction: inside its
    own it cannot be known, and one more fsync would cost more than the unit.
5.  PUBLISH and FORGET, only for stores outside: they show what was decided; once that is durable (`_unsynced`), the
    ledger forgets what recovery would have needed. A store that does not answer is noted, and recovery asks it again.

Where a store's own commit decides (`LastResource`), that store comes last and holds its transaction open; SAVE puts all
of the unit into the ledger, durable and unseen; and DECIDE_ELSEWHERE does what DECIDE does, with that store's commit
right before the ledger's (`_last_resource`).

Whatever is raised before the decision undoes everything, leaves a row that says so, and goes on to the caller.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from memoryos_uow import _ambient, _coordination
from memoryos_uow._backoff import delay_s
from memoryos_uow._deciding import Deciding, Decision
from memoryos_uow._describe import ending_record, own_columns, timing
from memoryos_uow._group_commit import GroupCommit
from memoryos_uow._last_resource import LastResources
from memoryos_uow._leftovers import Leftovers, report_lost
from memoryos_uow._protocol import DECIDED, UNDECIDED, Effect, Event, State
from memoryos_uow._publishing import Publishing
from memoryos_uow._reading import Reading
from memoryos_uow._remote_calls import calling
from memoryos_uow._streaming import Streaming
from memoryos_uow._telling import ended
from memoryos_uow._transactions import UnitTransactions, blaming
from memoryos_uow._unsynced import Unsynced
from memoryos_uow.abc import Capability, OutsideStore
from memoryos_uow.errors import InDoubtError, LedgerError, StoreError, UnitOfWorkError, UsageError
from memoryos_uow.observers import Telemetry, TelemetryMode
from memoryos_uow.receipts import make_pending

if TYPE_CHECKING:
    from collections.abc import Callable

    from memoryos_uow._leftovers import Carried
    from memoryos_uow._receipt_log import ReceiptLog
    from memoryos_uow._records import UnitRecord
    from memoryos_uow._registry import StoreRegistry
    from memoryos_uow._rows import LedgerRows
    from memoryos_uow._sequencer import Sequencer
    from memoryos_uow._unit_state import UnitState
    from memoryos_uow.engines._contract import Engine, EngineTransaction


# Asked before isinstance, which looks for every method of a protocol anew: about 20 us for each store of each unit.
_INSIDE: Final = Capability.SAME_TRANSACTION

_ASK_AGAIN_S: Final = 0.5
"""How long to wait at most before asking once more what became of a commit."""


_at_work: Final[set[str]] = set()
"""Units of this process whose row in ``uow_coordination`` is being worked on: not for recovery, by whichever of the
process's open ledgers on the file. A forked child is at work on none of them."""
if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows, which does not fork
    os.register_at_fork(after_in_child=_at_work.clear)


class Coordinator:
    """Drives the units of one ledger through the protocol."""

    def __init__(self, engine: Engine, rows: LedgerRows, registry: StoreRegistry, *, log: ReceiptLog | None) -> None:
        self._engine = engine
        self._rows = rows
        self._registry = registry
        self.log = log
        self._leftovers = Leftovers(rows)
        self._unsynced = Unsynced(settled=self._leftovers.add_settled, settle=self.settle, at_work=_at_work)
        self.transactions = UnitTransactions(engine, rows, registry, self._leftovers)
        deciding = Deciding(rows, registry, self.transactions, _at_work, log=log)
        self.last = LastResources(engine, rows, registry, self.transactions, deciding)
        self._group = GroupCommit(engine, self.transactions, deciding, self.last.decide)
        self.reading = Reading(engine, self.transactions)
        self.streaming = Streaming(rows, self.transactions)
        self.publishing = Publishing(engine, registry)
        self.at_work: Final = _at_work
        self.sequencer: Sequencer | None = None
        """Who numbers units after their commits, where that is not done inside them."""
        self.telemetry = Telemetry(TelemetryMode.BACKGROUND)
        self._do: dict[Effect, Callable[[UnitState], Event | None]] = {
            Effect.RECORD_INTENT: self._record_intent,
            Effect.PREPARE: self._prepare,
            Effect.DECIDE: self._decide,
            Effect.ANNOUNCE: self._announce,
            Effect.PUBLISH: self._publish,
            Effect.FORGET: self._forget,
            Effect.RECORD_SILENCE: self._record_silence,
            Effect.PROVE_GONE: self._prove_gone,
            Effect.SAVE: self.last.save,
            Effect.DECIDE_ELSEWHERE: self._decide,
            Effect.ASK: self.last.ask,
            Effect.UNDO: self.transactions.undo,
            Effect.ABANDON: self._abandon,
            Effect.RECORD: self._record,
        }

    # How a unit ends

    def commit(self, unit: UnitState) -> None:
        """Commit `unit`; its receipt is then in ``unit.receipt``, None if it wrote nothing.

        Raises:
            UnitOfWorkError: it could not be committed; no store holds anything of it, and its row says `failed`.
            InDoubtError: whether it is committed cannot be told now.
        """
        unit.commit_started_ns = _ambient.monotonic_ns()
        try:
            unit.refuse_late()
            self.transactions.refuse_unsafe_reads(unit)
            self._carry_out(unit, self._how_to_commit(unit))
        except BaseException as error:
            self.fail(unit, error)
            if unit.state is State.IN_DOUBT:
                unit.error = error
            raise
        finally:
            if unit.facts.uow_id not in self._unsynced:
                self.at_work.discard(unit.facts.uow_id)
            self._tell(unit)

    def roll_back(self, unit: UnitState) -> None:
        """End `unit` because the caller wants none of it."""
        self._carry_out(unit, Event.ROLLBACK_ASKED)
        self._tell(unit)

    def fail(self, unit: UnitState, error: BaseException) -> None:
        """End `unit` because of `error`, unless its decision was asked for already."""
        if unit.state not in UNDECIDED:
            return
        unit.error = error
        if isinstance(error, UnitOfWorkError) and error.uow_id in (None, unit.facts.uow_id):
            error.uow_id = unit.facts.uow_id
            unit.failed_store = error.store
        self._carry_out(unit, Event.FAILED)
        self._tell(unit)

    def _tell(self, unit: UnitState) -> None:
        """Tell those who watch how the unit ended, once; of one that left no row there is nothing to tell."""
        rowless = unit.state in (State.FINISHED, State.ROLLED_BACK) and not unit.buffer.count
        if not unit.was_told and not rowless:
            unit.was_told = True
            self.telemetry.tell(lambda: ended(unit))

    def _how_to_commit(self, unit: UnitState) -> Event:
        if not unit.buffer.count:
            # That a request was carried out is kept, even if there was nothing to write.
            return Event.NOTHING_TO_DO if unit.claim is None else Event.COMMIT_ASKED
        if not unit.buffer.reaches_outside:
            return Event.COMMIT_ASKED
        for name, writes in unit.buffer.by_store().items():
            if self._registry[name].capability is _INSIDE:
                continue
            unit.traceparent = unit.traceparent or self.telemetry.traceparent()
            store = self._registry.outside(name)
            if store is not None:
                with blaming(unit, name):
                    tokens = store.plan(unit.facts, writes)
                if tokens or self._registry.last(name) is not None:
                    unit.plan[name] = tokens
        self.last.choose(unit)
        return Event.COMMIT_ASKED_OUTSIDE if unit.plan else Event.COMMIT_ASKED

    def _carry_out(self, unit: UnitState, event: Event | None) -> None:
        """Tell the protocol `event`, do what it answers, and tell it what came of that."""
        while event is not None:
            effects, event = unit.meet(event), None
            for effect in effects:
                event = self._do[effect](unit)

    # Effects before the decision: each returns the event that it brought about, if any

    def _record_intent(self, unit: UnitState) -> Event:
        # With the write lock held by the unit itself nobody can sweep or recover, and a row would not be seen. Where
        # there is no such lock, its transaction keeps sweepers waiting.
        if unit.tx is None:
            self.at_work.add(unit.facts.uow_id)
            self.transactions.apart(
                lambda tx: _coordination.insert(
                    tx, unit.facts.uow_id, decided=False, unit=own_columns(unit), plan=unit.plan
                ),
                wait_s=self.transactions.patience_s(unit),
            )
            unit.has_intent = True
        else:
            _coordination.take_part(unit.tx)
        return Event.INTENT_RECORDED

    def _prepare(self, unit: UnitState) -> Event:
        writes = unit.buffer.by_store()
        for name in unit.plan:
            if name != unit.last:
                unit.refuse_late()
                store = self._registry[name]
                with blaming(unit, name), calling(unit, store, "prepare"):
                    store.prepare(unit.facts, writes[name])
        last = None if unit.last is None else self._registry.last(unit.last)
        if last is None:
            return Event.PREPARED
        unit.refuse_late()
        with blaming(unit, last.name), calling(unit, last, "hold"):
            last.hold(unit.facts, writes[last.name])
        return Event.HELD

    def _decide(self, unit: UnitState) -> Event | None:
        decision = Decision(unit)
        try:
            self._group.commit(decision)
        except BaseException as error:
            open_end = decision.answer_lost or decision.was_asked
            unit.receipt = decision.receipt if decision.stands or open_end else None
            if decision.stands:  # a signal handler raised, yet the decision stands: state follows the durable fact
                self._carry_out(unit, decision.event)
            elif open_end:
                unit.error = error
                if isinstance(error, UnitOfWorkError):
                    error.uow_id = error.uow_id or unit.facts.uow_id
                self._carry_out(unit, Event.ANSWER_LOST)
                if unit.state in DECIDED:  # the answer was found: it is not an error
                    unit.error = None
                    if isinstance(error, Exception):
                        return None
                if isinstance(error, InDoubtError):  # it was found as well, and is another one
                    raise self.last.proven_gone(unit) from error
            raise
        unit.receipt = decision.receipt
        return decision.event

    # Effects after the decision

    def _announce(self, unit: UnitState) -> None:
        unit.tx = None
        if unit.changed_schema:
            self._registry.look_again()
        took = timing(unit)
        unit.commit_us = took.commit_us
        if self.sequencer is not None and self.log is not None and unit.receipt is not None:
            make_pending(self.log.provable_later(unit.receipt), self.sequencer.expect(unit.facts.uow_id, took))
        else:
            self._leftovers.add_timing(took)
        if unit.sealed is not None and self.log is not None:
            self.log.release(unit.sealed)

    def _publish(self, unit: UnitState) -> Event:
        try:
            unit.silent, unit.unsynced = self.publishing.show(unit, synced=self._engine.syncs_commits)
        except UnitOfWorkError as error:
            # The ledger cannot be read now. The decision stands all the same, so this must not look like a failure.
            unit.silent = dict.fromkeys(unit.owed, error)
        return Event.STORE_SILENT if unit.silent else Event.PUBLISHED

    def _forget(self, unit: UnitState) -> None:
        if unit.unsynced:
            size = sum(len(entry.payload) for entries in unit.owed.values() for entry in entries)
            self._unsynced.add(unit.facts.uow_id, unit.unsynced, size)
        else:
            self._leftovers.add_settled(unit.facts.uow_id)

    def _record_silence(self, unit: UnitState) -> None:
        try:
            self.transactions.apart(lambda tx: self._rows.record_silence(tx, unit.facts.uow_id, unit.silent))
            unit.failed_store = next(iter(unit.silent))
        except UnitOfWorkError:
            return  # the row in uow_coordination says the same, and recovery will say it again

    def _prove_gone(self, unit: UnitState) -> Event:
        """Find out what became of a commit whose answer was lost; write over what might come to light of it later.

        The row that is written in its place has the unit's own id. Where the commit is still on its way, that row waits
        for it, or it fails because of that row: the answer is final.
        """
        unit.tx = None
        found: list[bool] = []

        def look(tx: EngineTransaction) -> None:
            found[:] = [self._rows.exists(tx, unit.facts.uow_id)]
            if not found[0]:
                self._rows.insert_unit(tx, ending_record(unit, State.FAILED))

        try:
            self._until_answered(lambda: self.transactions.apart(look, wait_s=None, relaxed=False))
            if found[0]:
                self._engine.sync_log()  # its own commit could not
        except UnitOfWorkError as error:
            cause = "disk failed" if self._engine.excludes_others else "connection was lost"
            raise InDoubtError(
                f"The {cause} during the commit, and whether the unit is committed cannot be told.",
                hint=f"Look for unit {unit.facts.uow_id} in the ledger before doing it again, once it can be read.",
                uow_id=unit.facts.uow_id,
            ) from error
        if not found[0]:
            unit.receipt = None
            return Event.PROVEN_GONE
        return Event.DECISION_FOUND

    def _until_answered(self, ask: Callable[[], None]) -> None:
        """Do `ask`; while a server is out of reach, or the commit asked about is in the way, for the busy timeout."""
        begun, attempt = _ambient.monotonic_ns(), 0
        while True:
            try:
                return ask()
            except (LedgerError, StoreError):
                over = (_ambient.monotonic_ns() - begun) / 1e9 >= self._engine.busy_timeout_s
                if self._engine.excludes_others or over:
                    raise
            _ambient.sleep(delay_s(attempt, _ambient.random_fraction(), largest_s=_ASK_AGAIN_S))
            attempt += 1

    # Effects of other ends

    def _abandon(self, unit: UnitState) -> None:
        for name, tokens in unit.plan.items():
            store = self._registry[name]
            assert isinstance(store, OutsideStore)  # noqa: S101 - only such stores have a plan
            try:
                store.abandon(unit.facts.uow_id, tokens)
            except Exception:  # noqa: BLE001 - whatever a store raises here, the caller's own exception goes first
                unit.has_intent = False  # its row stays, and recovery tries again
        if unit.has_intent and unit.state is State.FAILED and not unit.is_saved:
            self._leftovers.add_settled(unit.facts.uow_id)

    def _record(self, unit: UnitState) -> None:
        """Leave a row for a failed or rolled back unit; the caller's exception neither waits long nor loses to this."""
        if unit.state is State.ROLLED_BACK and not unit.buffer.count:
            return
        record = ending_record(unit, unit.state)
        if self._engine.held_by_this_thread:  # by another unit, whose transaction must not end for this
            self._leftovers.add_ending(record)
            return
        try:
            self.transactions.apart(lambda tx: self._write_ending(tx, unit, record))
        except UnitOfWorkError as loss:
            # Held by others, by this thread through another Ledger object, or out of reach: written later, if ever.
            if (isinstance(loss, UsageError) or loss.retryable) and self._engine.usable:
                self._leftovers.add_ending(record)
            else:
                report_lost([record], type(loss).__name__)

    def _write_ending(self, tx: EngineTransaction, unit: UnitState, record: UnitRecord) -> None:
        self._rows.insert_unit(tx, record)
        if unit.is_saved and unit.has_intent:  # at once: nobody else can write its records before
            self.last.take_back(tx, unit)
            _coordination.forget(tx, [record.uow_id])

    # Rows that come later

    def settle(self) -> None:
        """Write what earlier units left to be written, if that can be done soon; otherwise a later call does."""
        self._unsynced.sync()
        if not self._leftovers or self._engine.held_by_this_thread:
            return
        carried: list[Carried] = []
        try:
            self.transactions.apart(lambda tx: carried.append(self._leftovers.write(tx)))
        except BaseException as error:
            for rows in carried:
                self._leftovers.put_back(rows)
            if not isinstance(error, UnitOfWorkError):
                raise

    def stop(self) -> None:
        """End what goes on by itself; whatever needs it again starts it again."""
        self._unsynced.stop()

    def give_up(self) -> None:
        """Report what no transaction will write any more."""
        self._leftovers.give_up()
