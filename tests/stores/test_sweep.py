"""Bytes outside the ledger that belong to no unit are removed, and no others, whoever is at work meanwhile."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Ledger, StoreError, UsageError
from memoryos_uow.stores import BlobStore, DocumentStore, FileStore, SQLiteFileStore
from tests.leftovers import at_effect, begun, dies, open_ledger, stops, versions, write
from tests.units import SPACE

if TYPE_CHECKING:
    from pathlib import Path

    from memoryos_uow import UnitOfWork

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are stopped and killed by signals")
LARGE = 100_000


def blobs(directory: Path) -> list[str]:
    """Every file of the blob store."""
    root = directory / "photos"
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def unit(ledger: Ledger) -> UnitOfWork:
    """A unit in the usual space."""
    return ledger.unit(space_id=SPACE, band="GREEN")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A ledger with all stores and a record in each."""
    return begun(tmp_path / "ledger")


# Blobs through a unit


@pytest.mark.parametrize("flush", ["sql", "savepoint", "none"])
def test_a_large_blob_can_be_read_before_it_is_a_file(place: Path, flush: str) -> None:
    """A unit reads its own blob also after its reference was applied and before its file was made."""
    with open_ledger(place) as ledger:
        with unit(ledger) as uow:
            uow["photos"].create("new", b"n" * LARGE)
            uow["photos"].update("k", b"k" * LARGE)
            if flush == "sql":
                uow.sql("SELECT 1")
            elif flush == "savepoint":
                with uow.savepoint():
                    uow.sql("SELECT 1")
            assert uow["photos"].get("new") == b"n" * LARGE
            assert uow["photos"].get_many(["k"]) == {"k": b"k" * LARGE}
        assert ledger["photos"].get("new", space_id=SPACE) == b"n" * LARGE


def test_a_blob_of_a_savepoint_that_was_left(place: Path) -> None:
    """Going back brings the former blob back, applied or not, and leaves no reference to the other one."""
    with open_ledger(place) as ledger:
        with unit(ledger) as uow:
            uow.sql("SELECT 1")
            with pytest.raises(ZeroDivisionError), uow.savepoint():
                uow["photos"].update("k", b"x" * LARGE)
                uow.sql("SELECT 1")
                _ = 1 / 0
            assert uow["photos"].get("k") == b"1" * 100
            uow["notes"].upsert("k", {"n": 1})
        ledger.recover()
        assert len(blobs(place)) == 1


# What is swept


def test_what_nobody_refers_to_is_swept(place: Path) -> None:
    """Files of overwritten and deleted blobs, of failed units, and temporary ones go; those in use stay."""
    with open_ledger(place) as ledger:
        with unit(ledger) as uow:
            uow["photos"].update("k", b"2" * LARGE)
            uow["photos"].create("same", b"2" * LARGE)
            uow["photos"].create("gone", b"3" * LARGE)
        with unit(ledger) as uow:
            uow["photos"].delete("gone")
        with pytest.raises(StoreError), unit(ledger) as uow:
            uow["photos"].create("failed", b"4" * LARGE)
            uow["notes"].create("k", 1)
        for tmp in (place / "photos" / "tmp", place / "files" / ".uow" / "tmp"):
            (tmp / ("0123456789abcdef" * 2)).write_bytes(b"half a file")
        assert len(blobs(place)) == 5
        ledger.recover()
        assert len(blobs(place)) == 1
        assert list((place / "files" / ".uow" / "tmp").iterdir()) == []
        for key in ("k", "same"):
            assert ledger["photos"].get(key, space_id=SPACE) == b"2" * LARGE


def test_what_dead_processes_left_is_swept(place: Path) -> None:
    """Blobs and staged files of units that died before the decision are gone after recovery."""
    for effect in ("PREPARE", "DECIDE"):
        dies(place, effect, after=False)
    (place / "files" / ".uow" / "stage" / "of a unit that nobody knows").mkdir()
    before = blobs(place)
    assert len(before) == 2
    with open_ledger(place) as ledger:
        ledger.recover()
        assert versions(ledger) == {1}
    assert len(blobs(place)) == 1
    assert list((place / "files" / ".uow" / "stage").iterdir()) == []


