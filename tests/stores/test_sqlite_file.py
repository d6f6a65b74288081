"""SQLiteFileStore: documents in a second SQLite file, decided by the ledger and never found half written."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import (
    ConflictError,
    Ledger,
    MigrationError,
    RecordExists,
    RecordMissing,
    StoreError,
    StoreUnavailable,
    UsageError,
)
from memoryos_uow._migrations import migrate_down
from memoryos_uow.abc import Capability, Publisher
from memoryos_uow.stores import DocumentStore, SQLiteFileStore
from memoryos_uow.testing._forks import fork
from tests.processes import let_everybody_reach, without_rights
from tests.units import SPACE, locked, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from memoryos_uow import UnitOfWork


def open_ledger(directory: Path, *names: str, **options: Any) -> Ledger:
    """A ledger with documents and one second file per name, by default ``archive``."""
    files = [SQLiteFileStore(name, f"{name}.db") for name in names or ("archive",)]
    return Ledger.open(directory / "memory.db", stores=[DocumentStore("notes"), *files], **options)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger with documents and ``archive``."""
    with open_ledger(tmp_path) as opened:
        yield opened


def unit(ledger: Ledger) -> UnitOfWork:
    """A unit in the usual space."""
    return ledger.unit(space_id=SPACE, band="GREEN")


def put(ledger: Ledger, key: str, value: object, store: str = "archive") -> UnitOfWork:
    """Upsert one record in a unit of its own."""
    with unit(ledger) as uow:
        uow[store].upsert(key, value)
    return uow


def kept(directory: Path, name: str = "archive") -> dict[str, str | None]:
    """What a stranger reads in the file: the newest text of each key, None for a deleted one."""
    return dict(rows(directory / f"{name}.db", "SELECT key, value FROM uow_records ORDER BY key"))


def test_it_says_what_it_is() -> None:
    """It publishes after the decision, and its description names the file."""
    store = SQLiteFileStore("archive", "a/archive.db")
    assert isinstance(store, Publisher)
    assert (store.name, store.kind, store.capability) == ("archive", "sqlite file", Capability.REDO)
    assert repr(store) == "SQLiteFileStore('archive', 'a/archive.db')"


@pytest.mark.parametrize("path", ["", ":memory:", "a\0b", 5, None, b"a.db"])
def test_what_is_no_file_is_refused(path: Any) -> None:
    """Only the path of a file will do."""
    with pytest.raises(UsageError, match="path of the second file"):
        SQLiteFileStore("archive", path)


# Writing and reading


def test_the_verbs(ledger: Ledger, tmp_path: Path) -> None:
    """Create, update, upsert and delete do what they say; a deleted record leaves its version behind in the file."""
    with unit(ledger) as uow:
        uow["archive"].create_many({"a": {"n": 1}, "b": {"n": 1}, "c": [1, "ä"]})
    with unit(ledger) as uow:
        uow["archive"].update("a", {"n": 2})
        uow["archive"].upsert("d", None)
        uow["archive"].delete("b")
    assert kept(tmp_path) == {"a": '{"n":2}', "b": None, "c": '[1,"ä"]', "d": "null"}
    assert list(ledger["archive"].keys(space_id=SPACE)) == ["a", "c", "d"]
    assert ledger["archive"].get("b", "gone", space_id=SPACE) == "gone"
    with pytest.raises(RecordExists), unit(ledger) as uow:
        uow["archive"].create("a", {})
    with pytest.raises(RecordMissing), unit(ledger) as uow:
        uow["archive"].update("b", {})
    with pytest.raises(RecordMissing), unit(ledger) as uow:
        uow["archive"].delete("b")
    assert kept(tmp_path)["a"] == '{"n":2}'
    assert [write.bytes_written for write in ledger.get(ledger.units(status="committed")[0].uow_id).writes] == [7, 4, 0]


@pytest.mark.parametrize("flush", [False, True], ids=["waiting", "applied"])
def test_a_unit_sees_its_own_writes_and_nobody_else_does(ledger: Ledger, tmp_path: Path, flush: bool) -> None:
    """Before the decision the file holds nothing of the unit, whether its writes wait or were applied."""
    put(ledger, "a", 1)
    with unit(ledger) as uow:
        uow["archive"].update("a", 2)
        uow["archive"].create("b", 3)
        if flush:
            uow.sql("SELECT 1")
        assert uow["archive"].get_many(["a", "b"]) == {"a": 2, "b": 3}
        uow["archive"].delete("b")
        assert uow["archive"].get("b") is None
        assert kept(tmp_path) == {"a": "1"}
        assert ledger["archive"].get("a", space_id=SPACE) == 1
    assert kept(tmp_path) == {"a": "2", "b": None}


