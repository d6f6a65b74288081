"""``memoryos-uow migrate``: up, down, softly, with a backup; and what it says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import Ledger
from tests.cli.tools import files_of, invoke, make_ledger
from tests.schema_files import make_1_0_0

if TYPE_CHECKING:
    from pathlib import Path


def version_of(path: Path) -> str:
    """The contract that a file keeps."""
    with Ledger.open(path, migrate=False) as ledger:
        return ledger.contract_version


def test_up_is_the_default_and_idempotent(tmp_path: Path) -> None:
    """A 1.0.0 ledger becomes 1.1.0; a second time says that there is nothing to do."""
    path = tmp_path / "memory.db"
    make_1_0_0(path)
    result = invoke("migrate", path)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{path}: from 1.0.0 to 1.1.0.\n", "")
    assert version_of(path) == "1.1.0"
    before = files_of(tmp_path)
    assert "nothing to do" in invoke("migrate", path).stdout
    assert files_of(tmp_path) == before


def test_down_makes_a_backup_and_names_it(tmp_path: Path) -> None:
    """--to 1.0.0 leaves the file as it was under the name that it prints, which is still a 1.1.0 ledger."""
    path = make_ledger(tmp_path / "memory.db")
    found = json.loads(invoke("migrate", path, "--to", "1.0.0", "--json").stdout)
    assert (found["from"], found["to"], found["changed"]) == ("1.1.0", "1.0.0", True)
    assert version_of(path) == "1.0.0"
    backup = path.parent / found["backup"]
    assert backup.is_file()
    assert "all hold" in invoke("validate", backup).stdout


def test_backup_goes_where_it_is_told(tmp_path: Path) -> None:
    """--backup names the copy; one that is there already is never replaced, and nothing is then migrated."""
    path, backup = make_ledger(tmp_path / "memory.db"), tmp_path / "before.db"
    backup.write_bytes(b"somebody's own")
    result = invoke("migrate", path, "--to", "1.0.0", "--backup", backup)
    assert result.exit_code == 1
    assert "cannot be made" in result.stderr
    assert (backup.read_bytes(), version_of(path)) == (b"somebody's own", "1.1.0")
    backup.unlink()
    assert str(backup) in invoke("migrate", path, "--to", "1.0.0", "--backup", backup).stdout
    assert version_of(path) == "1.0.0"


def test_soft_keeps_the_tables_and_makes_no_backup(tmp_path: Path) -> None:
    """--soft empties the columns of 1.1.0, prints no copy and makes none."""
    path = make_ledger(tmp_path / "memory.db")
    names = files_of(tmp_path).keys()
    result = invoke("migrate", path, "--to", "1.0.0", "--soft")
    assert result.stdout == f"{path}: from 1.1.0 to 1.0.0 with the columns of 1.1.0 emptied.\n"
    assert files_of(tmp_path).keys() == names


@pytest.mark.parametrize(
    "options", [("--soft",), ("--backup", "b.db"), ("--to", "1.0.0", "--soft", "--backup", "b.db"), ("--to", "2.0.0")]
)
def test_refuses_options_that_contradict_each_other(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Wrong combinations end with exit code 2 and leave the file alone."""
    path = make_ledger(tmp_path / "memory.db")
    before = files_of(tmp_path)
    assert invoke("migrate", path, *options).exit_code == 2
    assert files_of(tmp_path) == before


def test_makes_no_ledger_of_another_database(tmp_path: Path) -> None:
    """A file that is no database is refused with exit code 1 and stays as it is."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to have a header of one\n" * 40)
    before = files_of(tmp_path)
    result = invoke("migrate", path)
    assert result.exit_code == 1
    assert "not a SQLite database" in result.stderr
    assert files_of(tmp_path) == before
