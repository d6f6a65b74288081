"""What the explorer and the simulation have found in this library, each as a small test of its own."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import Ledger, LedgerError, UnitOfWorkError, _coordination, _durable, _wal
from memoryos_uow._migrations import migrate_down
from memoryos_uow._publishing import Publishing
from memoryos_uow._recovery import Recovery
from memoryos_uow.engines.sqlite import SQLiteEngine
from memoryos_uow.stores import SQLiteFileStore, _blobs, _files
from memoryos_uow.stores._second_file import SecondFile
from memoryos_uow.stores._stage import Stage
from memoryos_uow.testing import fault_points
from tests.crash import programs
from tests.crash.steps import SPACE, six_stores
from tests.leftovers import EFFECTS, at_effect, begun, dies, open_ledger, versions, write
from tests.units import rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from memoryos_uow._coordination import Unsettled
    from memoryos_uow.abc import Reader


def test_ledger_that_cannot_be_read_after_the_decision_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The block ends well, since the unit is committed; what it owes to stores outside is left to recovery."""

    def unreadable(*_: object, **__: object) -> None:
        raise LedgerError("The disk failed.")

    with Ledger.open(tmp_path / "memory.db", stores=six_stores()) as ledger:
        with monkeypatch.context() as patched:
            patched.setattr(Publishing, "show", unreadable)
            with ledger.unit(space_id=SPACE, band="GREEN") as uow:
                uow["notes"].create("n1", {"text": "here"})
                uow["archive"].create("n1", {"text": "there"})
        assert uow.status == "committed"
        assert ledger.recover().rolled_forward == (uow.uow_id,)
        assert ledger["archive"].get("n1", space_id=SPACE) == {"text": "there"}


def test_bytes_are_removed_only_after_the_log_is_synced(tmp_path: Path) -> None:
    """A sweep may follow a delete that a power cut would take back, so it syncs that first."""
    programs.four(tmp_path)
    with programs.open_ledger(tmp_path) as ledger:
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["photos"].delete("deep/d1")
        with fault_points() as points:
            ledger.recover()
    assert "os.unlink" in points.names
    assert "os.fsync" in points.names[: points.names.index("os.unlink")]


def test_second_file_is_synced_although_nothing_changes_in_it(tmp_path: Path) -> None:
    """Redoing what a killed process had written already writes nothing: its own sync has to be asked for."""
    place = begun(tmp_path / "ledger")
    dies(place, "PUBLISH", after=True)
    with open_ledger(place, recover=False) as ledger, fault_points() as points:
        assert len(ledger.recover().rolled_forward) == 1
    applied = points.names.index("sqlite3.Connection.executemany")  # of the second file: the ledger's has another class
    assert "os.fsync" in points.names[applied : points.names.index("sqlite3._Connection.executemany", applied)]


def test_second_file_is_synced_before_the_ledger_forgets(tmp_path: Path) -> None:
    """Many units wait for the disk together there; until then the ledger keeps what a power cut could take from it."""
    (tmp_path / "six").touch()
    programs.four(tmp_path)
    with fault_points() as points, programs.open_ledger(tmp_path) as ledger:
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["archive"].update("n0", {"n": 1})
        shown = len(points.names)
        begin = shown - 1 - points.names[::-1].index("sqlite3.Connection.executemany")
        assert "os.fsync" not in points.names[begin:]
        ledger.recover()
        assert points.names.index("os.fsync", shown) < points.names.index("sqlite3._Connection.executemany", shown)
        assert rows(tmp_path / "memory.db", "SELECT count(*) FROM uow_redo") == [(0,)]


def test_relaxed_decision_is_synced_before_it_is_published(tmp_path: Path) -> None:
    """With durability="normal" a store outside the ledger is shown nothing that a power cut could take back."""
    programs.six_normal(tmp_path)
    with (
        programs.open_ledger(tmp_path) as ledger,
        fault_points() as points,
        ledger.unit(space_id=SPACE, band="GREEN") as uow,
    ):
        uow["archive"].update("n0", {"n": 1})
    publishing = len(points.names) - 1 - points.names[::-1].index("sqlite3.Connection.executemany")
    assert "os.fsync" in points.names[:publishing]


