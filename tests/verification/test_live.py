"""Live content: what stores hold is compared with what the newest receipt of each record says."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import pytest

from memoryos_uow import Ledger
from memoryos_uow._band_keys import content_key
from memoryos_uow._migrations import migrate_down, migrate_up
from memoryos_uow.abc import Capability
from memoryos_uow.errors import StoreUnavailable, UsageError
from memoryos_uow.stores import DocumentStore, FileStore, TableStore
from memoryos_uow.stores._no_records import NoRecords
from tests.verification.kit import ALICE, BOB, FILE, KEY, execute, opened, verified, write_everything

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from memoryos_uow.abc import Reader
    from memoryos_uow.verification import StoreCheck, Verification

NOTE: Final = "store = 'notes' AND key = '{}'"


def execute_archive(directory: Path, statement: str) -> None:
    """Change the second file with plain SQL."""
    execute(directory, statement, file="archive.db")


def large_file(directory: Path) -> Path:
    """The file that holds the one large blob."""
    digest = hashlib.sha256(bytes([2]) * 40).hexdigest()
    (found,) = (directory / "photos").rglob(digest)
    return found


def rewrite(path: Path, content: bytes) -> None:
    """Put other bytes into a file."""
    path.write_bytes(content)


def replace_by_link(path: Path) -> None:
    """Put a link to somewhere else in the place of a file."""
    path.unlink()
    path.symlink_to("/etc/hosts")


DOCUMENT: Final = "UPDATE uow_documents SET value = '{}' WHERE " + NOTE.format("n2")

CASES: Final[dict[str, tuple[str, str | None, Callable[[Path], object]]]] = {
    "document changed": ("changed", "n2", lambda d: execute(d, DOCUMENT.format('{"text":"note 2, changes"}'))),
    "document with duplicate keys": (
        "changed",
        "n2",
        lambda d: execute(d, DOCUMENT.format('{"text":"note 2, changed","text":"note 2, changed"}')),
    ),
    "document with NaN": ("changed", "n2", lambda d: execute(d, DOCUMENT.format('{"text":NaN}'))),
    "document that is no JSON": ("changed", "n2", lambda d: execute(d, DOCUMENT.format('{"text":'))),
    "document with a space more": (
        "changed",
        "n2",
        lambda d: execute(d, DOCUMENT.format('{"text": "note 2, changed"}')),
    ),
    "document with its former value": ("changed", "n2", lambda d: execute(d, DOCUMENT.format('{"text":"note 2"}'))),
    "document as bytes": (
        "damaged",
        "n2",
        lambda d: execute(d, "UPDATE uow_documents SET value = CAST(value AS BLOB) WHERE " + NOTE.format("n2")),
    ),
    "document that is not UTF-8": (
        "changed",
        "n2",
        lambda d: execute(d, "UPDATE uow_documents SET value = CAST(x'7b22ff' AS TEXT) WHERE " + NOTE.format("n2")),
    ),
    "document removed": ("missing", "n1", lambda d: execute(d, "DELETE FROM uow_documents WHERE " + NOTE.format("n1"))),
    "document renamed": (
        "missing",
        "n1",
        lambda d: execute(d, "UPDATE uow_documents SET key = 'n11' WHERE " + NOTE.format("n1")),
    ),
    "document moved to another space": (
        "missing",
        "n1",
        lambda d: execute(d, "UPDATE uow_documents SET space_id = 'carol' WHERE " + NOTE.format("n1")),
    ),
    "document moved to another store": (
        "missing",
        "n1",
        lambda d: execute(d, "UPDATE uow_documents SET store = 'other' WHERE " + NOTE.format("n1")),
    ),
    "document back after its deletion": (
        "back",
        "n3",
        lambda d: execute(
            d,
            "INSERT INTO uow_documents (store, space_id, key, version, value) VALUES ('notes', 'alice', 'n3', 3, '1')",
        ),
    ),
    "document written around the library": (
        "unclaimed",
        "n7",
        lambda d: execute(
            d,
            "INSERT INTO uow_documents (store, space_id, key, version, value) VALUES ('notes', 'alice', 'n7', 3, '1')",
        ),
    ),
    "document under a name that none can have": (
        "damaged",
        None,
        lambda d: execute(d, "UPDATE uow_documents SET key = x'00' WHERE " + NOTE.format("n1")),
    ),
    "RED document changed": (
        "changed",
        None,
        lambda d: execute(d, 'UPDATE uow_documents SET value = \'{"text":"rot"}\' WHERE ' + NOTE.format("r1")),
    ),
    "BLACK document changed": (
        "changed",
        None,
        lambda d: execute(d, 'UPDATE uow_documents SET value = \'{"text":"blank"}\' WHERE ' + NOTE.format("k1")),
    ),
    "BLACK document removed": (
        "missing",
        None,
        lambda d: execute(d, "DELETE FROM uow_documents WHERE " + NOTE.format("k1")),
    ),
    "full-text entry removed": (
        "damaged",
        "n1",
        lambda d: execute(
            d,
            "DELETE FROM uow_fts_notes_text WHERE rowid = (SELECT id FROM uow_documents WHERE "
            + NOTE.format("n1")
            + ")",
        ),
    ),
    "full-text entry of another text": (
        "damaged",
        "n1",
        lambda d: execute(d, "UPDATE uow_fts_notes_text SET c0 = 'wine is out' WHERE rowid = 1"),
    ),
    "full-text entry of another space": (
        "damaged",
        "n1",
        lambda d: execute(d, "UPDATE uow_fts_notes_text SET space = 's0123456789abcdef' WHERE rowid = 1"),
    ),
    "full-text entry of no document, after all others": (
        "damaged",
        None,
        lambda d: execute(d, "INSERT INTO uow_fts_notes_text (rowid, space, c0) VALUES (99, 's', 'still found')"),
    ),
    "full-text entry of no document, between others": (
        "damaged",
        None,
        lambda d: execute(d, "INSERT INTO uow_fts_notes_text (rowid, space, c0) VALUES (3, 's', 'still found')"),
    ),
    "row changed": ("changed", "o1", lambda d: execute(d, "UPDATE orders SET n = 2")),
    "row with another type": ("changed", "o1", lambda d: execute(d, "UPDATE orders SET n = 1.5")),
    "row that is not UTF-8": ("damaged", "o1", lambda d: execute(d, "UPDATE orders SET n = CAST(x'ff' AS TEXT)")),
    "row removed": ("missing", "o1", lambda d: execute(d, "DELETE FROM orders")),
    "vector changed": ("changed", "e1", lambda d: execute(d, "UPDATE uow_vectors SET value = zeroblob(8)")),
    "vector cut": ("changed", "e1", lambda d: execute(d, "UPDATE uow_vectors SET value = substr(value, 1, 4)")),
    "vector as text": ("damaged", "e1", lambda d: execute(d, "UPDATE uow_vectors SET value = 'zero'")),
    "small blob changed": (
        "changed",
        "small",
        lambda d: execute(d, "UPDATE uow_blobs SET data = x'00' WHERE key='small'"),
    ),
    "small blob and its digest changed": (
        "changed",
        "small",
        lambda d: execute(
            d,
            f"UPDATE uow_blobs SET data = x'00', digest = '{hashlib.sha256(bytes(1)).hexdigest()}', size = 1"
            " WHERE key = 'small'",
        ),
    ),
    "small blob as text": (
        "damaged",
        "small",
        lambda d: execute(d, "UPDATE uow_blobs SET data = 'x' WHERE key = 'small'"),
    ),
    "large blob changed": ("changed", "large2", lambda d: rewrite(large_file(d), b"x" * 40)),
    "large blob cut": ("changed", "large2", lambda d: rewrite(large_file(d), b"x")),
    "large blob removed": ("missing", "large2", lambda d: large_file(d).unlink()),
    "large blob's digest leads elsewhere": (
        "damaged",
        "large2",
        lambda d: execute(d, "UPDATE uow_blobs SET digest = '../../../etc/passwd' WHERE key = 'large2'"),
    ),
    "second file: changed": (
        "changed",
        "a1",
        lambda d: execute_archive(d, "UPDATE uow_records SET value = '{\"old\":true}' WHERE key = 'a1'"),
    ),
    "second file: removed": ("missing", "a1", lambda d: execute_archive(d, "DELETE FROM uow_records WHERE key = 'a1'")),
    "second file: back": (
        "back",
        "a2",
        lambda d: execute_archive(d, "UPDATE uow_records SET value='{}' WHERE key='a2'"),
    ),
    "second file: written around the library": (
        "unclaimed",
        "a3",
        lambda d: execute_archive(
            d, "INSERT INTO uow_records (space_id, key, version, value) VALUES ('alice','a3',1,'2')"
        ),
    ),
    "second file gone": ("unreachable", None, lambda d: (d / "archive.db").unlink()),
    "second file is another's": ("unreachable", None, lambda d: execute_archive(d, "UPDATE uow_home SET store = 'x'")),
    "file changed": ("changed", "2026/f1.txt", lambda d: rewrite(d / "files/alice/2026/f1.txt", b"A file")),
    "file removed": ("missing", "2026/f1.txt", lambda d: (d / "files/alice/2026/f1.txt").unlink()),
    "file's place taken by a link": (
        "damaged",
        "2026/f1.txt",
        lambda d: replace_by_link(d / "files/alice/2026/f1.txt"),
    ),
    "file back": ("back", "gone.txt", lambda d: rewrite(d / "files/alice/gone.txt", b"x")),
    "file written around the library": ("unclaimed", "new.txt", lambda d: rewrite(d / "files/alice/new.txt", b"x")),
    "directory linked into the files": (
        "unclaimed",
        "etc",
        lambda d: (d / "files/alice/etc").symlink_to("/etc"),
    ),
    "head of a file removed": (
        "damaged",
        "2026/f1.txt",
        lambda d: execute(d, "DELETE FROM uow_heads WHERE store='files'"),
    ),
    "head of a file leads elsewhere": (
        "damaged",
        None,
        lambda d: execute(d, "UPDATE uow_heads SET key = '../../secret' WHERE store = 'files'"),
    ),
    "head of a file damaged": (
        "damaged",
        None,
        lambda d: execute(d, "UPDATE uow_heads SET size = 'x' WHERE store='files'"),
    ),
    "directory of files gone": ("unreachable", None, lambda d: (d / "files").rename(d / "elsewhere")),
    "record of a store damaged": (
        "unreachable",
        None,
        lambda d: execute(d, "UPDATE uow_stores SET config = '{}' WHERE name = 'orders'"),
    ),
    "record of a store is no JSON": (
        "unreachable",
        None,
        lambda d: execute(d, "UPDATE uow_stores SET config = '{' WHERE name = 'photos'"),
    ),
}


@pytest.mark.parametrize(("rule", "record", "damage"), CASES.values(), ids=CASES.keys())
def test_what_stores_hold_is_compared(
    signed: Path, rule: str, record: str | None, damage: Callable[[Path], object]
) -> None:
    """What is missing, changed, damaged or back is named, with its record where the band allows."""
    damage(signed)
    report = verified(signed, live=True, content_key=content_key(KEY))
    assert (rule, record) in [(one.rule, one.record) for one in report.problems], report.problems


def one_store(report: Verification, name: str) -> StoreCheck:
    """What the report says of one store."""
    (found,) = (store for store in report.stores or () if store.store == name)
    return found


def test_what_is_gone_is_gone_everywhere(tmp_path: Path) -> None:
    """A unit's records, or a key, are looked for in every store: an index that still has one is named."""
    with opened(tmp_path) as ledger:
        with ledger.unit(space_id=ALICE, band="GREEN") as uow:
            uow["notes"].create("fact", {"text": "a fact"})
            uow["embeddings"].create("fact", [1.0, 0.0])
        with ledger.unit(space_id=ALICE, band="GREEN") as forget:
            forget["notes"].delete("fact")
        left = ledger.verify(gone=[forget.uow_id])
        assert [(one.rule, one.store, one.record) for one in left.problems] == [("back", "embeddings", "fact")]
        assert ledger.verify(space_id=ALICE, gone=["fact"]).rules == {"back": 1}
        assert ledger.verify(space_id=BOB, gone=["fact"]).ok
        with ledger.unit(space_id=ALICE, band="GREEN") as uow:
            uow["embeddings"].delete("fact")
        assert ledger.verify(gone=[forget.uow_id]).ok
        with pytest.raises(UsageError, match="neither a unit's id"):
            ledger.verify(gone=["fact"])


