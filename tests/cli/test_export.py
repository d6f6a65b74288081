"""``memoryos-uow export`` and ``check-export``: a history leaves the ledger, and every change of it is found."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Band, Ledger, _exporting
from tests import schema_files
from tests.cli.tools import invoke, run
from tests.units import MARKER, everything

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SPACE = "alice"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with seven units of one space, one of them failed, between units of another."""
    place = tmp_path / "memory.db"
    with Ledger.open(place, origin="example.com/home") as ledger:
        for number in range(3):
            write(ledger, "GREEN", number)
            write(ledger, "GREEN", number, space="bob")
        for band in (Band.AMBER, Band.RED, Band.BLACK):
            write(ledger, band.value, 9)
        with suppress(KeyError), ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["notes"].create("never", {})
            raise KeyError(MARKER)
    return place


def write(ledger: Ledger, band: str, number: int, *, space: str = SPACE) -> None:
    """Commit one unit with three writes."""
    with ledger.unit(space_id=space, band=band, actor_id=f"actor-{MARKER}") as uow:
        uow["notes"].create(f"{MARKER}-{band}-{number}", {"n": number})
        uow["notes"].upsert("shared", {"of": band})
        uow.publish("t", number)


def exported(path: Path) -> list[dict[str, Any]]:
    """The lines of an export."""
    return [json.loads(line) for line in invoke("export", path, "--space", SPACE).stdout.splitlines()]


def problems(lines: list[Any]) -> list[str]:
    """What the check finds in these lines."""
    return _exporting.check([json.dumps(line) for line in lines]).problems


def test_a_history_is_exported_oldest_first(path: Path) -> None:
    """One line for each unit of the space, also of failed ones; receipts and proofs where there are any."""
    before = everything(path)
    lines = exported(path)
    assert everything(path) == before
    assert [line["record"]["status"] for line in lines] == ["committed"] * 6 + ["failed"]
    assert [json.loads(line["receipt"])["space_seq"] for line in lines[:-1]] == [1, 2, 3, 4, 5, 6]
    assert all(line["proof"].startswith("c2sp.org/tlog-proof@v1\n") for line in lines[:-1])
    assert (lines[-1]["receipt"], lines[-1]["proof"]) == (None, None)
    with Ledger.open(path) as ledger:
        assert lines[0]["record"] == json.loads(json.dumps(ledger.get(lines[0]["record"]["uow_id"]).as_dict()))


def test_of_a_record_no_more_is_exported_than_its_band_allows(path: Path) -> None:
    """GREEN whole; AMBER without keys and actor; RED and BLACK without writes; receipts hold no key of any."""
    green, _, _, amber, red, black, failed = exported(path)
    assert json.dumps(green).count(MARKER) == 2
    assert json.dumps(failed).count(MARKER) == 1  # the error's text
    for line in (amber, red, black):
        assert MARKER not in json.dumps(line)
    assert (len(amber["record"]["writes"]), red["record"]["writes"], black["record"]["space_id"]) == (3, [], None)


