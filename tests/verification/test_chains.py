"""Histories of spaces: followed along the walk or asked for by SQL, the answers are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow._verification import chains
from memoryos_uow._verification import run as run_module
from memoryos_uow._verification.units import UnitWalk
from tests.verification.kit import execute, verified

if TYPE_CHECKING:
    from pathlib import Path

CHANGES = (
    "UPDATE unit_of_work SET space_id = 'bob' WHERE rowid = 2",
    "UPDATE unit_of_work SET space_id = 'carol' WHERE rowid = 3",
    "UPDATE unit_of_work SET receipt_hash = NULL WHERE rowid = 1",
    "UPDATE uow_ledger SET space_seq = 9 WHERE commit_seq = 10",
    "UPDATE uow_ledger SET prev = NULL WHERE commit_seq = 3",
    "UPDATE uow_ledger SET prev = lower(hex(prev)) WHERE commit_seq = 3",
    "UPDATE uow_ledger SET prev = 7 WHERE commit_seq = 3",
    "UPDATE uow_ledger SET prev = x'00' WHERE commit_seq = 1",
    "DELETE FROM unit_of_work WHERE rowid = 2",
    "DELETE FROM uow_ledger WHERE commit_seq = 10",
    "UPDATE uow_spaces SET space_seq = 1 WHERE space_id = 'alice'",
    "UPDATE uow_spaces SET head = lower(hex(head)) WHERE space_id = 'bob'",
    "DELETE FROM uow_spaces WHERE space_id = 'bob'",
    "DELETE FROM uow_spaces",
    "INSERT INTO uow_spaces VALUES ('carol', 1, zeroblob(32))",
)


def told(directory: Path, **options: Any) -> list[tuple[Any, ...]]:
    """What is found of histories."""
    found = verified(directory, **options).problems
    return sorted((one.rule, str(one.uow_id), one.detail) for one in found if one.rule in {"chain", "head"})


@pytest.mark.parametrize("change", ["SELECT 1", *CHANGES])
def test_both_ways_find_the_same(signed: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """Each break of a history is named with its unit, whichever way was taken; for all spaces and for one."""
    if change != "SELECT 1":
        execute(signed, change)
    followed = [told(signed), told(signed, space_id="alice"), told(signed, space_id="bob")]
    monkeypatch.setattr(chains, "SPACES_MAX", 0)
    asked = [told(signed), told(signed, space_id="alice"), told(signed, space_id="bob")]
    assert followed == asked
    assert bool(followed[0]) == (change != "SELECT 1")


def test_of_a_walk_that_was_cut_short_nothing_is_named_twice(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the walk did not come to the end, SQL looks at the rest."""
    execute(signed, "UPDATE uow_ledger SET prev = NULL WHERE commit_seq IN (2, 3)")
    wanted = told(signed)
    assert len(wanted) == 2

    class Short(UnitWalk):
        def entries(self) -> Any:
            yield from list(super().entries())[:2]
            self.complete = False

    monkeypatch.setattr(run_module, "UnitWalk", Short)
    assert told(signed) == wanted
    monkeypatch.setattr(chains, "LISTED_MAX", 0)  # as many as are listed are remembered
    assert set(told(signed)) == set(wanted)


def test_more_spaces_than_the_ledger_knows_of(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by what the ledger says, and what it does not say is found all the same."""
    execute(
        signed,
        "DELETE FROM uow_spaces WHERE space_id = 'bob'",
        "UPDATE unit_of_work SET space_id = 's' || rowid WHERE space_id = 'alice'",
    )
    wanted = told(signed)
    monkeypatch.setattr(chains, "SPACES_MAX", 1)
    assert told(signed) == wanted
    assert len(wanted) >= 7
