"""Units that wait for a store's sync: together, not for long, and without harm when the store cannot."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from memoryos_uow import Ledger, StoreUnavailable, _unsynced
from memoryos_uow._unsynced import Unsynced
from memoryos_uow.stores import DocumentStore, SQLiteFileStore
from memoryos_uow.testing._forks import fork
from tests.units import SPACE, rows

if TYPE_CHECKING:
    from pathlib import Path

    from memoryos_uow import UnitOfWork
    from memoryos_uow.abc import LazyPublisher


class Lazy:
    """The part of a store that is asked for here; `broken` makes it fail."""

    def __init__(self, name: str, *, broken: Exception | None = None) -> None:
        self.name = name
        self.broken = broken
        self.syncs = 0

    def make_durable(self) -> None:
        """Count, or fail."""
        self.syncs += 1
        if self.broken is not None:
            raise self.broken


class Waiting:
    """`Unsynced` with what it tells others."""

    def __init__(self) -> None:
        self.settled: list[str] = []
        self.asked = threading.Event()
        self.at_work: set[str] = set()
        self.unsynced = Unsynced(settled=self.settled.append, settle=self.settle, at_work=self.at_work)

    def settle(self) -> None:
        """What the thread calls."""
        self.unsynced.sync()
        self.asked.set()

    def add(self, uow_id: str, *stores: Lazy, size: int = 1) -> None:
        """A unit at work comes to wait."""
        self.at_work.add(uow_id)
        self.unsynced.add(uow_id, [cast("LazyPublisher", store) for store in stores], size)


def open_ledger(directory: Path) -> Ledger:
    """A ledger with documents in its own file and in a second one."""
    return Ledger.open(directory / "memory.db", stores=[DocumentStore("notes"), SQLiteFileStore("archive", "a.db")])


def put(ledger: Ledger, key: str, store: str = "archive") -> UnitOfWork:
    """One record in a unit of its own."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow[store].upsert(key, 1)
    return uow


def test_many_units_wait_for_one_sync() -> None:
    """Nothing is settled before the store was synced, and then everything is; recovery may have it from then on."""
    waiting, store = Waiting(), Lazy("archive")
    for number in range(_unsynced.UNITS_MAX - 1):
        waiting.add(f"u{number}", store)
    assert (store.syncs, waiting.settled, len(waiting.at_work)) == (0, [], _unsynced.UNITS_MAX - 1)
    assert "u0" in waiting.unsynced
    waiting.add("last", store)
    assert store.syncs == 1
    assert (waiting.settled[0], waiting.settled[-1], len(waiting.settled)) == ("u0", "last", _unsynced.UNITS_MAX)
    assert waiting.at_work == set()
    assert "u0" not in waiting.unsynced
    waiting.unsynced.stop()


def test_so_many_bytes_are_enough() -> None:
    """What the ledger keeps meanwhile does not grow without bounds."""
    waiting, store = Waiting(), Lazy("archive")
    waiting.add("small", store)
    waiting.add("large", store, size=_unsynced.BYTES_MAX)
    assert waiting.settled == ["small", "large"]
    waiting.unsynced.stop()


