"""Carries out what the protocol decides: the only caller of stores, and the only place that commits.

The commit, in one sitting:

1.  `commit` tells the protocol that the block has ended well; the protocol answers with effects.
2.  PREPARE: stores that keep bytes outside the ledger make them durable. No lock is held.
3.  DECIDE: one ledger transaction. Records that the unit has read are compared with what is there now; the buffered
    writes are applied in order; then come the rows that describe the unit and its receipt, and COMMIT. That is the
    decision.
4.  ANNOUNCE: only now the unit is `committed` in memory. How long it took goes along with a later transaction: inside
    its own it cannot be known, and one more fsync would cost more than the unit.

Whatever is raised before the decision undoes everything, leaves a row that says so, and goes on to the caller.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import _ambient, _bands
from memoryos_uow._describe import committed_record, describe, ending_record, timing
from memoryos_uow._leftovers import Leftovers, report_lost
from memoryos_uow._names import Isolation
from memoryos_uow._protocol import FINAL, Effect, Event, State
from memoryos_uow.abc import ASK_THE_STORE, MISSING, Capability
from memoryos_uow.errors import ConflictError, LedgerBusy, StoreError, UnitOfWorkError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from memoryos_uow._buffer import Mark
    from memoryos_uow._leftovers import Carried
    from memoryos_uow._records import Hit
    from memoryos_uow._registry import StoreRegistry
    from memoryos_uow._rows import LedgerRows
    from memoryos_uow._unit_state import UnitState
    from memoryos_uow.abc import Reader, Store, Write
    from memoryos_uow.engines._transaction import SQLiteTransaction
    from memoryos_uow.engines.sqlite import SQLiteEngine

RECORD_WAIT_S: Final = 0.25
"""How long the caller's exception may wait for the row that records it; after that the row is written later."""


