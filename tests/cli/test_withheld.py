"""How long a unit took is shown as its band allows, by every command; nothing is found by what is kept back."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

import pytest

from memoryos_uow import Band, Ledger, RecordMissing
from memoryos_uow.cli._withheld import to_the_minute
from memoryos_uow.stores import DocumentStore
from tests.cli.tools import invoke

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS: Final = {
    "list": ("list", "LEDGER"),
    "list --json": ("list", "LEDGER", "--json"),
    "list --nl": ("list", "LEDGER", "--nl"),
    "show": ("show", "LEDGER", "UNIT"),
    "show --json": ("show", "LEDGER", "UNIT", "--json"),
    "stats": ("stats", "LEDGER", "--by", "band"),
    "stats --json": ("stats", "LEDGER", "--json", "--by", "hour"),
    "report": ("report", "LEDGER", "--no-verify", "-o", "-"),
}
TOOK: Final = ("12346", "12,346", "12345678", "12,345,678", "12.3 s", "12.346", ":44.456789")
"""How long the unit took, in all the ways in which it could be said, and when it ended."""


@pytest.fixture(params=["committed", "failed"])
def status(request: pytest.FixtureRequest) -> str:
    """How the unit ended."""
    return str(request.param)


def ledger(folder: Path, band: str, status: str) -> tuple[Path, str]:
    """A ledger with one unit that took a time which can be recognised; and its id."""
    path = folder / "ledger.db"
    with (
        Ledger.open(path, stores=[DocumentStore("notes")]) as opened,
        suppress(RecordMissing),
        opened.unit(space_id="alice", band=band, actor_id="ann", correlation_id="c") as uow,
    ):
        (uow["notes"].create if status == "committed" else uow["notes"].update)("a", 1)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "UPDATE unit_of_work SET created_ts = '2026-11-22T19:20:32.111111Z', total_execution_time_ms = 12346,"
            " commit_time_ms = 12346, committed_ts = iif(committed_ts IS NULL, NULL, '2026-11-22T19:20:44.456789Z'),"
            " error_ts = iif(error_ts IS NULL, NULL, '2026-11-22T19:20:44.456789Z')"
        )
        connection.execute("UPDATE uow_ledger SET execution_us = 12345678, commit_us = 12345678")
    return path, uow.uow_id


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("band", ["RED", "BLACK"])
def test_how_long_it_took(tmp_path: Path, band: str, status: str, command: str) -> None:
    """A RED unit's duration is shown by what shows durations; a BLACK one's by nothing, also not as two times."""
    path, uow_id = ledger(tmp_path, band, status)
    arguments = [{"LEDGER": str(path), "UNIT": uow_id}.get(word, word) for word in COMMANDS[command]]
    done = invoke(*arguments)
    assert done.exit_code == 0, done.stderr
    told = {way for way in TOOK if way in done.stdout}
    if band == "BLACK":
        assert not told, done.stdout
    elif command.startswith(("list", "show")) or status == "committed":
        assert told


@pytest.mark.parametrize("band", Band)
def test_what_is_kept_back_finds_nothing(tmp_path: Path, band: str) -> None:
    """Filters match units whose band shows what is filtered by, and no others."""
    path, _ = ledger(tmp_path, band, "committed")
    finds = {
        ("--space", "alice"): band in ("GREEN", "AMBER"),
        ("--correlation", "c"): band in ("GREEN", "AMBER"),
        ("--actor", "ann"): band == "GREEN",
        ("--slow", "1000"): band != "BLACK",
        ("--slow", "1000", "--actor", "ann"): band == "GREEN",
        ("--band", band): True,
        ("--status", "committed"): True,
        ("--since", "2026-11-22"): True,
    }
    for words, does in finds.items():
        assert len(json.loads(invoke("list", str(path), *words, "--json").stdout)) == does, words


def test_times_without_seconds() -> None:
    """What is no time stays what it is."""
    assert to_the_minute("2026-11-22T19:20:31.110000Z") == "2026-11-22T19:20:00Z"
    assert to_the_minute("2026-11-22T19:20:31+00:00") == "2026-11-22T19:20:00Z"
    assert (to_the_minute("?"), to_the_minute("")) == ("?", "")