def test_a_failed_unit_leaves_nothing_in_the_file(ledger: Ledger, tmp_path: Path) -> None:
    """An exception after a flush, and a refusal of another store at commit, keep everything out of the file."""
    put(ledger, "a", 1)
    with pytest.raises(ZeroDivisionError), unit(ledger) as uow:
        uow["archive"].update("a", 2)
        uow.sql("SELECT 1")
        _ = 1 / 0
    with pytest.raises(RecordMissing), unit(ledger) as uow:
        uow["archive"].update("a", 3)
        uow["notes"].delete("nowhere")
    assert kept(tmp_path) == {"a": "1"}
    ledger.recover()
    assert rows(tmp_path / "memory.db", "SELECT count(*) FROM uow_redo") == [(0,)]


def test_a_record_that_changed_meanwhile(ledger: Ledger) -> None:
    """A unit that read a record and writes it conflicts with one that changed it in between."""
    put(ledger, "a", 1)
    with pytest.raises(ConflictError), unit(ledger) as uow:
        value = uow["archive"].get("a")
        with ledger.unit(space_id=SPACE, band="GREEN", nested="independent") as other:
            other["archive"].update("a", 5)
        uow["archive"].update("a", value + 1)
    assert ledger["archive"].get("a", space_id=SPACE) == 5


def test_several_files_in_one_unit(tmp_path: Path) -> None:
    """Three second files and the ledger's own agree after each unit, committed or not."""
    names = ["one", "two", "three"]
    with open_ledger(tmp_path, *names) as ledger:
        with unit(ledger) as uow:
            for name in ("notes", *names):
                uow[name].create("k", {"in": name})
        with pytest.raises(RecordExists), unit(ledger) as uow:
            for name in ("one", "two"):
                uow[name].update("k", 0)
            uow["three"].create("k", 0)
        assert [kept(tmp_path, name) for name in names] == [{"k": f'{{"in":"{name}"}}'} for name in names]
        assert uow.error is not None
        assert ledger.units(limit=1)[0].failed_store == "three"


@pytest.mark.parametrize(
    "change", ["UPDATE uow_records SET value = '2'", "DELETE FROM uow_records", "UPDATE uow_records SET value = NULL"]
)
def test_tampering_is_noticed(ledger: Ledger, tmp_path: Path, change: str) -> None:
    """A value that somebody changed in the file is not passed off as what was written."""
    put(ledger, "a", 1)
    ledger.recover()  # until then the ledger has the value as well
    with closing(sqlite3.connect(tmp_path / "archive.db")) as connection, connection:
        connection.execute(change)
    with pytest.raises(StoreError, match="not as this library wrote it"):
        ledger["archive"].get("a", space_id=SPACE)
    put(ledger, "a", 3)
    assert ledger["archive"].get("a", space_id=SPACE) == 3


# Where the file is


def test_a_relative_path_starts_at_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the working directory, which may be another one next time."""
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with open_ledger(tmp_path / "data") as ledger:
        put(ledger, "a", 1)
    assert (tmp_path / "data" / "archive.db").exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_file_stays(tmp_path: Path) -> None:
    """A ledger that keeps a store in one file is not opened with another one for it."""
    open_ledger(tmp_path).close()
    with pytest.raises(UsageError, match=r"lies in 'archive\.db', not in 'other\.db'"):
        Ledger.open(tmp_path / "memory.db", stores=[SQLiteFileStore("archive", "other.db")])
    same = SQLiteFileStore("archive", tmp_path / "x" / ".." / "archive.db")
    Ledger.open(tmp_path / "memory.db", stores=[same]).close()


def test_a_ledger_that_moved_takes_its_file_along(tmp_path: Path) -> None:
    """Ledger and file, moved to another directory together, go on as before."""
    (tmp_path / "old").mkdir()
    with open_ledger(tmp_path / "old") as ledger:
        put(ledger, "a", 1)
    (tmp_path / "old").rename(tmp_path / "new")
    with open_ledger(tmp_path / "new") as ledger:
        put(ledger, "b", 2)
        assert ledger["archive"].get("a", space_id=SPACE) == 1
    assert kept(tmp_path / "new") == {"a": "1", "b": "2"}


def test_a_missing_file_is_not_made_anew(tmp_path: Path) -> None:
    """A ledger whose second file was lost is refused, and opens again once it is back."""
    with open_ledger(tmp_path) as ledger:
        put(ledger, "a", 1)
    (tmp_path / "archive.db").rename(tmp_path / "lost.db")
    with pytest.raises(StoreError, match="is missing") as caught:
        open_ledger(tmp_path)
    assert caught.value.store == "archive"
    assert not (tmp_path / "archive.db").exists()
    (tmp_path / "lost.db").rename(tmp_path / "archive.db")
    with open_ledger(tmp_path) as ledger:
        assert ledger["archive"].get("a", space_id=SPACE) == 1


def foreign_database(path: Path) -> None:
    """Some application's database."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE mine (x)")


