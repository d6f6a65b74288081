"""``memoryos-uow show``: one unit, whole, found by a part of its id, and never more of it than its band allows."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from memoryos_uow import Band, Ledger, _schema
from tests.cli.tools import HOSTILE_KEY, SPACE, files_of, invoke, make_ledger, only_id
from tests.schema_files import make_1_0_0

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One ledger for tests that only look."""
    return make_ledger(tmp_path_factory.mktemp("show") / "memory.db")


def committed(ledger: Path, band: str) -> str:
    """The id of the committed unit of a band."""
    return only_id(ledger, [f"band={band}", "status=committed"])


def shown(ledger: Path, uow_id: str) -> dict[str, Any]:
    """The unit as a JSON object."""
    record: dict[str, Any] = json.loads(invoke("show", ledger, uow_id, "--json").stdout)
    return record


def test_green_unit_is_shown_whole(ledger: Path) -> None:
    """Of a GREEN unit the JSON is exactly the library's record of it."""
    uow_id = committed(ledger, "GREEN")
    with Ledger.open(ledger) as opened:
        record = opened.get(uow_id).as_dict()
    assert shown(ledger, uow_id) == json.loads(json.dumps(record))


def test_every_column_is_printed(ledger: Path) -> None:
    """The text names every column of the contract's unit, and what stands in it."""
    uow_id = committed(ledger, "GREEN")
    text = invoke("show", ledger, uow_id).stdout
    with Ledger.open(ledger) as opened:
        record = opened.get(uow_id)
    for column in record.as_dict().keys() - {"writes"}:
        assert f"  {column} " in text
    for value in (record.uow_id, record.created_ts, record.receipt_hash, record.writes[0].checksum, SPACE, "alice"):
        assert str(value) in text
    assert f"({record.execution_us:,} microseconds)" in text


@pytest.mark.parametrize("band", list(Band))
@pytest.mark.parametrize("status", ["committed", "failed"])
def test_json_follows_the_shipped_schema(ledger: Path, band: str, status: str) -> None:
    """What --json prints validates against the schema of a unit record, also where the band keeps things back."""
    record = shown(ledger, only_id(ledger, [f"band={band}", f"status={status}"]))
    jsonschema.Draft202012Validator(_schema.unit_record_schema()).validate(record)


@pytest.mark.parametrize("form", [(), ("--json",)])
@pytest.mark.parametrize("status", ["committed", "failed"])
def test_amber_keeps_back_actor_records_and_foreign_words(ledger: Path, form: tuple[str, ...], status: str) -> None:
    """AMBER shows neither who acted nor which records nor what a foreign error said; space and type stay."""
    result = invoke("show", ledger, only_id(ledger, ["band=AMBER", f"status={status}"]), *form)
    assert not any(word in result.stdout for word in ("alice", "n-AMBER", "secret"))
    assert SPACE in result.stdout or json.dumps(SPACE)[1:-1] in result.stdout
    assert "Band AMBER keeps back: actor_id" in result.stderr


@pytest.mark.parametrize("form", [(), ("--json",)])
@pytest.mark.parametrize("band", ["RED", "BLACK"])
def test_red_and_black_show_id_outcome_and_times(ledger: Path, form: tuple[str, ...], band: str) -> None:
    """RED and BLACK show id, band, outcome and times (BLACK to the minute), no ids, sizes, writes and no receipt."""
    uow_id = committed(ledger, band)
    result = invoke("show", ledger, uow_id, *form)
    with Ledger.open(ledger) as opened:
        record = opened.get(uow_id)
    assert record.committed_ts is not None
    times = [record.created_ts, record.committed_ts]
    if band == "BLACK":
        times = [f"{time[:16]}:00Z" for time in times]
    for shown_word in (uow_id, band, "committed", *times):
        assert shown_word in result.stdout
    for word in (SPACE, json.dumps(SPACE)[1:-1], "alice", "phone", "req-", f"n-{band}", record.receipt_hash):
        assert str(word) not in result.stdout
    assert f"Band {band} keeps back: " in result.stderr


