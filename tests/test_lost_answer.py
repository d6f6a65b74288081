"""A commit whose answer is lost: it is proven gone, found, or called in doubt; never claimed to be what it is not."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import InDoubtError, Ledger, LedgerError
from memoryos_uow.engines import sqlite as engine_module
from memoryos_uow.testing import why_no_strace
from tests.leftovers import begun, open_ledger, unsettled, versions, write
from tests.units import SPACE, environment, python, rows, statuses

if TYPE_CHECKING:
    from pathlib import Path

UNITS = """
    import json, sys
    from memoryos_uow import Ledger, UnitOfWorkError

    ledger = Ledger.open(sys.argv[1])
    print("open", flush=True)
    for number in range(3):
        uow = ledger.unit(space_id="s", band="GREEN")
        said = {"id": uow.uow_id}
        try:
            with uow:
                uow["n"].upsert("k", {"n": number})
        except UnitOfWorkError as error:
            said |= {"error": type(error).__name__, "in_doubt": error.in_doubt}
        print(json.dumps(said | {"status": uow.status, "receipt": uow.receipt is not None}), flush=True)
    try:
        ledger.close()
    except UnitOfWorkError:
        pass
"""


@pytest.mark.skipif(why_no_strace() is not None, reason=f"strace: {why_no_strace()}")
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("number", range(1, 6))
def test_a_failing_sync(tmp_path: Path, number: int, lasting: bool) -> None:
    """Whichever sync fails, what a unit says of itself is what the ledger holds afterwards, and the next unit works."""
    path = tmp_path / "memory.db"
    with Ledger.open(path) as ledger, ledger.unit(space_id="s", band="GREEN") as uow:
        uow["n"].create("k", {"n": -1})
    fault = f"inject=fdatasync,fsync:error=EIO:when={number}{'+' if lasting else ''}"
    trace = ["strace", "-f", "-qq", "-o", str(tmp_path / "log"), "-e", "trace=fdatasync,fsync", "-e", fault]
    done = subprocess.run(
        [*trace, *python(UNITS, path)], env=environment(), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.startswith("open"), done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()[1:]]
    assert len(said) == 3, done.stderr
    status = dict(rows(path, "SELECT uow_id, status FROM unit_of_work"))
    for unit in said:
        if "error" not in unit:
            assert (unit["status"], unit["receipt"], status[unit["id"]]) == ("committed", True, "committed")
        elif not unit["in_doubt"]:
            assert (unit["status"], unit["receipt"]) == ("failed", False)
            assert status.get(unit["id"], "failed") == "failed"
    if not lasting:
        failed = [unit["status"] for unit in said].count("failed")
        assert failed == 1 if number == 1 else failed <= 1  # SQLite itself forgives a directory that cannot be synced
    with Ledger.open(path) as ledger:
        last = max((n for n, unit in enumerate(said) if status.get(unit["id"]) == "committed"), default=-1)
        assert ledger["n"].get("k", space_id="s") == {"n": last}
        write_again(ledger)
        assert ledger.validate() == []


def write_again(ledger: Ledger) -> None:
    """One more unit, which must work."""
    with ledger.unit(space_id="s", band="GREEN") as uow:
        uow["n"].update("k", {"n": 9})
    assert ledger["n"].get("k", space_id="s") == {"n": 9}


class Liar(engine_module._Connection):
    """A connection that says of a commit that its sync failed, whether it did or not."""

    lies = ""

    def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
        if sql == "COMMIT" and Liar.lies:
            how, Liar.lies = Liar.lies, "" if Liar.lies != "always" else "always"
            super().execute("COMMIT" if how == "done" else "ROLLBACK")
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error
        return super().execute(sql, *parameters)  # type: ignore[arg-type]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger in all four stores, whose connections may lie."""
    made = begun(tmp_path / "ledger")
    monkeypatch.setattr(engine_module, "_Connection", Liar)
    monkeypatch.setattr(Liar, "lies", "")
    return made


def lying(monkeypatch: pytest.MonkeyPatch, ledger: Ledger, how: str) -> None:
    """Let the connection lie from the decision on; what comes before it is another transaction."""
    deciding = ledger._opened.coordinator._group._deciding
    before = deciding._write_coordination

    def lie_then_write(*arguments: object) -> object:
        monkeypatch.setattr(Liar, "lies", how)
        return before(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(deciding, "_write_coordination", lie_then_write)


def test_a_decision_that_is_found(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the ledger shows that the commit did happen, the unit is committed, published, and nobody gets an error."""
    with open_ledger(place) as ledger:
        lying(monkeypatch, ledger, "done")
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["notes"].upsert("k", {"n": 2})
            uow["photos"].upsert("k", b"2" * 100)
            uow["archive"].upsert("k", {"n": 2})
            uow["files"].upsert("k", b"2")
        assert uow.status == "committed"
        assert uow.receipt is not None
        assert ledger.get(uow.uow_id).receipt_hash == uow.receipt.hash
        assert versions(ledger) == {2}
        monkeypatch.undo()
        write(ledger, 3)
    assert unsettled(place) == []


def test_a_commit_that_is_proven_gone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it did not happen, a later durable row says so, no store holds anything of it, and the error says why."""
    with open_ledger(place) as ledger:
        lying(monkeypatch, ledger, "undone")
        with pytest.raises(LedgerError, match="disk") as caught:
            write(ledger, 2)
        assert not caught.value.in_doubt
        assert statuses(ledger) == ["committed", "failed"]
        assert ledger.units(limit=1)[0].error_type == "LedgerError"
        assert versions(ledger) == {1}
        monkeypatch.undo()
        write(ledger, 3)
        assert versions(ledger) == {3}
        ledger.recover()
    assert unsettled(place) == []
    assert not list((place / "files" / ".uow" / "stage").iterdir())


def test_a_commit_that_nobody_can_tell(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the proof fails as well, neither is claimed; once the disk is sound, recovery settles it one way."""
    with open_ledger(place) as ledger:
        lying(monkeypatch, ledger, "always")
        uow = ledger.unit(space_id=SPACE, band="GREEN")
        with pytest.raises(InDoubtError, match="cannot be told") as caught, uow:
            uow["notes"].upsert("k", {"n": 2})
            uow["files"].upsert("k", b"2")
        assert (caught.value.in_doubt, caught.value.uow_id, uow.status) == (True, uow.uow_id, "pending")
        monkeypatch.undo()
        assert versions(ledger) == {1}
        write(ledger, 3)
        assert ledger.recover().rolled_back == (uow.uow_id,)
        assert ledger.get(uow.uow_id).status == "failed"
        assert versions(ledger) == {3}
    assert unsettled(place) == []
