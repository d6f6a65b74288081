"""Rows that are written later: carried along, put back, and never in anybody's way."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import LedgerError, StoreError, _leftovers
from memoryos_uow._leftovers import Leftovers
from memoryos_uow._records import UnitRecord
from memoryos_uow._rows import LedgerRows, Timing
from tests.units import SPACE, OwnError, rows, throw

if TYPE_CHECKING:
    from memoryos_uow import Ledger, UnitOfWork


def put(ledger: Ledger, key: str = "n1") -> UnitOfWork:
    """A committed unit with one write."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].upsert(key, key)
    return uow


def ending(uow_id: str) -> UnitRecord:
    """The row of a failed unit."""
    return UnitRecord(
        uow_id=uow_id,
        envelope_id=None,
        status="failed",
        created_ts="2026-11-22T19:20:31.110000Z",
        committed_ts=None,
        error_type="OwnError",
        band="GREEN",
        contract_version="1.1.0",
    )


def waiting(ledger: Ledger) -> Leftovers:
    """What this ledger has still to write."""
    return ledger._opened.coordinator._leftovers


def test_a_row_that_contradicts_the_ledger_harms_nobody(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """A late row that the ledger cannot take is logged as lost; the others and the unit that carries them stand."""
    first = put(ledger)
    for uow_id in ("late-1", first.uow_id, "late-2"):
        waiting(ledger).add_ending(ending(uow_id))
    with caplog.at_level(logging.WARNING, "memoryos_uow"):
        carrier = put(ledger, "n2")
    assert carrier.status == "committed"
    assert [record.message for record in caplog.records] == [
        f"uow.record_lost uow_id={first.uow_id} status=failed reason=StoreError"
    ]
    assert {record.uow_id: record.status for record in ledger.units()} == {
        first.uow_id: "committed",
        "late-1": "failed",
        "late-2": "failed",
        carrier.uow_id: "committed",
    }
    assert ledger.get(first.uow_id).commit_us is not None


def test_a_lost_row_is_reported_once(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """A row that was reported as lost does not come back when the unit that carried it fails."""
    first = put(ledger)
    waiting(ledger).add_ending(ending(first.uow_id))
    waiting(ledger).add_ending(ending("late"))
    with caplog.at_level(logging.WARNING, "memoryos_uow"):
        with pytest.raises(OwnError), ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow.sql("SELECT 1")
            throw(OwnError())
        assert ledger.get("late").status == "failed"
    assert len(caplog.records) == 1


def test_what_could_not_be_written_is_kept(ledger: Ledger) -> None:
    """If the transaction that was to carry them breaks at these very rows, all of them wait for the next one."""
    first = put(ledger)
    waiting(ledger).add_ending(ending("late"))
    with ledger._opened.file.setup_connection() as connection:
        connection.execute("CREATE TRIGGER no BEFORE UPDATE ON uow_ledger BEGIN SELECT RAISE(ROLLBACK, 'no'); END")
    with pytest.raises(StoreError):
        put(ledger, "n2")
    with ledger._opened.file.setup_connection() as connection:
        connection.execute("DROP TRIGGER no")
    assert ledger.get("late").status == "failed"
    assert ledger.get(first.uow_id).commit_us is not None
    assert ledger["notes"].get("n2", space_id=SPACE) is None


def test_an_interrupted_settling_keeps_everything(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt while late rows are written goes on to the caller, and the rows wait."""
    uow = put(ledger)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LedgerRows, "fill_in", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ledger.units()
    monkeypatch.undo()
    assert ledger.get(uow.uow_id).commit_us is not None


def test_a_settling_that_cannot_be_committed_keeps_everything(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the late rows' own commit fails, whoever asks is answered, and the rows wait."""
    uow = put(ledger)
    engine = ledger._opened.engine
    begin = engine.begin

    def cannot_commit(**options: object) -> object:
        tx = begin(**options)  # type: ignore[arg-type]

        def fail() -> None:
            raise LedgerError("The disk is gone.")

        monkeypatch.setattr(tx, "commit", fail, raising=False)
        return tx

    monkeypatch.setattr(engine, "begin", cannot_commit)
    assert ledger.get(uow.uow_id).commit_us is None
    monkeypatch.undo()
    assert ledger.get(uow.uow_id).commit_us is not None


def test_only_so_many_rows_wait(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """When too many rows wait the oldest are given up, and failures among them are logged."""
    monkeypatch.setattr(_leftovers, "_KEPT_MAX", 3)
    leftovers = Leftovers(LedgerRows(basic=False))
    with caplog.at_level(logging.WARNING, "memoryos_uow"):
        for number in range(5):
            leftovers.add_ending(ending(f"unit-{number}"))
            leftovers.add_timing(Timing(f"unit-{number}", number, 0, 0))
    assert [record.message.split()[1] for record in caplog.records] == ["uow_id=unit-0", "uow_id=unit-1"]
    assert all("reason=full" in record.message for record in caplog.records)
    assert [record.uow_id for record in leftovers._endings] == ["unit-2", "unit-3", "unit-4"]
    assert [timing.commit_seq for timing in leftovers._timings] == [2, 3, 4]


def test_late_rows_keep_their_order(ledger: Ledger) -> None:
    """Rows that were carried in vain are written later in the order in which they came."""
    for number in range(3):
        waiting(ledger).add_ending(ending(f"late-{number}"))
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow.sql("SELECT 1")
        waiting(ledger).add_ending(ending("late-3"))
    put(ledger)
    found = [uow_id for (uow_id,) in rows(ledger.path, "SELECT uow_id FROM unit_of_work ORDER BY rowid")]
    assert found[:4] == ["late-0", "late-1", "late-2", "late-3"]
