"""The stores of a ledger as verification reaches them: those that are registered, and those that the ledger records."""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from memoryos_uow._catalog import has_table
from memoryos_uow.abc import Home
from memoryos_uow.errors import StoreError, UnitOfWorkError
from memoryos_uow.stores._kinds import recorded_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from memoryos_uow.abc import Reader, Store


@contextmanager
def reached_stores(
    reader: Reader, directory: Path | None, registered: Mapping[str, Store]
) -> Iterator[tuple[dict[str, Store], dict[str, UnitOfWorkError]]]:
    """Lend the stores by name, and for those that cannot be reached the reason.

    A recorded store that nobody registered is made from its record and attached for reading only; one that cannot be
    made, because its kind is not installed or its record is damaged, is in neither.
    """
    stores = dict(registered)
    unreachable: dict[str, UnitOfWorkError] = {}
    made: list[Store] = []
    try:
        try:
            recorded = _recorded(reader)
        except UnitOfWorkError as error:
            recorded, unreachable["uow_stores"] = [], error
        for name, kind, config in recorded:
            if not isinstance(name, str) or name in stores:
                continue
            try:
                store = _attached(reader, directory, name, str(kind), config)
            except UnitOfWorkError as error:
                unreachable[name] = error
                continue
            if store is not None:
                stores[name] = store
                made.append(store)
        yield stores, unreachable
    finally:
        for store in made:
            with suppress(Exception):  # nothing was written, so nothing can be lost
                store.close()


def _recorded(reader: Reader) -> list[tuple[object, object, object]]:
    if not has_table(reader, "uow_stores"):
        return []
    return [(name, kind, config) for name, kind, config in reader.rows("SELECT name, kind, config FROM uow_stores")]


def _attached(reader: Reader, directory: Path | None, name: str, kind: str, config: object) -> Store | None:
    """Return the store that is recorded so, ready for reading; None if no such kind is installed."""
    try:
        recorded = json.loads(str(config))
        store = recorded_store(name, kind, recorded)
        if store is not None:
            store.attach(Home(directory, read_only=True), reader, recorded)
    except UnitOfWorkError:
        raise
    except Exception as error:
        raise StoreError(
            f"The store {name!r} cannot be made from what the ledger records of it.",
            hint="Nothing was changed. Open the ledger with this store, or restore the ledger from a copy.",
            store=name,
        ) from error
    return store