def test_erased_records_are_gone(signed: Path) -> None:
    """After an erasure everything verifies, the record is in no store, and one that comes back is named."""
    with opened(signed, signer=signed / "key.pem", content_key=KEY) as ledger:
        ledger.erase(space_id=ALICE, store="notes", key="n1", forget_context=True)
        ledger.erase(space_id=ALICE, store="files", key="2026/f1.txt")
        report = ledger.verify(space_id=ALICE, gone=["n1", "2026/f1.txt"])
        assert (report.problems, report.erased) == ((), 2)
        assert ledger.verify().ok
    (signed / "files/alice/2026").mkdir(exist_ok=True)
    rewrite(signed / "files/alice/2026/f1.txt", b"a file")
    execute(
        signed, "INSERT INTO uow_documents (store, space_id, key, version, value) VALUES ('notes','alice','n1',3,'1')"
    )
    report = verified(signed, live=True, content_key=content_key(KEY))
    assert {(one.store, one.rule) for one in report.problems} == {("notes", "unclaimed"), ("files", "unclaimed")}
    execute(signed, "DELETE FROM uow_sealed WHERE write_id = 1")
    assert "erasure" in verified(signed).rules


def test_without_the_content_key_less_can_be_said(signed: Path) -> None:
    """RED records are there or not; of BLACK ones, and of what they may have replaced, nothing can be said."""
    report = verified(signed, live=True)
    assert report.ok
    notes = one_store(report, "notes")
    assert (notes.records, notes.matched, notes.uncheckable, notes.gone) == (6, 4, 2, 1)
    with opened(signed, signer=signed / "key.pem", content_key=KEY) as ledger:
        with ledger.unit(space_id=BOB, band="BLACK") as uow:
            uow["notes"].create("k2", {})
        execute(signed, 'UPDATE uow_documents SET value = \'{"text":"x"}\' WHERE ' + NOTE.format("b2"))
        assert verified(signed, live=True).rules == {"changed": 1}, "a create cannot have replaced it"
        with ledger.unit(space_id=BOB, band="BLACK") as uow:
            uow["notes"].upsert("k2", {})
    assert verified(signed, live=True).ok, "a BLACK unit wrote to this space later: it may have been this record"
    execute(signed, "DELETE FROM uow_documents WHERE " + NOTE.format("r1"))
    with_key = verified(signed, live=True, content_key=content_key(KEY))
    assert with_key.rules == {"changed": 1, "missing": 1, "damaged": 1}  # the last is the full-text entry left over
    assert all(one.record is None for one in with_key.problems)