def test_an_export_is_checked_without_the_ledger(path: Path, tmp_path: Path) -> None:
    """A file is written whole, and the check says what it looked at."""
    file = tmp_path / "alice.ndjson"
    result = invoke("export", path, "--space", SPACE, "-o", file)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "Note: 7 units written.\n")
    path.unlink()
    assert sorted(one.name for one in tmp_path.iterdir() if "ndjson" in one.name) == ["alice.ndjson"]
    result = invoke("check-export", file, "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["ok"], found["units"], found["receipts"]) == (0, True, 7, 6)
    assert (found["writes_recomputed"], found["signed"], found["origin"]) == (3, 0, "example.com/home")
    text = invoke("check-export", file)
    assert text.stdout.startswith("7 units, 6 receipts, 0 signed: all hold.\nThe last receipt's hash: ")
    assert "not whose it is" in text.stderr


def test_a_signed_export_is_checked_against_a_key(tmp_path: Path) -> None:
    """Each proof under a checkpoint that the trusted key signed; another key is not enough."""
    pytest.importorskip("cryptography")
    home, key, other = (tmp_path / name for name in ("m.db", "key.pem", "other.pem"))
    vkeys = {}
    for name, place in (("example.com/home", key), ("example.com/other", other)):
        made = run("keys", "new", place, "--name", name)
        assert made.returncode == 0, made.stderr
        vkeys[place] = next(word for word in (made.stdout + made.stderr).split() if word.startswith(f"{name}+"))
    with Ledger.open(home, origin="example.com/home", signer=key) as ledger:
        write(ledger, "GREEN", 1)
        write(ledger, "AMBER", 2)
    file = tmp_path / "alice.ndjson"
    invoke("export", home, "--space", SPACE, "-o", file)
    good = invoke("check-export", file, "--vkey", vkeys[key])
    assert (good.exit_code, "2 receipts, 2 signed: all hold" in good.stdout) == (0, True)
    bad = invoke("check-export", file, "--vkey", vkeys[other])
    assert (bad.exit_code, bad.stdout.count("not signed by a key that you trust")) == (1, 2)


def test_what_was_erased_does_not_break_the_chain(path: Path) -> None:
    """An erased write cannot be recomputed; of a unit whose id was erased only the place in the chain is left."""
    with Ledger.open(path) as ledger:
        ledger.erase(space_id=SPACE, store="notes", key=f"{MARKER}-GREEN-1")
    lines = exported(path)
    checked = _exporting.check([json.dumps(line) for line in lines])
    assert checked.problems == []
    assert checked.writes_recomputed == 2  # one of three less; the tombstone does not show its own


def test_a_forgotten_unit_leaves_its_place(path: Path, tmp_path: Path) -> None:
    """Of a unit whose id was erased too the export has neither receipt nor proof, and the chain goes on over it."""
    with Ledger.open(path) as ledger:
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["notes"].create("alone", {})
        write(ledger, "GREEN", 8)
        ledger.erase(space_id=SPACE, store="notes", key="alone", forget_unit_ids=True)
    file = tmp_path / "alice.ndjson"
    invoke("export", path, "--space", SPACE, "-o", file)
    assert uow.uow_id not in file.read_text()
    result = invoke("check-export", file)
    assert (result.exit_code, "10 units, 8 receipts" in result.stdout) == (0, True)
    assert "1 committed unit without a receipt" in result.stderr
    lines = file.read_text().splitlines()
    (place,) = (number for number, line in enumerate(lines) if json.loads(line)["receipt"] is None and number != 6)
    assert _exporting.check([*lines[:place], *lines[place + 1 :]]).problems
    hidden = json.loads(lines[place])
    hidden["record"]["receipt_hash"] = "0" * 64
    assert _exporting.check([*lines[:place], json.dumps(hidden), *lines[place + 1 :]]).problems


def changed(*place: str | int, to: Any) -> Callable[[list[dict[str, Any]]], None]:
    """Change the value at a place of the second line."""

    def change(lines: list[dict[str, Any]]) -> None:
        value: Any = lines[1]
        for step in place[:-1]:
            value = value[step]
        assert value[place[-1]] != to
        value[place[-1]] = to

    return change


def of_receipt(**fields: Any) -> Callable[[list[dict[str, Any]]], None]:
    """Change fields of the second line's receipt, which stays canonical, and the record's hash with it."""

    def change(lines: list[dict[str, Any]]) -> None:
        receipt = {**json.loads(lines[1]["receipt"]), **fields}
        lines[1]["receipt"] = json.dumps(receipt, separators=(",", ":"))
        lines[1]["record"]["receipt_hash"] = None

    return change


def elsewhere(line: dict[str, Any]) -> None:
    """Have the proof's checkpoint be that of another ledger with the same tree."""
    line["proof"] = line["proof"].replace("\nexample.com/home\n", "\nexample.com/else\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed("record", "receipt_hash", to="0" * 64), "not the one whose hash"),
        (changed("record", "uow_id", to="x"), "differ in uow_id"),
        (changed("record", "band", to="AMBER"), "differ in band"),
        (changed("record", "committed_ts", to="2030-01-01T00:00:00.000000Z"), "differ in committed_ts"),
        (changed("record", "total_bytes_written", to=1), "differ in total_bytes_written"),
        (changed("record", "status", to="failed"), "not committed has a receipt"),
        (changed("record", "writes", 0, "record_id", to="other"), "not those that the receipt"),
        (changed("record", "writes", 2, "checksum", to=None), "not those that the receipt"),
        (changed("record", "writes", 1, "bytes_written", to=1.5), "lacks what"),
        (changed("record", "writes", to=[]), "not those that the receipt"),
        (changed("record", "writes", to=None), "no list of writes"),
        (changed("record", to=None), "no unit of an export"),
        (changed("receipt", to="{}"), "canonical bytes"),
        (changed("receipt", to=7), "no text"),
        (changed("receipt", to="\ud800"), "no text"),
        (changed("proof", to=None), "no proof"),
        (changed("proof", to=""), "tlog-proof"),
        (of_receipt(prev="0" * 64), "does not follow"),
        (of_receipt(space_seq=7), "not the next one"),
        (of_receipt(origin="example.com/other"), "another ledger or space"),
        (of_receipt(store_count=9), "differ in store_count"),
        (of_receipt(context="sha256:" + "0" * 64), "proof does not hold"),
        (lambda lines: elsewhere(lines[1]), "proof is of another ledger"),
        (lambda lines: lines.pop(1), "not the next one"),
        (lambda lines: lines.insert(1, lines[0]), "not the next one"),
        (lambda lines: lines.insert(0, lines.pop(1)), "not the next one"),
        (lambda lines: lines.insert(1, {}), "no unit of an export"),
        (lambda lines: lines[1].update(more=1), "no unit of an export"),
        (lambda lines: lines[1].update(proof=lines[2]["proof"]), "proof does not hold"),
        (lambda lines: lines.__delitem__(slice(1)), "not the next one"),
    ],
)
def test_every_change_is_found(path: Path, change: Callable[[list[dict[str, Any]]], Any], said: str) -> None:
    """Edited, removed, repeated, reordered, transplanted: named by its line, in one sentence."""
    lines = exported(path)
    assert problems(lines) == []
    change(lines)
    found = problems(lines)
    assert any(said in one for one in found), found
    assert all(one.startswith("Line ") and MARKER not in one for one in found)


