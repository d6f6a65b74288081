"""The stores of one open ledger: which there are, of what kind, and whether they are ready.

Promise: a name keeps its kind for ever (``uow_stores`` records it); a store's configuration is adopted or checked
against the record before the first write; when another process changes the schema, every store is attached again before
this process writes.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import _ambient, _catalog, _schema
from memoryos_uow._names import Dialect, check_store_name
from memoryos_uow.abc import NEEDED, Capability, LastResource, LazyPublisher, OutsideStore, Publisher, Store
from memoryos_uow.errors import StoreError, UsageError
from memoryos_uow.stores._kinds import recorded_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from memoryos_uow.abc import Home, Reader, Transaction
    from memoryos_uow.engines._contract import EngineTransaction

_MADE: Final = _schema.created(_schema.STORES)
_TABLES: Final = {
    Dialect.SQLITE: tuple(made.name for made in _MADE),
    Dialect.POSTGRESQL: tuple(made.name for made in _MADE if made.kind == "table"),
}


class StoreRegistry:
    """Stores by name."""

    def __init__(self, *, make_unknown: Callable[[str], Store] | None) -> None:
        self._home: Home | None = None
        self._make_unknown = make_unknown
        self._stores: dict[str, Store] = {}
        self._outside: dict[str, OutsideStore | None] = {}
        self._publishers: dict[str, Publisher | None] = {}
        self._lazy: dict[str, LazyPublisher | None] = {}
        self._last: dict[str, LastResource | None] = {}
        self._own: set[str] = set()  # the library's own, which users cannot name and which are always ready
        self._implicit: set[str] = set()  # names that `make_unknown` turned into stores
        self._ready: set[str] = set()
        self._broken: set[str] = set()  # could not be attached again: refused when somebody writes to them
        self._fresh: set[str] = set()  # made ready by the newest transaction, which may still be rolled back
        self._newest: EngineTransaction | None = None
        self._schema_version: int | None = None
        self._stale = False
        self.setting_up: Final = threading.Lock()
        """Held by the thread that sets stores up where transactions do not exclude each other."""
        self.exist = False
        """Whether the ledger has the tables that stores need."""
        self.saves = False
        """Whether some store of the ledger can decide units, so that there may be saved ones (`_saving`)."""

    def add_recorded(self, reader: Reader) -> None:
        """Take in every store that the ledger records and whose kind is installed."""
        for name, (kind, config) in sorted((self._recorded(reader) or {}).items()):
            store = recorded_store(name, kind, config)
            if store is not None:
                self.add([store])

    # Names

    def add(self, stores: Iterable[Store]) -> None:
        """Take in `stores` under their names.

        Raises:
            UsageError: not a store, or two of one name.
        """
        for store in stores:
            if not isinstance(store, Store):
                raise UsageError(
                    f"A {type(store).__name__} is not a store.",
                    hint="Pass instances from memoryos_uow.stores, or of a class that has every method of Store.",
                )
            name = check_store_name(store.name)
            _refuse_empty_claims(store)
            if name in self._stores:
                raise UsageError(f"Two stores are called {name!r}.", hint="Give each store of a ledger its own name.")
            self._stores[name] = store

    def adopt(self, store: Store) -> None:
        """Take in a store of the library's own, whose name users cannot give."""
        self._stores[store.name] = store
        self._own.add(store.name)
        self._ready.add(store.name)

    def __iter__(self) -> Iterator[Store]:
        return iter(list(self._stores.values()))  # a copy: another thread may be adding one

    def __getitem__(self, name: str) -> Store:
        return self._stores[name]

    def get(self, name: str) -> Store | None:
        """Return the store called `name` if it is registered."""
        return self._stores.get(name)

    def find(self, name: object, reader: Callable[[], Any]) -> Store:
        """Return the store called `name`; where the ledger allows it, an unknown name becomes a document store.

        `reader` gives a context manager for a Reader, used only for a name not seen before.

        Raises:
            UsageError: there is no such store.
        """
        if isinstance(name, str) and name in self._stores and name not in self._own:
            return self._stores[name]
        checked = check_store_name(name)
        if self._make_unknown is None:
            raise UsageError(f"This ledger has no store called {checked!r}.", hint=self._suggestion(checked))
        store = self._make_unknown(checked)
        with reader() as opened:
            self._attach(store, opened, self._recorded(opened))
        self._implicit.add(checked)
        return self._stores.setdefault(checked, store)

    def _suggestion(self, name: str) -> str:
        known = sorted(self._stores.keys() - self._own)
        import difflib  # noqa: PLC0415 - wanted on this path only

        close = difflib.get_close_matches(name, known, n=1)
        if close:
            return f"Nothing was written. Did you mean {close[0]!r}?"
        return f"Nothing was written. It has: {', '.join(known)}. Register others with Ledger.open(stores=[...])."

    # Kinds

    def outside(self, name: str) -> OutsideStore | None:
        """Return the store called `name` if it makes bytes outside the ledger."""
        if name not in self._outside:
            self._sort(self._stores[name])
        return self._outside[name]

    def publisher(self, name: str) -> Publisher | None:
        """Return the store called `name` if it has something to do after the decision."""
        if name not in self._publishers:
            self._sort(self._stores[name])
        return self._publishers[name]

    def lazy(self, name: str) -> LazyPublisher | None:
        """Return the store called `name` if it may wait for the disk later."""
        if name not in self._lazy:
            self._sort(self._stores[name])
        return self._lazy[name]

    def last(self, name: str) -> LastResource | None:
        """Return the store called `name` if by default its own commit decides."""
        if name not in self._last:
            self._sort(self._stores[name])
        return self._last[name]

    def _sort(self, store: Store) -> None:
        """Find out once what `isinstance` would look up anew each time, method by method: about 20 us."""
        inside = store.capability is Capability.SAME_TRANSACTION
        self._outside[store.name] = store if not inside and isinstance(store, OutsideStore) else None
        self._publishers[store.name] = store if not inside and isinstance(store, Publisher) else None
        self._lazy[store.name] = store if not inside and isinstance(store, LazyPublisher) else None
        decides = store.capability is Capability.LAST_RESOURCE
        self._last[store.name] = store if decides and isinstance(store, LastResource) else None

    # Readiness

    def move_in(self, home: Home, reader: Reader) -> bool:
        """Attach every store to the ledger that lives in `home`; return what `attach_all` does."""
        self._home = home
        return self.attach_all(reader)

    def attach_all(self, reader: Reader) -> bool:
        """Attach every store; return whether some of them, or the tables they share, must be set up."""
        recorded = self._recorded(reader)
        self.exist = recorded is not None
        self.saves = _saves(recorded)
        self._ready = set(self._own)
        for store in self:
            if store.name not in self._ready:
                self._attach(store, reader, recorded)
        return recorded is None or bool(self._wanting())

    def _wanting(self) -> list[Store]:
        """Return the stores that are to be set up now; one that a mere name brought in waits for its first write."""
        return [store for store in self if store.name not in self._ready | self._broken | self._implicit]

    def _attach_again(self, reader: Reader) -> bool:
        """Do the same for an open ledger, where one store that is out of order must not stop units of the others."""
        recorded = self._recorded(reader)
        self.saves = _saves(recorded)
        self._ready = set(self._own)
        self._broken.clear()
        for store in self:
            if store.name not in self._ready:
                try:
                    self._attach(store, reader, recorded)
                except (StoreError, UsageError):
                    self._broken.add(store.name)  # make_ready says why, to whoever needs the store
        return recorded is None or bool(self._wanting())

    def _attach(self, store: Store, reader: Reader, recorded: dict[str, tuple[str, Any]] | None) -> None:
        kind, config = (recorded or {}).get(store.name, (store.kind, None))
        if kind != store.kind:
            raise UsageError(
                f"The store {store.name!r} of this ledger holds {kind}, not {store.kind}.",
                hint="Nothing was changed. Use another name for the new store.",
            )
        assert self._home is not None  # noqa: S101 - for the type checker
        if not store.attach(self._home, reader, config):
            self._ready.add(store.name)

    def set_up(self, tx: Transaction) -> None:
        """Make every registered store ready inside `tx`."""
        self._create_tables(tx)
        recorded = self._recorded(tx)
        for store in self._wanting():
            self._set_up(tx, store, recorded)

    def refresh(self, tx: EngineTransaction) -> None:
        """Attach and set up again if the schema is not the one this process knows. Called first in each transaction.

        PostgreSQL has no number for its schema, and many transactions at once: there a store looks for itself at what
        others may have changed, and is set up in a transaction of its own (`set_up_apart`).
        """
        if tx.dialect is Dialect.POSTGRESQL:
            if self._stale:
                with self.setting_up:
                    self._stale = False
                    self._attach_again(tx)
            return
        if self._newest is not None and not self._newest.decided:
            self.distrust()
        self._newest = tx
        version = tx.rows("PRAGMA schema_version")[0][0]
        if version != self._schema_version:
            if self._attach_again(tx):
                self.set_up(tx)
            self._schema_version = version
        self._fresh.clear()

    def look_again(self) -> None:
        """Have the next transaction attach every store again: this process has changed the schema."""
        self._stale = True

    def is_ready(self, name: str) -> bool:
        """Say whether a store needs no `make_ready`."""
        return name in self._ready and name not in self._broken

    def set_up_apart(self, tx: EngineTransaction, name: str | None = None) -> None:
        """Set one store up, or all, inside `tx`, which is for nothing else; one process does so at a time.

        The caller commits it, holds `setting_up` meanwhile, and says `distrust` where it does not come to that.
        """
        tx.execute("SELECT 1 FROM uow_identity WHERE id = 1 FOR UPDATE")
        self._fresh.clear()
        if name is not None:
            self.make_ready(tx, name)
        elif self._attach_again(tx):
            self.set_up(tx)

    def make_ready(self, tx: Transaction, name: str) -> None:
        """Set one store up inside `tx` if it is not ready.

        Raises:
            UsageError: it contradicts what is recorded of it.
            StoreError: it cannot keep its promise here, or no more.
        """
        if name in self._broken:
            self._attach(self._stores[name], tx, self._recorded(tx))
            self._broken.discard(name)
        if name not in self._ready:
            self._set_up(tx, self._stores[name], self._recorded(tx))

    def _set_up(self, tx: Transaction, store: Store, recorded: dict[str, tuple[str, Any]] | None) -> None:
        _, config = (recorded or {}).get(store.name, (store.kind, None))
        config = store.setup(tx, config)
        self.saves = self.saves or _saves({store.name: (store.kind, config)})
        tx.execute(
            "INSERT INTO uow_stores (name, kind, config, registered_ts) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET config = excluded.config",
            (store.name, store.kind, json.dumps(dict(config), sort_keys=True), _ambient.now_text()),
        )
        self._ready.add(store.name)
        self._fresh.add(store.name)

    def distrust(self) -> None:
        """Forget what was set up since the newest transaction began: it was rolled back, wholly or to a savepoint."""
        self._ready -= self._fresh
        self._fresh.clear()
        self._schema_version = None

    # The record

    @staticmethod
    def _recorded(reader: Reader) -> dict[str, tuple[str, Any]] | None:
        """Return kind and configuration of each recorded store; None if the ledger has no tables for stores yet."""
        wanted = _TABLES[reader.dialect]
        if len(_catalog.tables_among(reader, wanted)) < len(wanted):
            return None
        return {
            name: (kind, json.loads(config))
            for name, kind, config in reader.rows("SELECT name, kind, config FROM uow_stores")
        }

    @staticmethod
    def _create_tables(tx: Transaction) -> None:
        if tx.dialect is Dialect.SQLITE:  # PostgreSQL's came with the schema: two sessions cannot make them at once
            for statement in _schema.statements("stores.sql"):
                tx.execute(statement)

    def close(self) -> None:
        """Close every store; a failing one does not keep the others open."""
        problems = []
        for store in self:
            try:
                store.close()
            except Exception as error:  # noqa: BLE001 - close must reach every store
                problems.append((store.name, error))
        for name, problem in problems:
            raise StoreError(f"The store {name!r} could not be closed.", store=name) from problem


def _saves(recorded: Mapping[str, tuple[str, Any]] | None) -> bool:
    return any(isinstance(config, dict) and config.get("saves") for _, config in (recorded or {}).values())


def _refuse_empty_claims(store: Store) -> None:
    """Refuse a store whose capability promises what its methods cannot keep."""
    lacking = [needed.__name__ for needed in NEEDED.get(store.capability, (Store,)) if not isinstance(store, needed)]
    if store.capability not in NEEDED:
        lacking = ["a known capability"]
    if lacking:
        raise UsageError(
            f"The store {store.name!r} claims to be {store.capability}, but lacks {' and '.join(lacking)}.",
            hint="Give it the methods that memoryos_uow.abc names, or the capability that it really has.",
            store=store.name,
        )
