"""What the explorer has found in this library, each as a small test of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memoryos_uow import Ledger, LedgerError, _coordination
from memoryos_uow.testing import fault_points
from tests.crash import programs
from tests.crash.steps import SPACE, six_stores

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_ledger_that_cannot_be_read_after_the_decision_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The block ends well, since the unit is committed; what it owes to stores outside is left to recovery."""

    def unreadable(*_: object) -> None:
        raise LedgerError("The disk failed.")

    with Ledger.open(tmp_path / "memory.db", stores=six_stores()) as ledger:
        with monkeypatch.context() as patched:
            patched.setattr(_coordination, "redo_of", unreadable)
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
    (tmp_path / "six").touch()
    programs.four(tmp_path)
    with (
        programs.open_ledger(tmp_path) as ledger,
        fault_points() as points,
        ledger.unit(space_id=SPACE, band="GREEN") as uow,
    ):
        uow["archive"].update("n0", {"n": 1})
    last = len(points.names) - 1 - points.names[::-1].index("sqlite3.Connection.executemany")
    assert points.names[last + 1 : last + 3] == ["sqlite3.Connection.execute", "os.open"]
    assert "os.fsync" in points.names[last:]


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