def test_black_writes_follow_other_bands(tmp_path: Path) -> None:
    """A record that one unit named and a BLACK one wrote later is one record, with the content key."""
    with opened(tmp_path, content_key=KEY) as ledger:
        for band, text in (("GREEN", "first"), ("BLACK", "second")):
            with ledger.unit(space_id=ALICE, band=band) as uow:
                uow["notes"].upsert("n1", {"text": text})
        with ledger.unit(space_id=ALICE, band="BLACK") as uow:
            uow["notes"].create("n2", {})
        with ledger.unit(space_id=ALICE, band="BLACK") as uow:
            uow["notes"].delete("n2")
        notes = one_store(ledger.verify(), "notes")
        assert (notes.records, notes.matched, notes.gone) == (1, 1, 1)
    execute(tmp_path, 'UPDATE uow_documents SET value = \'{"text":"first"}\'')
    assert "changed" in verified(tmp_path, live=True, content_key=content_key(KEY)).rules


def test_one_space_and_one_store(signed: Path) -> None:
    """What is asked for is looked at, and nothing else."""
    execute(
        signed, "DELETE FROM uow_documents WHERE " + NOTE.format("n1"), "UPDATE uow_vectors SET value = zeroblob(8)"
    )
    execute(signed, "UPDATE uow_writes SET ts = 'x' WHERE id = 11")
    options: dict[str, Any] = {"live": True, "content_key": content_key(KEY)}
    assert verified(signed, space_id=BOB, **options).rules == {"writes": 1}
    alice = verified(signed, space_id=ALICE, **options)
    assert (alice.rules, alice.units) == ({"missing": 1, "changed": 1}, 7)
    assert verified(signed, space_id=ALICE, only=["embeddings"], **options).rules == {"changed": 1}
    assert verified(signed, space_id="carol", **options).units == 0