def other_ledgers_file(path: Path) -> None:
    """A second file that another ledger owns."""
    path.with_name("other").mkdir()
    with open_ledger(path.with_name("other")) as other:
        put(other, "a", 99)
    shutil.copy(path.with_name("other") / "archive.db", path)


@pytest.mark.parametrize("make", [foreign_database, other_ledgers_file])
def test_another_file_in_its_place_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A file that is not this ledger's is neither read nor written under its name."""
    with open_ledger(tmp_path) as ledger:
        put(ledger, "a", 1)
    for part in tmp_path.glob("archive.db*"):
        part.unlink()
    make(tmp_path / "archive.db")
    before = (tmp_path / "archive.db").read_bytes()
    with pytest.raises(StoreError, match=r"no file of this store|of another ledger"):
        open_ledger(tmp_path)
    assert (tmp_path / "archive.db").read_bytes() == before


@pytest.mark.parametrize("content", [b"no database at all" * 50, b"SQLite format 3\0" + b"x" * 2000])
def test_what_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file of another kind is left as it is."""
    (tmp_path / "archive.db").write_bytes(content)
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        open_ledger(tmp_path)
    assert (tmp_path / "archive.db").read_bytes() == content


def test_two_ledgers_cannot_have_one_file(tmp_path: Path) -> None:
    """The second that claims a file is refused, and the first one's records are untouched."""
    with open_ledger(tmp_path) as ledger:
        put(ledger, "a", 1)
        with pytest.raises(StoreError, match="belongs to the store 'archive' of another ledger"):
            Ledger.open(tmp_path / "second.db", stores=[SQLiteFileStore("archive", "archive.db")])
        put(ledger, "b", 2)
    assert kept(tmp_path) == {"a": "1", "b": "2"}


def test_two_stores_cannot_have_one_file(tmp_path: Path) -> None:
    """Nor can two stores of one ledger."""
    both = [SQLiteFileStore("archive", "archive.db"), SQLiteFileStore("twin", "archive.db")]
    with pytest.raises(StoreError, match="of its own"):
        Ledger.open(tmp_path / "memory.db", stores=both)


def test_a_file_that_vanishes_while_it_is_open(ledger: Ledger, tmp_path: Path) -> None:
    """What is decided is not written into a file that nobody can find again: it waits until the file is back."""
    put(ledger, "a", 1)
    (tmp_path / "away").mkdir()
    for part in tmp_path.glob("archive.db*"):
        part.rename(tmp_path / "away" / part.name)
    uow = put(ledger, "a", 2)
    assert (uow.status, uow.in_doubt) == ("committed", ("archive",))
    assert not (tmp_path / "archive.db").exists()
    assert ledger["archive"].get("a", space_id=SPACE) == 2
    put(ledger, "n", 1, store="notes")
    for part in (tmp_path / "away").iterdir():
        part.rename(tmp_path / part.name)
    assert ledger.recover().rolled_forward == (uow.uow_id,)
    assert kept(tmp_path) == {"a": "2"}


