"""From a ledger's record of a store back to the store: for whoever opens a ledger without the application's own code.

`memoryos-uow recover` has to reach the stores that a dead process wrote to, `show` and others have to read them. The
ledger records each store's name, kind and configuration; here a kind becomes a store again. Kinds of other packages
announce themselves by an entry point in the group ``memoryos_uow.stores``: its name is the kind, its object is called
with ``(name, config)`` and returns the store, `config` being what the store's `setup` once returned.

Promise: a kind that is not known here, or that cannot be made, is left out, never guessed; so a package that is broken
prevents nobody from opening the ledger and recovering the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import _log

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from memoryos_uow.abc import Store

ENTRY_POINTS: Final = "memoryos_uow.stores"

_BUILT_IN: Final[Mapping[str, tuple[str, str, tuple[str, ...]]]] = {
    "blobs": ("_blobs", "BlobStore", ("directory",)),
    "documents": ("_documents", "DocumentStore", ()),
    "files": ("_files", "FileStore", ("directory",)),
    "postgresql": ("_postgres", "PostgresStore", ("url",)),
    "rows": ("_tables", "TableStore", ("key", "table", "space_column")),
    "sqlite file": ("_sqlite_file", "SQLiteFileStore", ("path",)),
    "vectors": ("_vectors", "VectorStore", ("dimensions", "metric")),
}
"""By kind: the module, loaded when a ledger has such a store, the class, and what of the configuration it takes."""


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
        module, class_name, wanted = _BUILT_IN[kind]
        store = getattr(import_module(f"memoryos_uow.stores.{module}"), class_name)
        built_in: Store = store(name, **{setting: config[setting] for setting in wanted})
        return built_in
    from importlib.metadata import entry_points  # noqa: PLC0415 - only for kinds that are not ours

    for entry_point in entry_points(group=ENTRY_POINTS, name=kind):
        make: Callable[[str, Mapping[str, Any]], Store] = entry_point.load()
        return make(name, config)
    return None