def test_table_whose_spaces_share_keys(tmp_path: Path) -> None:
    """The newest write of any space counts, and rows of the application's own are no finding."""
    table = TableStore("shared", key="id", columns={"id": "TEXT", "n": "INTEGER"}, space_column=None)
    with Ledger.open(tmp_path / FILE, stores=[table]) as ledger:
        for space, number in ((ALICE, 1), (BOB, 2)):
            with ledger.unit(space_id=space, band="GREEN") as uow:
                uow["shared"].upsert("k", {"n": number})
                uow.sql("INSERT INTO shared VALUES (?, 1)", (f"own {number}",))
        report = ledger.verify()
        assert report.ok, report.problems
        shared = one_store(report, "shared")
        assert (shared.records, shared.matched, shared.unclaimed) == (3, 1, 2)
        assert one_store(report, "sql").skipped is not None
    execute(tmp_path, "UPDATE shared SET n = 1 WHERE id = 'k'", "INSERT INTO shared VALUES (x'00', 1)")
    assert verified(tmp_path, live=True).rules == {"changed": 1}


class Failing(DocumentStore):
    """One that fails in its own way."""

    def contents(self, reader: Reader) -> Iterator[Any]:
        raise ZeroDivisionError
        yield


def test_stores_that_cannot_be_asked(tmp_path: Path) -> None:
    """A store that fails, or is not there any more, is a finding; one that has no contents is said so."""
    with Ledger.open(tmp_path / FILE, stores=[Failing("notes")]) as ledger:
        with ledger.unit(space_id=ALICE, band="GREEN") as uow:
            uow["notes"].create("n", {})
        report = ledger.verify()
        assert report.rules == {"unreachable": 1}
        assert "ZeroDivisionError" in report.problems[0].detail
    execute(tmp_path, "UPDATE uow_stores SET kind = 'of somebody'")
    assert verified(tmp_path, live=True).rules == {"unreachable": 1}
    execute(tmp_path, "DELETE FROM uow_stores")
    assert verified(tmp_path, live=True).rules == {"unreachable": 1}
    assert verified(tmp_path, live=True, only=["others"]).ok
    without = NoRecords()
    without.kind, without.name = "mute", "notes"  # type: ignore[attr-defined]
    report = verified(tmp_path, live=True, stores={"notes": without})
    assert report.ok
    assert one_store(report, "notes").skipped == "Its kind cannot say what it holds."


