"""Reading through a unit: its own writes over what is committed.

Promise: what a unit reads outside a transaction of its own is remembered, so that the decision can tell whether it is
still true.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeGuard

from memoryos_uow._names import Isolation
from memoryos_uow._transactions import blaming
from memoryos_uow.abc import ASK_THE_STORE, MISSING, Capability
from memoryos_uow.stores._record_table import RecordStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from memoryos_uow._records import Hit
    from memoryos_uow._transactions import UnitTransactions
    from memoryos_uow._unit_state import UnitState
    from memoryos_uow.abc import Reader, Store, Write
    from memoryos_uow.engines._contract import Engine


class Reading:
    """Reads of the units of one ledger."""

    def __init__(self, engine: Engine, transactions: UnitTransactions) -> None:
        self._engine = engine
        self._transactions = transactions

    def read(self, unit: UnitState, store: Store, key: str, default: object) -> Any:
        """Return a record as the unit sees it: with its own writes, else as committed, or `default`."""
        waiting = self._newest(unit, store, key)
        if waiting is not None:
            value = store.overlay(waiting)
            if value is MISSING:
                return default
            if value is not ASK_THE_STORE:
                return value
            self._transactions.flush(unit)
        with self._reader(unit, store) as reader:
            found = store.read(reader, unit.facts.space_id, key)
        if unit.tx is None:
            unit.remember_read(store.name, key, found.version if found else None)
            if found is not None and not self._engine.excludes_others:
                self._engine.learn(found.version)
        return found.value if found else default

    def read_all(self, unit: UnitState, store: Store, keys: Iterable[str]) -> dict[str, Any]:
        """Return those of `keys` that have a record as the unit sees it; all at once where the store is far away."""
        absent: Any = object()
        found: dict[str, Any] = {}
        wanted = list(dict.fromkeys(keys))
        if self._is_far(store):
            apart = [key for key in wanted if self._newest(unit, store, key) is None]
            found = {**dict.fromkeys(wanted, absent), **self._read_far(unit, store, apart)}
            asked = set(apart)
            wanted = [key for key in wanted if key not in asked]
        found.update((key, self.read(unit, store, key, absent)) for key in wanted)
        return {key: value for key, value in found.items() if value is not absent}

    def _is_far(self, store: Store) -> TypeGuard[RecordStore]:
        return not self._engine.excludes_others and isinstance(store, RecordStore)

    def _read_far(self, unit: UnitState, store: Store, keys: list[str]) -> dict[str, Any]:
        if not keys or not self._is_far(store):
            return {}
        with self._reader(unit, store) as reader:
            found = store.read_all(reader, unit.facts.space_id, keys)
        for key in keys:
            version = found[key].version if key in found else None
            if unit.tx is None:
                unit.remember_read(store.name, key, version)
                self._engine.learn(version)
        return {key: record.value for key, record in found.items()}

    def is_at_hand(self, unit: UnitState, store: Store, key: str) -> bool:
        """Say whether `read` answers from the buffer alone."""
        newest = self._newest(unit, store, key)
        return newest is not None and store.overlay(newest) is not ASK_THE_STORE

    @staticmethod
    def _newest(unit: UnitState, store: Store, key: str) -> Write | None:
        # What lies outside the ledger is not in the transaction either: there the buffer is the only source.
        outside = store.capability is not Capability.SAME_TRANSACTION
        return unit.buffer.newest(store.name, key, applied=outside)

    def search(self, unit: UnitState, store: Store, query: object, k: int, options: Mapping[str, Any]) -> list[Hit]:
        """Return the best hits as the unit sees them: own writes that wait are applied first.

        A serializable unit takes the lock for it: nobody can add a hit, or take one away, before the unit ends.
        """
        if unit.buffer.has_waiting(store.name) or unit.isolation is Isolation.SERIALIZABLE:
            self._transactions.flush(unit)
        with self._reader(unit, store) as reader:
            return store.search(reader, unit.facts.space_id, query, k, options)

    @contextmanager
    def _reader(self, unit: UnitState, store: Store) -> Iterator[Reader]:
        """Lend what `store` is to be read through: the unit's open transaction, or else the newest committed state."""
        with blaming(unit, store.name):
            if unit.tx is not None:
                yield self._transactions.open(unit)
            else:
                with self._engine.reader() as reader:
                    yield reader
