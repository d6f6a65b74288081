"""Row numbers of units may change when a file is written anew; the log finds its units all the same."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import Ledger
from tests.units import SPACE, OwnError, rows, throw

if TYPE_CHECKING:
    from pathlib import Path

LINKS = """
SELECT l.commit_seq, u.uow_id FROM uow_ledger AS l LEFT JOIN unit_of_work AS u ON u.rowid = l.unit ORDER BY l.commit_seq
"""


def six_units(path: Path) -> None:
    """Make a ledger with six units, of which the second and the fifth failed."""
    with Ledger.open(path) as ledger:
        for number in range(6):
            with suppress(OwnError), ledger.unit(space_id=f"{SPACE}{number % 2}", band="GREEN") as uow:
                uow["notes"].create(f"n{number}", number)
                if number in (1, 4):
                    throw(OwnError())


def without_failed(path: Path) -> None:
    """Delete the rows of failed units, as an application may to save space."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM unit_of_work WHERE status = 'failed'")


def read_in_again(path: Path, copy: Path) -> None:
    """Dump the ledger and read it in again, as backups are restored; a dump has no row numbers."""
    with closing(sqlite3.connect(path)) as connection, closing(sqlite3.connect(copy)) as restored:
        restored.executescript("\n".join(connection.iterdump()))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger of four committed units, with gaps in its row numbers."""
    path = tmp_path / "memory.db"
    six_units(path)
    without_failed(path)
    return path


def test_units_are_found_after_a_dump_was_read_in(path: Path, tmp_path: Path) -> None:
    """A restored dump, whose rows have other numbers, is put right when it is opened: every receipt verifies."""
    before, copy = rows(path, LINKS), tmp_path / "copy.db"
    read_in_again(path, copy)
    assert rows(copy, LINKS) != before  # else this test tests nothing
    with Ledger.open(copy) as ledger:
        assert ledger.verify().problems == ()
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["notes"].create("next", 1)
        assert ledger.verify().problems == ()
    assert rows(copy, LINKS)[:-1] == before


def test_a_vacuum_keeps_units_and_log_together(path: Path) -> None:
    """Whatever VACUUM does to row numbers, the ledger verifies after it."""
    before = rows(path, LINKS)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM")
    with Ledger.open(path) as ledger:
        assert ledger.verify().problems == ()
    assert rows(path, LINKS) == before


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM unit_of_work WHERE rowid = (SELECT max(unit) FROM uow_ledger)",
        "UPDATE unit_of_work SET receipt_hash = 'x' WHERE rowid = (SELECT max(unit) FROM uow_ledger)",
    ],
)
def test_what_is_no_renumbering_is_left_for_verification(path: Path, damage: str) -> None:
    """Rows that do not fit together in any order stay as they are, and verification tells."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(damage)
    before = rows(path, LINKS)
    with Ledger.open(path) as ledger:
        assert ledger.verify().problems
    assert rows(path, LINKS) == before


def test_a_sound_ledger_is_not_written_to(path: Path) -> None:
    """Opening costs one look where nothing is wrong."""
    before = path.read_bytes()
    Ledger.open(path).close()
    assert path.read_bytes() == before
