"""Finishes what other processes left unfinished: forward where there is a decision, back where there is none.

Promise: presumed abort. A unit with a decision is published to the stores that have not answered; one with an intent
only is abandoned and recorded as failed. Any process may do it, several at once, killed at any point and begun again.
What a live process is at work on is left alone; what cannot be finished is reported as in doubt and blocks nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from memoryos_uow import _ambient, _coordination, _leases, _log, _owner, _protocol, _wal
from memoryos_uow._backoff import delay_s
from memoryos_uow._describe import abandoned_record
from memoryos_uow._names import Band
from memoryos_uow._protocol import Event, State
from memoryos_uow._records import RecoveryReport
from memoryos_uow._telling import Begun, recovered
from memoryos_uow.abc import Fate, OutsideStore
from memoryos_uow.engines.sqlite import SQLiteEngine
from memoryos_uow.errors import LedgerError, StoreError, UnitOfWorkError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from memoryos_uow._coordination import Unsettled
    from memoryos_uow._coordinator import Coordinator
    from memoryos_uow._registry import StoreRegistry
    from memoryos_uow._rows import LedgerRows
    from memoryos_uow.engines._contract import Engine, EngineTransaction

_BATCH: Final = 2_000
_SWEEPS_TRIED: Final = 20
_TIMES_BEATEN: Final = 20
_MAY_NAME_STORES: Final = (Band.GREEN, Band.AMBER)


class _Asked(NamedTuple):
    """Units that other stores were to decide: what came of asking those."""

    committed: set[str]
    stuck: list[str]

    @property
    def answered(self) -> set[str]:
        """Units of which no more is to be done in this recovery than was."""
        return self.committed.union(self.stuck)


class Recovery:
    """Recovery of one ledger by this process."""

    def __init__(self, engine: Engine, rows: LedgerRows, registry: StoreRegistry, coordinator: Coordinator) -> None:
        self._engine = engine
        self._rows = rows
        self._registry = registry
        self._coordinator = coordinator

    def is_needed(self) -> bool:
        """Say whether there is any unsettled unit: one look at a table that is empty in a ledger at rest."""
        with self._engine.reader() as reader:
            return bool(reader.rows("SELECT 1 FROM uow_coordination LIMIT 1"))

    def run(self, *, budget_s: float | None = None) -> RecoveryReport:
        """Recover every unsettled unit that is free; stop between batches once `budget_s` seconds are over.

        Raises:
            LedgerError: the ledger itself cannot be read or written.
        """
        self._coordinator.settle()
        begun = _ambient.monotonic_ns()
        report = RecoveryReport()
        after = ""
        while budget_s is None or (_ambient.monotonic_ns() - begun) / 1e9 < budget_s:
            with self._engine.reader() as reader:
                batch = _coordination.unsettled(reader, after=after, limit=_BATCH)
                now = _leases.now_ms(reader)
            if not batch:
                break
            after = batch[-1].uow_id
            taken = self._take_over(batch, now)
            ids = [one.uow_id for one in taken]
            self._coordinator.at_work.update(ids)  # not for another recovery by this very process
            try:
                report += self._recover(taken)
            finally:
                self._coordinator.at_work.difference_update(ids)
        return report

    def _take_over(self, batch: Sequence[Unsettled], now: int) -> list[Unsettled]:
        """Become the owner of those that are free."""
        own = _owner.own_name()
        free = [
            one
            for one in batch
            if one.uow_id not in self._coordinator.at_work and (one.owner == own or one.is_free(now))
        ]
        taken: list[Unsettled] = []

        def take(tx: EngineTransaction) -> None:
            taken.extend(_coordination.take_over(tx, free))

        if free:
            self._coordinator.transactions.apart(take, wait_s=None)
        if not all(one.decided for one in taken):
            # The owner may have died in its commit. What the log holds of that was written over now; only once this is
            # on the disk, no power cut can bring the decision back after its bytes were removed.
            self._engine.sync_log()
        return taken

    def _recover(self, taken: Sequence[Unsettled]) -> RecoveryReport:
        decided = [one.uow_id for one in taken if one.decided]
        undecided = [one for one in taken if not one.decided]
        telemetry, begun = self._coordinator.telemetry, Begun.now()
        silent = self._named_silent(decided) if telemetry.is_wanted() else set()
        # The protocol has the word; here its answers are carried out for many units at once.
        _protocol.step(State.FOUND, Event.DECISION_FOUND)
        _protocol.step(State.FOUND, Event.NO_DECISION_FOUND)
        asked = self._ask(undecided)
        report = RecoveryReport(in_doubt=tuple(asked.stuck))
        report += self._forward([one for one in taken if one.decided or one.uow_id in asked.committed])
        report += self._back([one for one in undecided if one.uow_id not in asked.answered])
        if taken:
            telemetry.tell(lambda: recovered(report, taken, begun, silent))
        return report

    def _ask(self, undecided: list[Unsettled]) -> _Asked:
        """ASK the stores that were to decide units, and apply those that are committed."""
        asked = _Asked(set(), [])
        last = self._coordinator.last
        for one in undecided:
            saved = last.find(one.uow_id)
            if saved is None:
                continue
            _protocol.step(State.FOUND, Event.UNDECIDED_FOUND)
            try:
                if last.fate(one.uow_id, saved) is Fate.COMMITTED:
                    last.finish(one, saved)
                    asked.committed.add(one.uow_id)
            except UnitOfWorkError as error:
                _warn_in_doubt(one, stores=[saved.store], reason=type(error).__name__)
                asked.stuck.append(one.uow_id)
        return asked

    def _named_silent(self, uow_ids: list[str]) -> set[str]:
        try:
            with self._engine.reader() as reader:
                return self._rows.named_silent(reader, uow_ids)
        except LedgerError:  # only those who watch would have liked to know
            return set()

    def _forward(self, found: list[Unsettled]) -> RecoveryReport:
        """PUBLISH, then FORGET what has been published and RECORD_SILENCE for the rest."""
        if not found:
            return RecoveryReport()
        uow_ids = [one.uow_id for one in found]
        silent = self._coordinator.publishing.publish(uow_ids, synced=False)
        done = [uow_id for uow_id in uow_ids if uow_id not in silent]

        def write(tx: EngineTransaction) -> None:
            self._rows.record_recovery(tx, done)
            _coordination.forget(tx, done)
            for uow_id, stores in silent.items():
                self._rows.record_silence(tx, uow_id, stores)

        self._coordinator.transactions.apart(write, wait_s=None)
        for one in found:
            if one.uow_id in silent:
                _warn_in_doubt(one, stores=sorted(silent[one.uow_id]))
        return RecoveryReport(rolled_forward=tuple(done), in_doubt=tuple(silent))

    def _back(self, found: list[Unsettled]) -> RecoveryReport:
        """ABANDON, then RECORD the units of which nothing is left."""
        gone: list[Unsettled] = []
        stuck: list[str] = []
        for one in found:
            if self._abandon(one):
                gone.append(one)
            else:
                stuck.append(one.uow_id)

        def write(tx: EngineTransaction) -> None:
            for one in gone:
                if not self._rows.exists(tx, one.uow_id):
                    self._rows.insert_unit(tx, abandoned_record(one.uow_id, one.unit))
            self._coordinator.last.forget(tx, [one.uow_id for one in gone])
            _coordination.forget(tx, [one.uow_id for one in gone])

        if gone:
            self._write_among_many(write)
        return RecoveryReport(rolled_back=tuple(one.uow_id for one in gone), in_doubt=tuple(stuck))

    def _write_among_many(self, write: Callable[[EngineTransaction], None]) -> None:
        """Write the ends of units; again if somebody who took them over since was faster with one of their rows."""
        for _ in range(_TIMES_BEATEN):
            try:
                self._coordinator.transactions.apart(write, wait_s=None)
            except StoreError:
                if self._engine.excludes_others:
                    raise
            else:
                return
        self._coordinator.transactions.apart(write, wait_s=None)

    def _abandon(self, one: Unsettled) -> bool:
        for name, tokens in one.plan.items():
            store = self._registry.get(name)
            try:
                if not isinstance(store, OutsideStore):
                    return False  # not registered now: what it made can be removed when it is
                store.abandon(one.uow_id, tokens)
            except Exception as error:  # noqa: BLE001 - whatever a store of somebody else's raises, the others come next
                _warn_in_doubt(one, stores=[name], reason=type(error).__name__)
                return False
        return True

    def sweep(self) -> int:
        """Have every store remove bytes that belong to no unit; return how many pieces were removed.

        The ledger is locked meanwhile, store by store, so that no unit can come to refer to what is being removed.
        """
        removed: list[int] = []
        for store in self._registry:
            if isinstance(store, OutsideStore):
                try:
                    self.sweep_one(store, removed)
                except LedgerError:
                    raise
                except Exception as error:  # noqa: BLE001 - a store that cannot be swept now can be another time
                    _log.warn("uow.sweep_delayed", stores=[store.name], reason=type(error).__name__)
        return sum(removed)

    def sweep_one(self, store: OutsideStore, removed: list[int]) -> bool:
        """Sweep `store` once the log is known to hold nothing but what can be read; return whether it came to that.

        A unit that held the lock while its bytes were made has no intent that would spare them. If its process died in
        the commit, the log may hold that commit unseen, and reading the log anew, or a power cut, brings it back.
        """
        done = False

        def sweep(tx: EngineTransaction) -> None:
            nonlocal done
            _coordination.shut_out(tx)
            if self._log_ends_here():
                # Nor may a power cut bring back a record that was deleted and refers to the bytes.
                self._engine.sync_log()
                removed.append(store.sweep(tx, _coordination.planned(tx, store.name)))
                done = True
            else:
                _coordination.write_over(tx)

        for attempt in range(_SWEEPS_TRIED):
            self._coordinator.transactions.apart(sweep, wait_s=None)
            if done:
                return True
            _ambient.sleep(delay_s(attempt, _ambient.random_fraction()))
        _log.warn("uow.sweep_delayed", stores=[store.name], reason="LogUnreadable")
        return False

    def _log_ends_here(self) -> bool:
        """Say whether the log surely holds no commit beyond those that can be read; the caller holds the lock."""
        if not isinstance(self._engine, SQLiteEngine):
            return True  # a database server reads its own log before it answers
        with self._engine.reader() as reader:
            # How far the log can be read, nobody else tells (https://sqlite.org/pragma.html#pragma_wal_checkpoint).
            [(_, frames, _)] = reader.rows("PRAGMA wal_checkpoint(PASSIVE)")
        try:
            return int(frames) >= 0 and not _wal.goes_on_after(self._engine.path, int(frames))
        except OSError:
            return False


def _warn_in_doubt(one: Unsettled, **more: object) -> None:
    """Report a unit that cannot be finished now; which stores it wrote to is said for GREEN and AMBER only."""
    band = one.unit.get("band")
    allowed = more if band in _MAY_NAME_STORES else {}
    _log.warn("uow.in_doubt", uow_id=one.uow_id, band=band, outcome="in_doubt", **allowed)
