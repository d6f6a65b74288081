"""Erasing a record: gone from every store and file, sealed in every receipt, and nothing else is touched."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import LedgerError, RecordMissing, StoreUnavailable, UsageError, _schema
from memoryos_uow._scrubbing import LEDGER
from tests import erased
from tests.erased import MARK, OTHER, SPACE, STORES, erase_all, found_in, open_ledger, problems, write_all
from tests.memory_dir import memory_dir
from tests.units import rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from memoryos_uow import Ledger


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory: a file is written anew for every record that is erased."""
    with memory_dir(tmp_path / "work") as place:
        yield place


def receipts(ledger: Ledger) -> dict[str, str]:
    """The receipt_hash of every unit, by commit sequence."""
    return dict(rows(ledger.path, "SELECT l.commit_seq, u.receipt_hash FROM uow_ledger l JOIN unit_of_work u"
                                  " ON u.rowid = l.unit"))  # fmt: skip


@pytest.mark.parametrize("band", ["GREEN", "AMBER", "RED"])
def test_nothing_of_an_erased_record_is_left(tmp_path: Path, band: str) -> None:
    """After erasure no file holds a byte of key, values, former values or context: no store, free page or log."""
    with open_ledger(tmp_path) as ledger:
        write_all(ledger, OTHER)
        write_all(ledger, MARK, band=band)
        assert len(found_in(tmp_path, MARK)) >= 5  # both logs, a named file, two blobs
        done = erase_all(ledger, forget_context=True)
        assert [(one.sealed, one.complete) for one in done] == [(3, True)] * len(STORES)
        assert found_in(tmp_path, MARK) == []
        assert problems(ledger) == []
        for name in STORES:
            assert ledger[name].get(MARK, space_id=SPACE) is None
            assert ledger[name].get(OTHER, space_id=SPACE) is not None
        assert ledger["notes"].search(OTHER, space_id=SPACE)
    assert found_in(tmp_path, MARK) == []


def test_black_records_go_from_their_stores(tmp_path: Path) -> None:
    """Of BLACK writes the ledger knew no record without a content key; the tombstone seals none, and all is gone."""
    with open_ledger(tmp_path) as ledger:
        write_all(ledger, MARK, band="BLACK")
        assert {one.sealed for one in erase_all(ledger)} == {0}
        assert [place for place in found_in(tmp_path, MARK) if not place.startswith("memory.db")] == []
        assert rows(tmp_path / "memory.db", "SELECT count(*) FROM uow_documents") == [(0,)]


def test_black_records_are_found_by_their_pseudonym(tmp_path: Path) -> None:
    """With the content key the ledger's pseudonym of a BLACK record leads to its writes, and they are sealed."""
    with open_ledger(tmp_path, content_key=erased.KEY) as ledger:
        write_all(ledger, MARK, band="BLACK", names=["notes"])
        assert [one.sealed for one in erase_all(ledger, names=["notes"], forget_context=True)] == [3]
        assert problems(ledger) == []
        assert found_in(tmp_path, MARK) == []
    assert rows(tmp_path / "memory.db", "SELECT count(*) FROM uow_writes WHERE record_id IS NOT NULL") == [(0,)]


def test_receipts_stay_as_they_were(tmp_path: Path) -> None:
    """Erasure changes no receipt, root or link; the log grows by the tombstone, whose receipt names no record."""
    with open_ledger(tmp_path) as ledger:
        write_all(ledger, MARK, band="AMBER", names=["notes"])
        before = receipts(ledger)
        old = [ledger.receipt(unit.uow_id) for unit in ledger.units()]
        (done,) = erase_all(ledger, names=["notes"], forget_context=True)
        after = receipts(ledger)
        assert before.items() <= after.items()
        assert len(after) == len(before) + 1
        for receipt in old:
            assert ledger.receipt(receipt.uow_id).canonical() == receipt.canonical()
        (write,) = ledger.get(done.uow_id).writes
        assert (write.record_id, write.operation_type, write.bytes_written) == (None, "delete", 0)
        assert (write.checksum or "").startswith("sealed-sha256:")
        assert done.receipt.canonical() == ledger.receipt(done.uow_id).canonical()
        erased.assert_roots(ledger)
        assert ledger.verify().problems == ()


def test_other_spaces_and_stores_keep_the_same_key(tmp_path: Path) -> None:
    """The same key in another space or store is another record: bytewise as it was, its writes not sealed."""
    with open_ledger(tmp_path) as ledger:
        for space in (SPACE, "elsewhere"):
            with ledger.unit(space_id=space, band="GREEN") as uow:
                uow["notes"].create("k", {"text": "one"})
                uow["archive"].create("k", {"text": "two"})
        assert ledger.erase(space_id=SPACE, store="notes", key="k").sealed == 1
        assert ledger["notes"].get("k", space_id=SPACE) is None
        assert ledger["notes"].get("k", space_id="elsewhere") == {"text": "one"}
        assert ledger["archive"].get("k", space_id=SPACE) == {"text": "two"}
        named = rows(ledger.path, "SELECT count(*) FROM uow_writes WHERE record_id = 'k'")
        assert named == [(3,)]


