"""``memoryos-uow verify``: what it says, its exit codes, and that it changes nothing."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from memoryos_uow import Ledger
from memoryos_uow.stores import DocumentStore
from tests.cli.tools import HOSTILE_KEY, SPACE, files_of, invoke, make_ledger, run
from tests.schema_files import make_1_0_0

if TYPE_CHECKING:
    from pathlib import Path


def spoil(path: Path, statement: str) -> None:
    """Change something with plain SQL."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def test_sound_ledger(tmp_path: Path) -> None:
    """Exit code 0, what was looked at, the level and what that does not prove."""
    path = make_ledger(tmp_path / "memory.db")
    result = invoke("verify", path)
    assert result.exit_code == 0, result.stdout
    lines = result.stdout.splitlines()
    assert lines[:2] == [
        "4 units and 4 writes recomputed, none of them signed.",
        "5 units without a receipt: of contract 1.0.0, failed or rolled back.",
    ]
    assert lines[2].startswith("notes: 4 records; ")
    assert lines[3] == "Verified to level hashed."
    assert lines[4].startswith("Not proved: Whoever can write the file")
    told = json.loads(invoke("verify", path, "--json", "--no-live").stdout)
    assert (told["ok"], told["level"], told["units"], told["stores"]) == (True, "hashed", 4, None)


def test_changes_nothing(tmp_path: Path) -> None:
    """The directory holds the same bytes afterwards, and no further file."""
    path = make_ledger(tmp_path / "memory.db")
    before = files_of(tmp_path)
    assert invoke("verify", path).exit_code == 0
    assert files_of(tmp_path) == before


def test_findings_are_named(tmp_path: Path) -> None:
    """Each finding has its rule, unit, store and record, safe to show and as far as the band allows; exit code 1."""
    path = make_ledger(tmp_path / "memory.db")
    spoil(path, "UPDATE uow_documents SET value = '{}'")
    result = invoke("verify", path)
    assert result.exit_code == 1
    assert "notes n1\\x1b[2J\\r\\n\\u202eevil" in result.stdout
    assert "n-AMBER" not in result.stdout
    assert "\x1b" not in result.stdout
    assert "problem" in result.stdout
    told = json.loads(invoke("verify", path, "--json").stdout)
    assert not told["ok"]
    assert HOSTILE_KEY in [one["record"] for one in told["problems"]]


def test_many_findings_are_cut(tmp_path: Path) -> None:
    """A ledger whose origin was changed has a finding for every unit: the first are shown, all are counted."""
    path = tmp_path / "memory.db"
    with Ledger.open(path, stores=[DocumentStore("notes")], durability="normal") as ledger:
        for number in range(30):
            with ledger.unit(space_id=SPACE, band="GREEN") as uow:
                uow["notes"].create(f"{number}", {})
    spoil(path, "UPDATE uow_identity SET origin = 'another'")
    result = invoke("verify", path)
    assert result.exit_code == 1
    assert "more problems; --json lists the first thousand." in result.stdout


def test_options(tmp_path: Path) -> None:
    """Checkpoint, space, store and gone reach the verification; what contradicts itself is refused."""
    path = tmp_path / "memory.db"
    with Ledger.open(path, stores=[DocumentStore("notes"), DocumentStore("more")], durability="normal") as ledger:
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["notes"].create("k", {})
            uow.sql("CREATE TABLE own (a)")
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["more"].create("k", {})
        kept = ledger.checkpoint()
    (tmp_path / "kept").write_text(kept, encoding="utf-8")
    anchored = invoke("verify", path, "--checkpoint", tmp_path / "kept", "--space", SPACE, "--store", "more")
    assert "Verified to level anchored." in anchored.stdout
    assert "notes:" not in anchored.stdout
    assert "sql: not compared. What a statement of SQL left behind" in invoke("verify", path).stdout
    gone = invoke("verify", path, "--gone", uow.uow_id, "--json")
    assert [one["store"] for one in json.loads(gone.stdout)["problems"]] == ["more", "notes"]
    assert invoke("verify", path, "--gone", "k").exit_code == 2
    assert invoke("verify", path, "--gone", "k", "--no-live").exit_code == 2
    (tmp_path / "kept").write_bytes(b"\xff")
    refused = invoke("verify", path, "--checkpoint", tmp_path / "kept")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert invoke("verify", path, "--vkey", "no key").exit_code == 2


def test_signed_ledger(tmp_path: Path) -> None:
    """How far the signatures reach is said."""
    from memoryos_uow.signing import write_new_key

    write_new_key(tmp_path / "key.pem")
    path = tmp_path / "memory.db"
    with Ledger.open(
        path, stores=[DocumentStore("notes")], signer=tmp_path / "key.pem", origin="example.com/a"
    ) as ledger:
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["notes"].create("k", {})
        assert "all of them signed" in invoke("verify", path).stdout
        ledger.erase(space_id=SPACE, store="notes", key="k")
        ledger.change_signer(None)
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["notes"].create("k", {})
    told = invoke("verify", path).stdout
    assert "the first 2 of the log signed" in told
    assert "1 write erased" in told
    assert "Verified to level hashed." in told


def test_refuses_1_0_0_and_strange_files(tmp_path: Path) -> None:
    """A ledger without receipts, one that is damaged and no ledger at all: a sentence each, no traceback."""
    make_1_0_0(tmp_path / "old.db")
    old = invoke("verify", tmp_path / "old.db")
    assert old.exit_code == 2
    assert "no receipts to verify" in old.stderr
    (tmp_path / "text").write_text("this is no database, however long it may be " * 100, encoding="utf-8")
    assert run("verify", tmp_path / "text").returncode == 1
    path = make_ledger(tmp_path / "memory.db")
    path.write_bytes(path.read_bytes()[:5000])
    cut = run("verify", path)
    assert cut.returncode == 1
    assert "Traceback" not in cut.stderr
