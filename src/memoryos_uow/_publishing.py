"""After the decision: stores outside the ledger show what was decided. The with-block and recovery share this.

Promise: no store is shown a decision that a power cut could still take back. A store that does not answer stops neither
the other stores nor the other units; what it owes stays in the ledger until it has answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from memoryos_uow import _coordination
from memoryos_uow._remote_calls import calling
from memoryos_uow.abc import Publisher
from memoryos_uow.errors import StoreUnavailable, UnitOfWorkError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from memoryos_uow._registry import StoreRegistry
    from memoryos_uow._unit_state import UnitState
    from memoryos_uow.abc import LazyPublisher, Reader, Redo
    from memoryos_uow.engines._contract import Engine

Silent = dict[str, UnitOfWorkError]
"""Stores that did not answer, and why."""

_IDS_PER_QUERY: Final = 500  # SQLite takes 999 parameters at least (https://sqlite.org/limits.html)


class Publishing:
    """Publishes what decided units owe to the stores of one ledger."""

    def __init__(self, engine: Engine, registry: StoreRegistry) -> None:
        self._engine = engine
        self._registry = registry

    def publish(self, uow_ids: Sequence[str], *, synced: bool) -> dict[str, Silent]:
        """Publish what these units owe; return, for each unit that owes something still, the silent stores.

        `synced` says that the decisions are known to be on the disk. A decision that can merely be read may be one of a
        process that died before it could sync it, or one that did not wait for the disk.

        Raises:
            LedgerError: the ledger cannot be read or synced; nothing was published.
        """
        if not synced:
            self._engine.sync_log()
        silent: dict[str, Silent] = {}
        for start in range(0, len(uow_ids), _IDS_PER_QUERY):
            with self._engine.reader() as reader:
                for name, entries in _coordination.redo_of(reader, uow_ids[start : start + _IDS_PER_QUERY]).items():
                    for uow_id, problem in self._publish(reader, name, entries).items():
                        silent.setdefault(uow_id, {})[name] = problem
        return silent

    def show(self, unit: UnitState, *, synced: bool) -> tuple[Silent, list[LazyPublisher]]:
        """Have stores show what `unit` owes them; return the silent ones, and those that have yet to sync it.

        Raises:
            LedgerError: the ledger cannot be read or synced; nothing was published.
        """
        if not synced:
            self._engine.sync_log()
        silent: Silent = {}
        lazy: list[LazyPublisher] = []
        with self._engine.reader() as reader:
            for name, entries in unit.owed.items():
                store, publisher = self._registry.lazy(name), self._registry.publisher(name)
                assert publisher is not None  # noqa: S101 - nobody else owes anything
                with calling(unit, publisher, "publish") as call:
                    problem = _problem(name, publisher.publish if store is None else store.show, reader, entries)
                    call.problem = problem
                if problem is not None:
                    silent[name] = problem
                elif store is not None:
                    lazy.append(store)
        return silent, lazy

    def _publish(self, reader: Reader, name: str, entries: list[Redo]) -> dict[str, UnitOfWorkError]:
        problem = self._try(reader, name, entries)
        if problem is None:
            return {}
        by_unit: dict[str, list[Redo]] = {}
        for entry in entries:
            by_unit.setdefault(entry.uow_id, []).append(entry)
        if len(by_unit) == 1:
            return dict.fromkeys(by_unit, problem)
        # One by one, so that what cannot be published does not hold up what can.
        tried = {uow_id: self._try(reader, name, own) for uow_id, own in by_unit.items()}
        return {uow_id: problem for uow_id, problem in tried.items() if problem is not None}

    def _try(self, reader: Reader, name: str, entries: list[Redo]) -> UnitOfWorkError | None:
        store = self._registry.get(name)
        if not isinstance(store, Publisher):
            return StoreUnavailable(
                f"The store {name!r} is not registered with this ledger now.",
                hint="What it owes is kept. Open the ledger with it in stores=[...].",
                store=name,
            )
        return _problem(name, store.publish, reader, entries)


def _problem(
    name: str, publish: Callable[[Reader, list[Redo]], None], reader: Reader, entries: list[Redo]
) -> UnitOfWorkError | None:
    """Have the store called `name` publish `entries`; return why it could not."""
    try:
        publish(reader, entries)
    except UnitOfWorkError as error:
        error.store = error.store or name
        return error
    except Exception as error:  # noqa: BLE001 - whatever a store of somebody else's raises, the others come next
        problem = StoreUnavailable(f"The store {name!r} failed with {type(error).__name__}.", store=name)
        problem.__cause__ = error
        return problem
    return None
