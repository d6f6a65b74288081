"""The log's numbers on the way up again, after units were written at 1.0.0."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import Ledger, RecordMissing, _receipt_tree
from memoryos_uow._migrations import migrate_down
from memoryos_uow.stores import DocumentStore, SQLiteFileStore
from tests import signers
from tests.schema_files import connect
from tests.units import SPACE, rows

if TYPE_CHECKING:
    from pathlib import Path

    from memoryos_uow.signing import Signer

NUMBERS = "SELECT commit_seq FROM uow_ledger ORDER BY commit_seq"


def open_ledger(path: Path, *, migrate: bool = True, signer: Signer | None = None, origin: str | None = None) -> Ledger:
    """Documents in the ledger and in a second file."""
    stores = [DocumentStore("notes"), SQLiteFileStore("archive", "archive.db")]
    return Ledger.open(path, stores=stores, migrate=migrate, signer=signer, origin=origin)


def put(ledger: Ledger, number: int) -> str:
    """A committed unit."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].upsert("k", {"n": number})
        uow["archive"].upsert("k", {"n": number})
    return uow.uow_id


def fail(ledger: Ledger) -> None:
    """A failed unit, which has a row and no number."""
    with pytest.raises(RecordMissing), ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].delete("nowhere")


def softly_down(path: Path) -> None:
    """The specification's way down."""
    with closing(connect(path)) as connection:
        migrate_down(connection, path, soft=True)


def tree(path: Path) -> tuple[int, bytes]:
    """How large the log is, and the hash of its first three leaves."""
    with open_ledger(path) as ledger, ledger._opened.engine.reader() as reader:
        return _receipt_tree.size(reader), _receipt_tree.root(reader, 3)


def test_numbers_move_beyond_what_basic_mode_has_used(tmp_path: Path) -> None:
    """The log moves as a whole, with its leaves, and goes on above every version: all stores have the newest record."""
    path = tmp_path / "memory.db"
    with open_ledger(path) as ledger:
        for number in (1, 2, 3):
            put(ledger, number)
        ledger.erase(space_id=SPACE, store="notes", key="k", forget_context=True)
    size, root = tree(path)
    forgotten = rows(path, "SELECT commit_seq, what, leaf, tombstone FROM uow_forgotten ORDER BY commit_seq, what")
    assert [number for (number,) in rows(path, NUMBERS)] == [1, 2, 3, 4]
    assert forgotten
    softly_down(path)
    with open_ledger(path, migrate=False) as ledger:
        for number in (5, 6, 7):
            put(ledger, number)
    assert tree(path) == (size, root)
    assert [number for (number,) in rows(path, NUMBERS)] == [4, 5, 6, 7]
    moved = rows(path, "SELECT commit_seq - 3, what, leaf, tombstone FROM uow_forgotten ORDER BY commit_seq, what")
    assert moved == forgotten
    assert rows(path, "PRAGMA foreign_key_check") == []
    with open_ledger(path) as ledger:
        uow_id = put(ledger, 8)
        assert ledger["notes"].get("k", space_id=SPACE) == {"n": 8}
        assert ledger["archive"].get("k", space_id=SPACE) == {"n": 8}
        assert ledger.get(uow_id).commit_seq == 8
    assert rows(tmp_path / "archive.db", "SELECT value FROM uow_records") == [('{"n":8}',)]


def test_numbers_stay_where_nothing_was_written_meanwhile(tmp_path: Path) -> None:
    """Down and up again, with a failed unit behind the last: the log goes on where it was."""
    path = tmp_path / "memory.db"
    with open_ledger(path) as ledger:
        put(ledger, 1)
        fail(ledger)
    softly_down(path)
    with open_ledger(path, migrate=False) as ledger:
        fail(ledger)
    with open_ledger(path) as ledger:
        put(ledger, 2)
    assert rows(path, NUMBERS) == [(1,), (2,)]


def test_keys_sign_the_same_units_as_before(tmp_path: Path) -> None:
    """Since which unit a key signs, and until which, moves along with the numbers of these units."""
    path, keys = tmp_path / "memory.db", "SELECT since_seq, until_seq FROM uow_keys ORDER BY since_seq"
    first, second = (signers.signer(tmp_path, name) for name in ("first.pem", "second.pem"))
    with open_ledger(path, signer=first, origin=signers.ORIGIN) as ledger:
        put(ledger, 1)
        put(ledger, 2)
        ledger.change_signer(second)
        put(ledger, 3)
    assert rows(path, keys) == [(1, 2), (3, None)]
    softly_down(path)
    with open_ledger(path, migrate=False) as ledger:
        put(ledger, 4)
    with open_ledger(path, signer=second) as ledger:
        put(ledger, 5)
    assert rows(path, NUMBERS) == [(2,), (3,), (4,), (5,)]
    assert rows(path, keys) == [(2, 3), (4, None)]