def test_a_record_can_be_written_again(tmp_path: Path) -> None:
    """After erasure the key is free: a new record there lives, is searched, and can be erased in its turn."""
    with open_ledger(tmp_path) as ledger:
        for _ in range(2):
            write_all(ledger, MARK, times=1)
            for name in STORES:
                assert ledger[name].get(MARK, space_id=SPACE) is not None
            assert ledger["notes"].search(MARK, space_id=SPACE)
            assert {one.sealed for one in erase_all(ledger)} == {1}
        assert problems(ledger) == []


def test_what_was_deleted_before_can_be_erased(tmp_path: Path) -> None:
    """A deleted record's history, index entries and free pages are erased as well."""
    with open_ledger(tmp_path) as ledger:
        write_all(ledger, MARK)
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            for name in STORES:
                uow[name].delete(MARK)
        assert {one.sealed for one in erase_all(ledger, forget_context=True)} == {4}
        assert found_in(tmp_path, MARK) == []


def test_verification_proves_it_gone_and_sees_it_come_back(tmp_path: Path) -> None:
    """`verify` counts what was erased; a record that somebody brings back behind the library's back is a finding."""
    with open_ledger(tmp_path) as ledger:
        write_all(ledger, MARK, times=1, names=["notes", "files"])
        kept = rows(ledger.path, "SELECT * FROM uow_documents")[0]
        erase_all(ledger, names=["notes", "files"])
        report = ledger.verify()
        assert (report.ok, report.erased) == (True, 2)
        with closing(sqlite3.connect(ledger.path)) as connection, connection:
            connection.execute(f"INSERT INTO uow_documents VALUES ({', '.join('?' * len(kept))})", kept)
        (tmp_path / "files" / "shared%3Ahousehold" / MARK).parent.mkdir(exist_ok=True)
        (tmp_path / "files" / "shared%3Ahousehold" / MARK).write_bytes(b"back")
        found = {finding.store for finding in ledger.verify().problems}
        assert found >= {"notes", "files"}


def test_what_never_was_is_refused(tmp_path: Path) -> None:
    """Erasing a record that neither a store nor a receipt knows is a typed error and leaves everything as it was."""
    with open_ledger(tmp_path) as ledger:
        write_all(ledger, OTHER, times=1)
        before = receipts(ledger)
        with pytest.raises(RecordMissing, match="Nothing was erased") as caught:
            ledger.erase(space_id=SPACE, store="notes", key=MARK)
        assert MARK not in str(caught.value)
        assert receipts(ledger) == before
        assert not erased.unfinished(ledger)
        with pytest.raises(UsageError, match="no store"):
            ledger.erase(space_id=SPACE, store="nowhere", key="k")


def test_basic_ledgers_are_refused(tmp_path: Path) -> None:
    """A ledger of contract 1.0.0 has no receipts to seal."""
    with closing(sqlite3.connect(tmp_path / "memory.db")) as connection:
        connection.executescript(_schema.text(_schema.BASE))
    with open_ledger(tmp_path, migrate=False) as ledger, pytest.raises(UsageError, match=r"1\.0\.0"):
        ledger.erase(space_id=SPACE, store="notes", key="k")


def test_context_is_forgotten_when_asked(tmp_path: Path) -> None:
    """Who acted goes from the units that wrote the record, from no other, and only if asked for; receipts stay."""
    with open_ledger(tmp_path) as ledger:
        write_all(ledger, OTHER, times=1, names=["notes"])
        write_all(ledger, MARK, times=2, names=["notes", "orders"])
        ledger.erase(space_id=SPACE, store="notes", key=MARK)
        assert len(ledger.units(actor_id=f"who{MARK}")) == 2
        ledger.erase(space_id=SPACE, store="orders", key=MARK, forget_context=True)
        assert ledger.units(actor_id=f"who{MARK}") == []
        assert len(ledger.units(actor_id=f"who{OTHER}")) == 1
        forgotten = [unit for unit in ledger.units() if unit.actor_id is None and unit.band == "GREEN"]
        assert len(forgotten) == 2
        assert all(ledger.receipt(unit.uow_id).hash == unit.receipt_hash for unit in forgotten)
        nonces = rows(ledger.path, "SELECT count(*) FROM uow_ledger WHERE context_nonce IS NULL")
        assert nonces == [(2,)]
        assert problems(ledger) == []


