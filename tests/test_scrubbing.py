"""Finishing an erasure: what hinders it is said, and whoever comes next goes on."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import LedgerBusy, LedgerError, StoreUnavailable, _scrubbing
from memoryos_uow._scrubbing import LEDGER
from memoryos_uow.engines import _scrub
from tests.erased import MARK, SPACE, erase_all, found_in, open_ledger, unfinished, write_all
from tests.memory_dir import memory_dir

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory: a file is written anew for every record that is erased."""
    with memory_dir(tmp_path / "work") as place:
        yield place


def silent(*_: Any) -> None:
    """What a store says that cannot be reached."""
    raise StoreUnavailable("It is away.")


def failing(*_: Any, **__: Any) -> None:
    """What a ledger says whose disk fails."""
    raise LedgerError("The disk fails.")


def test_content_that_waits_to_be_published_goes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the ledger keeps of a write for a store that did not answer is published first, and leaves no trace."""
    with open_ledger(tmp_path) as ledger:
        with monkeypatch.context() as away:
            for call in ("show", "publish"):
                away.setattr(ledger._opened.store("archive"), call, silent)
            write_all(ledger, MARK, times=1, names=["archive"])
        (done,) = erase_all(ledger, names=["archive"], forget_context=True)
        assert done.complete
        assert found_in(tmp_path, MARK) == []
        assert ledger.recover().in_doubt == ()


def test_a_store_that_stays_silent_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a store cannot publish the removal, its record is in doubt and the erasure unfinished; recover says so."""
    with open_ledger(tmp_path) as ledger:
        write_all(ledger, MARK, times=1, names=["archive"])
        with monkeypatch.context() as away:
            for call in ("show", "publish"):
                away.setattr(ledger._opened.store("archive"), call, silent)
            (done,) = erase_all(ledger, names=["archive"])
            assert done.remaining == ("archive",)
            assert ledger["archive"].get(MARK, space_id=SPACE) is None
            assert ledger.recover().in_doubt == (done.uow_id,)
        assert ledger.recover().in_doubt == ()
        assert found_in(tmp_path, f"{MARK}0") == []


@pytest.mark.parametrize("method", ["erase_outside", "sweep"])
def test_whatever_a_store_raises_the_others_come_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """A store that fails in a way of its own delays its own erasure, not that of another store."""
    store = "archive" if method == "erase_outside" else "photos"
    with open_ledger(tmp_path) as ledger:
        write_all(ledger, MARK, times=1, names=[store, "notes"])

        def odd(*_: Any) -> None:
            raise ZeroDivisionError

        with monkeypatch.context() as broken:
            broken.setattr(ledger._opened.store(store), method, odd)
            assert [one.remaining for one in erase_all(ledger, names=[store, "notes"])] == [(store,), ()]
        ledger.recover()
        assert not unfinished(ledger)


def test_a_ledger_that_fails_is_not_taken_for_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the ledger itself fails meanwhile, the answer names the ledger."""
    with open_ledger(tmp_path) as ledger:
        write_all(ledger, MARK, times=1, names=["photos"])
        with monkeypatch.context() as broken:
            broken.setattr(ledger._opened.store("photos"), "sweep", failing)
            assert erase_all(ledger, names=["photos"])[0].remaining == (LEDGER,)
        ledger.recover()
        assert not unfinished(ledger)


def test_a_sweep_that_is_put_off_is_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as files that nobody refers to cannot be swept, the erasure is not finished."""
    with open_ledger(tmp_path) as ledger:
        write_all(ledger, MARK, times=1, names=["photos"])
        with monkeypatch.context() as delayed:
            delayed.setattr(ledger._opened.recovery, "sweep_one", lambda *_: False)
            assert erase_all(ledger, names=["photos"])[0].remaining == ("photos",)
            assert found_in(tmp_path, MARK)


def test_a_locked_file_is_written_anew_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While others keep the file locked it cannot be written anew: that is said, and done by the next who comes."""
    with open_ledger(tmp_path) as ledger:
        write_all(ledger, MARK, names=["orders"])

        def busy(*_: Any, **__: Any) -> None:
            raise LedgerBusy("Others write.")

        with monkeypatch.context() as locked:
            locked.setattr(_scrub, "write_anew", busy)
            assert erase_all(ledger, names=["orders"])[0].remaining == (LEDGER,)
        assert unfinished(ledger)
    open_ledger(tmp_path).close()
    assert [place for place in found_in(tmp_path, MARK) if not place.endswith("memory.db")] == []
    with open_ledger(tmp_path) as ledger:
        assert not unfinished(ledger)


def test_opening_leaves_a_large_file_to_recover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is too large to be written anew while a ledger is opened is left to `recover`."""
    with open_ledger(tmp_path) as ledger:
        write_all(ledger, MARK, names=["orders"])
        monkeypatch.setattr(ledger._opened.scrubbing, "run", lambda **_: {})
        erase_all(ledger, names=["orders"], forget_context=True)
    monkeypatch.setattr(_scrubbing, "OPENING_BYTES_MAX", 0)
    with open_ledger(tmp_path) as ledger:
        assert unfinished(ledger)
        assert ledger.recover().in_doubt == ()
        assert not unfinished(ledger)
    assert found_in(tmp_path, MARK) == []


def test_trouble_does_not_hinder_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger whose erasures cannot be finished now opens all the same, for reading only too."""
    with open_ledger(tmp_path) as ledger:
        write_all(ledger, MARK, times=1, names=["orders"])
        monkeypatch.setattr(ledger._opened.scrubbing, "run", lambda **_: {})
        erase_all(ledger, names=["orders"])
    with monkeypatch.context() as broken:
        broken.setattr(_scrubbing.Scrubbing, "run", failing)
        with open_ledger(tmp_path) as ledger:
            assert unfinished(ledger)
    with open_ledger(tmp_path) as ledger:
        assert not unfinished(ledger)


def test_several_erasures_are_finished_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What several processes left is finished at once: the file is written anew once for all of them."""
    with open_ledger(tmp_path) as ledger:
        write_all(ledger, MARK)
        with monkeypatch.context() as dead:
            dead.setattr(ledger._opened.scrubbing, "run", lambda **_: {})
            erase_all(ledger, forget_context=True)
        written: list[None] = []
        anew = _scrub.write_anew
        monkeypatch.setattr(_scrub, "write_anew", lambda *a, **k: (written.append(None), anew(*a, **k))[1])  # type: ignore[func-returns-value]
        ledger.recover()
        assert len(written) == 1
    assert found_in(tmp_path, MARK) == []
    with closing(sqlite3.connect(tmp_path / "memory.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
