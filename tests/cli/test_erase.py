"""``memoryos-uow erase``: a record goes, from the command line."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from click.testing import CliRunner

from memoryos_uow import Ledger
from memoryos_uow.cli._program import program
from memoryos_uow.stores import DocumentStore
from tests.cli.tools import invoke

if TYPE_CHECKING:
    from pathlib import Path

KEY = "sEcReTkEy"


def make(path: Path, **options: bytes) -> Path:
    """A ledger with two records, one of them of band BLACK if there is a content key."""
    with Ledger.open(path, stores=[DocumentStore("notes")], **options) as ledger:  # type: ignore[arg-type]
        with ledger.unit(space_id="s", band="BLACK" if options else "GREEN", actor_id="alice") as uow:
            uow["notes"].create(KEY, {"text": KEY})
        with ledger.unit(space_id="s", band="GREEN", actor_id="alice") as uow:
            uow["notes"].create("other", {})
            uow["notes"].update(KEY, {"text": "again"})
    return path


def test_a_record_is_erased(tmp_path: Path) -> None:
    """It says what was sealed and that nothing is left, shows no key, and leaves no byte of the record."""
    path = make(tmp_path / "memory.db")
    result = invoke("erase", path, "--space", "s", "--store", "notes", "--key", KEY, "--forget-unit-ids")
    assert result.exit_code == 0, result.output
    lines = dict(line.split(": ") for line in result.stdout.splitlines())
    assert (lines["sealed"], lines["left"]) == ("2 writes", "nothing")
    assert (lines["unit ids forgotten"], lines["unit ids kept for other records"]) == ("1", "1")
    assert KEY not in result.output
    assert [file for file in tmp_path.iterdir() if KEY.encode() in file.read_bytes()] == []


def test_json_and_the_key_from_standard_input(tmp_path: Path) -> None:
    """With --key - the key stays out of the command line; --json gives every fact."""
    path = make(tmp_path / "memory.db")
    arguments = ["erase", str(path), "--space", "s", "--store", "notes", "--key", "-", "--json", "--forget-context"]
    result = CliRunner().invoke(program, [*arguments, "--actor", "officer"], input=f"{KEY}\n")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    with Ledger.open(path, stores="recorded") as ledger:
        tombstone = ledger.get(found["uow_id"])
        assert tombstone.actor_id == "officer"
        assert found == {
            "complete": True,
            "uow_id": tombstone.uow_id,
            "receipt_hash": tombstone.receipt_hash,
            "sealed": 2,
            "forgotten": 0,
            "kept": 0,
            "messages": 0,
            "remaining": [],
        }
        assert ledger.units(actor_id="alice") == []


def test_the_content_key_is_a_file(tmp_path: Path) -> None:
    """A ledger under a content key is erased from with it, and not without."""
    path = make(tmp_path / "memory.db", content_key=b"k" * 32)
    words = ("erase", path, "--space", "s", "--store", "notes", "--key", KEY)
    refused = invoke(*words)
    assert refused.exit_code == 2
    assert "content key" in refused.stderr
    file = tmp_path / "content.key"
    file.write_bytes(b"k" * 32)
    file.chmod(0o600)
    done = invoke(*words, "--content-key", str(file), "--no-vacuum")
    assert done.exit_code == 0, done.output
    assert "sealed: 2 writes" in done.stdout


def test_what_is_left_is_an_exit_code(tmp_path: Path) -> None:
    """While another process reads an earlier state the exit code is 1, also of `recover`, which finishes it later."""
    path = make(tmp_path / "memory.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM unit_of_work").fetchall()
        result = invoke("erase", path, "--space", "s", "--store", "notes", "--key", KEY, "--busy-timeout", "0")
        assert (result.exit_code, "left: the ledger's file" in result.stdout) == (1, True)
        assert "recover" in result.stderr
        assert invoke("recover", path, "--busy-timeout", "0").exit_code == 1
    assert invoke("recover", path).exit_code == 0
    assert KEY.encode() not in path.read_bytes()


def test_a_record_that_is_not_there(tmp_path: Path) -> None:
    """Nothing to erase is exit code 1 with a sentence, and the key is not repeated."""
    path = make(tmp_path / "memory.db")
    result = invoke("erase", path, "--space", "s", "--store", "notes", "--key", "nOwHeRe")
    assert result.exit_code == 1
    assert "no such record" in result.stderr
    assert "nOwHeRe" not in result.output
