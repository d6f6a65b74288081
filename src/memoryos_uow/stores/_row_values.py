r"""What a row may hold, and the bytes that stand for it in a receipt.

The content of a row is the format ``rows/1``: one JSON object in UTF-8 with every column of the table, names in the
order of their code points, no spaces, nothing but these values:

- NULL as ``null``, an INTEGER in decimal, a TEXT as a JSON string (only ``"``, ``\`` and control characters escaped);
- a REAL as the shortest decimal that gives the same float64 (Python's ``repr``, so always with ``.`` or ``e``), an
  infinity as ``{"$real":"inf"}`` or ``{"$real":"-inf"}``;
- on PostgreSQL a BOOLEAN as ``true`` or ``false``, NaN as ``{"$real":"nan"}``, and what is none of these as its text;
- a BLOB as ``{"$bytes":"<lower-case hex>"}``.

Promise: different rows have different contents, and the content is that of the row as the table holds it after the
write, with its defaults, its column affinities and the work of its triggers.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Final

from memoryos_uow._names import text_problem

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT: Final = "rows/1"

_TYPES: Final = frozenset({str, int, float, bool, bytes, bytearray, memoryview, type(None)})
_INTEGER_MIN: Final = -(2**63)
_INTEGER_MAX: Final = 2**63 - 1
_dump: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"), check_circular=False
).encode


def row_content(row: Mapping[str, object]) -> bytes:
    """Return the ``rows/1`` bytes of `row`, column by name as SQLite gave it."""
    return _dump({column: _plain(cell) for column, cell in row.items()}).encode()


def _plain(cell: object) -> object:
    if isinstance(cell, bytes):
        return {"$bytes": cell.hex()}
    if isinstance(cell, float) and not math.isfinite(cell):
        return {"$real": str(cell)}
    return cell


def cell_problem(cell: object) -> str | None:
    """Say why a column cannot hold `cell`, or None. Subclasses do not pass: they would come back as something else."""
    if type(cell) not in _TYPES:
        return f"is of type {type(cell).__name__}; a column holds str, int, float, bool, bytes or None"
    if isinstance(cell, str):
        return text_problem(cell)
    if isinstance(cell, float) and not math.isfinite(cell):
        return "is NaN or an infinity"
    if isinstance(cell, int) and not _INTEGER_MIN <= cell <= _INTEGER_MAX:
        return "is an integer beyond 64 bits"
    return None


def as_cell(cell: object) -> object:
    """Return what SQLite is given for `cell`, which `cell_problem` has passed: an own copy, bool as int."""
    if isinstance(cell, (bytearray, memoryview)):
        return bytes(cell)
    return int(cell) if isinstance(cell, bool) else cell


def as_typed(cell: object, sort: str) -> object:
    """Return what a PostgreSQL column of the type `sort` is given for `cell`, which is as `as_cell` returned it.

    Raises:
        ValueError: it would become something else there; the text says what is wrong, as `cell_problem` does.
    """
    if cell is None:
        return None
    if isinstance(cell, bytes) != (sort == "bytea"):
        raise ValueError(f"is of type {type(cell).__name__}, and the column of type {sort}")
    if sort == "boolean":
        if cell not in (0, 1):
            raise ValueError("is neither true nor false")
        return bool(cell)
    if isinstance(cell, float) and sort in ("smallint", "integer", "bigint"):
        if not cell.is_integer():
            raise ValueError("is no whole number")
        return int(cell)
    return cell


def cell_bytes(cell: object) -> int:
    """Return about how many bytes SQLite stores for `cell` (https://sqlite.org/fileformat2.html, record format)."""
    if isinstance(cell, str):
        return len(cell.encode())
    return len(cell) if isinstance(cell, bytes) else 8


def key_text(cell: object) -> str | None:
    """Return the record key or space id that a stored `cell` stands for; only texts and integers do."""
    if isinstance(cell, str):
        return cell
    return str(cell) if isinstance(cell, int) and not isinstance(cell, bool) else None
