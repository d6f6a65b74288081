"""One unit over three places: the ledger's file, a blob of 16 KiB, and a second SQLite file; beside the same by hand.

By hand it is four syncs and not atomic: a crash in between leaves a blob that nothing refers to, or a row in one file
and not in the other. The library keeps blobs of that size in the ledger's file, and syncs the second file once for many
units. `python -m benchmarks.bench_three` prints the ratios; the write-ahead logs are grown first.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

from benchmarks._command import options, section, workplace
from benchmarks._four import FourStores, write_file
from benchmarks._ratios import ratio_table
from benchmarks._work import CONTEXT, SPACE, TEXT, ByHand, connect, race_on_files
from memoryos_uow import Ledger
from memoryos_uow.stores import BlobStore, DocumentStore, SQLiteFileStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks._ratios import Result
    from benchmarks._work import Durability

BLOB_BYTES: Final = 16 << 10


class ThreeByHand(FourStores):
    """The floor: a file, a commit in one SQLite file and a commit in the other, each durable."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, BLOB_BYTES)
        self.folder = path.with_suffix(".blobs")
        self.folder.mkdir()
        paths = (path, path.with_suffix(".second"))
        for one in paths:
            ByHand(one, "full").close()
        self.connections = [connect(one, "full") for one in paths]

    def __call__(self) -> None:
        key, blob = self._next()
        digest = hashlib.sha256(blob).hexdigest()
        write_file(self.folder, digest, blob)
        first, second = self.connections
        first.execute("BEGIN IMMEDIATE")
        first.execute(ByHand.INSERT, (SPACE, key, 1, json.dumps({"text": TEXT, "number": self.number})))
        first.execute(ByHand.INSERT, (SPACE, f"photo-{key}", 1, digest))
        first.execute("COMMIT")
        second.execute("BEGIN IMMEDIATE")
        second.execute(ByHand.INSERT, (SPACE, key, 1, json.dumps({"item": "boiler service", "amount": self.number})))
        second.execute("COMMIT")

    def close(self) -> None:
        for connection in self.connections:
            connection.close()


class ThreeByLibrary(FourStores):
    """A unit of work, atomic over all three, with its receipt."""

    def __init__(self, path: Path, durability: Durability = "full") -> None:
        super().__init__(path, BLOB_BYTES)
        stores = [
            DocumentStore("notes"),
            BlobStore("photos", path.with_suffix(".blobs").name),
            SQLiteFileStore("orders", path.with_suffix(".second").name),
        ]
        self.ledger = Ledger.open(path, stores=stores, durability=durability)

    def __call__(self) -> None:
        key, blob = self._next()
        with self.ledger.unit(**CONTEXT, correlation_id=key) as uow:
            uow["notes"].create(key, {"text": TEXT, "number": self.number})
            uow["photos"].create(key, blob)
            uow["orders"].create(key, {"item": "boiler service", "amount": self.number})

    def close(self) -> None:
        self.ledger.close()


def compare(folder: Path, *, rounds: int, warmup: int, seed: int) -> list[Result]:
    """Race both, each on files of its own in `folder`."""
    kinds = {"by hand, not atomic": ThreeByHand, "unit of work": ThreeByLibrary}
    return race_on_files(kinds, folder, name="three", rounds=rounds, warmup=warmup, seed=seed)


def test_the_comparison_runs(tmp_path: Path) -> None:
    """Both contenders get their units done, and the library's second file has its records."""
    hand, ours = compare(tmp_path, rounds=2, warmup=1, seed=1)
    assert len(hand.times_us) == len(ours.times_us) == 2
    with ThreeByLibrary(tmp_path / "three-1.db") as again:
        assert len(list(again.ledger["orders"].keys(space_id=SPACE))) == 3


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    given = options(__doc__, arguments, rounds=600, warmup=1000, seed=1)
    with workplace("One unit over three places") as folder:
        results = compare(folder, rounds=given.rounds, warmup=given.warmup, seed=given.seed)
        section('durability="full"', ratio_table(results))


if __name__ == "__main__":
    main()