def test_directories_are_durable_before_files_are_renamed_into_them(tmp_path: Path) -> None:
    """A file that was renamed into a directory which a power cut takes away would be lost under both its names."""
    (tmp_path / "six").touch()
    with (
        programs.open_ledger(tmp_path) as ledger,
        fault_points() as points,
        ledger.unit(space_id=SPACE, band="GREEN") as uow,
    ):
        uow["files"].create("new/deep/file", b"content")
    published = len(points.names) - 1 - points.names[::-1].index("os.replace")
    made = published - 1 - points.names[:published][::-1].index("os.mkdir")
    assert points.names[made:published].count("os.fsync") == 3  # the root, the space, new


def test_stores_mark_their_places_only_once_the_ledger_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut that took the ledger's identity and left the marks would make its stores another's for ever."""
    seen: list[str] = []
    for where, name in ((SQLiteEngine, "sync_log"), (SecondFile, "claim"), (_blobs, "stake"), (_files, "stake")):
        real = getattr(where, name)

        def noted(*arguments: object, real: Callable[..., object] = real, name: str = name) -> object:
            seen.append(name)
            return real(*arguments)

        monkeypatch.setattr(where, name, noted)
    (tmp_path / "six").touch()
    with programs.open_ledger(tmp_path):
        assert {*seen[1:]} == {"claim", "stake"}
    assert seen[0] == "sync_log"


# By the simulation: each of these is one of its seeded faults now


def test_unit_decided_since_the_look_is_not_abandoned(tmp_path: Path) -> None:
    """A recoverer sees an intent whose lease is over; its owner wakes up and decides; then nobody may undo it."""
    with open_ledger(begun(tmp_path / "ledger")) as ledger:
        engine = ledger._opened.engine
        intended = {"band": "GREEN", "space_id": SPACE, "created_ts": "2026-01-01T00:00:00.000000Z"}
        seen: list[Unsettled] = []
        for act in (
            lambda tx: _coordination.insert(tx, "u1", decided=False, unit=intended, plan={}),
            lambda tx: _coordination.decide(tx, "u1"),
        ):
            with engine.reader() as reader:
                seen = _coordination.unsettled(reader)
            tx = engine.begin()
            act(tx)
            tx.commit()
        tx = engine.begin()
        assert [one.decided for one in seen] == [False]
        assert _coordination.take_over(tx, seen) == []
        tx.rollback()


def test_takeover_is_synced_before_anything_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit in which the owner died may be in the log unseen; no power cut may bring it back without its bytes."""
    place = begun(tmp_path / "ledger")
    dies(place, "DECIDE", after=False)
    seen: list[str] = []
    for where, name in ((_coordination, "take_over"), (SQLiteEngine, "sync_log"), (Recovery, "_abandon")):
        real = getattr(where, name)

        def noted(*arguments: object, real: Callable[..., object] = real, name: str = name) -> object:
            seen.append(name)
            return real(*arguments)

        monkeypatch.setattr(where, name, noted)
    open_ledger(place).close()
    assert seen == ["take_over", "sync_log", "_abandon"]


def test_sweep_spares_what_a_lost_commit_in_the_log_refers_to(tmp_path: Path) -> None:
    """A process died in its commit, after the log had it and before others could see it: it must not come back torn."""
    place, other, after = begun(tmp_path / "ledger"), tmp_path / "other", tmp_path / "after"
    with open_ledger(place) as ledger:
        write(ledger, 2)
        ledger.recover()  # no row is left to be written, which would write over the log
        shutil.copytree(place, other)
        with open_ledger(other) as dying:
            with dying.unit(space_id=SPACE, band="GREEN") as uow:
                uow.sql("SELECT 1")  # from here it holds the lock, so it has no intent
                uow["photos"].create("lost", b"x" * 100)
            shutil.copytree(other / "photos", place / "photos", dirs_exist_ok=True)
            with (place / "memory.db-wal").open("r+b") as log:  # the same file, which the open ledger uses
                log.write((other / "memory.db-wal").read_bytes())
        assert ledger["photos"].get("lost", space_id=SPACE) is None
        assert _wal.goes_on_after(place / "memory.db", _frames(ledger))
        ledger.recover()
        assert not _wal.goes_on_after(place / "memory.db", _frames(ledger))
        shutil.copytree(place, after, ignore=shutil.ignore_patterns("*-shm"))  # as all processes die
    with open_ledger(after) as ledger:
        assert list(ledger["photos"].keys(space_id=SPACE)) == ["k"]
        assert versions(ledger) == {2}
        assert len(list((after / "photos").glob("*/??/*"))) == 1


