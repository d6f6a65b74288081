"""The ledger's rows of units that another store decides: all that is needed to have such a unit without its process.

Promise: a unit's rows are all there or none. While they are, nobody else writes the records they speak of, so that
nothing keeps the unit from being applied once it is decided. They go in the transaction that settles the unit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow._names import Operation
from memoryos_uow._records import Content
from memoryos_uow.abc import Write

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from memoryos_uow.abc import Reader, Transaction

_INSERT: Final = (
    "INSERT INTO uow_saved (uow_id, seq, store, space_id, key, operation, payload, size, digest, sealed, ts)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_WRITES: Final = (
    "SELECT store, operation, key, payload, size, digest, ts, sealed FROM uow_saved WHERE uow_id = ? ORDER BY seq"
)
_HELD: Final = "SELECT 1 FROM uow_saved WHERE store = ? AND space_id = ? AND key = ? AND uow_id <> ?"


@dataclass(frozen=True, slots=True)
class Saved:
    """One unit, as far as it is not its writes."""

    store: str
    """Whose commit decides."""
    unit: Mapping[str, Any]


def insert(
    tx: Transaction, uow_id: str, space_id: str, saved: Saved, writes: Iterable[tuple[int, Write, bytes | None]]
) -> None:
    """Keep a unit: number, write and saved payload of each of its writes."""
    unit = json.dumps(saved.unit, separators=(",", ":"))
    tx.execute("INSERT INTO uow_prepared (uow_id, store, unit) VALUES (?, ?, ?)", (uow_id, saved.store, unit))
    tx.execute_many(_INSERT, (_row(uow_id, space_id, *one) for one in writes))


def _row(uow_id: str, space_id: str, seq: int, write: Write, payload: bytes | None) -> tuple[object, ...]:
    size, digest = (None, None) if write.content is None else write.content
    what = (uow_id, seq, write.store, space_id, write.key, write.operation.value)
    return (*what, payload, size, digest, write.sealed, write.ts)


def find(reader: Reader, uow_id: str) -> Saved | None:
    """Return a saved unit, or None."""
    found = reader.rows("SELECT store, unit FROM uow_prepared WHERE uow_id = ?", (uow_id,))
    return Saved(found[0][0], json.loads(found[0][1])) if found else None


def writes_of(reader: Reader, uow_id: str) -> Iterator[Write]:
    """Yield the writes of a saved unit in their order; each has as payload the bytes that were saved."""
    for store, operation, key, payload, size, digest, ts, sealed in reader.rows(_WRITES, (uow_id,)):
        content = None if digest is None else Content(size, digest)
        yield Write(store, Operation(operation), key, payload, content, ts, sealed)


def is_any(reader: Reader, besides: str) -> bool:
    """Say whether any unit is saved but the one with this id."""
    return bool(reader.rows("SELECT 1 FROM uow_prepared WHERE uow_id <> ? LIMIT 1", (besides,)))


def is_held(reader: Reader, store: str, space_id: str, key: str | None, uow_id: str) -> bool:
    """Say whether a saved unit other than `uow_id` writes a record."""
    return bool(reader.rows(_HELD, (store, space_id, key, uow_id)))


def forget(tx: Transaction, uow_ids: Iterable[str]) -> None:
    """Remove the rows of units that are settled."""
    rows = [(uow_id,) for uow_id in uow_ids]
    tx.execute_many("DELETE FROM uow_saved WHERE uow_id = ?", rows)
    tx.execute_many("DELETE FROM uow_prepared WHERE uow_id = ?", rows)
