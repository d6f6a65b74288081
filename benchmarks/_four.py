"""The work over four stores: a document with full text, a row, a vector and a blob, through the library and by hand.

By hand: one SQLite transaction over tables of the same layout, and for a large blob first a file, made durable and
renamed, in a directory that is synced too. That is not atomic: a crash in between leaves a file that nothing refers to.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from typing import TYPE_CHECKING, Final

from benchmarks._work import CONTEXT, SPACE, TEXT, Work, connect
from memoryos_uow import Ledger, _schema
from memoryos_uow.stores import BlobStore, DocumentStore, TableStore, VectorStore

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks._work import Durability

DIMENSIONS: Final = 384
VECTOR: Final = [(n % 17 - 8) / 16 for n in range(DIMENSIONS)]
SIZES: Final = {"blob of 4 KiB": 4 << 10, "blob of 256 KiB": 256 << 10}
INLINE_BELOW: Final = 64 << 10


class FourStores(Work):
    """Unit after unit; each has a blob of its own, as large as the others."""

    def __init__(self, path: Path, blob_bytes: int) -> None:
        super().__init__(path)
        self._bytes = bytearray(os.urandom(blob_bytes))

    def _next(self) -> tuple[str, bytes]:
        self.number += 1
        self._bytes[:8] = self.number.to_bytes(8)
        return f"item-{self.number:08d}", bytes(self._bytes)


class FourByLibrary(FourStores):
    """A unit of work over four stores."""

    def __init__(self, path: Path, durability: Durability, blob_bytes: int) -> None:
        super().__init__(path, blob_bytes)
        self.ledger = Ledger.open(
            path,
            durability=durability,
            stores=[
                DocumentStore("notes", search=["text"]),
                TableStore("orders", key="id", columns={"id": "TEXT", "item": "TEXT", "amount": "INTEGER"}),
                VectorStore("embeddings", dimensions=DIMENSIONS),
                BlobStore("photos", f"{path.stem}-photos", inline_below=INLINE_BELOW),
            ],
        )

    def __call__(self) -> None:
        key, blob = self._next()
        with self.ledger.unit(**CONTEXT, correlation_id=key) as uow:
            uow["notes"].create(key, {"text": TEXT, "number": self.number})
            uow["orders"].create(key, {"item": "boiler service", "amount": self.number})
            uow["embeddings"].create(key, VECTOR)
            uow["photos"].create(key, blob)

    def close(self) -> None:
        self.ledger.close()


class FourByHand(FourStores):
    """The floor: the same rows and files, no ledger."""

    def __init__(self, path: Path, durability: Durability, blob_bytes: int) -> None:
        super().__init__(path, blob_bytes)
        self.folder = path.with_name(f"{path.stem}-photos")
        self.folder.mkdir()
        self.connection = connect(path, durability)
        self.connection.executescript(
            _schema.text(_schema.STORES)
            + "CREATE VIRTUAL TABLE notes_text USING fts5(space, c0, tokenize='unicode61 remove_diacritics 2');"
            "CREATE TABLE orders (id TEXT NOT NULL, item TEXT, amount INTEGER, space_id TEXT NOT NULL,"
            " PRIMARY KEY (space_id, id));"
        )
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def __call__(self) -> None:
        key, blob = self._next()
        digest = hashlib.sha256(blob).hexdigest()
        if len(blob) >= INLINE_BELOW:
            write_file(self.folder, digest, blob)
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            self._write_rows(key, digest, blob)
            self.connection.execute("COMMIT")
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise

    def _write_rows(self, key: str, digest: str, blob: bytes) -> None:
        execute = self.connection.execute
        document = json.dumps({"text": TEXT, "number": self.number})
        row_id = execute(
            "INSERT INTO uow_documents (store, space_id, key, version, value) VALUES ('notes', ?, ?, 1, ?)",
            (SPACE, key, document),
        ).lastrowid
        execute("INSERT INTO notes_text (rowid, space, c0) VALUES (?, ?, ?)", (row_id, SPACE, TEXT))
        execute("INSERT INTO orders VALUES (?, 'boiler service', ?, ?)", (key, self.number, SPACE))
        execute(
            "INSERT INTO uow_vectors (store, space_id, key, version, value) VALUES ('embeddings', ?, ?, 1, ?)",
            (SPACE, key, struct.pack(f"<{DIMENSIONS}f", *VECTOR)),
        )
        execute(
            "INSERT INTO uow_blobs (store, space_id, key, version, digest, size, data)"
            " VALUES ('photos', ?, ?, 1, ?, ?, ?)",
            (SPACE, key, digest, len(blob), blob if len(blob) < INLINE_BELOW else None),
        )

    def close(self) -> None:
        self.connection.close()


def write_file(folder: Path, name: str, content: bytes) -> None:
    """Make a file durable under a temporary name, rename it, and make that durable too."""
    temporary = folder / f"{name}.new"
    with temporary.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(folder / name)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