def test_records_of_1_0_0_are_not_held_against_anybody(tmp_path: Path) -> None:
    """What was written before there were receipts cannot be checked; only what is newer and unclaimed is a finding."""
    with (
        Ledger.open(tmp_path / FILE, stores=[DocumentStore("notes")]) as ledger,
        ledger.unit(space_id=ALICE, band="GREEN") as uow,
    ):
        uow["notes"].create("n", {})
    execute(
        tmp_path,
        "INSERT INTO unit_of_work (rowid, uow_id, status, created_ts, committed_ts)"
        " VALUES (-1, 'old', 'committed', 'a', 'b')",
        "INSERT INTO uow_writes (id, uow_id, store_name, record_id, ts) VALUES (-1, 'old', 'notes', 'before', 'a')",
        "INSERT INTO uow_documents (store, space_id, key, version, value) VALUES ('notes', 'alice', 'before', 0, '1')",
    )
    report = verified(tmp_path, live=True)
    assert (report.problems, report.without_receipt) == ((), 1)
    assert one_store(report, "notes").uncheckable == 1


def test_down_and_up_again(tmp_path: Path) -> None:
    """A ledger that was taken down to 1.0.0 and up again has rows from before and no receipts: nothing is wrong."""
    with (
        Ledger.open(tmp_path / FILE, stores=[DocumentStore("notes")]) as ledger,
        ledger.unit(space_id=ALICE, band="GREEN") as uow,
    ):
        uow["notes"].create("n", {})
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as connection:
        migrate_down(connection, tmp_path / FILE)
        migrate_up(connection)
    report = verified(tmp_path, live=True)
    assert (report.problems, report.units, report.without_receipt) == ((), 0, 1)


