"""Every command that looks at a ledger, wherever it is run: old terminals, narrow ones, closed pipes, odd ledgers."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Final

import pytest

from memoryos_uow import Ledger
from memoryos_uow.cli._commands import COMMANDS
from memoryos_uow.stores import DocumentStore
from tests.cli.tools import COMMAND, SPACE, environment, invoke, make_ledger
from tests.schema_files import make_1_0_0

if TYPE_CHECKING:
    from pathlib import Path

LOOKING: Final = (
    ("list", "LEDGER"),
    ("list", "LEDGER", "--json"),
    ("list", "LEDGER", "--nl"),
    ("show", "LEDGER", "UNIT"),
    ("show", "LEDGER", "FAILED"),
    ("show", "LEDGER", "UNIT", "--json"),
    ("stats", "LEDGER", "--by", "hour"),
    ("stats", "LEDGER", "--json"),
    ("watch", "LEDGER", "--count", "1", "--interval", "0.1"),
    ("watch", "LEDGER", "--count", "1", "--interval", "0.1", "--nl"),
    ("report", "LEDGER", "-o", "-"),
    ("validate", "LEDGER"),
    ("validate", "LEDGER", "--json"),
    ("verify", "LEDGER"),
    ("verify", "LEDGER", "--json"),
    ("outbox", "list", "LEDGER"),
    ("outbox", "list", "LEDGER", "--json"),
    ("export", "LEDGER", "--space", SPACE, "-o", "-"),
    ("checkpoint", "LEDGER", "-o", "-"),
    ("prove", "LEDGER", "UNIT", "-o", "-"),
    ("keys", "show", "LEDGER"),
    ("recover", "LEDGER"),
)
NO_LEDGER: Final = {"check-proof", "check-export"}
"""What looks at another file."""
CHANGING: Final = {"demo", "relay", "erase", "migrate", "copy"}
OLD: Final = {"validate": 2, "verify": 2, "export": 2, "checkpoint": 2, "prove": 2, "show": 2}
"""Exit codes on a ledger of contract 1.0.0, where they are not 0: it has no receipts, and no unit of this id."""
EMPTY: Final = {"prove": 2, "show": 2}


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with units of every band and outcome, and a message that waits."""
    path = make_ledger(tmp_path_factory.mktemp("surroundings") / "memory.db")
    with (
        Ledger.open(path, stores=[DocumentStore("notes")]) as opened,
        opened.unit(space_id=SPACE, band="GREEN") as uow,
    ):
        uow["notes"].create("last", {"text": "milk is out"})
        uow.publish("note.made", {"id": "last"}, key="last")
    return path


@pytest.fixture(scope="module")
def names(ledger: Path) -> dict[str, str]:
    """What the words in capitals stand for."""
    with Ledger.open(ledger) as opened:
        (newest,) = opened.units(limit=1)
        (failed,) = opened.units(status="failed", band="GREEN")
    return {"LEDGER": str(ledger), "UNIT": newest.uow_id, "FAILED": failed.uow_id}


def named(words: tuple[str, ...], names: dict[str, str]) -> list[str]:
    """The words of a command with paths and ids."""
    return [names.get(word, word) for word in words]


def test_every_command_is_in_the_table() -> None:
    """A new command is tried in these surroundings too, or said to belong elsewhere."""
    assert {words[0] for words in LOOKING} | NO_LEDGER | CHANGING == COMMANDS.keys()


def test_terminals_that_know_little(names: dict[str, str]) -> None:
    """ASCII, the C locale, no colours and 20 columns: each command does its work and says nothing else.

    A page stays UTF-8, as it says of itself: where it goes is a file or another program.
    """
    settings = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "NO_COLOR": "1", "COLUMNS": "20"}

    def tried(words: tuple[str, ...]) -> subprocess.CompletedProcess[bytes]:
        call = [*COMMAND, *named(words, names)]
        return subprocess.run(call, env=environment(**settings), capture_output=True, check=False)

    with ThreadPoolExecutor(2) as pool:
        for words, done in zip(LOOKING, pool.map(tried, LOOKING), strict=True):
            assert (done.returncode, b"Traceback" in done.stderr) == (0, False), (words, done.stderr)
            assert b"\x1b" not in done.stdout + done.stderr, words
            assert words[0] == "report" or (done.stdout + done.stderr).isascii(), words
            assert words[0] != "report" or "家族" in done.stdout.decode(), words
            assert done.stdout or words[0] == "keys", words
            if words[0] in ("list", "outbox") and len(words) < 4 and "--" not in words[-1]:
                assert all(len(line) <= 20 for line in done.stdout.decode().splitlines()), words


def test_a_reader_that_has_gone(names: dict[str, str]) -> None:
    """Each command that prints ends as if by SIGPIPE when nobody reads on, without a word."""
    printing = [*{words[0]: words for words in LOOKING if words[0] != "keys"}.values()]  # one way of each

    def tried(words: tuple[str, ...]) -> subprocess.CompletedProcess[bytes]:
        reader, writer = os.pipe()
        os.close(reader)
        try:
            call = [*COMMAND, *named(words, names)]
            return subprocess.run(call, env=environment(), stdout=writer, stderr=subprocess.PIPE, check=False)
        finally:
            os.close(writer)

    with ThreadPoolExecutor(2) as pool:
        for words, done in zip(printing, pool.map(tried, printing), strict=True):
            told = re.sub(rb"(?m)^(Note|Hint): .*\n", b"", done.stderr)
            assert (done.returncode, told) == (141, b""), words


@pytest.mark.parametrize("words", LOOKING, ids=" ".join)
def test_an_empty_ledger(tmp_path: Path, words: tuple[str, ...]) -> None:
    """There is nothing, and each command says so in a sentence, or prints what nothing looks like."""
    Ledger.open(tmp_path / "ledger.db").close()
    done = invoke(*named(words, {"LEDGER": str(tmp_path / "ledger.db"), "UNIT": "0000", "FAILED": "0000"}))
    assert done.exit_code == EMPTY.get(words[0], 0), done.stderr
    assert done.stdout or re.search(r"^(Note|Error): .+\.$", done.stderr, re.MULTILINE)


@pytest.mark.parametrize("words", LOOKING, ids=" ".join)
def test_a_ledger_of_contract_1_0_0(tmp_path: Path, words: tuple[str, ...]) -> None:
    """What it can say it says, with what is missing in a note; the rest is one clear sentence. It is not migrated."""
    path = tmp_path / "ledger.db"
    make_1_0_0(path)
    done = invoke(*named(words, {"LEDGER": str(path), "UNIT": "0000", "FAILED": "0000"}))
    assert done.exit_code == OLD.get(words[0], 0), done.stderr
    assert done.stdout or re.search(r"^(Note|Error): .+\.$", done.stderr, re.MULTILINE)
    if words[0] in ("list", "stats", "watch", "report"):
        assert "contract 1.0.0" in done.stderr
    with closing(sqlite3.connect(path)) as connection:
        assert not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'uow_schema'").fetchone()