def test_unit_ids_are_forgotten_when_asked(tmp_path: Path) -> None:
    """A unit that wrote nothing but erased records loses id, times and receipt; what the chain needs of it stays."""
    with open_ledger(tmp_path) as ledger:
        write_all(ledger, MARK, times=2, names=["notes", "orders"])
        with ledger.unit(space_id=SPACE, band="GREEN") as mixed:
            mixed["notes"].upsert(MARK, {"text": "x"})
            mixed["notes"].create(OTHER, {"text": "x"})
        ids = [unit.uow_id for unit in ledger.units()]
        before = receipts(ledger)
        first = ledger.erase(space_id=SPACE, store="notes", key=MARK, forget_unit_ids=True)
        assert (first.sealed, first.forgotten, first.kept) == (3, 0, 3)
        second = ledger.erase(space_id=SPACE, store="orders", key=MARK, forget_unit_ids=True)
        assert (second.sealed, second.forgotten, second.kept) == (2, 2, 0)
        assert before.items() <= receipts(ledger).items()
        assert ledger.get(mixed.uow_id).receipt_hash is not None
        gone = [uow_id for uow_id in ids if uow_id != mixed.uow_id]
        for uow_id in gone:
            with pytest.raises(UsageError, match="no unit"):
                ledger.get(uow_id)
            assert found_in(tmp_path, uow_id) == []
        anonymous = [unit for unit in ledger.units() if unit.uow_id.startswith("forgotten-")]
        assert {(unit.created_ts[10:], unit.actor_id) for unit in anonymous} == {("T00:00:00.000000Z", None)}
        with pytest.raises(UsageError, match="no receipt"):
            ledger.receipt(anonymous[0].uow_id)
        assert rows(ledger.path, "SELECT count(*) FROM uow_receipts") == [(3,)]
        assert problems(ledger) == []
        assert ledger.validate() == []
        erased.assert_roots(ledger)
        assert ledger.verify().problems == ()
        write_all(ledger, OTHER)  # the chain goes on


def test_ids_are_forgotten_in_tables_of_the_application(tmp_path: Path) -> None:
    """A table of the application's that refers to units follows when an id is forgotten."""
    with open_ledger(tmp_path) as ledger:
        write_all(ledger, MARK, times=1, names=["notes"])
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow.sql("CREATE TABLE audit (unit TEXT REFERENCES unit_of_work(uow_id))")
            uow.sql("INSERT INTO audit SELECT uow_id FROM unit_of_work WHERE actor_id IS NOT NULL")
        erase_all(ledger, names=["notes"], forget_unit_ids=True)
        assert rows(ledger.path, "SELECT substr(unit, 1, 10) FROM audit") == [("forgotten-",)]
        assert rows(ledger.path, "PRAGMA foreign_key_check") == []


@pytest.mark.parametrize("key", [MARK, f"{MARK}\t'é' \\", MARK + "x" * 100])
def test_error_texts_that_quote_the_key_go(tmp_path: Path, key: str) -> None:
    """Units that failed over the record keep their rows, without the texts that quote its key."""
    with open_ledger(tmp_path) as ledger:
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["notes"].create(key, {})
        for wanted in (key, "another"):
            with pytest.raises(RecordMissing), ledger.unit(space_id=SPACE, band="GREEN") as uow:
                uow["notes"].delete(wanted)
                uow["notes"].delete(wanted) if wanted != key else uow["archive"].update(wanted, {})
        assert found_in(tmp_path, MARK)
        ledger.erase(space_id=SPACE, store="notes", key=key)
        assert found_in(tmp_path, MARK) == []
        assert len(ledger.units(status="failed")) == 2


def test_without_vacuum_this_deletion_is_overwritten(tmp_path: Path) -> None:
    """vacuum=False leaves earlier free pages alone, but what the erasure itself deletes is overwritten."""
    with open_ledger(tmp_path) as ledger:
        write_all(ledger, MARK, times=1, names=["orders", "archive"])
        size = ledger.path.stat().st_size
        done = erase_all(ledger, names=["orders", "archive"], vacuum=False, forget_context=True)
        assert all(one.complete for one in done)
        assert found_in(tmp_path, MARK) == []
        assert ledger.path.stat().st_size >= size
        assert rows(ledger.path, "PRAGMA integrity_check") == [("ok",)]


def test_a_reader_that_stays_delays_and_is_not_ignored(tmp_path: Path) -> None:
    """While another connection reads an earlier state, the log keeps it: the answer says so, and recover finishes."""
    with open_ledger(tmp_path, busy_timeout=0.05) as ledger:
        write_all(ledger, MARK, names=["orders"])
        other = sqlite3.connect(ledger.path, isolation_level=None)
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM orders").fetchone()
        (done,) = erase_all(ledger, names=["orders"], forget_context=True)
        assert (done.complete, done.remaining) == (False, (LEDGER,))
        assert ledger["orders"].get(MARK, space_id=SPACE) is None
        assert found_in(tmp_path, MARK)
        other.execute("COMMIT")
        other.close()
        ledger.recover()
        assert found_in(tmp_path, MARK) == []
        assert not erased.unfinished(ledger)