def test_unit_that_publishes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another unit writes outside the ledger while stores are read is no finding."""
    with Ledger.open(tmp_path / FILE, stores=[FileStore("files", "files")], durability="normal") as ledger:
        with ledger.unit(space_id=ALICE, band="GREEN") as uow:
            uow["files"].create("f", b"one")

        contents = FileStore.contents

        def busy(self: FileStore, reader: Reader) -> Iterator[Any]:
            with ledger.unit(space_id=ALICE, band="GREEN") as uow:
                uow["files"].upsert("f", b"two")
                uow["files"].upsert("g", b"new")
            yield from contents(self, reader)

        monkeypatch.setattr(FileStore, "contents", busy)
        report = ledger.verify()
        assert (report.problems, report.units) == ((), 1)
        assert FileStore.capability is Capability.STAGED
        monkeypatch.undo()
        assert ledger.verify().ok


def test_waiting_values_are_there(tmp_path: Path) -> None:
    """What was decided and is not published yet is there, wherever it waits."""

    class Late(FileStore):
        def publish(self, reader: Reader, entries: Any) -> None:
            raise StoreUnavailable("not now")

    with Ledger.open(tmp_path / FILE, stores=[Late("files", "files")], durability="normal") as ledger:
        with ledger.unit(space_id=ALICE, band="GREEN") as uow:
            uow["files"].create("f", b"one")
        assert one_store(ledger.verify(), "files").matched == 1


def test_ledger_verifies_while_open(tmp_path: Path) -> None:
    """Through the open ledger the same is found, and timings of the last unit are there."""
    with opened(tmp_path) as ledger:
        write_everything(ledger)
        said: list[str] = []
        report = ledger.verify(progress=said.append)
        assert (report.ok, report.units) == (True, 10)
        assert said[0] == "checking the file's pages and indexes"
        assert ledger.verify(live=False).stores is None


def test_what_is_held_back_is_written_out(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However little is kept in memory, the answer is the same."""
    monkeypatch.setattr("memoryos_uow._verification.live._HELD_BACK_MAX", 1)
    monkeypatch.setattr("memoryos_uow._verification.scratch._BATCH", 1)
    said: list[str] = []
    report = verified(signed, live=True, content_key=content_key(KEY), progress=said.append, only=["notes"])
    assert report.ok
    assert said[-1] == "reading notes"
    assert one_store(report, "notes").matched == 6


def test_names_that_nobody_wrote_have_no_pseudonym(signed: Path) -> None:
    """A record whose key is no text at all is left out when pseudonyms are opened."""
    execute(signed, "UPDATE uow_writes SET record_id = CAST(x'ff' AS TEXT) WHERE id = 7")
    assert {"value", "missing"} >= verified(signed, live=True, content_key=content_key(KEY)).rules.keys() - {"changed"}


def test_odd_keys_of_damaged_rows(signed: Path) -> None:
    """A write whose record is no text claims something that no store holds."""
    execute(signed, "UPDATE uow_writes SET record_id = CAST(record_id AS BLOB) WHERE id = 7")
    assert {"value", "missing", "changed"} >= verified(signed, live=True).rules.keys()


def test_shared_keys_and_one_space(tmp_path: Path) -> None:
    """Asked for one space, only what its units wrote is compared, also where keys are shared."""
    table = TableStore("shared", key="id", columns={"id": "TEXT", "n": "INTEGER"}, space_column=None)
    with Ledger.open(tmp_path / FILE, stores=[table], durability="normal") as ledger:
        for space in (ALICE, BOB):
            with ledger.unit(space_id=space, band="GREEN") as uow:
                uow["shared"].upsert(space, {"n": 1})
                uow.publish("topic", {})
        report = ledger.verify(space_id=ALICE)
        assert (report.problems, one_store(report, "shared").matched) == ((), 1)
        assert one_store(ledger.verify(), "outbox").skipped == "Messages leave the outbox when they are delivered."
    execute(tmp_path, "UPDATE uow_ledger SET prev = 'x' WHERE commit_seq = 2")
    assert verified(tmp_path, space_id=ALICE).rules == {"log": 1}
