"""A unit's ledger transaction: begun when needed, filled from the buffer, with savepoints where the caller set them.

Promise: writes reach their stores in the order in which they were made, after the records that the unit has read were
compared with what is there now; whatever goes wrong names the store it went wrong in.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Final

from memoryos_uow import _bands, _saving
from memoryos_uow._expecting import ANYTHING, check_stored
from memoryos_uow._names import Isolation
from memoryos_uow.errors import ConflictError, LedgerBusy, StoreError, UnitOfWorkError, UsageError
from memoryos_uow.stores._outbox import OutboxMessages
from memoryos_uow.stores._record_table import RecordStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from memoryos_uow._buffer import Mark
    from memoryos_uow._leftovers import Leftovers
    from memoryos_uow._registry import StoreRegistry
    from memoryos_uow._rows import LedgerRows
    from memoryos_uow._unit_state import UnitState
    from memoryos_uow.abc import Reader, Store, Write
    from memoryos_uow.engines._contract import Engine, EngineTransaction

RECORD_WAIT_S: Final = 0.25
"""How long the caller's exception may wait for the row that records it; after that the row is written later."""


class UnitTransactions:
    """The transactions of the units of one ledger."""

    def __init__(self, engine: Engine, rows: LedgerRows, registry: StoreRegistry, leftovers: Leftovers) -> None:
        self._engine = engine
        self._rows = rows
        self._registry = registry
        self._leftovers = leftovers

    def open(self, unit: UnitState) -> EngineTransaction:
        """Return the unit's transaction, begun if need be: from here to the unit's end the ledger is locked."""
        if unit.tx is None:
            unit.tx = tx = self._begin(unit)
            try:
                self._get_ready(unit, tx)
            except BaseException:
                self.undo(unit)  # the caller may catch this and go on: with a transaction that is whole, or none
                raise
        if not unit.tx.open:
            raise StoreError(
                "A statement of this unit failed in a way that made SQLite undo the whole unit.",
                hint="Nothing of the unit was written. End the block, and run it again without that statement.",
            )
        return unit.tx

    def _begin(self, unit: UnitState) -> EngineTransaction:
        try:
            tx = self._engine.begin(wait_s=self.patience_s(unit), isolation=unit.isolation)
        except LedgerBusy as busy:
            unit.retry_count += busy.busy_waits
            unit.refuse_late()
            raise
        unit.retry_count += tx.busy_waits
        return tx

    def patience_s(self, unit: UnitState) -> float:
        """Return how long `unit` may wait for the ledger's lock: no longer than until its deadline."""
        wait_s = self._engine.busy_timeout_s if unit.wait_s is None else unit.wait_s
        deadline = unit.facts.deadline
        return wait_s if deadline is None else min(wait_s, deadline.left_s())

    def _get_ready(self, unit: UnitState, tx: EngineTransaction) -> None:
        if self._engine.excludes_others:  # else they would meet units at work on the same rows
            unit.carried = self._leftovers.write(tx)
        self._registry.refresh(tx)
        self._take_place(unit, tx)

    def join(self, unit: UnitState, tx: EngineTransaction) -> None:
        """Make another unit's transaction this one's too: it will be committed with that one, and after it."""
        unit.tx = tx
        self._take_place(unit, tx)

    def take_back(self, tx: EngineTransaction, savepoint: str) -> None:
        """Undo what a unit that had joined has written since `savepoint`."""
        tx.rollback_to(savepoint)
        self._registry.distrust()

    def _take_place(self, unit: UnitState, tx: EngineTransaction) -> None:
        unit.position = self._rows.next_position(tx, unit.facts.space_id)
        if unit.isolation is Isolation.SERIALIZABLE:
            self._refuse_changed(unit, tx, unit.reads)
            unit.reads.clear()

    def flush(self, unit: UnitState, *, last: bool = False) -> EngineTransaction:
        """Apply every waiting write inside the unit's transaction, with savepoints where the caller set them.

        Unless it is the `last` time, the caller may catch what goes wrong and go on: so a store's run of writes is
        applied wholly or not at all.
        """
        tx = self.open(unit)
        for mark in unit.marks:
            if not mark.in_transaction:
                self._apply(unit, tx, mark.writes, last=last)
                tx.savepoint(mark.name)
                mark.in_transaction = True
        self._apply(unit, tx, unit.buffer.count, last=last)
        return tx

    def _apply(self, unit: UnitState, tx: EngineTransaction, up_to: int, *, last: bool) -> None:
        runs = unit.buffer.waiting(up_to)
        if last and not self._engine.excludes_others:  # each run is a round trip to the server
            runs = gathered(runs, self._registry)
        for name, writes in runs:
            with blaming(unit, name), nullcontext() if last else self._step(tx):
                if self._engine.excludes_others:
                    self._registry.make_ready(tx, name)
                elif not self._registry.is_ready(name):
                    self._set_up_apart(name)
                self._apply_run(unit, tx, self._registry[name], writes)
            unit.buffer.applied += len(writes)

    def _set_up_apart(self, name: str) -> None:
        """Set a store up in a transaction of its own: units that do so at the same time would conflict."""
        with self._registry.setting_up:
            if self._registry.is_ready(name):
                return
            try:
                self.apart(lambda tx: self._registry.set_up_apart(tx, name), wait_s=None, relaxed=False)
            except BaseException:
                self._registry.distrust()
                raise

    @contextmanager
    def _step(self, tx: EngineTransaction) -> Iterator[None]:
        try:
            with tx.step():
                yield
        except BaseException:
            self._registry.distrust()
            raise

    def _apply_run(self, unit: UnitState, tx: EngineTransaction, store: Store, writes: list[Write]) -> None:
        if unit.reads:
            written = dict.fromkeys((store.name, write.key) for write in writes if write.key is not None)
            read = [record for record in written if record in unit.reads]
            self._refuse_changed(unit, tx, read)
            for record in read:
                del unit.reads[record]
        if unit.expects:
            self._apply_expecting(unit, tx, store, writes)
        else:
            store.apply(tx, unit.facts, unit.place.commit_seq, writes)
        if self._registry.saves:
            self._refuse_held(unit, tx, writes)

    def _refuse_held(self, unit: UnitState, tx: EngineTransaction, writes: list[Write]) -> None:
        """Leave alone what a unit writes that another store is deciding: it may be committed, and will then be here.

        Looked at after `writes` were applied: whoever saves such a unit from now on finds their records locked.
        """
        if not self._engine.excludes_others:
            tx.rows("SELECT 1")  # whatever was queued has been sent
        with nullcontext(tx) if self._engine.excludes_others else self._engine.reader() as reader:
            uow_id = unit.facts.uow_id
            if not _saving.is_any(reader, besides=uow_id):
                return
            for write in writes:
                if _saving.is_held(reader, write.store, unit.facts.space_id, write.key, uow_id):
                    raise ConflictError(
                        f"A record in store {write.store!r} is written by a unit that another store is deciding.",
                        hint="Nothing was written. Run the unit again; `memoryos-uow recover` settles the other one.",
                        store=write.store,
                    )

    def _apply_expecting(self, unit: UnitState, tx: EngineTransaction, store: Store, writes: list[Write]) -> None:
        """Apply `writes` in pieces, so that each expectation is compared with what the writes before it left."""
        begin = 0
        for number, write in enumerate(writes):
            if write.expect is not ANYTHING and write.key is not None:
                if number > begin:
                    store.apply(tx, unit.facts, unit.place.commit_seq, writes[begin:number])
                begin = number
                check_stored(tx, store, unit.facts, write.key, write.expect)
        store.apply(tx, unit.facts, unit.place.commit_seq, writes[begin:])

    def _refuse_changed(self, unit: UnitState, reader: Reader, records: Iterable[tuple[str, str]]) -> None:
        """Compare `records` with what the unit read of them; what is true under the lock stays true until its end."""
        there = {} if self._engine.excludes_others else self._versions(unit, reader, records)
        for store, key in records:
            if store in there:
                version = there[store].get(key)
            else:
                with blaming(unit, store):
                    version = self._registry[store].version(reader, unit.facts.space_id, key)
            if version != unit.reads[store, key]:
                shown = _bands.shown_key(key, unit.facts.band)
                raise ConflictError(
                    f"Record {shown} in store {store!r} was changed by another unit after this one had read it.",
                    hint="Nothing was written. Run the whole block again, so that it reads the new value.",
                    store=store,
                )

    def _versions(
        self, unit: UnitState, reader: Reader, records: Iterable[tuple[str, str]]
    ) -> dict[str, dict[str, object]]:
        """Return the versions by store, where the store can tell all of them at once: each question is a way to go."""
        keys: dict[str, list[str]] = {}
        for store, key in records:
            keys.setdefault(store, []).append(key)
        found: dict[str, dict[str, object]] = {}
        for name, wanted in keys.items():
            known = self._registry[name]
            if isinstance(known, RecordStore):
                with blaming(unit, name):
                    found[name] = known.versions(reader, unit.facts.space_id, wanted)
        return found

    def refuse_unsafe_reads(self, unit: UnitState) -> None:
        """Raise ConflictError if a serializable unit that takes no lock has read what has changed since."""
        if unit.isolation is Isolation.SERIALIZABLE and unit.tx is None and not unit.buffer.count and unit.reads:
            # Each record is looked at after the last one was read, so at that moment all of them were as read.
            with self._engine.reader() as reader:
                self._refuse_changed(unit, reader, unit.reads)

    def undo(self, unit: UnitState) -> None:
        """Roll back the unit's transaction, if there is one, and put back what went along with it."""
        if unit.tx is None:
            return
        if unit.tx.open:
            unit.tx.rollback()
        unit.tx = None
        if unit.carried is not None:
            self._leftovers.put_back(unit.carried)
            unit.carried = None

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
        if unit.hooks is not None:
            unit.hooks.cut(mark.hooks)

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

    # Apart from any unit's own

    def apart(
        self,
        write: Callable[[EngineTransaction], object],
        *,
        wait_s: float | None = RECORD_WAIT_S,
        relaxed: bool = True,
    ) -> None:
        """Run `write` in a short transaction of its own; `relaxed`: one that does not wait for the disk."""
        tx = self._engine.begin(wait_s=wait_s, relaxed=relaxed)
        try:
            write(tx)
            tx.commit()
        finally:
            if tx.open:
                tx.rollback()


