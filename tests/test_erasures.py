"""What the rows of erasures prove: a sealed row without its tombstone, or with another one's, is found."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import _erasures
from tests.erased import MARK, OTHER, SPACE, assert_roots, erase_all, open_ledger, problems, write_all
from tests.memory_dir import memory_dir
from tests.units import rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from memoryos_uow import Ledger

pytestmark = pytest.mark.both


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory: a file is written anew for every record that is erased."""
    with memory_dir(tmp_path / "work") as place:
        yield place


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger in which two records were erased, with context and with unit ids, and a third one stands."""
    with open_ledger(tmp_path) as ledger:
        write_all(ledger, OTHER, times=2, names=["notes"])
        write_all(ledger, MARK, times=2, names=["notes", "orders"])
        write_all(ledger, f"{MARK}2", times=1, names=["notes"])
        erase_all(ledger, names=["notes"], forget_context=True)
        erase_all(ledger, f"{MARK}2", names=["notes"], forget_unit_ids=True)
        yield ledger


def change(ledger: Ledger, sql: str) -> None:
    """Change the file behind the library's back."""
    with closing(sqlite3.connect(ledger.path)) as connection, connection:
        assert connection.execute(sql).rowcount != 0


def test_sound_erasures_have_no_problems(sealed: Ledger) -> None:
    """What was erased properly is vouched for, and every root is still that of the rows."""
    assert problems(sealed) == []
    assert_roots(sealed)


def test_the_checksum_is_what_the_module_says(sealed: Ledger) -> None:
    """A tombstone's checksum is SHA-256 over marks and hashes, as a stranger computes it."""
    for tombstone, checksum in rows(
        sealed.path, "SELECT uow_id, checksum FROM uow_writes WHERE checksum LIKE 'sealed%'"
    ):
        digest = hashlib.sha256()
        for (leaf,) in rows(
            sealed.path, "SELECT leaf FROM uow_sealed WHERE tombstone = ? ORDER BY write_id", tombstone
        ):
            digest.update(b"w" + leaf)
        sql = (
            "SELECT what, f.leaf, receipt_hash FROM uow_forgotten f JOIN uow_ledger l USING (commit_seq)"
            " JOIN unit_of_work u ON u.rowid = l.unit WHERE tombstone = ? ORDER BY commit_seq, what"
        )
        for what, leaf, receipt_hash in rows(sealed.path, sql, tombstone):
            digest.update(b"u" + leaf if what == "unit" else b"c" + bytes.fromhex(receipt_hash))
        assert checksum == f"sealed-sha256:{digest.hexdigest()}"


