"""``memoryos-uow recover``: what dead processes left, seen from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from memoryos_uow import Ledger
from memoryos_uow.stores import FileStore
from tests.cli.tools import invoke, make_ledger

if TYPE_CHECKING:
    from pathlib import Path

DYING = """
import os, signal, sys
from memoryos_uow import Ledger
from memoryos_uow.stores import FileStore, SQLiteFileStore

step = sys.argv[2]
class Dying(FileStore):
    def prepare(self, unit, writes):
        super().prepare(unit, writes)
        if step == "undecided":
            os.kill(os.getpid(), signal.SIGKILL)
    def publish(self, reader, entries):
        os.kill(os.getpid(), signal.SIGKILL)

stores = [Dying("files", "tree"), SQLiteFileStore("archive", "archive.db")]
ledger = Ledger.open(sys.argv[1], stores=stores, recover=False)
with ledger.unit(space_id="a", band="GREEN") as uow:
    uow["files"].create("note.txt", b"hello")
    uow["archive"].create("note", {"text": "hello"})
"""


def die(path: Path, step: str) -> None:
    """Write a unit in a child process that is killed before its decision, or right after it."""
    child = subprocess.run([sys.executable, "-c", DYING, str(path), step], check=False, capture_output=True)
    assert child.returncode == -9, child.stderr.decode()


def test_nothing_to_do(tmp_path: Path) -> None:
    """On a ledger at rest it says so, in both forms, with exit code 0."""
    path = make_ledger(tmp_path / "memory.db")
    result = invoke("recover", path)
    assert (result.exit_code, result.stdout) == (
        0,
        "rolled forward: 0 units\nrolled back: 0 units\nin doubt: 0 units\n",
    )
    found = json.loads(invoke("recover", path, "--json").stdout)
    assert found == {"ok": True, "rolled_forward": [], "rolled_back": [], "in_doubt": []}


def test_finishes_what_dead_processes_left(tmp_path: Path) -> None:
    """A decided unit is shown by every store, an undecided one leaves nothing, and both are named."""
    path = tmp_path / "memory.db"
    die(path, "decided")
    die(path, "undecided")
    found = json.loads(invoke("recover", path, "--json").stdout)
    assert (len(found["rolled_forward"]), len(found["rolled_back"]), found["in_doubt"]) == (1, 1, [])
    assert (tmp_path / "tree/a/note.txt").read_bytes() == b"hello"
    with Ledger.open(path, stores="recorded") as ledger:
        assert ledger["archive"].get("note", space_id="a") == {"text": "hello"}
        assert ledger.get(found["rolled_forward"][0]).status == "committed"
        assert ledger.get(found["rolled_back"][0]).error_type == "OwnerDied"


def test_in_doubt_is_an_exit_code(tmp_path: Path) -> None:
    """A unit that a store cannot finish is listed, the exit code is 1, and a later run finishes it."""
    path = tmp_path / "memory.db"
    die(path, "decided")
    with Ledger.open(path, stores=[FileStore("files", "tree")], recover=False) as ledger:
        report = ledger.recover()
    assert len(report.in_doubt) == 1
    result = invoke("recover", path)
    assert result.exit_code == 0
    assert f"rolled forward: 1 unit\n  {report.in_doubt[0]}" in result.stdout


def test_missing_ledger(tmp_path: Path) -> None:
    """A file that is not there is an error, and is not made."""
    path = tmp_path / "none.db"
    assert invoke("recover", path).exit_code == 2
    assert not path.exists()