class blaming:  # noqa: N801 - called like a function; as a generator it took twice as long, for every write
    """Name `store` in whatever goes wrong inside the block; a foreign exception becomes a StoreError."""

    __slots__ = ("_store", "_unit")

    def __init__(self, unit: UnitState, store: str) -> None:
        self._unit = unit
        self._store = store

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            blame(self._unit, self._store, error)


def blame(unit: UnitState, store: str, error: Exception) -> None:
    """Name `store` in `error`, which goes on; a foreign one is chained to the StoreError that is raised instead."""
    if isinstance(error, UnitOfWorkError):
        if isinstance(error, LedgerBusy):  # that is nobody's fault in here
            if unit.tx is not None:  # it waited for a row, inside its transaction; what begin() waited is counted there
                unit.retry_count += 1
            unit.refuse_late()  # it was the unit's deadline that bounded the wait
        else:
            error.store = error.store or store
        error.uow_id = error.uow_id or unit.facts.uow_id
    else:
        raise StoreError(
            f"The store {store!r} failed with {type(error).__name__}.",
            hint="Nothing of the unit was written. The cause is chained to this error.",
            store=store,
            uow_id=unit.facts.uow_id,
        ) from error


def gathered(runs: Iterable[tuple[str, list[Write]]], registry: StoreRegistry) -> Iterator[tuple[str, list[Write]]]:
    """Yield the runs with those of one store joined, where nothing can tell in which order stores were written to.

    That is so between stores that keep their records in tables of ours, and for messages. A table of the application's
    may refer to another one, and SQL to anything: what was written before such a run stays before it.
    """
    joined: dict[str, list[Write]] = {}
    for name, writes in runs:
        if isinstance(registry[name], (RecordStore, OutboxMessages)):
            joined.setdefault(name, []).extend(writes)
            continue
        yield from joined.items()
        joined = {}
        yield name, writes
    yield from joined.items()