class Coordinator:
    """Drives the units of one ledger through the protocol."""

    def __init__(self, engine: SQLiteEngine, rows: LedgerRows, registry: StoreRegistry, *, origin: str | None) -> None:
        self._engine = engine
        self._rows = rows
        self._registry = registry
        self._origin = origin
        self._leftovers = Leftovers(rows)
        self._do: dict[Effect, Callable[[UnitState], Event | None]] = {
            Effect.PREPARE: self._prepare,
            Effect.DECIDE: self._decide,
            Effect.ANNOUNCE: self._announce,
            Effect.UNDO: self._undo,
            Effect.RECORD: self._record,
            Effect.ABANDON: self._undo,
        }

    # How a unit ends

    def commit(self, unit: UnitState) -> None:
        """Commit `unit`; its receipt is then in ``unit.receipt``, None if it wrote nothing.

        Raises:
            UnitOfWorkError: it could not be committed; no store holds anything of it, and its row says `failed`.
        """
        unit.commit_started_ns = _ambient.monotonic_ns()
        try:
            self._refuse_unsafe_reads(unit)
            self._carry_out(unit, self._how_to_commit(unit))
        except BaseException as error:
            self.fail(unit, error)
            raise

    def roll_back(self, unit: UnitState) -> None:
        """End `unit` because the caller wants none of it."""
        self._carry_out(unit, Event.ROLLBACK_ASKED)

    def fail(self, unit: UnitState, error: BaseException) -> None:
        """End `unit` because of `error`, unless its decision stands already."""
        if unit.state in FINAL:
            return
        unit.error = error
        if isinstance(error, UnitOfWorkError) and error.uow_id in (None, unit.facts.uow_id):
            error.uow_id = unit.facts.uow_id
            unit.failed_store = error.store
        self._carry_out(unit, Event.FAILED)

    def _refuse_unsafe_reads(self, unit: UnitState) -> None:
        """Raise ConflictError if a serializable unit that takes no lock has read what has changed since."""
        if unit.isolation is Isolation.SERIALIZABLE and unit.tx is None and not unit.buffer.writes and unit.reads:
            # Each record is looked at after the last one was read, so at that moment all of them were as read.
            with self._engine.reader() as reader:
                for store, key in list(unit.reads):
                    self._refuse_if_changed(unit, reader, store, key)

    def _how_to_commit(self, unit: UnitState) -> Event:
        if not unit.buffer.writes:
            return Event.NOTHING_TO_DO
        outside = any(self._registry[name].capability is not Capability.SAME_TRANSACTION for name in unit.stores())
        return Event.COMMIT_ASKED_OUTSIDE if outside else Event.COMMIT_ASKED

    def _carry_out(self, unit: UnitState, event: Event | None) -> None:
        """Tell the protocol `event`, do what it answers, and tell it what came of that."""
        while event is not None:
            effects, event = unit.meet(event), None
            for effect in effects:
                event = self._do[effect](unit)

    # Effects: each returns the event that it brought about, if any

    def _prepare(self, unit: UnitState) -> Event:
        for name, writes in unit.buffer.by_store().items():
            with blaming(unit, name):
                self._registry[name].prepare(unit.facts, writes)
        return Event.PREPARED

    def _decide(self, unit: UnitState) -> Event:
        tx = self.flush(unit, last=True)
        described = describe(unit, self._origin)
        self._rows.insert_committed(tx, committed_record(unit, described.receipt), described, unit.place)
        try:
            tx.commit()
        except BaseException:
            if tx.decided:  # a signal handler raised, yet the decision stands: state follows the durable fact
                unit.receipt = described.receipt
                self._carry_out(unit, Event.DECIDED)
            raise
        unit.receipt = described.receipt
        return Event.DECIDED

    def _announce(self, unit: UnitState) -> None:
        unit.tx = None
        self._leftovers.add_timing(timing(unit))

    def _undo(self, unit: UnitState) -> None:
        if unit.tx is None:
            return
        if unit.tx.open:
            unit.tx.rollback()
        unit.tx = None
        if unit.carried is not None:
            self._leftovers.put_back(unit.carried)

    def _record(self, unit: UnitState) -> None:
        """Leave a row for a failed or rolled back unit; the caller's exception neither waits long nor loses to this."""
        if unit.state is State.ROLLED_BACK and not unit.buffer.writes:
            return
        record = ending_record(unit)
        if self._engine.held_by_this_thread:  # by another unit, whose transaction must not end for this
            self._leftovers.add_ending(record)
            return
        try:
            self._write_apart(lambda tx: self._rows.insert_unit(tx, record))
        except LedgerBusy:
            self._leftovers.add_ending(record)
        except UnitOfWorkError as loss:
            report_lost([record], loss)

    def _write_apart(self, write: Callable[[SQLiteTransaction], object]) -> None:
        """Run `write` in a short transaction of its own that does not wait for the disk."""
        tx = self._engine.begin(wait_s=RECORD_WAIT_S, relaxed=True)
        try:
            write(tx)
            tx.commit()
        finally:
            if tx.open:
                tx.rollback()

    # The transaction

    def open_transaction(self, unit: UnitState) -> SQLiteTransaction:
        """Return the unit's transaction, begun if need be: from here to the unit's end the ledger is locked."""
        if unit.tx is None:
            unit.tx = tx = self._begin(unit)
            unit.carried = self._leftovers.write(tx)
            self._registry.refresh(tx)
            unit.position = self._rows.next_position(tx, unit.facts.space_id)
            if unit.isolation is Isolation.SERIALIZABLE:
                for store, key in list(unit.reads):
                    self._refuse_if_changed(unit, tx, store, key)
        if not unit.tx.open:
            raise StoreError(
                "A statement of this unit failed in a way that made SQLite undo the whole unit.",
                hint="Nothing of the unit was written. End the block, and run it again without that statement.",
            )
        return unit.tx

    def _begin(self, unit: UnitState) -> SQLiteTransaction:
        try:
            tx = self._engine.begin()
        except LedgerBusy as busy:
            unit.retry_count += busy.busy_waits
            raise
        unit.retry_count += tx.busy_waits
        return tx

    def flush(self, unit: UnitState, *, last: bool = False) -> SQLiteTransaction:
        """Apply every waiting write inside the unit's transaction, with savepoints where the caller set them.

        Unless it is the `last` time, the caller may catch what goes wrong and go on: so a store's run of writes is
        applied wholly or not at all.
        """
        tx = self.open_transaction(unit)
        for mark in unit.marks:
            if not mark.in_transaction:
                self._apply(unit, tx, mark.writes, last=last)
                tx.savepoint(mark.name)
                mark.in_transaction = True
        self._apply(unit, tx, len(unit.buffer.writes), last=last)
        return tx

    def _apply(self, unit: UnitState, tx: SQLiteTransaction, up_to: int, *, last: bool) -> None:
        for name, writes in unit.buffer.waiting(up_to):
            with blaming(unit, name), nullcontext() if last else self._step(tx):
                self._registry.make_ready(tx, name)
                self._apply_run(unit, tx, self._registry[name], writes)
            unit.buffer.applied += len(writes)

    @contextmanager
    def _step(self, tx: SQLiteTransaction) -> Iterator[None]:
        try:
            with tx.step():
                yield
        except BaseException:
            self._registry.distrust()
            raise

    def _apply_run(self, unit: UnitState, tx: SQLiteTransaction, store: Store, writes: list[Write]) -> None:
        for write in writes:
            if write.key is not None:
                self._refuse_if_changed(unit, tx, store.name, write.key)
        store.apply(tx, unit.facts, unit.place.commit_seq, writes)

    def _refuse_if_changed(self, unit: UnitState, reader: Reader, store: str, key: str) -> None:
        """Compare a record with what the unit read of it; done once under the lock, it stays true."""
        if (store, key) not in unit.reads:
            return
        seen = unit.reads.pop((store, key))
        with blaming(unit, store):
            unchanged = self._registry[store].version(reader, unit.facts.space_id, key) == seen
        if not unchanged:
            shown = _bands.shown_key(key, unit.facts.band)
            raise ConflictError(
                f"Record {shown} in store {store!r} was changed by another unit after this one had read it.",
                hint="Nothing was written. Run the whole block again, so that it reads the new value.",
                store=store,
            )

    # Reading

    def read(self, unit: UnitState, store: Store, key: str, default: object) -> Any:
        """Return a record as the unit sees it: with its own writes, else as committed, or `default`."""
        waiting = unit.buffer.newest(store.name, key)
        if waiting is not None:
            value = store.overlay(waiting)
            if value is MISSING:
                return default
            if value is not ASK_THE_STORE:
                return value
            self.flush(unit)
        with self._reader(unit, store) as reader:
            found = store.read(reader, unit.facts.space_id, key)
        if unit.tx is None:
            unit.remember_read(store.name, key, found.version if found else None)
        return found.value if found else default

    def search(self, unit: UnitState, store: Store, query: object, k: int, options: Mapping[str, Any]) -> list[Hit]:
        """Return the best hits as the unit sees them: own writes that wait are applied first."""
        if unit.buffer.has_waiting(store.name):
            self.flush(unit)
        with self._reader(unit, store) as reader:
            return store.search(reader, unit.facts.space_id, query, k, options)

    @contextmanager
    def _reader(self, unit: UnitState, store: Store) -> Iterator[Reader]:
        """Lend what `store` is to be read through: the unit's open transaction, or else the newest committed state."""
        with blaming(unit, store.name):
            if unit.tx is not None:
                yield self.open_transaction(unit)
            else:
                with self._engine.reader() as reader:
                    yield reader

    # Savepoints

    def return_to(self, unit: UnitState, mark: Mark) -> None:
        """Undo what came after `mark`, in the open transaction and in the buffer, and forget it with all later ones."""
        if mark not in unit.marks:
            return  # undone with an earlier one, which was left first
        del unit.marks[unit.marks.index(mark) :]
        if mark.in_transaction and unit.tx is not None:
            unit.tx.rollback_to(mark.name)
            self._registry.distrust()
        unit.buffer.cut(mark)

    def keep(self, unit: UnitState, mark: Mark) -> None:
        """Forget the savepoint; what came after it stays.

        Raises:
            UsageError: it is not the newest one.
        """
        if not unit.marks or unit.marks[-1] is not mark:
            raise UsageError(
                "Savepoints of a unit of work end in the opposite order of their beginning.",
                hint="Nothing was written. Nest their with-blocks.",
            )
        unit.marks.pop()
        if mark.in_transaction and unit.tx is not None:
            unit.tx.release(mark.name)

    # Rows that come later

    def settle(self) -> None:
        """Write what earlier units left to be written, if that can be done soon; otherwise a later call does."""
        if not self._leftovers or self._engine.held_by_this_thread:
            return
        carried: list[Carried] = []
        try:
            self._write_apart(lambda tx: carried.append(self._leftovers.write(tx)))
        except BaseException as error:
            for rows in carried:
                self._leftovers.put_back(rows)
            if not isinstance(error, UnitOfWorkError):
                raise

    def close(self) -> None:
        """Write what is left to be written, or report it as lost."""
        self.settle()
        self._leftovers.give_up()


@contextmanager
def blaming(unit: UnitState, store: str) -> Iterator[None]:
    """Name `store` in whatever goes wrong inside the block; a foreign exception becomes a StoreError."""
    try:
        yield
    except UnitOfWorkError as error:
        if not isinstance(error, LedgerBusy):  # that is nobody's fault in here
            error.store = error.store or store
        raise
    except Exception as error:
        raise StoreError(
            f"The store {store!r} failed with {type(error).__name__}.",
            hint="Nothing of the unit was written. The cause is chained to this error.",
            store=store,
            uow_id=unit.facts.uow_id,
        ) from error