@pytest.mark.parametrize("problem", [StoreUnavailable("Not now."), ZeroDivisionError()])
def test_a_store_that_cannot_sync_settles_nothing(problem: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """Its units are left to recovery, whatever it raises; those of other stores are settled, and nobody is told off."""
    waiting, sound, broken = Waiting(), Lazy("sound"), Lazy("broken", broken=problem)
    waiting.add("one", sound)
    waiting.add("both", sound, broken)
    waiting.add("other", broken)
    with caplog.at_level(logging.WARNING, "memoryos_uow"):
        waiting.unsynced.sync()
    assert waiting.settled == ["one"]
    assert waiting.at_work == set()
    assert (sound.syncs, broken.syncs) == (1, 1)
    assert [r.message for r in caplog.records] == [
        f"uow.sync_delayed stores=['broken'] reason={type(problem).__name__}"
    ]
    waiting.unsynced.stop()


def test_none_waits_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """When no more units come, a thread settles those that wait, and ends when none does; the next one starts again."""
    monkeypatch.setattr(_unsynced, "IDLE_S", 0.001)
    waiting, store = Waiting(), Lazy("archive")
    for number in range(2):
        waiting.asked.clear()
        waiting.add(f"u{number}", store)
        assert waiting.asked.wait(10)
        while waiting.unsynced._thread is not None:
            time.sleep(0)
    assert waiting.settled == ["u0", "u1"]


def test_what_comes_while_the_thread_is_at_it_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit that comes to wait just after the sync is settled by the same thread, one idle time later."""
    monkeypatch.setattr(_unsynced, "IDLE_S", 0.001)
    waiting, store = Waiting(), Lazy("archive")
    settle, times = waiting.settle, []

    def settle_and_add() -> None:
        times.append(threading.current_thread())
        settle()
        if len(times) == 1:
            waiting.add("late", store)
            waiting.asked.clear()

    waiting.unsynced._settle = settle_and_add
    waiting.add("early", store)
    while waiting.unsynced._thread is not None or len(times) < 2:
        time.sleep(0)
    assert waiting.settled == ["early", "late"]
    assert times[0] is times[1]


def test_stopping_ends_the_thread() -> None:
    """It waits for no idle time; what still waits is settled when somebody asks. May be called twice."""
    waiting, store = Waiting(), Lazy("archive")
    waiting.add("u1", store)
    thread = waiting.unsynced._thread
    assert thread is not None
    waiting.unsynced.stop()
    waiting.unsynced.stop()
    assert not thread.is_alive()
    assert waiting.settled == []
    waiting.unsynced.sync()
    waiting.unsynced.sync()
    assert (waiting.settled, store.syncs) == (["u1"], 1)


def test_where_no_thread_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units are committed all the same, and settled by the next occasion."""

    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    waiting, store = Waiting(), Lazy("archive")
    waiting.add("u1", store)
    waiting.unsynced.sync()
    assert waiting.settled == ["u1"]


# In a ledger


def test_the_ledger_keeps_what_is_not_durable(tmp_path: Path) -> None:
    """Redo and row stay until the file was synced, and are gone after the ledger is closed, or recovered."""
    with open_ledger(tmp_path) as ledger:
        for number in range(3):
            put(ledger, f"k{number}")
        put(ledger, "inside", store="notes")
        assert rows(tmp_path / "memory.db", "SELECT count(*) FROM uow_redo") == [(3,)]
        assert rows(tmp_path / "a.db", "SELECT count(*) FROM uow_records") == [(3,)]
        report = ledger.recover()
        assert (report.rolled_forward, report.in_doubt) == ((), ())
        assert rows(tmp_path / "memory.db", "SELECT count(*) FROM uow_redo") == [(0,)]
        put(ledger, "k4")
    for table in ("uow_redo", "uow_coordination"):
        assert rows(tmp_path / "memory.db", f"SELECT count(*) FROM {table}") == [(0,)]


def test_another_process_leaves_them_alone(tmp_path: Path) -> None:
    """Who opens the ledger meanwhile sees the records and recovers nothing; a child of a fork neither."""
    with open_ledger(tmp_path) as ledger:
        uow = put(ledger, "k")

        def look() -> None:
            with open_ledger(tmp_path) as own:
                assert own.recover().rolled_forward == ()
                assert own["archive"].get("k", space_id=SPACE) == 1

        assert fork(look).wait() == (None, "")
        assert rows(tmp_path / "memory.db", "SELECT uow_id FROM uow_coordination") == [(uow.uow_id,)]


def test_a_sync_that_fails_leaves_the_unit_to_recovery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The unit was committed long ago; what its file may have lost is published once more."""

    def fail(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    with open_ledger(tmp_path) as ledger:
        uow = put(ledger, "k")
        with monkeypatch.context() as patched:
            patched.setattr("memoryos_uow.stores._second_file.sync_log", fail)
            assert ledger.recover().in_doubt == (uow.uow_id,)
        assert ledger.recover().rolled_forward == (uow.uow_id,)
        assert ledger["archive"].get("k", space_id=SPACE) == 1


def test_a_file_swapped_before_its_sync_is_published_anew(tmp_path: Path) -> None:
    """What was shown in a file that is not there any more is not taken for durable in the one in its place."""
    with open_ledger(tmp_path) as ledger:
        put(ledger, "a")
        ledger.recover()
        ledger._opened.store("archive").close()
        copy = (tmp_path / "a.db").read_bytes()
        uow = put(ledger, "b")
        (tmp_path / "away").mkdir()
        for part in tmp_path.glob("a.db*"):
            part.rename(tmp_path / "away" / part.name)
        (tmp_path / "a.db").write_bytes(copy)
        later = put(ledger, "c")
        assert ledger.recover().rolled_forward == (uow.uow_id, later.uow_id)
        assert rows(tmp_path / "a.db", "SELECT key FROM uow_records ORDER BY key") == [("a",), ("b",), ("c",)]