def test_what_is_not_named_like_ours_is_never_swept(tmp_path: Path) -> None:
    """A directory of blobs may hold other things, the ledger itself and other stores among them."""
    stores = [BlobStore("photos", "."), FileStore("files", "files"), SQLiteFileStore("archive", "tmp/archive.db")]
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / "mine").write_bytes(b"mine")
    with opened(tmp_path, "memory.db", *stores) as ledger:
        with unit(ledger) as uow:
            for name in ("photos", "files", "archive"):
                uow[name].create("k", value(name, 1))
        ledger.recover()
        with unit(ledger) as uow:
            uow["photos"].delete("k")
        ledger.recover()
        assert ledger["files"].get("k", space_id=SPACE) == value("files", 1)
        assert ledger["archive"].get("k", space_id=SPACE) == value("archive", 1)
    with opened(tmp_path, "memory.db", *stores) as ledger:
        assert len(ledger.units()) == 2
    assert (tmp_path / "tmp" / "mine").read_bytes() == b"mine"
    assert [path for path in tmp_path.rglob("*") if path.is_file() and len(path.name) == 64] == []


@pytest.mark.parametrize("effect", ["PREPARE", "DECIDE", "PUBLISH"])
def test_a_live_units_bytes_are_never_swept(place: Path, effect: str) -> None:
    """A unit of another process, stopped between intent and end, finds its files when it goes on."""
    owner = stops(place, effect)
    with open_ledger(place) as ledger:
        for _ in range(2):
            ledger.recover()
        with unit(ledger) as uow:
            uow["notes"].upsert("other", 1)
        ledger.recover()
    owner.wake()
    assert owner.wait() == (None, "")
    with open_ledger(place) as ledger:
        assert versions(ledger) == {2}
        ledger.recover()
        assert versions(ledger) == {2}
    assert len(blobs(place)) == 1


def test_a_unit_of_this_process_keeps_its_bytes(place: Path) -> None:
    """Sweeping between a unit's own steps, before and after it holds the lock, removes nothing of it."""
    with open_ledger(place) as ledger:
        at_effect(ledger, 2, ledger.recover, after=False)
        write(ledger, 2)
        assert versions(ledger) == {2}
        ledger.recover()
        assert versions(ledger) == {2}


def test_a_unit_that_finds_its_content_there_already(place: Path) -> None:
    """A blob whose file is left over from a deleted one is taken up again, and survives a sweep in between."""
    with open_ledger(place) as ledger:
        with unit(ledger) as uow:
            uow["photos"].delete("k")
        left = blobs(place)
        at_effect(ledger, 2, ledger.recover, after=False)  # after PREPARE found the file
        with unit(ledger) as uow:
            uow["photos"].create("k", b"1" * 100)
        assert blobs(place) == left
        assert ledger["photos"].get("k", space_id=SPACE) == b"1" * 100


@pytest.mark.parametrize("store", ["photos", "files"])
def test_a_store_that_cannot_be_swept(place: Path, store: str, caplog: pytest.LogCaptureFixture) -> None:
    """Its directory is gone: the others are swept and recovered all the same, and the log says which was not."""
    dies(place, "DECIDE", after=False)
    with open_ledger(place) as ledger:
        (place / "files" / ".uow" / "stage" / "stray").mkdir()
        (place / "photos" / "tmp" / ("ab" * 16)).write_bytes(b"")
        (place / store).rename(place / "away")
        report = ledger.recover()
        assert report.in_doubt == ()
    if store == "photos":
        assert "sweep_delayed" in caplog.text
        assert list((place / "files" / ".uow" / "stage").iterdir()) == []
    else:
        assert len(blobs(place)) == 1


# Whose directory it is


def opened(directory: Path, file: str, *stores: Any) -> Ledger:
    """A ledger of these stores."""
    return Ledger.open(directory / file, stores=[DocumentStore("notes"), *stores])


def test_two_ledgers_cannot_share_a_directory_of_blobs(tmp_path: Path) -> None:
    """Each would sweep away what the other one refers to, so the second is refused."""
    with opened(tmp_path, "one.db", BlobStore("photos", "photos")) as ledger:
        with unit(ledger) as uow:
            uow["photos"].create("a", b"a" * LARGE)
        with pytest.raises(StoreError, match="another ledger or to another store") as caught:
            opened(tmp_path, "two.db", BlobStore("photos", "photos"))
        assert caught.value.store == "photos"
        ledger.recover()
        assert ledger["photos"].get("a", space_id=SPACE) == b"a" * LARGE


