"""Randomly damaged files: a few hundred of them; `python -m tests.verification.damage --cases 10000` does the rest."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import pytest

from memoryos_uow import LedgerBusy, LedgerCorrupt, _epochs
from memoryos_uow._verification import file as file_module
from memoryos_uow._verification.findings import Findings
from memoryos_uow._verification.rows import VerifierRows, rising
from tests.verification.damage import DAMAGES, damaged, run, run_in_child, wrong
from tests.verification.kit import execute, verified

if TYPE_CHECKING:
    from pathlib import Path

CASES: Final = int(os.environ.get("MEMORYOS_UOW_DAMAGES", "250"))


def test_every_changed_row_is_found() -> None:
    """No crash, no hang, no exception of somebody else's; and whatever plain sqlite3 reads otherwise is a finding."""
    counts = run_in_child(0, CASES)
    assert wrong(counts) == []
    assert counts["cases"] == CASES
    assert counts["changed"] == counts["changed and found"] > counts["changed and found by quick_check"] > 0


def test_damage_is_repeatable() -> None:
    """The number of a case is the damage, and each kind of damage changes something."""
    sound = bytes(range(256)) * 64
    sound = sound[:16] + (1024).to_bytes(2, "big") + sound[18:]
    assert {damaged(sound, case)[0] for case in range(100)} == {damage.__name__ for damage in DAMAGES}
    for case in range(20):
        assert damaged(sound, case) == damaged(sound, case)


def test_damaged_files_in_this_process() -> None:
    """The same, where coverage sees it; whatever the store's records are worth is compared as well."""
    assert wrong(run(range(60))) == []


def test_rows_out_of_order_are_damage() -> None:
    """A page that is there twice would repeat its rows: they are read once, and then the table is unreadable."""
    rows = iter([(1, "a"), (2, "b"), (1, "a")])
    with pytest.raises(LedgerCorrupt, match="not in order after number 2"):
        list(rising(rows, tuple, "uow_ledger"))
    with pytest.raises(LedgerCorrupt, match="not in order"):
        list(rising(iter([("1",)]), tuple, "uow_ledger"))


class Breaking(VerifierRows):
    """Rows of which one question is answered by damage."""

    def __init__(self, reader: Any, broken: str) -> None:
        super().__init__(reader)
        self._broken = broken

    def __getattribute__(self, name: str) -> Any:
        if name == object.__getattribute__(self, "__dict__").get("_broken"):
            raise LedgerCorrupt("A page is gone.")
        return object.__getattribute__(self, name)


@pytest.mark.parametrize(
    "question",
    [
        "problems_of_file",
        "identities",
        "logged",
        "spaces",
        "ends",
        "unlogged",
        "strange_nonces",
        "unfinished_erasures",
        "old_records",
    ],
)
def test_each_step_survives_damage(signed: Path, monkeypatch: pytest.MonkeyPatch, question: str) -> None:
    """Where one question cannot be answered, that is a finding, and the others are asked all the same."""
    monkeypatch.setattr(file_module, "VerifierRows", lambda reader: Breaking(reader, question))
    report = verified(signed, live=True)
    assert "unreadable" in report.rules
    assert report.problems[0].detail.endswith("A page is gone.")


def test_head_beside_the_file_that_cannot_be_compared(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage met while the head beside the file is compared is a finding as well."""

    def broken(*_: object) -> None:
        raise LedgerCorrupt("A page is gone.")

    monkeypatch.setattr(_epochs, "find_rollback", broken)
    assert verified(signed).rules == {"unreadable": 1}


def test_stores_that_cannot_be_listed(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the record of stores is damaged, each store that receipts speak of is out of reach."""

    def broken(_: object) -> None:
        raise LedgerCorrupt("A page is gone.")

    monkeypatch.setattr("memoryos_uow._verification.stores._recorded", broken)
    report = verified(signed, live=True)
    assert report.rules == {"unreachable": 7}
    assert "uow_stores" in [finding.store for finding in report.problems]
    execute(signed, "DROP TABLE uow_stores")
    monkeypatch.undo()
    assert verified(signed, live=True).rules == {"unreachable": 6}


def test_writes_that_cannot_be_read_leave_the_rest(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Receipts, chain and tree are checked without the writes; of stores nothing can be said then."""
    writes = VerifierRows.writes

    def broken(self: VerifierRows) -> Any:
        for number, row in enumerate(writes(self)):
            if number == 5:
                raise LedgerCorrupt("A page is gone.")
            yield row

    monkeypatch.setattr(VerifierRows, "writes", broken)
    report = verified(signed, live=True)
    assert report.rules == {"unreadable": 1}
    assert (report.units, report.stores and report.stores[0].store) == (10, "*")


def test_a_locked_ledger_is_not_a_damaged_one() -> None:
    """LedgerBusy is raised, never a finding."""
    with pytest.raises(LedgerBusy):
        Findings().add_damage(LedgerBusy("Others kept it locked."), "The file")


def test_findings_are_bounded() -> None:
    """A thousand are kept and all are counted; odd ids are told by their type, long ones cut."""
    findings = Findings()
    for _ in range(1_200):
        findings.add("file", "x", uow_id=b"x", store="s" * 500)
    assert (len(findings.listed), findings.total) == (1_000, 1_200)
    assert findings.listed[0].uow_id == "(bytes)"
    assert len(findings.listed[0].store or "") == 200
