"""The file beside the ledger is disposable: whatever becomes of it or of the ledger, answers stay right."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Ledger
from memoryos_uow._statistics import facts, side
from tests.schema_files import make_1_0_0
from tests.statistics.rows import Unit, make, put

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def count(path: Path, **options: object) -> int:
    """How many units statistics know of."""
    with Ledger.open(path, recover=False) as ledger:
        return ledger.stats(**options).total.units  # type: ignore[arg-type]


def execute(path: Path, sql: str) -> None:
    """Change a file behind everybody's back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(sql)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A ledger of three units, asked once."""
    path = make(tmp_path / "ledger.db")
    put(path, [Unit(us=10), Unit(us=20), Unit(us=30, space="bob", actor="the-actor")])
    assert count(path) == 3
    return path


def test_only_new_units_are_read(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second answer reads what was added since, and nothing before."""
    seen: list[int] = []

    def read(reader: Any, **more: Any) -> Iterator[Any]:
        seen.append(more["after"])
        return facts.read(reader, **more)

    monkeypatch.setattr(side, "read", read)
    put(ledger, [Unit()])
    assert count(ledger) == 4
    assert seen == [3]


def test_file_has_the_ledgers_permissions(tmp_path: Path) -> None:
    """Nobody may read the file who may not read the ledger."""
    path = make(tmp_path / "ledger.db")
    path.chmod(0o600)
    count(path)
    assert stat.S_IMODE(side.side_file(path).stat().st_mode) == 0o600


def test_unknown_durations_are_looked_at_again(ledger: Path) -> None:
    """A unit whose durations come later is counted at once, and its durations as soon as they are there."""
    put(ledger, [Unit(us=None)])
    with Ledger.open(ledger) as opened:
        before = opened.stats().total
        execute(ledger, "UPDATE uow_ledger SET execution_us = 40, commit_us = 20 WHERE execution_us IS NULL")
        after = opened.stats(by="space").total
        assert opened.stats().total == after
    assert (before.units, before.execution.count, after.units, after.execution.max_us) == (4, 3, 4, 40)


def test_units_without_durations_are_counted_once_where_rows_are_read(ledger: Path) -> None:
    """A unit that waits for its durations is not counted again by questions that read rows."""
    put(ledger, [Unit(us=None)])
    assert count(ledger, space_id="alice", by="day") == 3
    assert count(ledger, since="2026-11-22T19:00:01Z", by="space") == 4


def test_units_that_never_get_durations_are_given_up(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many are looked at again and again; the oldest are taken as they are."""
    monkeypatch.setattr(side, "_LOOKED_AT_AGAIN_MAX", 2)
    put(ledger, [Unit(us=None)] * 5)
    assert [count(ledger), count(ledger)] == [8, 8]
    with closing(sqlite3.connect(side.side_file(ledger))) as connection:
        assert [row for (row,) in connection.execute("SELECT row FROM waiting")] == [7, 8]


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM unit_of_work WHERE rowid = 3",
        "UPDATE unit_of_work SET uow_id = 'another' WHERE rowid = 3",
        "UPDATE uow_identity SET ledger_id = 'another'",
        "INSERT INTO uow_sealed VALUES (1, x'00', 'tombstone')",
        "INSERT INTO uow_epochs VALUES (2, 3, 'head', '')",
    ],
)
def test_another_state_of_the_ledger_is_read_anew(ledger: Path, change: str) -> None:
    """A ledger that was put back, replaced, or erased from is read from its beginning."""
    execute(ledger, "UPDATE unit_of_work SET retry_count = 5 WHERE rowid = 1")
    execute(ledger, change)
    with Ledger.open(ledger, recover=False) as opened:
        assert opened.stats().total.retries == 5


def test_a_copy_put_back_is_noticed(ledger: Path, tmp_path: Path) -> None:
    """A ledger restored from a copy, which then went another way, is counted as it is now."""
    shutil.copy(ledger, tmp_path / "copy.db")
    put(ledger, [Unit(), Unit()])
    assert count(ledger) == 5
    shutil.copy(tmp_path / "copy.db", ledger)
    for ending in ("-wal", "-shm"):
        ledger.with_name(ledger.name + ending).unlink(missing_ok=True)
    put(ledger, [Unit(space="carol")])
    assert (count(ledger), count(ledger, space_id="carol")) == (4, 1)


def test_migrating_makes_it_anew(tmp_path: Path) -> None:
    """What was added up of a 1.0.0 ledger is not taken for what 1.1.0 tells."""
    path = tmp_path / "ledger.db"
    make_1_0_0(path, units=3)
    with Ledger.open(path, migrate=False) as ledger:
        assert ledger.stats().total.units == 3
    assert count(path, band="GREEN") == 0
    assert count(path) == 3


