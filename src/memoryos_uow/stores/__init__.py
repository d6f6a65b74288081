"""The built-in stores: what a unit of work can write to besides plain SQL.

Documents, tables, vectors and small blobs are rows in the ledger's own file: one commit decides over all of them. Large
blobs lie beside it under names made from their content. A second SQLite file and named files follow the decision that
the ledger's commit makes; a PostgreSQL database may make it itself.
"""

from __future__ import annotations

from memoryos_uow.stores._blobs import BlobStore
from memoryos_uow.stores._documents import DocumentStore
from memoryos_uow.stores._files import FileStore
from memoryos_uow.stores._postgres import PostgresStore
from memoryos_uow.stores._sqlite_file import SQLiteFileStore
from memoryos_uow.stores._tables import TableStore
from memoryos_uow.stores._vectors import VectorStore

__all__ = ["BlobStore", "DocumentStore", "FileStore", "PostgresStore", "SQLiteFileStore", "TableStore", "VectorStore"]