def test_our_own_sentence_is_shown_for_amber(tmp_path: Path) -> None:
    """The library's own template, which AMBER may keep, is shown; a text put there by hand is not."""
    path = make_ledger(tmp_path / "memory.db")
    uow_id = only_id(path, ["band=AMBER", "status=failed"])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE unit_of_work SET error_message = 'A store refused a write.'")
    assert "A store refused a write." in invoke("show", path, uow_id).stdout
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE unit_of_work SET error_message = 'the secret words'")
    assert "secret" not in invoke("show", path, uow_id).stdout


def test_a_band_that_is_none_shows_as_little_as_black(tmp_path: Path) -> None:
    """A unit whose band was changed by hand to an unknown one is not taken for GREEN."""
    path = make_ledger(tmp_path / "memory.db")
    uow_id = committed(path, "GREEN")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("UPDATE unit_of_work SET band = 'green' WHERE uow_id = ?", (uow_id,))
    assert "alice" not in invoke("show", path, uow_id).stdout


def test_nothing_steers_the_terminal(ledger: Path) -> None:
    """Escape sequences, line feeds and direction marks in ids and error texts are shown, not sent."""
    for uow_id in (committed(ledger, "GREEN"), only_id(ledger, ["band=GREEN", "status=failed"])):
        for form in ((), ("--json",)):
            text = invoke("show", ledger, uow_id, *form).stdout
            assert all(character.isprintable() or character == "\n" for character in text)
    assert r"n1\x1b[2J\r\n\u202eevil" in invoke("show", ledger, committed(ledger, "GREEN")).stdout
    assert shown(ledger, committed(ledger, "GREEN"))["writes"][0]["record_id"] == HOSTILE_KEY


def test_finds_a_unit_by_beginning_or_end(tmp_path: Path) -> None:
    """Four characters from the beginning or the end of an id do when they belong to one unit only."""
    path = tmp_path / "old.db"
    make_1_0_0(path, 0)
    with closing(sqlite3.connect(path)) as connection, connection:
        rows = [("aaaa-1-xxxx",), ("aaaa-2-yyyy",), ("bbbb-3-yyyy",)]
        connection.executemany("INSERT INTO unit_of_work (uow_id, status, created_ts) VALUES (?, 'failed', '')", rows)
    for part, found in (("bbbb", "bbbb-3-yyyy"), ("xxxx", "aaaa-1-xxxx"), ("aaaa-2", "aaaa-2-yyyy")):
        assert json.loads(invoke("show", path, part, "--json").stdout)["uow_id"] == found
    for part, words in (
        ("aaaa", "more than one unit"),
        ("yyyy", "more than one"),
        ("bbb", "too short"),
        ("zzzz", "no unit"),
    ):
        result = invoke("show", path, part)
        assert (result.exit_code, result.stdout) == (2, "")
        assert words in result.stderr


def test_the_environment_can_name_the_ledger(ledger: Path) -> None:
    """With $MEMORYOS_UOW_LEDGER the unit alone is enough; a ledger that is given as well wins."""
    uow_id = committed(ledger, "GREEN")
    named: dict[str, str | None] = {"MEMORYOS_UOW_LEDGER": str(ledger)}
    assert uow_id in invoke("show", uow_id, env=named).stdout
    assert uow_id in invoke("show", ledger, uow_id, env={"MEMORYOS_UOW_LEDGER": "nowhere.db"}).stdout
    assert "Missing argument 'UOW_ID'" in invoke("show", ledger).stderr
    assert "Missing argument 'LEDGER'" in invoke("show").stderr


def test_shows_a_unit_of_1_0_0(tmp_path: Path) -> None:
    """Of a 1.0.0 unit the columns and writes it has are shown; the file stays as it is."""
    make_1_0_0(tmp_path / "old.db")
    before = files_of(tmp_path)
    result = invoke("show", tmp_path / "old.db", "u1")
    assert result.exit_code == 0
    assert all(word in result.stdout for word in ("u1", "e1", "committed", "r2", "r3"))
    assert "receipt" not in result.stdout
    assert "contract 1.0.0" in result.stderr
    assert files_of(tmp_path) == before


def test_fits_narrow_terminals(ledger: Path) -> None:
    """With COLUMNS=40 no line of it is wider."""
    for line in invoke("show", ledger, committed(ledger, "AMBER"), env={"COLUMNS": "40"}).stdout.splitlines():
        assert len(line) <= 40
