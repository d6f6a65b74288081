"""The proof: plain SQL, SHA-256 and a look at the files, without any of the library's own reading code.

Promise: every committed unit's four records are there with the content whose digest the ledger has, and every record in
the four stores was written by a committed unit. Whatever is not so is named.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from memoryos_uow._bands import shown_key
from memoryos_uow._demo._ingest import BLOBS, DOCUMENTS, STORES, TABLE, VECTORS, blob_directory
from memoryos_uow._names import Band
from memoryos_uow._terminal import count
from memoryos_uow.stores._fulltext import index_table
from memoryos_uow.stores._row_values import row_content

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Place = tuple[str, str]  # space and key of a record

_UNITS: Final = "SELECT uow_id, band FROM unit_of_work WHERE status = 'committed'"
_WRITES: Final = """
SELECT w.uow_id, u.status, u.space_id, w.store_name, w.record_id, w.checksum
FROM uow_writes w LEFT JOIN unit_of_work u USING (uow_id) ORDER BY w.id
"""
_RECORDS: Final = "SELECT space_id, key, {columns} FROM {table} WHERE store = ?"
_TABLES: Final = {
    BLOBS: ("uow_blobs", "digest, data"),
    DOCUMENTS: ("uow_documents", "value"),
    VECTORS: ("uow_vectors", "value"),
}


class _Write(NamedTuple):
    uow_id: str
    store: str
    place: Place
    checksum: str | None


@dataclass
class Proof:
    """What was counted, and what was wrong."""

    units: int = 0
    """Committed units in the ledger."""
    whole: int = 0
    """Those of them with all four writes, each with its record, each record with the digest that the ledger has."""
    records: Counter[str] = field(default_factory=Counter)
    """Records found, by store."""
    matching: Counter[str] = field(default_factory=Counter)
    """Those of them that a committed unit wrote and whose digest is right, by store."""
    strays: Counter[str] = field(default_factory=Counter)
    """Records that no committed unit wrote, by store."""
    files: int = 0
    """Blobs that are files of their own."""
    leftovers: int = 0
    """Files that no record refers to: of units that were killed before their commit."""
    searchable: int = 0
    """Documents in the full-text index."""
    problems: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether every store has all of each unit or nothing."""
        return not self.problems and self.units == self.whole


def prove(ledger: Path) -> Proof:
    """Count and compare everything in the demo's ledger at this path."""
    proof = Proof()
    with closing(sqlite3.connect(ledger)) as connection:
        bands = dict(connection.execute(_UNITS).fetchall())
        writes = list(_committed_writes(connection, proof))
        contents = {store: _contents(connection, store, blob_directory(ledger), proof) for store in STORES}
        table = index_table(DOCUMENTS)
        proof.searchable = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - ours
    _compare(proof, bands, writes, contents)
    _account_for_files(proof, blob_directory(ledger), contents[BLOBS])
    if proof.searchable != proof.records[DOCUMENTS]:
        proof.problems.append(f"{proof.searchable} documents can be searched, {proof.records[DOCUMENTS]} are stored")
    return proof


def _committed_writes(connection: sqlite3.Connection, proof: Proof) -> Iterator[_Write]:
    for uow_id, status, space_id, store, record_id, checksum in connection.execute(_WRITES):
        if status == "committed":
            yield _Write(uow_id, store, (space_id, record_id), checksum)
        else:
            proof.problems.append(f"unit {uow_id}: it has a write in the ledger, but its outcome is {status}")


# What the stores hold


def _contents(connection: sqlite3.Connection, store: str, directory: Path, proof: Proof) -> dict[Place, bytes | None]:
    """Return the bytes of every record of `store`; None where they are missing."""
    if store == TABLE:
        rows = connection.execute(f"SELECT * FROM {TABLE}")  # noqa: S608 - the demo's own table
        names = [column[0] for column in rows.description]
        named: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in rows]
        found: dict[Place, bytes | None] = {(row["space_id"], row["path"]): row_content(row) for row in named}
    else:
        table, columns = _TABLES[store]
        found = {}
        for space_id, key, *values in connection.execute(_RECORDS.format(columns=columns, table=table), (store,)):
            place = (space_id, key)
            if store == BLOBS:
                digest, data = values
                found[place] = data if data is not None else _file_of(place, digest, directory, proof)
            else:
                found[place] = values[0] if isinstance(values[0], bytes) else str(values[0]).encode()
    proof.records[store] = len(found)
    return found


def _file_of(place: Place, digest: str, directory: Path, proof: Proof) -> bytes | None:
    proof.files += 1
    try:
        return _blob_path(directory, place[0], digest).read_bytes()
    except OSError:
        return None


def _blob_path(directory: Path, space_id: str, digest: str) -> Path:
    """Return where a large blob is, as the documentation of the blob store says."""
    return directory / hashlib.sha256(space_id.encode()).hexdigest()[:16] / digest[:2] / digest


# Compared with what the ledger says


def _compare(
    proof: Proof, bands: dict[str, str], writes: list[_Write], contents: dict[str, dict[Place, bytes | None]]
) -> None:
    written: dict[str, set[Place]] = {store: set() for store in STORES}
    missing = {uow_id: set(STORES) for uow_id in bands}  # stores that have no sound record of the unit
    silent = {uow_id: set(STORES) for uow_id in bands}  # stores of which the unit does not even claim a write
    for write in writes:
        silent[write.uow_id].discard(write.store)
        problem = _problem_with(write, contents.get(write.store, {}))
        if problem is None:
            proof.matching[write.store] += 1
            missing[write.uow_id].discard(write.store)
        else:
            key = shown_key(write.place[1], Band(bands[write.uow_id]))
            proof.problems.append(f"unit {write.uow_id}: its record {key} in store {write.store} {problem}")
        written.setdefault(write.store, set()).add(write.place)
    proof.units = len(bands)
    proof.whole = sum(not stores for stores in missing.values())
    for uow_id, stores in silent.items():
        proof.problems.extend(f"unit {uow_id}: it wrote nothing to store {store}" for store in sorted(stores))
    for store in STORES:
        proof.strays[store] = len(contents[store].keys() - written[store])
        if proof.strays[store]:
            proof.problems.append(f"store {store}: {count(proof.strays[store], 'record')} written by no committed unit")


def _problem_with(write: _Write, contents: dict[Place, bytes | None]) -> str | None:
    if write.place not in contents:
        return "is missing"
    content = contents[write.place]
    if content is None:
        return "has lost its file"
    if write.checksum != f"sha256:{hashlib.sha256(content).hexdigest()}":
        return "is not what was written"
    return None


def _account_for_files(proof: Proof, directory: Path, blobs: dict[Place, bytes | None]) -> None:
    expected = {
        _blob_path(directory, place[0], hashlib.sha256(content).hexdigest())
        for place, content in blobs.items()
        if content is not None
    }
    there = {path for path in directory.rglob("*") if path.is_file()}
    proof.leftovers = len(there - expected)
