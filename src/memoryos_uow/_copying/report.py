"""What a copy tells while it runs, and at its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class CopyProgress(NamedTuple):
    """How far a copy is."""

    step: str
    """What is being done, in words."""
    rows: int
    """Rows that the target has by now."""
    rows_total: int


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What was copied: the target holds exactly this."""

    origin: str
    root: str
    """The tree hash over all receipts, the same on both sides: 64 hex digits."""
    units: int
    writes: int
    records: int
    """Documents, vectors, blobs, heads of stores outside, and rows of the application's tables."""
    tables: dict[str, int]
    """Rows by table."""
    left_out: tuple[str, ...]
    """The application's own tables in the source that no store of the ledger works on: they were not copied."""
    already: bool
    """The target was a whole copy before; nothing was written."""
