"""A ledger that was put back is noticed, refuses to sign, and goes on only when somebody says so."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import Ledger, _notes, _released_head
from memoryos_uow.errors import LedgerRollback
from tests.signers import ORIGIN, key_file, put, tamper
from tests.units import rows, throw

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger of three units, and a copy of it from after the first."""
    place = tmp_path / "memory.db"
    with Ledger.open(place, origin=ORIGIN) as ledger:
        put(ledger, "a")
    shutil.copy(place, tmp_path / "old.db")
    with Ledger.open(place) as ledger:
        put(ledger, "b")
        put(ledger, "c")
    return place


def put_back(path: Path) -> None:
    """Replace the ledger with its old copy."""
    shutil.copy(path.with_name("old.db"), path)


def refusal(path: Path) -> str:
    """Say what a unit is told."""
    with Ledger.open(path) as ledger:
        before = ledger["notes"].get("a", space_id="s")
        with pytest.raises(LedgerRollback) as caught:
            put(ledger, "x")
        assert ledger["notes"].get("a", space_id="s") == before
        with pytest.raises(LedgerRollback):
            ledger.change_signer(None)
    return str(caught.value)


def test_an_untouched_ledger_is_no_rollback(path: Path) -> None:
    """Opened again, moved with its head, or copied without it, a ledger goes on."""
    with Ledger.open(path) as ledger:
        put(ledger, "d")
    moved = path.with_name("moved.db")
    path.rename(moved)
    _released_head.path_beside(path).rename(_released_head.path_beside(moved))
    with Ledger.open(moved) as ledger:
        put(ledger, "e")
    shutil.copy(moved, path.with_name("copied.db"))
    with Ledger.open(path.with_name("copied.db")) as ledger:
        put(ledger, "f")


def test_a_shorter_ledger_is_noticed(path: Path) -> None:
    """An old copy that was put back has fewer units than its head says; it can be read."""
    put_back(path)
    assert "it has 1 committed units, and had 3" in refusal(path)


def test_a_different_ledger_is_noticed(path: Path) -> None:
    """As many units, but others: an old copy that somebody else has continued."""
    put_back(path)
    _released_head.path_beside(path).rename(path.with_name("kept"))
    with Ledger.open(path) as ledger:
        put(ledger, "other")
        put(ledger, "more")
        put(ledger, "and more")
    path.with_name("kept").replace(_released_head.path_beside(path))
    assert "its first 3 committed units are not the ones" in refusal(path)


def test_a_damaged_log_is_noticed(path: Path) -> None:
    """A log whose hashes cannot be read is not the one that was released."""
    tamper(path, "UPDATE uow_ledger SET nodes = x'00' WHERE commit_seq = 2")
    assert "are not the ones" in refusal(path)


@pytest.mark.parametrize("units", [0, 1])
def test_another_ledger_in_its_place_is_noticed(path: Path, tmp_path: Path, units: int) -> None:
    """A ledger of another name is not the one whose head lies beside it, whether it has units or not."""
    path.unlink()
    with Ledger.open(tmp_path / "new.db", origin="example.com/other") as ledger:
        for number in range(units):
            put(ledger, str(number))
    shutil.move(tmp_path / "new.db", path)
    assert "another ledger than example.com/tests" in refusal(path)


def test_a_ledger_nobody_named_or_signed_may_be_thrown_away(tmp_path: Path) -> None:
    """Deleting memory.db and starting anew needs no ceremony, unless the old one was signed."""
    path = tmp_path / "memory.db"
    for signer in (None, key_file(tmp_path)):
        with Ledger.open(path, signer=signer) as ledger:
            put(ledger, "a")
        path.unlink()
    assert "another ledger" in refusal(path)


def test_going_on_begins_the_next_epoch(path: Path, tmp_path: Path) -> None:
    """Asked for, units are taken again, under another origin line; the head that was given up is kept, once."""
    with Ledger.open(path, signer=key_file(tmp_path)) as ledger:
        abandoned = put(ledger, "d").signature
    put_back(path)
    with Ledger.open(path, signer=key_file(tmp_path), accept_rollback=True) as ledger:
        signature = put(ledger, "e").signature
    assert signature is not None
    head = _notes.parse_head(_notes.parse(signature).text)
    assert (head.origin, head.size) == (f"{ORIGIN}/2", 2)
    assert rows(path, "SELECT epoch, since_size, abandoned FROM uow_epochs") == [(2, 1, abandoned)]
    for accept in (False, True):
        with Ledger.open(path, signer=key_file(tmp_path), accept_rollback=accept) as ledger:
            put(ledger, f"f{accept}")
    assert rows(path, "SELECT count(*) FROM uow_epochs") == [(1,)]


def test_killed_right_after_accepting_it_is_accepted(path: Path) -> None:
    """The new epoch is in the ledger before its head is beside it: the old head is not asked again."""
    head = _released_head.path_beside(path)
    kept = head.read_bytes()
    put_back(path)
    Ledger.open(path, accept_rollback=True).close()
    head.write_bytes(kept)
    with Ledger.open(path) as ledger:
        put(ledger, "g")
    assert rows(path, "SELECT count(*) FROM uow_epochs") == [(1,)]


def test_an_epoch_that_was_lost_is_noticed(path: Path) -> None:
    """Going back behind the beginning of the current epoch is a rollback again."""
    put_back(path)
    with Ledger.open(path, accept_rollback=True) as ledger:
        put(ledger, "h")
    put_back(path)
    assert f"another ledger than {ORIGIN}/2" in refusal(path)


def test_accepting_fails_where_the_ledger_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch that was not recorded was not begun."""
    from memoryos_uow import _epochs

    put_back(path)
    with monkeypatch.context() as patched, pytest.raises(RuntimeError):
        patched.setattr(_epochs, "begin_next", lambda *_: throw(RuntimeError()))
        Ledger.open(path, accept_rollback=True)
    assert "had 3" in refusal(path)


def test_each_refused_unit_has_its_own_error(path: Path) -> None:
    """What is raised learns where it was raised: no two units share it."""
    put_back(path)
    with Ledger.open(path) as ledger:
        errors = []
        for key in ("x", "y"):
            with pytest.raises(LedgerRollback) as caught:
                put(ledger, key)
            errors.append(caught.value)
        assert errors[0] is not errors[1]