def test_a_file_that_is_swapped_while_it_is_open(ledger: Ledger, tmp_path: Path) -> None:
    """Nothing is written into a file of somebody else that was put in its place."""
    put(ledger, "a", 1)
    (tmp_path / "away").mkdir()
    for part in tmp_path.glob("archive.db*"):
        part.rename(tmp_path / "away" / part.name)
    foreign_database(tmp_path / "archive.db")
    before = (tmp_path / "archive.db").read_bytes()
    uow = put(ledger, "a", 2)
    assert uow.in_doubt == ("archive",)
    assert (tmp_path / "archive.db").read_bytes() == before


def test_a_locked_file_is_asked_again(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another program holds the file's lock for too long, the unit is committed and waits for it."""
    monkeypatch.setattr("memoryos_uow.stores._second_file._WAIT_MS", 0)
    ledger.recover()
    ledger._opened.store("archive").close()
    with locked(tmp_path / "archive.db"):
        uow = put(ledger, "a", 1)
        assert uow.in_doubt == ("archive",)
        assert ledger.get(uow.uow_id).error_type == "StoreUnavailable"
        assert ledger.recover().in_doubt == (uow.uow_id,)
    assert ledger.recover().rolled_forward == (uow.uow_id,)
    assert kept(tmp_path) == {"a": "1"}


def test_the_file_after_a_fork(ledger: Ledger, tmp_path: Path) -> None:
    """A child that opens the ledger for itself and its parent both go on writing to the file."""
    put(ledger, "a", 1)

    def write() -> None:
        with open_ledger(tmp_path) as own:
            put(own, "child", 1)

    assert fork(write).wait() == (None, "")
    put(ledger, "b", 2)
    assert kept(tmp_path) == {"a": "1", "b": "2", "child": "1"}


def test_a_ledger_that_may_only_be_read(tmp_path: Path) -> None:
    """Where nothing may be written, documents in the second file are read all the same."""
    place = tmp_path / "place"
    place.mkdir()
    with open_ledger(place) as ledger:
        put(ledger, "a", {"n": 1})
    for path in place.iterdir():
        path.chmod(0o444)
    place.chmod(0o555)
    let_everybody_reach(place)

    def read() -> tuple[bool, Any]:
        with open_ledger(place) as ledger:
            return ledger.read_only, ledger["archive"].get("a", space_id=SPACE)

    try:
        assert without_rights(read) == (True, {"n": 1})
    finally:
        place.chmod(0o755)


# Down to 1.0.0 and up again


def down(directory: Path) -> None:
    """Migrate down in full."""
    with closing(sqlite3.connect(directory / "memory.db", isolation_level=None)) as connection:
        migrate_down(connection, directory / "memory.db")


def test_versions_go_on_after_down_and_up(tmp_path: Path) -> None:
    """The new history begins beyond every version that the file keeps, of deleted records too."""
    with open_ledger(tmp_path) as ledger:
        put(ledger, "k1", 1)
        put(ledger, "k2", 1)
        with unit(ledger) as uow:
            uow["archive"].delete("k2")
    down(tmp_path)
    with open_ledger(tmp_path) as ledger:
        put(ledger, "k2", 2)
        assert ledger["archive"].get("k2", space_id=SPACE) == 2
    assert kept(tmp_path) == {"k1": "1", "k2": "2"}


def test_a_ledger_with_units_in_doubt_does_not_go_down(tmp_path: Path) -> None:
    """1.0.0 could not finish them: recover first. Softly it goes, for that keeps what recovery needs."""
    with open_ledger(tmp_path) as ledger:
        put(ledger, "a", 1)
    (tmp_path / "archive.db").rename(tmp_path / "away.db")
    with Ledger.open(tmp_path / "memory.db", stores=[DocumentStore("notes")]) as ledger:
        ledger.recover()
    (tmp_path / "away.db").rename(tmp_path / "archive.db")
    with closing(sqlite3.connect(tmp_path / "memory.db")) as connection, connection:
        connection.execute("INSERT INTO uow_coordination VALUES ('u1', 'committed', 1, 'x', 0, '{}', '{}')")
    before = rows(tmp_path / "memory.db", "SELECT name, sql FROM sqlite_schema")
    with pytest.raises(MigrationError, match=r"1 units that are at work or in doubt.*run recover"):
        down(tmp_path)
    assert rows(tmp_path / "memory.db", "SELECT name, sql FROM sqlite_schema") == before
    assert [path.name for path in tmp_path.iterdir() if "before" in path.name] == []
    with open_ledger(tmp_path) as ledger:
        ledger.recover()
    down(tmp_path)
