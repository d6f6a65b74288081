"""How large a unit and its parts may be: checked when a write is called, before anything is stored."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds of one unit and of one record. Sizes are bytes of stored content.

    SQLite itself ends at about 1 GB for one value (https://sqlite.org/limits.html, SQLITE_MAX_LENGTH).
    """

    writes_per_unit: int = 10_000_000
    bytes_per_unit: int = 1 << 36
    outside_writes_per_unit: int = 100_000
    """To stores outside the ledger (blobs, files, a second SQLite file): these wait in memory until the decision."""
    outside_bytes_per_unit: int = 1 << 30
    waiting_writes: int = 10_000
    """A unit in which so many writes wait opens its transaction, and from then on holds the ledger's write lock."""
    waiting_bytes: int = 32 << 20
    """The same for bytes; rows of tables count for none, because only the table can tell their size."""
    document_bytes: int = 16 << 20
    row_bytes: int = 16 << 20
    blob_bytes: int = 1 << 29
    vector_dimensions: int = 65_536
    message_bytes: int = 1 << 20
    sql_characters: int = 1_000_000
    result_bytes: int = 1 << 20
    idempotency_s: int = 604_800
