"""The ledger that units use when none is named."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import Ledger, LedgerError, UnitOfWork, UsageError, _default, default_ledger
from tests.units import SPACE, rows, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory, no environment variable, and default ledgers closed at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEMORYOS_UOW_LEDGER", raising=False)
    yield tmp_path
    for opened in _default._open.values():
        opened.close()
    _default._open.clear()


def put(key: str = "n1") -> UnitOfWork:
    """A committed unit with one write, in the default ledger."""
    with UnitOfWork(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create(key, key)
    return uow


def keys(path: Path) -> list[str]:
    """What a stranger finds in the file."""
    return [key for (key,) in rows(path, "SELECT key FROM uow_documents ORDER BY key")]


def test_memory_db_in_the_working_directory(here: Path) -> None:
    """Without anything said, units write to memory.db where the program runs; every name is a document store there."""
    with UnitOfWork(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("n1", 1)
        uow["anything"].create("a1", 2)
    assert keys(here / "memory.db") == ["a1", "n1"]
    assert default_ledger().path == here / "memory.db"
    assert default_ledger()["anything"].get("a1", space_id=SPACE) == 2


def test_making_a_unit_opens_nothing(here: Path) -> None:
    """Only the block's beginning opens the ledger."""
    UnitOfWork(space_id=SPACE, band="GREEN")
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("relative", [False, True])
def test_the_environment_variable(here: Path, monkeypatch: pytest.MonkeyPatch, relative: bool) -> None:
    """$MEMORYOS_UOW_LEDGER names the file, from the root or from where the program runs."""
    (here / "data").mkdir()
    path = here / "data" / "ledger.db"
    monkeypatch.setenv("MEMORYOS_UOW_LEDGER", "data/ledger.db" if relative else str(path))
    put()
    assert keys(path) == ["n1"]
    assert not (here / "memory.db").exists()


def test_an_empty_environment_variable(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable is none."""
    monkeypatch.setenv("MEMORYOS_UOW_LEDGER", "")
    put()
    assert keys(here / "memory.db") == ["n1"]


@pytest.mark.parametrize(
    ("value", "error"),
    [("nowhere/memory.db", LedgerError), ("mysql://host/db", UsageError), (":memory:", UsageError)],
)
def test_a_variable_that_names_no_file(
    here: Path, monkeypatch: pytest.MonkeyPatch, value: str, error: type[Exception]
) -> None:
    """A variable that names no possible ledger is refused at the block's beginning, and units can go on elsewhere."""
    monkeypatch.setenv("MEMORYOS_UOW_LEDGER", value)
    with pytest.raises(error) as caught, UnitOfWork(space_id=SPACE, band="GREEN"):
        pytest.fail("the block ran")
    assert getattr(caught.value, "hint", None)
    monkeypatch.delenv("MEMORYOS_UOW_LEDGER")
    put()
    assert keys(here / "memory.db") == ["n1"]


def test_one_ledger_for_the_process(here: Path) -> None:
    """The default ledger is opened once and shared."""
    put("n1")
    first = default_ledger()._opened
    put("n2")
    assert default_ledger()._opened is first
    with UnitOfWork(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("n3", 1)
        with pytest.raises(UsageError, match="open already"):
            put("n4")
    assert keys(here / "memory.db") == ["n1", "n2", "n3"]


def test_another_working_directory_is_another_ledger(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a change of directory units write to the memory.db there, and back again to the first."""
    (here / "other").mkdir()
    put("n1")
    monkeypatch.chdir(here / "other")
    put("n2")
    monkeypatch.chdir(here)
    put("n3")
    assert (keys(here / "memory.db"), keys(here / "other" / "memory.db")) == (["n1", "n3"], ["n2"])


def test_a_change_of_directory_inside_a_block(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit stays with the ledger that it began with."""
    (here / "other").mkdir()
    with UnitOfWork(space_id=SPACE, band="GREEN") as uow:
        monkeypatch.chdir(here / "other")
        uow["notes"].create("n1", 1)
    assert keys(here / "memory.db") == ["n1"]
    assert list((here / "other").iterdir()) == []


def test_opened_again_after_close(here: Path) -> None:
    """A default ledger that was closed is opened again for the next unit."""
    put("n1")
    default_ledger().close()
    put("n2")
    assert keys(here / "memory.db") == ["n1", "n2"]


def test_beside_a_ledger_of_the_applications(here: Path) -> None:
    """The default ledger and one that the application opened on the same file get along."""
    put("n1")
    with Ledger.open("memory.db") as own, own.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("n2", 1)
    put("n3")
    assert keys(here / "memory.db") == ["n1", "n2", "n3"]


def test_closed_at_exit(here: Path) -> None:
    """A program that only writes units leaves one file behind, complete, when it ends."""
    code = """
        from memoryos_uow import UnitOfWork
        with UnitOfWork(space_id="s", band="GREEN") as uow: uow["notes"].create("n1", 1)
        print(uow.status)
    """
    assert run(code, cwd=here) == "committed\n"
    assert {file.name for file in here.iterdir()} == {"memory.db", "memory.db-head"}
    assert rows(here / "memory.db", "SELECT key, commit_us > 0 FROM uow_documents, uow_ledger") == [("n1", 1)]


FORKED = """
    import os, sys
    from memoryos_uow import UnitOfWork, _default
    def put(key):
        with UnitOfWork(space_id="s", band="GREEN") as uow: uow["notes"].create(key, 1)
    if sys.argv[1] == "used": put("before")
    if sys.argv[1] == "locked": _default._lock.acquire()
    children = []
    for number in range(2):
        child = os.fork()
        if child == 0:
            put(f"child{number}")
            sys.exit(0)
        children.append(child)
    if sys.argv[1] == "locked": _default._lock.release()
    put("parent")
    print([os.waitpid(child, 0)[1] for child in children])
"""


@pytest.mark.parametrize("state", ["new", "used", "locked"])
def test_forked_children_have_their_own(here: Path, state: str) -> None:
    """Forked children use the default ledger too, each through its own connections, whatever the parent was doing."""
    assert run(FORKED, state, cwd=here) == "[0, 0]\n"
    assert keys(here / "memory.db") == [*(["before"] if state == "used" else []), "child0", "child1", "parent"]
    assert rows(here / "memory.db", "PRAGMA integrity_check") == [("ok",)]
    names = set(os.listdir(here)) - {"memory.db-queue"}  # noqa: PTH208 - made where two processes met; names are enough
    assert names == {"memory.db", "memory.db-head"}