@pytest.mark.parametrize("damage", ["cut", "garbage inside", "another layout", "empty"])
def test_a_damaged_file_is_no_matter(ledger: Path, damage: str) -> None:
    """A file that is damaged, or of another version, is made anew, and the answer is right."""
    file = side.side_file(ledger)
    if damage == "cut":
        os.truncate(file, 3 * 4096)
    elif damage == "garbage inside":
        with file.open("r+b") as opened:
            opened.seek(4096)
            opened.write(b"\xff" * 8192)
    elif damage == "another layout":
        execute(file, "UPDATE layout SET text = '0 middle'")
    else:
        os.truncate(file, 0)
    assert [count(ledger), count(ledger)] == [3, 3]
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT through FROM known").fetchone() == (3,)


@pytest.mark.parametrize("sort", ["file", "link", "database", "directory"])
def test_what_somebody_else_put_there_is_left_alone(ledger: Path, tmp_path: Path, sort: str) -> None:
    """A file of another program at that place is neither written nor removed; the answer is right without it."""
    file = side.side_file(ledger)
    file.unlink()
    if sort == "file":
        file.write_bytes(b"notes of my own")
    elif sort == "link":
        file.symlink_to(tmp_path / "elsewhere")
    elif sort == "directory":
        file.mkdir()
    else:
        execute(file, "CREATE TABLE mine (x)")
    before = file.read_bytes() if file.is_file() else b""
    assert count(ledger) == 3
    side.forget(ledger)
    assert (file.read_bytes() if file.is_file() else b"") == before
    assert not (tmp_path / "elsewhere").exists()


def test_a_directory_that_cannot_be_written_is_no_hindrance(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no file can be made everything is added up in memory."""
    side.forget(ledger)
    monkeypatch.setattr(side, "is_writable", lambda _path: False)
    assert count(ledger, by="space") == 3
    assert not side.side_file(ledger).exists()


def test_a_file_that_others_keep_locked_is_passed_over(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever cannot get at the file answers without it, and leaves it as it is."""
    monkeypatch.setattr(side, "_WAIT_S", 0.0)
    put(ledger, [Unit()])
    with closing(sqlite3.connect(side.side_file(ledger), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert count(ledger) == 4
        assert other.execute("SELECT through FROM known").fetchone() == (3,)


def test_several_that_ask_at_once_get_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that ask while the first answer is made count every unit once."""
    monkeypatch.setattr(side, "_ROWS_BETWEEN_COMMITS", 7)
    path = make(tmp_path / "ledger.db")
    put(path, [Unit(us=number) for number in range(100)])
    found: list[tuple[int, int | None]] = []
    with Ledger.open(path) as ledger:

        def ask() -> None:
            total = ledger.stats(by="space").total
            found.append((total.units, total.execution.max_us))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [(100, 99)] * 4


def test_erasing_removes_the_file(tmp_path: Path) -> None:
    """What an erased unit said of its actor is in no file beside the ledger."""
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        with ledger.unit(space_id="alice", band="GREEN", actor_id="the-actor") as uow:
            uow["notes"].create("n1", {})
        assert [one.name for one in ledger.stats(by="actor").groups] == ["the-actor"]
        assert b"the-actor" in side.side_file(ledger.path).read_bytes()
        ledger.erase(space_id="alice", store="notes", key="n1", forget_context=True)
        assert not side.side_file(ledger.path).exists()
        assert "the-actor" not in [one.name for one in ledger.stats(by="actor").groups]
    assert b"the-actor" not in side.side_file(ledger.path).read_bytes()


def test_many_names_are_not_all_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tallies that were written may be dropped from memory and go on later."""
    monkeypatch.setattr(side, "_IN_MEMORY_MAX", 2)
    monkeypatch.setattr(side, "_ROWS_BETWEEN_COMMITS", 3)
    monkeypatch.setattr("memoryos_uow._statistics.facts._ROWS_AT_ONCE", 3)
    path = make(tmp_path / "ledger.db")
    put(path, [Unit(space=f"space-{number % 4}") for number in range(12)])
    with Ledger.open(path) as ledger:
        assert [one.units for one in ledger.stats(by="space").groups] == [3, 3, 3, 3]


def test_progress_is_told(tmp_path: Path) -> None:
    """Reading new units says how far it is; nothing new says nothing."""
    path, told = make(tmp_path / "ledger.db"), list[str]()
    put(path, [Unit()] * 3)
    with Ledger.open(path) as ledger:
        ledger.stats(progress=told.append)
        ledger.stats(progress=told.append)
    assert told == ["100 % of 3 new units read"]
