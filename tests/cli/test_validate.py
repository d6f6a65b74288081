"""``memoryos-uow validate``: the five rules, the rows that break them, and the exit code."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from tests.cli.tools import files_of, invoke, make_ledger, only_id
from tests.schema_files import make_1_0_0

if TYPE_CHECKING:
    from pathlib import Path


def spoil(path: Path, column: str, value: object, uow_id: str) -> None:
    """Put `value` where no sound program would."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(f"UPDATE unit_of_work SET {column} = ? WHERE uow_id = ?", (value, uow_id))


def test_sound_ledger(tmp_path: Path) -> None:
    """All hold: exit code 0, and how much was looked at."""
    path = make_ledger(tmp_path / "memory.db")
    result = invoke("validate", path)
    assert (result.exit_code, result.stdout) == (0, "9 units checked against 5 validations: all hold.\n")
    found = json.loads(invoke("validate", path, "--json").stdout)
    assert found == {"ok": True, "units": 9, "violations": []}


def test_violations_are_named(tmp_path: Path) -> None:
    """Each row that breaks a rule is named with its unit, in both forms, and the exit code is 1."""
    path = make_ledger(tmp_path / "memory.db")
    uow_id = only_id(path, ["band=GREEN", "status=committed"])
    spoil(path, "band", "\x1b[31mPINK", uow_id)
    spoil(path, "receipt_hash", "not hex", uow_id)
    result = invoke("validate", path)
    assert result.exit_code == 1
    assert f"band: {uow_id}" in result.stdout
    assert f"receipt: {uow_id}" in result.stdout
    assert "2 violations" in result.stdout
    assert "\x1b" not in result.stdout
    as_json = invoke("validate", path, "--json")
    found = json.loads(as_json.stdout)
    assert as_json.exit_code == 1
    assert (found["ok"], {each["rule"] for each in found["violations"]}) == (False, {"band", "receipt"})


def test_changes_nothing(tmp_path: Path) -> None:
    """The directory holds the same bytes afterwards, and no further file."""
    path = make_ledger(tmp_path / "memory.db")
    before = files_of(tmp_path)
    invoke("validate", path)
    assert files_of(tmp_path) == before


def test_says_that_1_0_0_has_nothing_to_validate(tmp_path: Path) -> None:
    """A 1.0.0 ledger is neither called sound nor migrated."""
    make_1_0_0(tmp_path / "old.db")
    before = files_of(tmp_path)
    result = invoke("validate", tmp_path / "old.db")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "nothing to validate" in result.stderr
    assert files_of(tmp_path) == before
