"""Two threads at once, in every order that matters: no update is lost, nothing is half, and each unit leaves its row.

MEMORYOS_UOW_INTERLEAVINGS=all tries every schedule with two switches, which takes minutes; otherwise some of them.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import pytest

from memoryos_uow import ConflictError, Ledger, RecordMissing
from memoryos_uow.stores import BlobStore, DocumentStore, FileStore, SQLiteFileStore
from tests.interleavings.scheduler import explore
from tests.schema_files import make_1_0_0
from tests.units import SPACE, rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from memoryos_uow.abc import Store
    from tests.interleavings.scheduler import Interleaving

    World = tuple[list[Callable[[], object]], Callable[[Interleaving], None]]

LIMIT: Final = None if os.environ.get("MEMORYOS_UOW_INTERLEAVINGS") == "all" else 80
SWITCHES: Final = 2
TRIES: Final = 5


def stores() -> list[Store]:
    """Documents in the ledger's file, and one store of each capability outside."""
    return [
        DocumentStore("notes"),
        BlobStore("photos", "photos", inline_below=16),
        SQLiteFileStore("archive", "archive.db"),
        FileStore("files", "files"),
    ]


def as_value(store: str, number: int) -> Any:
    """What version `number` of a record is in a store."""
    return {"n": number} if store in ("notes", "archive") else f"{number:032}".encode()


@pytest.fixture
def place(tmp_path: Path) -> Callable[[], Path]:
    """Make a directory for each run."""
    numbers = count()

    def make() -> Path:
        directory = tmp_path / f"run{next(numbers)}"
        directory.mkdir()
        return directory

    return make


def check_rows(ledger: Ledger, *, committed: int, failed: int) -> None:
    """Each unit has left its row, and every receipt is the hash of what the rows say."""
    units = ledger.units(limit=10_000)
    assert Counter(one.status for one in units) == Counter(committed=committed, failed=failed)
    hashes = {one.uow_id: one.receipt_hash for one in units if one.status == "committed"}
    assert {uow_id: ledger.receipt(uow_id).hash for uow_id in hashes} == hashes
    assert ledger.validate() == []


@pytest.mark.parametrize("ledgers", [1, 2], ids=["one ledger", "two ledgers"])
def test_same_record(tmp_path: Path, ledgers: int) -> None:
    """Two units read a number and write it back increased: both count, or the late one is told to run again."""
    conflicts: list[str] = []
    with ExitStack() as stack:
        path = tmp_path / "memory.db"
        both = [stack.enter_context(Ledger.open(path, durability="normal")) for _ in range(ledgers)]
        keys = (f"k{number}" for number in count())

        def make() -> World:
            key, done = next(keys), list[str]()
            with both[0].unit(space_id=SPACE, band="GREEN") as first:
                first["notes"].create(key, {"n": 0})

            def increase(ledger: Ledger) -> None:
                for _ in range(TRIES):
                    uow = ledger.unit(space_id=SPACE, band="GREEN")
                    try:
                        with uow:
                            uow["notes"].update(key, {"n": uow["notes"].get(key)["n"] + 1})
                    except ConflictError:
                        conflicts.append(uow.uow_id)
                        continue
                    done.append(uow.uow_id)
                    return

            def judge(ran: Interleaving) -> None:
                assert ran.errors == [None, None]
                assert both[0]["notes"].get(key, space_id=SPACE) == {"n": 2}
                assert [both[0].get(uow_id).status for uow_id in done] == ["committed"] * 2

            return [lambda: increase(both[0]), lambda: increase(both[-1])], judge

        runs = explore(make, switches=SWITCHES, limit=LIMIT)
        assert runs >= 50
        assert conflicts, "the two never met"
        check_rows(both[0], committed=3 * runs, failed=len(conflicts))


@pytest.mark.parametrize("fails", [False, True], ids=["both commit", "one fails"])
def test_different_records_over_four_stores(tmp_path: Path, fails: bool) -> None:
    """Of two units that have nothing to do with each other, neither takes anything of the other one along."""
    names = [store.name for store in stores()]
    wanted: dict[str, dict[str, Any]] = {name: {} for name in names}
    with Ledger.open(tmp_path / "memory.db", stores=stores(), durability="normal") as ledger:
        numbers = count()

        def make() -> World:
            number = next(numbers)

            def write(key: str, *, fails: bool) -> None:
                with ledger.unit(space_id=SPACE, band="GREEN") as uow:
                    for name in names:
                        uow[name].create(key, as_value(name, number))
                    if fails:
                        uow["files"].delete("nowhere")

            def judge(ran: Interleaving) -> None:
                assert [type(error) for error in ran.errors] == [RecordMissing if fails else type(None), type(None)]
                for name in names:
                    wanted[name][f"b{number}"] = as_value(name, number)
                    a, b = (ledger[name].get(f"{letter}{number}", space_id=SPACE) for letter in "ab")
                    assert (a, b) == (None if fails else as_value(name, number), as_value(name, number))

            return [lambda: write(f"a{number}", fails=fails), lambda: write(f"b{number}", fails=False)], judge

        runs = explore(make, switches=SWITCHES, limit=LIMIT and LIMIT // 4)
        assert runs >= 15
        assert ledger.recover().in_doubt == ()
        for name in names:
            keys = list(ledger[name].keys(space_id=SPACE))
            assert len(keys) == (runs if fails else 2 * runs)
            assert {key: ledger[name].get(key, space_id=SPACE) for key in keys}.items() >= wanted[name].items()
        check_rows(ledger, committed=runs if fails else 2 * runs, failed=runs if fails else 0)


@pytest.mark.parametrize("old", [False, True], ids=["new file", "file of 1.0.0"])
def test_first_open_by_two(place: Callable[[], Path], tmp_path: Path, old: bool) -> None:
    """Two threads open a file that is not a ledger yet: both get one, and it is made once."""
    if old:
        make_1_0_0(tmp_path / "old.db")
        before = rows(tmp_path / "old.db", "SELECT uow_id, status FROM unit_of_work ORDER BY uow_id")

    def make() -> World:
        path, opened = place() / "memory.db", ["", ""]
        if old:
            shutil.copy(tmp_path / "old.db", path)

        def open_it(number: int) -> None:
            with Ledger.open(path, durability="normal") as ledger, ledger.unit(space_id=SPACE, band="GREEN") as uow:
                uow["notes"].create(f"k{number}", {"n": number})
            opened[number] = uow.uow_id

        def judge(ran: Interleaving) -> None:
            assert ran.errors == [None, None]
            with Ledger.open(path) as ledger:
                assert [ledger["notes"].get(key, space_id=SPACE) for key in ("k0", "k1")] == [{"n": 0}, {"n": 1}]
                assert [ledger.get(uow_id).status for uow_id in opened] == ["committed"] * 2
                assert ledger.validate() == []
            if old:
                found = rows(path, "SELECT uow_id, status FROM unit_of_work ORDER BY uow_id")
                assert [row for row in found if row[0] not in opened] == before
            assert rows(path, "PRAGMA integrity_check") == [("ok",)]

        return [lambda: open_it(0), lambda: open_it(1)], judge

    assert explore(make, switches=SWITCHES, limit=LIMIT and LIMIT // 6) >= 12
