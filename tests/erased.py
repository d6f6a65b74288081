"""What the tests of erasure share: a ledger with a store of each kind, a record full of marks in all of them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import Ledger, _erasures
from memoryos_uow.stores import BlobStore, DocumentStore, FileStore, SQLiteFileStore, TableStore, VectorStore
from memoryos_uow.testing import acknowledge
from tests.units import rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from memoryos_uow.abc import Store

SPACE: Final = "shared:household"
MARK: Final = "mArKeDtOgO"
"""Stands in key and value of everything that is to be erased, also of values that were overwritten."""
OTHER: Final = "sTaYs"
"""Stands in what must not go."""

ORDERS: Final = {"id": "TEXT", "space_id": "TEXT", "what": "TEXT"}
KEY: Final = b"k" * 32


def stores() -> list[Store]:
    """One store of each kind; blobs of 64 bytes and more become files."""
    return [
        DocumentStore("notes", search=["text"]),
        TableStore("orders", key="id", columns=ORDERS),
        VectorStore("embeddings", dimensions=2),
        BlobStore("photos", "photos", inline_below=64),
        SQLiteFileStore("archive", "archive.db"),
        FileStore("files", "files"),
    ]


STORES: Final = tuple(store.name for store in stores())


def open_ledger(directory: Path, **options: Any) -> Ledger:
    """Open the ledger in `directory`; rows that it deletes stay in free pages, as with most builds of SQLite."""
    ledger = Ledger.open(directory / "memory.db", **{"stores": stores(), "durability": "full", **options})
    with ledger._opened.file.setup_connection() as connection:
        connection.execute("PRAGMA secure_delete = OFF")
    return ledger


def value(store: str, mark: str, number: int) -> Any:
    """Version `number` of a record of `store`, with `mark` in it as far as the store takes text."""
    return {
        "notes": {"text": f"{mark} {mark}{number} " * 30},
        "orders": {"what": f"{mark}{number}"},
        "embeddings": [float(number), 0.5],
        "photos": f"{mark}{number}".encode() * (1 if number == 1 else 20),
        "archive": {"text": f"{mark}{number}" * 10},
        "files": f"{mark}{number}".encode(),
    }[store]


def write_all(ledger: Ledger, mark: str, *, band: str = "GREEN", times: int = 3, names: Sequence[str] = STORES) -> None:
    """Write the record called `mark` in every store, `times` times, each time with something else beside it."""
    for number in range(times):
        context = {"actor_id": f"who{mark}", "device_id": f"from{mark}", "correlation_id": f"why{mark}"}
        with ledger.unit(space_id=SPACE, band=band, envelope_id=f"in{mark}", **context) as uow:
            for name in names:
                uow[name].upsert(mark, value(name, mark, number))


def erase_all(ledger: Ledger, mark: str = MARK, names: Sequence[str] = STORES, **options: Any) -> list[Any]:
    """Erase the record called `mark` from every store."""
    return [ledger.erase(space_id=SPACE, store=name, key=mark, **options) for name in names]


def found_in(directory: Path, mark: str) -> list[str]:
    """The files below a directory in which `mark` stands, in their bytes or in their names."""
    return sorted(
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if mark in str(path.relative_to(directory)) or (path.is_file() and mark.encode() in path.read_bytes())
    )


def assert_roots(ledger: Ledger) -> None:
    """Every unit's writes_root and receipt_hash is what its rows give, with leaves in the place of sealed rows.

    Written apart from the library: JSON by `json`, the tree by its definition in RFC 9162, section 2.1.1.
    """
    units = rows(ledger.path, "SELECT l.commit_seq, l.first_write, l.write_count, lower(hex(l.writes_root)),"
                              " u.receipt_hash, r.receipt FROM uow_ledger l JOIN unit_of_work u ON u.rowid = l.unit"
                              " LEFT JOIN uow_receipts r ON r.uow_id = u.uow_id")  # fmt: skip
    nameless = {seq for (seq,) in rows(ledger.path, "SELECT commit_seq FROM uow_forgotten WHERE what = 'unit'")}
    for commit_seq, first, count, root, receipt_hash, receipt in units:
        assert root_of([_leaf(ledger.path, first + seq, seq) for seq in range(count)]).hex() == root
        if commit_seq not in nameless:
            assert hashlib.sha256(receipt.encode()).hexdigest() == receipt_hash


def _leaf(path: Path, write_id: int, seq: int) -> bytes:
    sealed = rows(path, "SELECT leaf FROM uow_sealed WHERE write_id = ?", write_id)
    if sealed:
        leaf: bytes = sealed[0][0]
        return leaf
    names = ("bytes_written", "checksum", "operation_type", "record_id", "store_name", "ts")
    (found,) = rows(path, f"SELECT {', '.join(names)} FROM uow_writes WHERE id = ?", write_id)
    nonce = rows(path, "SELECT lower(hex(nonce)) FROM uow_nonces WHERE write_id = ?", write_id)
    write = dict(zip(names, found, strict=True)) | {"nonce": nonce[0][0] if nonce else None, "seq": seq}
    text = json.dumps(write, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(b"\0" + text.encode()).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The tree hash over some leaves, one at least."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + root_of(leaves[:split]) + root_of(leaves[split:])).digest()


def problems(ledger: Ledger) -> list[str]:
    """What the ledger's rows tell of erasures that no tombstone vouches for."""
    with ledger._opened.engine.reader() as reader:
        return [problem.sentence for problem in _erasures.problems(reader)]


# A program that is killed


def begun(world: Path) -> None:
    """A ledger with two records in every store."""
    with open_ledger(world) as ledger:
        write_all(ledger, OTHER, times=1)
        write_all(ledger, MARK, band="AMBER", times=2)


def erase_some(world: Path) -> None:
    """Erase a record from three stores, of which two keep something outside the ledger."""
    with open_ledger(world) as ledger:
        for name in ("notes", "archive", "photos"):
            done = ledger.erase(space_id=SPACE, store=name, key=MARK, forget_context=True)
            if done.complete:  # on a disk that fails it need not be
                acknowledge(name)


def gone_or_not_erased(world: Path, acknowledged: Sequence[str]) -> None:
    """After recovery: what was acknowledged is gone without a trace, and nothing is half erased."""
    with open_ledger(world) as ledger:
        ledger.recover()
        left = [name for name in STORES if ledger[name].get(MARK, space_id=SPACE) is not None]
        assert not set(left) & set(acknowledged), "What was erased came back."
        assert set(left) >= {"orders", "embeddings", "files"}, "What nobody erased is gone."
        for name in STORES:
            assert ledger[name].get(OTHER, space_id=SPACE) is not None, "A record of somebody else is gone."
        assert problems(ledger) == []
        assert not unfinished(ledger)
        erased = [name for name in ("notes", "archive", "photos") if name not in left]
    _assert_no_trace(world, erased)


def _assert_no_trace(world: Path, erased: Sequence[str]) -> None:
    traces = {"notes": f"{MARK} {MARK}", "archive": f"{MARK}1{MARK}1", "photos": f"{MARK}0{MARK}0"}
    for name in erased:
        # A document of notes reads otherwise than one of the archive, and a small photo lies in no other store.
        assert found_in(world, traces[name]) == [], f"Something of {name} is left."
    if "archive" in erased:
        assert not [place for place in found_in(world, MARK) if place.startswith("archive")]


def unfinished(ledger: Ledger) -> bool:
    """Whether an erasure is not finished yet."""
    return ledger._opened.scrubbing.is_needed()


def reopened(world: Path) -> None:
    """What a program does first after a crash."""
    with open_ledger(world) as ledger:
        ledger.recover()
