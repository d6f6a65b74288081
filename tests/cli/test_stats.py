"""``memoryos-uow stats``: what it prints, in tables and for programs, and what it refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from memoryos_uow.cli._stats import duration
from tests.cli.tools import SPACE, environment, invoke, make_ledger, run
from tests.schema_files import make_1_0_0
from tests.statistics.rows import Unit, make, put

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One ledger for tests that only look."""
    return make_ledger(tmp_path_factory.mktemp("stats") / "memory.db")


def test_tables_for_people(ledger: Path) -> None:
    """Counts, durations, groups, failures and slowest units have a part each."""
    text = invoke("stats", ledger, "--by", "band").stdout
    for part in ("Units\n", "How long 3 committed units took\n", "By band\n", "Failures\n", "Slowest units\n"):
        assert part in text
    assert "  units        9\n" in text
    assert "BLACK      2       1        0" in text


def test_json_is_the_whole_answer(ledger: Path) -> None:
    """--json prints totals, groups, failures and slowest units by the names of the API."""
    found = json.loads(invoke("stats", ledger, "--by", "space", "--json").stdout)
    assert (found["total"]["units"], found["total"]["failed"], found["by"]) == (9, 4, "space")
    assert [(group["name"], group["withheld"], group["units"]) for group in found["groups"]] == [
        (SPACE, False, 5),
        (None, True, 4),
    ]
    assert found["failures"] == [{"error_type": "ValueError", "failed_store": None, "units": 4}]


def test_filters(ledger: Path) -> None:
    """Space, band and times narrow what is counted."""

    def units(*options: str) -> object:
        return json.loads(invoke("stats", ledger, "--json", *options).stdout)["total"]["units"]

    assert units("--space", SPACE) == 5
    assert units("--band", "amber") == 2
    assert units("--since", "2999-01-01") == 0
    assert units("--until", "2999-01-01T00:00:00+02:00") == 9


def test_no_more_groups_than_asked_for(tmp_path: Path) -> None:
    """A table has the groups with most units, or of times the newest, and a note says that there are more."""
    path = make(tmp_path / "ledger.db")
    put(path, [Unit(space=f"s{n}", created=f"2026-11-{n:02}T00:00:00.000000Z") for n in range(1, 5) for _ in range(n)])
    spaces = invoke("stats", path, "--by", "space", "--limit", "2")
    assert "  s4 " in spaces.stdout
    assert "  s2 " not in spaces.stdout
    assert "There are 4 groups" in spaces.stderr
    days = invoke("stats", path, "--by", "day", "--limit", "1").stdout
    assert "  2026-11-04 " in days
    assert "  2026-11-03 " not in days
    assert invoke("stats", path, "--by", "day", "--limit", "0").stderr == ""


def test_fits_narrow_terminals_and_any_encoding(ledger: Path) -> None:
    """With 40 columns no line is wider, and a terminal that knows ASCII only gets escapes."""
    for line in invoke("stats", ledger, "--by", "space", env={"COLUMNS": "40"}).stdout.splitlines():
        assert len(line) + sum(character in "家族共有" for character in line) <= 40
    done = run("stats", ledger, "--by", "space", env={**environment(), "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, "\\u5bb6" in done.stdout) == (0, True)


def test_ledgers_without_much_to_tell(tmp_path: Path) -> None:
    """An empty ledger and one of 1.0.0 have an answer; what 1.0.0 does not know is refused in a sentence."""
    assert "has no units yet" in invoke("stats", make(tmp_path / "new.db")).stderr
    make_1_0_0(tmp_path / "old.db")
    found = invoke("stats", tmp_path / "old.db", "--by", "day")
    assert (found.exit_code, "2025-09-13" in found.stdout, "contract 1.0.0" in found.stderr) == (0, True, True)
    refused = invoke("stats", tmp_path / "old.db", "--by", "space")
    assert (refused.exit_code, "knows times and status only" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0, "0 us"),
        (999, "999 us"),
        (999.7, "1.00 ms"),
        (1_000, "1.00 ms"),
        (9_994, "9.99 ms"),
        (9_996, "10.0 ms"),
        (999_499, "999 ms"),
        (999_500, "1.00 s"),
        (3_600_000_000, "3,600 s"),
    ],
)
def test_durations_have_three_digits(us: float, text: str) -> None:
    """Durations are rounded to three digits in the unit that suits them."""
    assert duration(us) == text
