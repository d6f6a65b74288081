"""How large a unit and its parts may be: checked when a write is called, before anything is stored."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds of one unit and of one record. Sizes are bytes of stored content.

    SQLite itself ends at about 1 GB for one value (https://sqlite.org/limits.html, SQLITE_MAX_LENGTH).
    """

    writes_per_unit: int = 100_000
    bytes_per_unit: int = 1 << 30
    document_bytes: int = 16 << 20
    row_bytes: int = 16 << 20
    blob_bytes: int = 1 << 29
    vector_dimensions: int = 65_536
    sql_characters: int = 1_000_000
