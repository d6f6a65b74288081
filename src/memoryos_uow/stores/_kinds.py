"""From a ledger's record of a store back to the store: for whoever opens a ledger without the application's own code.

`memoryos-uow recover` has to reach the stores that a dead process wrote to, `show` and others have to read them. The
ledger records each store's name, kind and configuration; here a kind becomes a store again. Kinds of other packages
announce themselves by an entry point in the group ``memoryos_uow.stores``: its name is the kind, its object is called
with ``(name, config)`` and returns the store, `config` being what the store's `setup` once returned.

Promise: a kind that is not known here, or that cannot be made, is left out, never guessed; so a package that is broken
prevents nobody from opening the ledger and recovering the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import _log
from memoryos_uow.stores._blobs import BlobStore
from memoryos_uow.stores._documents import DocumentStore
from memoryos_uow.stores._files import FileStore
from memoryos_uow.stores._postgres import PostgresStore
from memoryos_uow.stores._sqlite_file import SQLiteFileStore
from memoryos_uow.stores._tables import TableStore
from memoryos_uow.stores._vectors import VectorStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from memoryos_uow.abc import Store

ENTRY_POINTS: Final = "memoryos_uow.stores"

_BUILT_IN: Final[Mapping[str, Callable[[str, Mapping[str, Any]], Store]]] = {
    BlobStore.kind: lambda name, config: BlobStore(name, config["directory"]),
    DocumentStore.kind: lambda name, _: DocumentStore(name),
    FileStore.kind: lambda name, config: FileStore(name, config["directory"]),
    PostgresStore.kind: lambda name, config: PostgresStore(name, config["url"]),
    SQLiteFileStore.kind: lambda name, config: SQLiteFileStore(name, config["path"]),
    TableStore.kind: lambda name, config: TableStore(
        name, key=config["key"], table=config["table"], space_column=config["space_column"]
    ),
    VectorStore.kind: lambda name, config: VectorStore(name, dimensions=config["dimensions"], metric=config["metric"]),
}


def recorded_store(name: str, kind: str, config: Mapping[str, Any]) -> Store | None:
    """Return the store that a ledger records under `name`, None if no such kind is installed and in order."""
    try:
        made = _made(name, kind, config)
        if made is not None and (made.name, made.kind) == (name, kind):
            return made
        reason = "not installed" if made is None else "another name or kind"
    except Exception as error:  # noqa: BLE001 - whatever a package of somebody else's raises, the other stores come next
        reason = type(error).__name__
    _log.warn("uow.store_left_out", store=name, kind=kind, reason=reason)
    return None


def _made(name: str, kind: str, config: Mapping[str, Any]) -> Store | None:
    if kind in _BUILT_IN:
        return _BUILT_IN[kind](name, config)
    from importlib.metadata import entry_points  # noqa: PLC0415 - only for kinds that are not ours

    for entry_point in entry_points(group=ENTRY_POINTS, name=kind):
        make: Callable[[str, Mapping[str, Any]], Store] = entry_point.load()
        return make(name, config)
    return None