@pytest.mark.parametrize(
    "line", ["", "x", "[]", "7", '{"record":{},"record":{},"receipt":null,"proof":null}', "[" * 9999]
)
def test_whatever_is_no_export_is_said_to_be_none(line: str) -> None:
    """No line makes the check fail in another way."""
    assert _exporting.check([line]).problems == ["Line 1: This is no unit of an export."]


def test_the_check_ends_after_many_problems(tmp_path: Path) -> None:
    """And the command with exit code 1."""
    file = tmp_path / "x"
    file.write_bytes(b"\xff\n" * 500)
    result = invoke("check-export", file)
    assert (result.exit_code, len(result.stdout.splitlines())) == (1, 101)


def test_an_export_that_fails_leaves_no_file(path: Path, tmp_path: Path) -> None:
    """A ledger without spaces, a space without units, a directory that is not there."""
    old = tmp_path / "old.db"
    schema_files.make_1_0_0(old, 1)
    assert invoke("export", old, "--space", SPACE, "-o", tmp_path / "out").exit_code == 2
    assert not [one for one in tmp_path.iterdir() if "out" in one.name]
    assert run("export", path, "--space", SPACE, "-o", tmp_path / "no" / "out").returncode == 1
    assert run("export", path, "--space", "").returncode == 2
    assert invoke("export", path, "--space", "nobody").stderr == "Note: The space has no units.\n"