@pytest.mark.parametrize("kind", [BlobStore, FileStore])
def test_two_stores_cannot_share_a_directory(tmp_path: Path, kind: Any) -> None:
    """Nor may two stores of one ledger, of one kind or of two."""
    with pytest.raises(StoreError, match="another"):
        opened(tmp_path, "one.db", BlobStore("photos", "shared"), kind("pictures", "shared"))


def test_a_directory_of_an_unregistered_store_is_still_its_own(tmp_path: Path) -> None:
    """A store that is not opened this time keeps its claim."""
    opened(tmp_path, "one.db", BlobStore("photos", "photos")).close()
    with pytest.raises(StoreError, match="another"):
        opened(tmp_path, "one.db", FileStore("files", "photos"))


def test_a_swapped_directory_is_noticed(tmp_path: Path) -> None:
    """When another store's directory lies where this one's was, opening says so and nothing is swept."""
    for name in ("one", "two"):
        with opened(tmp_path, f"{name}.db", BlobStore("photos", name)) as ledger, unit(ledger) as uow:
            uow["photos"].create("a", name.encode() * LARGE)
    shutil.rmtree(tmp_path / "one")
    (tmp_path / "two").rename(tmp_path / "one")
    with pytest.raises(StoreError, match="another ledger"):
        opened(tmp_path, "one.db", BlobStore("photos", "one"))


def test_a_copy_without_the_claim_is_taken(tmp_path: Path) -> None:
    """Tools that copy no empty directories lose the claim; the store works all the same."""
    with opened(tmp_path, "one.db", BlobStore("photos", "photos"), FileStore("files", "files")) as ledger:
        with unit(ledger) as uow:
            uow["photos"].create("a", b"a" * LARGE)
            uow["files"].create("a", b"a")
        ledger.recover()
    for root in ("photos", "files"):
        shutil.rmtree(tmp_path / root / ".uow-home")
    with opened(tmp_path, "one.db", BlobStore("photos", "photos"), FileStore("files", "files")) as ledger:
        ledger.recover()
        assert ledger["photos"].get("a", space_id=SPACE) == b"a" * LARGE
        with unit(ledger) as uow:
            uow["files"].update("a", b"b")


# Several of each


def test_several_stores_of_each_kind_in_one_unit(tmp_path: Path) -> None:
    """Two of each agree after every unit: committed, refused at the commit, and left by an exception."""
    stores = [kind(f"{name}{n}", f"{name}{n}") for n in (1, 2) for kind, name in PAIRS]
    names = [store.name for store in stores]
    with opened(tmp_path, "memory.db", *stores) as ledger:
        with unit(ledger) as uow:
            for name in names:
                uow[name].create("k", value(name, 1))
        with pytest.raises(StoreError), unit(ledger) as uow:
            for name in names:
                uow[name].update("k", value(name, 2))
            uow[names[-1]].create("k", value(names[-1], 3))
        with pytest.raises(ZeroDivisionError), unit(ledger) as uow:
            for name in names:
                uow[name].update("k", value(name, 2))
            uow.sql("SELECT 1")
            _ = 1 / 0
        ledger.recover()
        assert [ledger[name].get("k", space_id=SPACE) for name in names] == [value(name, 1) for name in names]
        committed = ledger.units(status="committed")
        assert [record.store_count for record in committed] == [len(names)]
        assert len(ledger.get(committed[0].uow_id).writes) == len(names)


PAIRS = [(BlobStore, "blobs"), (FileStore, "files"), (SQLiteFileStore, "archive")]


def value(store: str, number: int) -> Any:
    """A value that the store of this name takes."""
    return {"n": number} if store.startswith("archive") else b"%d" % number * LARGE


def test_two_stores_of_one_name(tmp_path: Path) -> None:
    """They are refused before anything is made."""
    with pytest.raises(UsageError, match="Two stores are called 'photos'"):
        opened(tmp_path, "memory.db", BlobStore("photos", "a"), FileStore("photos", "b"))
    assert list(tmp_path.iterdir()) == []
