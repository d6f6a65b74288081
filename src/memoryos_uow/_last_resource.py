"""Units that another store decides: saved in the ledger first, decided by that store's commit, then applied here.

How: everything that could refuse has had its say before. All of the unit lies in the ledger twice: saved, durable and
unseen (`_saving`), and applied in an open transaction. Then the store commits. If its process dies right after that,
whoever recovers asks the store, and applies what was saved.

Promise: the store is asked to commit once, and only for a unit that this process still owns; what the store has decided
is done in the ledger by its owner or by recovery; and as long as the store cannot say, nobody claims either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import _ambient, _coordination, _idempotency, _saving
from memoryos_uow._deciding import Decision
from memoryos_uow._describe import ending_record
from memoryos_uow._limits import Limits
from memoryos_uow._names import Band, Isolation
from memoryos_uow._protocol import Event, State
from memoryos_uow._remote_calls import calling
from memoryos_uow._saving import Saved
from memoryos_uow._transactions import blaming
from memoryos_uow._unit_state import Context, UnitState
from memoryos_uow.abc import Capability, Fate, LastResource, Savable, UnitFacts
from memoryos_uow.errors import (
    ConflictError,
    InDoubtError,
    LedgerError,
    StoreError,
    StoreUnavailable,
    UnitOfWorkError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from memoryos_uow._band_keys import ContentKey
    from memoryos_uow._coordination import Unsettled
    from memoryos_uow._deciding import Deciding
    from memoryos_uow._records import UnitRecord
    from memoryos_uow._registry import StoreRegistry
    from memoryos_uow._rows import LedgerRows
    from memoryos_uow._transactions import UnitTransactions
    from memoryos_uow.abc import Write
    from memoryos_uow.engines._contract import Engine, EngineTransaction

_NO_BOUNDS: Final = 2**62
"""Whoever recovers a unit may have opened the ledger with other limits than its owner."""


class LastResources:
    """Has other stores decide units of one ledger."""

    def __init__(
        self,
        engine: Engine,
        rows: LedgerRows,
        registry: StoreRegistry,
        transactions: UnitTransactions,
        deciding: Deciding,
    ) -> None:
        self._engine = engine
        self._rows = rows
        self._registry = registry
        self._transactions = transactions
        self._deciding = deciding
        self.content_key_for: Callable[[Band], ContentKey | None] = lambda _: None

    # Before the decision

    def choose(self, unit: UnitState) -> None:
        """Say which store decides the unit: of several, those that can prepare do that, and one may be left.

        Raises:
            UsageError: none of the ways is open to the unit.
        """
        names = [name for name in unit.buffer.by_store() if self._registry.last(name) is not None]
        if not names:
            return
        unable = [name for name in names if self.has_to_decide(name)]
        if len(unable) > 1:
            raise UsageError(
                f"The stores {' and '.join(map(repr, unable))} cannot prepare, and only one commit can decide a unit.",
                hint="Nothing was written. Set max_prepared_transactions on their servers, or write two units.",
            )
        if len(names) > 1 and not unable:
            return  # the ledger decides, as all of them can wait for it
        last = (unable or names)[0]
        problem = self._problem(unit)
        if problem is None:
            unit.last = last
        elif unable:
            raise UsageError(
                f"The store {last!r} decides the units that write to it, and this one {problem}.",
                hint="Nothing was written. Set max_prepared_transactions on its server, or leave that to another unit.",
                store=last,
            )

    def has_to_decide(self, name: str) -> bool:
        """Say whether the store called `name` decides every unit that writes to it, because it cannot prepare."""
        store = self._registry.last(name)
        return store is not None and not store.prepares

    def _store(self, name: str) -> LastResource:
        store = self._registry.last(name)
        assert store is not None  # noqa: S101 - it was looked at before
        return store

    def _problem(self, unit: UnitState) -> str | None:
        """Return what keeps the ledger from having all of the unit before it is decided, as a clause."""
        if unit.tx is not None:
            return "holds the ledger's lock already (by SQL, a search, or very many writes)"
        for name in unit.stores():
            store = self._registry[name]
            if not isinstance(store, Savable):
                return f"writes to {name!r}, whose writes cannot be kept for later"
        return None

    def save(self, unit: UnitState) -> Event:
        """Put all of the unit into the ledger, durable and unseen.

        Raises:
            ConflictError: recovery has taken the unit over, or somebody else its idempotency key.
            LedgerError: the ledger could not be written.
        """
        last = unit.last
        assert last is not None  # noqa: S101 - chosen

        def write(tx: EngineTransaction) -> None:
            self._registry.make_ready(tx, last)
            if not _coordination.keep(tx, unit.facts.uow_id):
                raise ConflictError(
                    "Recovery took this unit over, because its process had not been heard of for too long.",
                    hint="Nothing was written. Run the whole block again.",
                )
            if unit.claim is not None and not _idempotency.pin(tx, unit.claim):
                unit.claim.lost = True
                raise ConflictError(
                    "Another unit took this one's idempotency key over, because its process could not be seen.",
                    hint="Nothing was written. Run it again: it will be given the other one's receipt.",
                )
            _saving.insert(tx, unit.facts.uow_id, unit.facts.space_id, Saved(last, _known(unit)), self._saved(unit))

        self._transactions.apart(write, wait_s=self._transactions.patience_s(unit), relaxed=False)
        unit.is_saved = True
        if not self._engine.syncs_commits:
            self._engine.sync_log()
        return Event.SAVED

    def _saved(self, unit: UnitState) -> Iterator[tuple[int, Write, bytes | None]]:
        for seq, write in unit.buffer.numbered():
            store = self._registry[write.store]
            assert isinstance(store, Savable)  # noqa: S101 - every one was looked at
            with blaming(unit, write.store):
                yield seq, write, None if write.payload is None else store.save(write)

    # The decision

    def decide(self, decision: Decision) -> None:
        """Have the store commit a unit that lies in its open transaction, ready to be committed after it.

        Raises:
            StoreError: the store has refused.
            InDoubtError: its answer was lost.
        """
        unit = decision.unit
        assert unit.last is not None  # noqa: S101 - chosen
        decision.was_asked = True
        try:
            store = self._store(unit.last)
            with blaming(unit, unit.last), calling(unit, store, "decide"):
                store.decide(unit.facts.uow_id)
        except StoreError:
            decision.was_asked = False
            raise

    def ask(self, unit: UnitState) -> Event:
        """Find out what became of the decision whose answer was lost, and do what follows in the ledger.

        Raises:
            InDoubtError: that cannot be found out, or done, at the moment; recovery will try again.
        """
        assert unit.last is not None  # noqa: S101 - chosen
        try:
            fate = self._store(unit.last).fate(unit.facts.uow_id)
            if fate is Fate.COMMITTED:
                self._commit_after_all(unit)
                return Event.DECISION_FOUND
            self._transactions.undo(unit)
            record = ending_record(unit, State.FAILED)
            self._transactions.apart(lambda tx: self._write_failed(tx, unit, record), wait_s=None)
        except UnitOfWorkError as error:
            self._transactions.undo(unit)
            raise InDoubtError(
                f"Whether the unit is committed only the store {unit.last!r} knows, and it does not answer.",
                hint="Nothing is half done for good: `memoryos-uow recover` finishes the unit once the store answers.",
                uow_id=unit.facts.uow_id,
                store=unit.last,
            ) from error
        unit.receipt, unit.is_saved = None, False
        return Event.PROVEN_GONE

    @staticmethod
    def proven_gone(unit: UnitState) -> StoreUnavailable:
        """Return what the caller is told of a unit of which is known now that its store has not committed it."""
        return StoreUnavailable(
            f"The connection of the store {unit.last!r} was lost, and the unit with it.",
            hint="Nothing of the unit was written, as the store itself has said since. Run it again.",
            uow_id=unit.facts.uow_id,
            store=unit.last,
        )

    def _commit_after_all(self, unit: UnitState) -> None:
        if unit.tx is None or not unit.tx.open:
            raise LedgerError("The ledger could not be written after the store had decided.", hint="Recover it.")
        unit.tx.commit()
        unit.is_saved = False

    def _write_failed(self, tx: EngineTransaction, unit: UnitState, record: UnitRecord) -> None:
        if not self._rows.exists(tx, record.uow_id):
            self._rows.insert_unit(tx, record)
        self.take_back(tx, unit)

    @staticmethod
    def take_back(tx: EngineTransaction, unit: UnitState) -> None:
        """Remove what was saved of a unit of this process that is not committed; its key stays claimed by it."""
        if unit.claim is not None:
            _idempotency.unpin(tx, unit.claim)
        _saving.forget(tx, [unit.facts.uow_id])

    # Recovery

    def find(self, uow_id: str) -> Saved | None:
        """Return the saved unit with this id, None if it is none."""
        if not self._registry.saves:
            return None
        with self._engine.reader() as reader:
            return _saving.find(reader, uow_id)

    def fate(self, uow_id: str, saved: Saved) -> Fate:
        """Ask the store that was to decide a unit.

        Raises:
            StoreError: it cannot tell at the moment, or is not registered now.
        """
        store = self._registry.get(saved.store)
        if not isinstance(store, LastResource):
            raise StoreError(
                f"The store {saved.store!r} is not registered with this ledger now.",
                hint="What it has decided is kept. Open the ledger with it in stores=[...].",
                store=saved.store,
            )
        return store.fate(uow_id)

    def finish(self, one: Unsettled, saved: Saved) -> None:
        """Apply a saved unit that was decided, which this process has taken over.

        Raises:
            UnitOfWorkError: it could not be; it stays as it is.
        """
        unit = self._rebuilt(one, saved)
        decision = Decision(unit)
        try:
            self._deciding.write(decision)
            self._deciding.seal([decision])
            assert decision.tx is not None  # noqa: S101 - it was written into it
            decision.tx.commit()
        except BaseException:
            if not decision.stands:
                self._transactions.undo(unit)
            raise
        finally:
            self._deciding.leave(unit)  # what is left to do is recovery's
        self._deciding.release(unit)

    def _rebuilt(self, one: Unsettled, saved: Saved) -> UnitState:
        known, own = saved.unit, one.unit
        band = Band(own["band"])
        bounds = Limits(
            writes_per_unit=_NO_BOUNDS,
            bytes_per_unit=_NO_BOUNDS,
            outside_writes_per_unit=_NO_BOUNDS,
            outside_bytes_per_unit=_NO_BOUNDS,
        )
        now = _ambient.monotonic_ns()
        unit = UnitState(
            facts=UnitFacts(one.uow_id, own["space_id"], band, bounds),
            context=Context(**{name: own[name] for name in ("envelope_id", "actor_id", "device_id", "correlation_id")}),
            isolation=Isolation.WRITES,
            created_ts=own["created_ts"],
            started_ns=now,
            commit_started_ns=now,
            content_key=self.content_key_for(band) if band in (Band.RED, Band.BLACK) else None,
            claim=None if known["claim"] is None else _idempotency.Claim(**known["claim"]),
            retry_count=known["retry_count"],
            state=State.IN_DOUBT,
            plan={name: list(tokens) for name, tokens in one.plan.items()},
            has_intent=True,
            epoch=one.epoch + 1,
            last=saved.store,
            is_saved=True,
        )
        with self._engine.reader() as reader:
            for write in _saving.writes_of(reader, one.uow_id):
                store = self._registry[write.store]
                if write.payload is not None:
                    assert isinstance(store, Savable)  # noqa: S101 - it saved that
                    write.payload = store.load(write.payload)
                unit.buffer.add(write, outside=store.capability is not Capability.SAME_TRANSACTION)
        return unit

    def forget(self, tx: EngineTransaction, uow_ids: Sequence[str]) -> None:
        """Remove what was saved of units that were not decided, and free their idempotency keys."""
        if not self._registry.saves:
            return
        for uow_id in uow_ids:
            saved = _saving.find(tx, uow_id)
            if saved is not None and saved.unit["claim"] is not None:
                _idempotency.release(tx, _idempotency.Claim(**saved.unit["claim"]), pinned=True)
        _saving.forget(tx, uow_ids)


def _known(unit: UnitState) -> dict[str, Any]:
    """Return what whoever recovers the unit needs to know beside its writes and its `own_columns`."""
    claim = unit.claim
    return {
        "claim": claim
        and {name: getattr(claim, name) for name in ("space_id", "key", "arguments", "ttl_s", "token", "result")},
        "retry_count": unit.retry_count,
    }