STANDING = f"(SELECT max(id) FROM uow_writes WHERE record_id = '{OTHER}')"
TOMBSTONE = "(SELECT min(uow_id) FROM uow_writes WHERE checksum LIKE 'sealed%')"
FORGOTTEN_UNITS = "SELECT unit FROM uow_ledger JOIN uow_forgotten USING (commit_seq)"
EMPTY = "record_id = NULL, operation_type = NULL, bytes_written = NULL, checksum = NULL"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (f"INSERT INTO uow_sealed VALUES ({STANDING}, zeroblob(32), {TOMBSTONE})", "not what its receipt says"),
        (f"INSERT INTO uow_sealed VALUES ({STANDING}, zeroblob(32), 'nobody')", "not in the ledger"),
        (
            f"INSERT INTO uow_sealed SELECT {STANDING}, zeroblob(32), uow_id FROM uow_writes WHERE id = {STANDING}",
            "erased nothing",
        ),
        ("DELETE FROM uow_sealed WHERE write_id = (SELECT min(write_id) FROM uow_sealed)", "not what its receipt says"),
        ("DELETE FROM uow_sealed", "not what its receipt says"),
        ("UPDATE uow_sealed SET leaf = zeroblob(32)", "not what its receipt says"),
        ("UPDATE uow_sealed SET leaf = 7", "not what its receipt says"),
        ("UPDATE uow_sealed SET leaf = 'no hash'", "not what its receipt says"),
        (f"UPDATE uow_sealed SET tombstone = {TOMBSTONE}", "not what its receipt says"),
        ("UPDATE uow_sealed SET write_id = write_id + 1000", "its row is gone"),
        ("UPDATE uow_writes SET checksum = NULL WHERE checksum LIKE 'sealed%'", "erased nothing"),
        ("UPDATE uow_writes SET operation_type = 'update' WHERE checksum LIKE 'sealed%'", "erased nothing"),
        (f"UPDATE unit_of_work SET status = 'failed' WHERE uow_id = {TOMBSTONE}", "not in the ledger"),
        ("UPDATE uow_writes SET record_id = 'x' WHERE id IN (SELECT write_id FROM uow_sealed)", "still tells"),
        ("UPDATE uow_writes SET bytes_written = 3 WHERE id IN (SELECT write_id FROM uow_sealed)", "still tells"),
        ("INSERT INTO uow_nonces SELECT write_id, zeroblob(16) FROM uow_sealed", "still tells"),
        ("DELETE FROM uow_writes WHERE id = (SELECT min(write_id) FROM uow_sealed)", "its row is gone"),
        (
            f"INSERT INTO uow_forgotten SELECT max(commit_seq), 'context', NULL, {TOMBSTONE} FROM uow_ledger",
            "not what its receipt says",
        ),
        ("DELETE FROM uow_forgotten WHERE what = 'context'", "not what its receipt says"),
        ("DELETE FROM uow_forgotten WHERE what = 'unit'", "not what its receipt says"),
        ("UPDATE uow_forgotten SET leaf = zeroblob(32) WHERE what = 'unit'", "not what its receipt says"),
        (
            f"UPDATE unit_of_work SET actor_id = 'x' WHERE rowid IN ({FORGOTTEN_UNITS})",
            "was to be forgotten",
        ),
        (
            f"UPDATE uow_ledger SET context_nonce = zeroblob(16) WHERE unit IN ({FORGOTTEN_UNITS})",
            "was to be forgotten",
        ),
        ("UPDATE unit_of_work SET uow_id = 'x' WHERE uow_id LIKE 'forgotten-%'", "was to be forgotten"),
    ],
)
def test_what_no_tombstone_vouches_for_is_found(sealed: Ledger, sql: str, expected: str) -> None:
    """Rows sealed without, or in the name of another unit, changed, moved or filled in again: each is a problem."""
    change(sealed, sql)
    assert any(expected in sentence for sentence in problems(sealed)), problems(sealed)


def test_hiding_a_change_behind_a_seal_is_found(sealed: Ledger) -> None:
    """Somebody who empties a row, and seals it with its true leaf under a real tombstone, is found out all the same."""
    with sealed._opened.engine.reader() as reader:
        before = reader.rows(f"SELECT {STANDING}")[0][0]
    change(sealed, f"INSERT INTO uow_sealed VALUES ({before}, zeroblob(32), {TOMBSTONE})")
    change(sealed, f"UPDATE uow_writes SET {EMPTY} WHERE id = {before}")
    assert problems(sealed)


def test_what_verification_asks(sealed: Ledger) -> None:
    """The leaf of a sealed write and the log leaf of a forgotten unit are given, and None for any other."""
    with sealed._opened.engine.reader() as reader:
        write_id, leaf = reader.rows("SELECT write_id, leaf FROM uow_sealed ORDER BY write_id")[0]
        assert _erasures.sealed_leaf(reader, write_id) == leaf
        assert _erasures.sealed_leaf(reader, -1) is None
        commit_seq, leaf = reader.rows("SELECT commit_seq, leaf FROM uow_forgotten WHERE what = 'unit'")[0]
        assert _erasures.sealed_unit(reader, commit_seq) == leaf
        assert _erasures.sealed_unit(reader, 1) is None
        nodes = reader.rows("SELECT nodes FROM uow_ledger WHERE commit_seq = ?", (commit_seq,))[0][0]
        assert leaf == nodes[:32]


def test_a_context_is_forgotten_once(sealed: Ledger) -> None:
    """A second erasure in the same unit finds its context gone already, and the first one's tombstone stays true."""
    erase_all(sealed, names=["orders"], forget_context=True, forget_unit_ids=True)
    assert rows(sealed.path, "SELECT count(*) FROM uow_forgotten WHERE what = 'context'") == [(2,)]
    assert problems(sealed) == []
    assert_roots(sealed)


def pending_rows(ledger: Ledger) -> list[Any]:
    """The erasures that are not finished."""
    with ledger._opened.engine.reader() as reader:
        return _erasures.pending(reader)


def test_nothing_is_pending_at_rest(sealed: Ledger) -> None:
    """Finished erasures leave no row that names the record."""
    assert pending_rows(sealed) == []
    assert rows(sealed.path, "SELECT count(*) FROM uow_erasing") == [(0,)]
    assert sealed["notes"].get(MARK, space_id=SPACE) is None