def test_a_silent_store_delays_and_opening_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that cannot be reached leaves the erasure decided and unfinished; whoever opens the ledger goes on."""
    with open_ledger(tmp_path) as ledger:
        write_all(ledger, MARK, names=["archive"])

        def silent(*_: Any) -> None:
            raise StoreUnavailable("It is away.")

        with monkeypatch.context() as away:
            away.setattr(ledger._opened.store("archive"), "erase_outside", silent)
            (done,) = erase_all(ledger, names=["archive"], forget_context=True)
            assert done.remaining == ("archive",)
            assert found_in(tmp_path, MARK)
        assert erased.unfinished(ledger)
    with open_ledger(tmp_path) as ledger:
        assert not erased.unfinished(ledger)
    assert found_in(tmp_path, MARK) == []


def test_a_store_that_is_not_registered_delays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An erasure whose store the next process does not know waits for one that does."""
    with open_ledger(tmp_path) as ledger:
        write_all(ledger, MARK, names=["notes"])
        monkeypatch.setattr(ledger._opened.scrubbing, "run", lambda **_: {})
        erase_all(ledger, names=["notes"])
    with open_ledger(tmp_path, stores=[erased.stores()[1]]) as ledger:
        ledger.recover()
        assert erased.unfinished(ledger)
    with open_ledger(tmp_path) as ledger:
        assert not erased.unfinished(ledger)


def test_a_late_publisher_brings_nothing_back(tmp_path: Path) -> None:
    """A process that wakes up with an old write to the second file in its hands does not undo the erasure."""
    with open_ledger(tmp_path) as ledger:
        late: list[Any] = []
        archive = ledger._opened.store("archive")
        show = archive.show  # type: ignore[attr-defined]

        def remember(reader: Any, entries: Any) -> None:
            late.append(entries)
            show(reader, entries)

        archive.show = remember  # type: ignore[attr-defined]
        write_all(ledger, MARK, times=1, names=["archive"])
        del archive.show  # type: ignore[attr-defined]
        erase_all(ledger, names=["archive"])
        with ledger._opened.engine.reader() as reader:
            archive.show(reader, late[0])  # type: ignore[attr-defined]
        assert found_in(tmp_path, f"{MARK}0") == []
        write_all(ledger, MARK, times=1, names=["archive"])
        assert ledger["archive"].get(MARK, space_id=SPACE) is not None


def test_disk_trouble_after_the_decision_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the ledger cannot be cleaned now, the erasure is decided, says that traces are left, and does not raise."""
    with open_ledger(tmp_path) as ledger:
        write_all(ledger, MARK, times=1, names=["notes"])

        def broken(**_: Any) -> None:
            raise LedgerError("The disk is full.")

        with monkeypatch.context() as full:
            full.setattr(ledger._opened.scrubbing, "run", broken)
            (done,) = erase_all(ledger, names=["notes"])
        assert done.remaining == (LEDGER,)
        assert ledger["notes"].get(MARK, space_id=SPACE) is None
        ledger.recover()
        assert not erased.unfinished(ledger)


def test_inside_a_unit_erasing_is_refused(tmp_path: Path) -> None:
    """An erasure is a unit by itself, so inside another one it is refused, and that one goes on."""
    with open_ledger(tmp_path) as ledger:
        write_all(ledger, MARK, times=1, names=["notes"])
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            with pytest.raises(UsageError, match="open already"):
                ledger.erase(space_id=SPACE, store="notes", key=MARK)
            uow["notes"].create("k", {})
        assert ledger["notes"].get(MARK, space_id=SPACE) is not None


def test_units_still_point_to_their_rows_after_vacuum(tmp_path: Path) -> None:
    """Writing the file anew keeps row numbers, which the receipt log uses, also where rows in between are missing."""
    with open_ledger(tmp_path) as ledger:
        write_all(ledger, OTHER, times=2, names=["notes"])
        write_all(ledger, MARK, times=2, names=["notes"])
        with (
            closing(sqlite3.connect(ledger.path)) as connection,
            connection,
        ):  # a failed unit's row that somebody cleared away
            connection.execute("INSERT INTO unit_of_work (uow_id, status, created_ts) VALUES ('x', 'pending', '')")
        write_all(ledger, OTHER, times=1, names=["notes"])
        with closing(sqlite3.connect(ledger.path)) as connection, connection:
            connection.execute("DELETE FROM unit_of_work WHERE uow_id = 'x'")
        before = receipts(ledger)
        erase_all(ledger, names=["notes"])
        assert before.items() <= receipts(ledger).items()
        assert len(receipts(ledger)) == 6
