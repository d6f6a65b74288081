"""One file, one unit of work, four stores: what an application would write itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from memoryos_uow._demo._describe import DIMENSIONS, describe
from memoryos_uow.ledger import Ledger
from memoryos_uow.stores import BlobStore, DocumentStore, TableStore, VectorStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from memoryos_uow._demo._files import TextFile
    from memoryos_uow.abc import Store
    from memoryos_uow.unit import UnitOfWork

BLOBS: Final = "sources"
DOCUMENTS: Final = "pages"
VECTORS: Final = "vectors"
TABLE: Final = "modules"
STORES: Final = (BLOBS, DOCUMENTS, VECTORS, TABLE)

_COLUMNS: Final = {
    "space_id": "TEXT NOT NULL",
    "path": "TEXT NOT NULL",
    "lines": "INTEGER NOT NULL",
    "bytes": "INTEGER NOT NULL",
    "functions": "INTEGER",
    "classes": "INTEGER",
}


def blob_directory(ledger: Path) -> Path:
    """Return where the large blobs of the ledger at this path go."""
    return ledger.with_name(f"{ledger.stem}-{BLOBS}")


def open_ledger(path: Path) -> Ledger:
    """Open the demo's ledger at `path`, or make it. Every commit is synced to the disk."""
    stores: list[Store] = [
        BlobStore(BLOBS, blob_directory(path).name),
        DocumentStore(DOCUMENTS, search=["path", "about", "head"]),
        VectorStore(VECTORS, dimensions=DIMENSIONS),
        TableStore(TABLE, key="path", columns=_COLUMNS),
    ]
    return Ledger.open(path, stores=stores, durability="full")


def ingest(ledger: Ledger, file: TextFile, *, correlation_id: str, at: Callable[[str], None] | None = None) -> None:
    """Write one file to all four stores as one unit of work. `at` is told where this is: ``begin``, then ``commit``."""
    with ledger.unit(space_id=file.space_id, band=file.band, actor_id="demo", correlation_id=correlation_id) as uow:
        if at is not None:
            at("begin")
        write(uow, file.key, Path(file.path).read_bytes())
        if at is not None:
            at("commit")  # the last that happens inside the block: leaving it commits


def write(uow: UnitOfWork, key: str, data: bytes) -> None:
    """Give the unit the four records of one file."""
    described = describe(key, data)
    uow[BLOBS].create(key, data)
    uow[DOCUMENTS].create(key, described.document)
    uow[VECTORS].create(key, described.vector)
    uow[TABLE].create(key, described.row)


def is_there(ledger: Ledger, file: TextFile) -> bool:
    """Say whether an earlier unit wrote this file. All four stores have it or none, so one answers for all."""
    return ledger[TABLE].get(file.key, space_id=file.space_id) is not None
