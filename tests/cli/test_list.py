"""``memoryos-uow list``: which units, how they look, and what is kept back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import Ledger
from tests.cli.tools import SPACE, files_of, invoke, make_ledger
from tests.schema_files import make_1_0_0

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One ledger for tests that only look."""
    return make_ledger(tmp_path_factory.mktemp("list") / "memory.db")


def listed(ledger: Path, *options: str) -> list[dict[str, object]]:
    """The units as JSON objects."""
    result = invoke("list", ledger, "--json", *options)
    assert result.exit_code == 0, result.stderr
    found: list[dict[str, object]] = json.loads(result.stdout)
    return found


def test_lists_newest_first(ledger: Path) -> None:
    """All nine units are listed, in the opposite order of their recording."""
    with Ledger.open(ledger) as opened:
        expected = [unit.uow_id for unit in opened.units()]
    assert len(expected) == 9
    assert [unit["uow_id"] for unit in listed(ledger)] == expected
    rows = invoke("list", ledger).stdout.splitlines()
    assert rows[0].split() == ["UNIT", "CREATED", "STATUS", "BAND", "SPACE", "BYTES", "MS", "ERROR"]
    assert [row.split()[0] for row in rows[1:]] == expected


@pytest.mark.parametrize(
    ("options", "number"),
    [
        (("--band", "amber"), 2),
        (("--status", "committed"), 4),
        (("--failed",), 4),
        (("--failed", "--status", "failed", "--band", "RED"), 1),
        (("--status", "rolled_back"), 1),
        (("--space", SPACE), 5),
        (("--space", "another"), 0),
        (("--actor", "alice"), 2),
        (("--correlation", "req-AMBER"), 2),
        (("--correlation", "req-BLACK"), 0),
        (("--since", "2026-01-01"), 9),
        (("--since", "2999-01-01T00:00:00+02:00"), 0),
        (("--slow", "0"), 7),
        (("--slow", "86400000"), 0),
        (("--limit", "3"), 3),
        (("--limit", "0"), 9),
    ],
)
def test_filters(ledger: Path, options: tuple[str, ...], number: int) -> None:
    """Every filter keeps the units it names, and several of them keep what passes all."""
    assert len(listed(ledger, *options)) == number


def test_says_that_there_are_more(ledger: Path) -> None:
    """Units left out because of --limit are mentioned on stderr, and only then."""
    assert "There are more" in invoke("list", ledger, "--limit", "8").stderr
    assert invoke("list", ledger, "--limit", "9").stderr == ""


def test_says_that_nothing_matches(ledger: Path) -> None:
    """No match is no error: nothing on stdout, a note on stderr, and for programs an empty list."""
    result = invoke("list", ledger, "--space", "another")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "Note: No unit matches.\n")
    assert invoke("list", ledger, "--space", "another", "--json").stdout == "[]\n"
    assert invoke("list", ledger, "--space", "another", "--nl").stdout == ""


def test_prints_one_unit_per_line(ledger: Path) -> None:
    """--nl prints the objects of --json, one per line."""
    lines = invoke("list", ledger, "--nl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == listed(ledger)


@pytest.mark.parametrize("form", [(), ("--json",), ("--nl",)])
def test_shows_no_more_than_the_band_allows(ledger: Path, form: tuple[str, ...]) -> None:
    """RED and BLACK show neither space nor actor, AMBER no actor and no foreign error text, in every form."""
    for band in ("RED", "BLACK"):
        shown = invoke("list", ledger, "--band", band, *form).stdout
        assert not any(word in shown for word in (SPACE, json.dumps(SPACE)[1:-1], "alice", "phone", "req-", "secret"))
        assert "ValueError" in shown
    shown = invoke("list", ledger, "--band", "AMBER", *form).stdout
    assert "alice" not in shown
    assert "secret" not in shown
    assert SPACE in shown or json.dumps(SPACE)[1:-1] in shown


def test_tables_fit_narrow_terminals(ledger: Path) -> None:
    """With COLUMNS=40 no line is wider than that and no id is cut, wide characters counted as two."""
    lines = invoke("list", ledger, env={"COLUMNS": "40"}).stdout.splitlines()
    for line in lines:
        assert len(line) + sum(character in "家族共有" for character in line) <= 40
    ids = {str(unit["uow_id"]) for unit in listed(ledger)}
    assert ids <= set(lines)


def test_wide_characters_keep_columns_aligned(tmp_path: Path) -> None:
    """What follows a name in wide characters begins in the same column as everywhere else."""
    with Ledger.open(tmp_path / "memory.db") as ledger:
        for space in ("家族の写真", "ab"):
            with ledger.unit(space_id=space, band="GREEN") as uow:
                uow["notes"].create("n", {"length": "six" * 400})
    narrow, wide = invoke("list", tmp_path / "memory.db").stdout.splitlines()[1:]
    assert narrow.index("1,213") == wide.index("1,213") + len("家族の写真")


def test_reads_a_ledger_of_1_0_0_without_touching_it(tmp_path: Path) -> None:
    """A 1.0.0 ledger is listed with what it has and a note, and its bytes stay as they are."""
    make_1_0_0(tmp_path / "old.db")
    before = files_of(tmp_path)
    result = invoke("list", tmp_path / "old.db")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].split() == ["UNIT", "CREATED", "COMMITTED", "STATUS"]
    assert [line.split()[0] for line in result.stdout.splitlines()[1:]] == ["u2", "u1", "u0"]
    assert "contract 1.0.0" in result.stderr
    assert len(listed(tmp_path / "old.db", "--status", "committed")) == 3
    assert files_of(tmp_path) == before


def test_refuses_filters_that_1_0_0_does_not_know(tmp_path: Path) -> None:
    """A filter by a column that 1.0.0 lacks is refused, not passed over."""
    make_1_0_0(tmp_path / "old.db")
    result = invoke("list", tmp_path / "old.db", "--band", "GREEN")
    assert result.exit_code == 2
    assert "--status and --since only" in result.stderr


@pytest.mark.parametrize(
    "options", [("--since", "yesterday"), ("--failed", "--status", "committed"), ("--band", "PINK"), ("--limit", "-1")]
)
def test_refuses_wrong_options(ledger: Path, options: tuple[str, ...]) -> None:
    """An option that cannot be meant ends with exit code 2 and a sentence, and lists nothing."""
    result = invoke("list", ledger, *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error: " in result.stderr
