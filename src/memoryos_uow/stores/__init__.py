"""The built-in stores: what a unit of work can write to besides plain SQL.

All four keep their records in the ledger's own file, so one commit decides over all of them; only large blobs lie
beside it, under names made from their content.
"""

from __future__ import annotations

from memoryos_uow.stores._blobs import BlobStore
from memoryos_uow.stores._documents import DocumentStore
from memoryos_uow.stores._tables import TableStore
from memoryos_uow.stores._vectors import VectorStore

__all__ = ["BlobStore", "DocumentStore", "TableStore", "VectorStore"]