def _frames(ledger: Ledger) -> int:
    with ledger._opened.engine.reader() as reader:
        return int(reader.rows("PRAGMA wal_checkpoint(PASSIVE)")[0][1])


def test_sweep_is_put_off_while_the_end_of_the_log_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that cannot be read may hold anything, so nothing is removed, and nothing fails."""

    def unreadable(*_: object) -> bool:
        raise PermissionError

    monkeypatch.setattr(_wal, "goes_on_after", unreadable)
    monkeypatch.setattr("memoryos_uow._recovery.delay_s", lambda *_: 0.0)
    with open_ledger(begun(tmp_path / "ledger")) as ledger:
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["photos"].delete("k")
        ledger.recover()
        assert len(list((tmp_path / "ledger" / "photos").glob("*/??/*"))) == 1
        monkeypatch.undo()
        ledger.recover()
        assert not list((tmp_path / "ledger" / "photos").glob("*/??/*"))


def test_file_gives_way_only_to_a_newer_unit_that_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With durability="normal" a power cut may take back the newer unit; what it asks for cannot be undone then."""
    seen: list[str] = []

    def sync(reader: Reader) -> None:
        seen.append("sync")
        _durable.make_durable(reader)

    monkeypatch.setattr("memoryos_uow.stores._files.make_durable", sync)
    for name in ("clear", "locked"):
        real_one = getattr(Stage, name)

        def noted(*arguments: object, name: str = name, real: Callable[..., object] = real_one) -> object:
            seen.append(name)
            return real(*arguments)

        monkeypatch.setattr(Stage, name, noted)
    with open_ledger(begun(tmp_path / "ledger")) as ledger:

        def put(content: bytes | None) -> None:
            seen.clear()
            with ledger.unit(space_id=SPACE, band="GREEN", nested="independent") as uow:
                if content is None:
                    uow["files"].delete("k")
                else:
                    uow["files"].upsert("k", content)

        def overtake(content: bytes | None) -> None:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(Publishing, "show", _silent)
                put(content)

        put(b"2")
        assert seen == ["locked", "clear"]
        put(None)
        assert seen == ["locked", "sync", "clear"]
        for content in (b"4", None):
            at_effect(ledger, EFFECTS.index("PUBLISH"), partial(overtake, content), after=False)
            put(b"3")
            assert seen == ["locked", "sync", "clear"]
            ledger.recover()
            assert ledger["files"].get("k", space_id=SPACE) == content


def _silent(*_: object, **__: object) -> tuple[dict[str, UnitOfWorkError], list[object]]:
    return {"files": UnitOfWorkError("Not now.")}, []


def test_second_file_follows_after_basic_mode(tmp_path: Path) -> None:
    """Softly down, units in basic mode, and up again: a later unit is not numbered below one that a store has seen."""
    path = tmp_path / "memory.db"

    def put(number: int, *, migrate: bool) -> None:
        stores = [SQLiteFileStore("archive", "archive.db")]
        with (
            Ledger.open(path, stores=stores, migrate=migrate) as ledger,
            ledger.unit(space_id=SPACE, band="GREEN") as uow,
        ):
            uow["archive"].upsert("k", {"n": number})

    put(1, migrate=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate_down(connection, path, soft=True)
    for number in (2, 3, 4):
        put(number, migrate=False)
    put(5, migrate=True)
    assert [value for (value,) in rows(tmp_path / "archive.db", "SELECT value FROM uow_records")] == ['{"n":5}']
