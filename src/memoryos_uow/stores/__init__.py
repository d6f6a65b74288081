"""The built-in stores: what a unit of work can write to besides plain SQL.

Documents, tables, vectors and small blobs are rows in the ledger's own file: one commit decides over all of them. Large
blobs lie beside it under names made from their content. A second SQLite file and named files follow the decision that
the ledger's commit makes; a PostgreSQL database may make it itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memoryos_uow.stores._blobs import BlobStore
    from memoryos_uow.stores._documents import DocumentStore
    from memoryos_uow.stores._files import FileStore
    from memoryos_uow.stores._postgres import PostgresStore
    from memoryos_uow.stores._sqlite_file import SQLiteFileStore
    from memoryos_uow.stores._tables import TableStore
    from memoryos_uow.stores._vectors import VectorStore

__all__ = ["BlobStore", "DocumentStore", "FileStore", "PostgresStore", "SQLiteFileStore", "TableStore", "VectorStore"]

# Each store is loaded when it is first asked for (PEP 562): a ledger of documents has no need of the others.
_MODULE_OF = {
    "BlobStore": "_blobs",
    "DocumentStore": "_documents",
    "FileStore": "_files",
    "PostgresStore": "_postgres",
    "SQLiteFileStore": "_sqlite_file",
    "TableStore": "_tables",
    "VectorStore": "_vectors",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
