"""Stores whose values lie outside, on a ledger in a PostgreSQL database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Ledger
from memoryos_uow.engines._pg_clock import SLOT_BITS
from memoryos_uow.errors import ConflictError, UsageError
from memoryos_uow.stores import BlobStore, FileStore, SQLiteFileStore
from tests.both import change

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from memoryos_uow.abc import Store

HOME: dict[str, Any] = {"space_id": "s", "band": "GREEN"}
VALUES: dict[str, tuple[Any, Any]] = {
    "photos": (b"one" * 10, b"two" * 10),
    "rows": (b"one" * 10, b"two" * 10),
    "files": (b"one" * 10, b"two" * 10),
    "second": ({"n": 1}, {"n": 2}),
}
FAR_AHEAD = "UPDATE uow_heads SET version = version + 60000000"


def stores(directory: Path) -> list[Store]:
    """One of each kind, with absolute places."""
    return [
        BlobStore("photos", directory / "photos", inline_below=8),
        BlobStore("rows"),
        FileStore("files", directory / "files"),
        SQLiteFileStore("second", directory / "second.db"),
    ]


@pytest.fixture
def ledger(pg_emptied_url: str, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger with these stores."""
    with Ledger.open(pg_emptied_url, stores=stores(tmp_path)) as opened:
        yield opened


@pytest.mark.parametrize("flushed", [False, True])
def test_a_unit_over_all_of_them(ledger: Ledger, pg_emptied_url: str, tmp_path: Path, flushed: bool) -> None:
    """Written, changed, read in the unit and afterwards, verified, removed; also with its transaction open early."""
    for turn in (0, 1):
        with ledger.unit(**HOME) as uow:
            if flushed:
                uow.sql("SELECT 1")
            for store, values in VALUES.items():
                uow[store].upsert("a.txt", values[turn])
                assert uow[store].get("a.txt") == values[turn]
        for store, values in VALUES.items():
            assert ledger[store].get("a.txt", space_id="s") == values[turn]
    assert ledger.verify().ok
    with Ledger.open(pg_emptied_url, stores="recorded") as again:
        assert again["files"].get("a.txt", space_id="s") == VALUES["files"][1]
        assert again["rows"].get("a.txt", space_id="s") == VALUES["rows"][1]
    with ledger.unit(**HOME) as uow:
        for store in VALUES:
            uow[store].delete("a.txt")
    assert all(list(ledger[store].keys(space_id="s")) == [] for store in VALUES)
    ledger.recover()
    assert not [path for path in (tmp_path / "photos").rglob("*") if path.is_file()]
    assert ledger.verify().ok


def test_a_failed_unit_leaves_nothing_outside(ledger: Ledger, tmp_path: Path) -> None:
    """What was made for it is gone, at once or after a sweep."""
    with pytest.raises(ValueError, match="mine"), ledger.unit(**HOME) as uow:
        for store, values in VALUES.items():
            uow[store].create("a.txt", values[0])
        raise ValueError("mine")
    ledger.recover()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"oneone" in path.read_bytes()]
    assert all(ledger[store].get("a.txt", space_id="s") is None for store in VALUES)


@pytest.mark.parametrize(
    "store", [BlobStore("b", "photos"), FileStore("f", "files"), SQLiteFileStore("s", "second.db")], ids=repr
)
def test_relative_places_are_refused(pg_emptied_url: str, store: Store) -> None:
    """A ledger in a database lives in no directory from which they could start."""
    with pytest.raises(UsageError, match="lives in no directory"):
        Ledger.open(pg_emptied_url, stores=[store])


def test_blobs_without_a_directory_stay_so(pg_emptied_url: str, tmp_path: Path) -> None:
    """A directory cannot be given later, nor be left out."""
    with Ledger.open(pg_emptied_url, stores=[BlobStore("b")]) as ledger:
        with ledger.unit(**HOME) as uow:
            uow["b"].create("k", b"x" * 1_000_000)
        assert ledger["b"].get("k", space_id="s") == b"x" * 1_000_000
        assert ledger.verify().ok
    with pytest.raises(UsageError, match="the ledger alone"):
        Ledger.open(pg_emptied_url, stores=[BlobStore("b", tmp_path / "b")])


@pytest.mark.parametrize("store", ["files", "second"])
def test_a_record_is_not_written_by_an_older_unit_after_its_removal(
    ledger: Ledger, pg_emptied_url: str, store: str
) -> None:
    """Removed by a unit whose stamp is ahead: whoever writes it again is newer, or conflicts."""
    with ledger.unit(**HOME) as uow:
        uow[store].create("a.txt", VALUES[store][0])
    engine: Any = ledger._opened.engine
    engine.learn(engine.stamps.next() + (60_000_000 << SLOT_BITS))
    with ledger.unit(**HOME) as uow:
        uow[store].delete("a.txt")
    engine.stamps._last -= 60_000_000
    conflicts = 0
    for _ in range(2):
        try:
            with ledger.unit(**HOME) as uow:
                uow[store].upsert("a.txt", VALUES[store][1])
        except ConflictError:
            conflicts += 1
    assert conflicts == 1 or store == "files"  # where nothing is left of a removal that is done
    assert ledger[store].get("a.txt", space_id="s") == VALUES[store][1]
    change(pg_emptied_url, FAR_AHEAD)
    with pytest.raises(ConflictError), ledger.unit(**HOME) as uow:
        uow[store].upsert("a.txt", VALUES[store][0])
