"""The receipt log in a ledger's rows: gapless, right at every size, one signature for each transaction."""

from __future__ import annotations

import subprocess
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import Ledger, _ed25519, _merkle, _notes, _proofs, _receipt_tree, _released_head
from memoryos_uow._receipt_log import Sealed
from memoryos_uow.errors import LedgerCorrupt, LedgerError, LedgerRollback, RecordExists, UsageError
from tests.signers import ORIGIN, key_file, put, signer, tamper
from tests.units import OwnError, python, rows, throw

if TYPE_CHECKING:
    from pathlib import Path


def receipts(path: Path) -> list[bytes]:
    """Every receipt in commit order, as a stranger reads them from the view."""
    found = rows(
        path,
        "SELECT r.receipt FROM uow_receipts r JOIN unit_of_work u USING (uow_id)"
        " JOIN uow_ledger l ON l.unit = u.rowid ORDER BY l.commit_seq",
    )
    return [receipt.encode() for (receipt,) in found]


def assert_sound(path: Path) -> int:
    """Recompute the whole log from the receipts; return how many leaves it has."""
    frontier = _merkle.Frontier()
    kept = rows(path, "SELECT commit_seq, nodes FROM uow_ledger ORDER BY commit_seq")
    entries = receipts(path)
    assert len(kept) == len(entries)
    for index, ((commit_seq, nodes), entry) in enumerate(zip(kept, entries, strict=True)):
        assert commit_seq == kept[0][0] + index
        assert nodes == b"".join(frontier.append(_merkle.leaf_hash(entry)))
    return len(kept)


def test_failed_units_leave_no_gap(ledger: Ledger) -> None:
    """What was undone, at whichever point, is not in the log, and the next unit continues where it ended."""
    put(ledger, "a")
    with suppress(OwnError), ledger.unit(space_id="s", band="GREEN") as uow:
        uow["notes"].create("never", 1)
        throw(OwnError())
    with pytest.raises(RecordExists), ledger.unit(space_id="s", band="GREEN") as uow:
        uow["notes"].create("a", 1)
    put(ledger, "b")
    assert assert_sound(ledger.path) == 2


def test_a_commit_that_fails_late_is_forgotten(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leaf that was appended and then rolled back is not remembered, even if the next unit is another process's."""
    log = ledger._opened.log
    assert log is not None
    put(ledger, "a")
    with monkeypatch.context() as patched:
        patched.setattr(log, "seal", lambda *_: throw(LedgerError("no")))
        with pytest.raises(LedgerError, match="no"):
            put(ledger, "b")
    put(ledger, "c")
    assert assert_sound(ledger.path) == 2


def test_threads_and_processes_append_without_gaps(tmp_path: Path) -> None:
    """Units of several threads and processes stand in one sound log, each provable."""
    path = tmp_path / "memory.db"
    code = """
        import sys
        from memoryos_uow import Ledger
        with Ledger.open(sys.argv[1]) as ledger:
            for number in range(12):
                with ledger.unit(space_id=sys.argv[2], band="GREEN") as uow:
                    uow["notes"].upsert(str(number), number)
    """
    with Ledger.open(path) as ledger:
        children = [subprocess.Popen(python(code, path, f"p{n}")) for n in range(2)]
        threads = [
            threading.Thread(target=lambda n=n: [put(ledger, str(i), space_id=f"t{n}") for i in range(20)])
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [child.wait() for child in children] == [0, 0]
        assert assert_sound(path) == 4 * 20 + 2 * 12
        for record in ledger.units(limit=200):
            receipt = ledger.receipt(record.uow_id)
            _proofs.check_log_proof(_proofs.parse_proof(receipt.proof()), receipt.canonical(), [], _ed25519.verify)


# Proofs of receipts


def test_a_receipt_proves_itself_right_after_its_commit(tmp_path: Path) -> None:
    """`uow.receipt.proof()` and `ledger.receipt(id).proof()` hold for the checkpoint that the unit was signed with."""
    with Ledger.open(tmp_path / "memory.db", origin=ORIGIN, signer=key_file(tmp_path)) as ledger:
        made = [put(ledger, str(number)) for number in range(5)]
        key = _notes.parse_vkey(signer(tmp_path).vkey)
        for number, receipt in enumerate(made):
            for one in (receipt, ledger.receipt(receipt.uow_id)):
                proof = _proofs.parse_proof(one.proof())
                proved = _proofs.check_log_proof(proof, one.canonical(), [key], _ed25519.verify)
                assert (proof.index, proved.head.size, proved.keys) == (number, number + 1, (key,))
                assert proof.checkpoint == one.signature
        assert ledger.checkpoint() == made[-1].signature


@pytest.mark.both
def test_without_a_signer_the_proof_is_for_the_newest_head(ledger: Ledger) -> None:
    """Nothing is claimed to be signed, and the proof of an old unit holds for the whole log."""
    first = put(ledger, "a")
    put(ledger, "b")
    assert ledger.checkpoint()  # both have their places
    proof = _proofs.parse_proof(first.proof())
    assert _proofs.check_log_proof(proof, first.canonical(), [], _ed25519.verify).head.size == 2
    assert (first.signature, proof.checkpoint) == (None, ledger.checkpoint())
    assert _notes.UNSIGNED in proof.checkpoint


def test_units_from_before_the_first_signature_are_proved_by_a_later_one(tmp_path: Path) -> None:
    """A ledger that begins to sign covers what it had."""
    path = tmp_path / "memory.db"
    with Ledger.open(path, origin=ORIGIN) as ledger:
        first = put(ledger, "a")
    with Ledger.open(path, signer=key_file(tmp_path)) as ledger:
        put(ledger, "b")
        receipt = ledger.receipt(first.uow_id)
        key = _notes.parse_vkey(signer(tmp_path).vkey)
        proof = _proofs.parse_proof(receipt.proof())
        assert _proofs.check_log_proof(proof, receipt.canonical(), [key], _ed25519.verify).keys == (key,)


@pytest.mark.both
def test_a_receipt_of_nowhere_cannot_prove_itself(ledger: Ledger) -> None:
    """A receipt that was put together by hand, or whose ledger is closed, says so."""
    from dataclasses import replace

    receipt = put(ledger, "a")
    with pytest.raises(UsageError, match="open ledger"):
        replace(receipt).proof()
    ledger.close()
    with pytest.raises(UsageError, match="closed"):
        receipt.proof()


def test_a_signature_that_does_not_cover_its_unit_is_damage(tmp_path: Path) -> None:
    """A checkpoint of another unit in a unit's row does not become a proof."""
    with Ledger.open(tmp_path / "memory.db", origin=ORIGIN, signer=key_file(tmp_path)) as ledger:
        first, second = put(ledger, "a"), put(ledger, "b")
        for wrong in (first.signature, "no checkpoint"):
            tamper(ledger.path, "UPDATE unit_of_work SET receipt_signature = ? WHERE uow_id = ?", wrong, second.uow_id)
            with pytest.raises(LedgerCorrupt, match="does not cover"):
                ledger.receipt(second.uow_id).proof()


# Signing


def test_one_signature_for_each_transaction(tmp_path: Path) -> None:
    """Units that share a transaction share its checkpoint, whose size covers them all."""
    made = signer(tmp_path)
    signed: list[bytes] = []

    class Counting:
        name, vkey = made.name, made.vkey

        def sign(self, message: bytes) -> bytes:
            signed.append(message)
            return made.sign(message)

    with Ledger.open(tmp_path / "memory.db", origin=ORIGIN, signer=Counting()) as ledger:
        barrier = threading.Barrier(6)

        def work(number: int) -> None:
            for turn in range(5):
                barrier.wait()
                put(ledger, f"{number}-{turn}", space_id=str(number))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert assert_sound(ledger.path) == 30
    signatures = rows(
        ledger.path,
        "SELECT u.receipt_signature FROM uow_ledger l JOIN unit_of_work u ON u.rowid = l.unit ORDER BY l.commit_seq",
    )
    sizes = [_notes.parse_head(_notes.parse(text).text).size for (text,) in signatures]
    assert all(size > index for index, size in enumerate(sizes))
    assert sizes == sorted(sizes)
    assert sizes[-1] == 30
    assert len(set(sizes)) == len(signed) <= 30


@pytest.mark.parametrize("failure", [RuntimeError("secret"), LedgerError("own")])
def test_a_signer_that_fails_stops_the_unit(tmp_path: Path, failure: Exception) -> None:
    """Nothing is written without its signature, and a foreign exception becomes ours, without its text."""
    made = signer(tmp_path)

    class Failing:
        name, vkey = made.name, made.vkey
        broken = True

        def sign(self, message: bytes) -> bytes:
            if self.broken:
                raise failure
            return made.sign(message)

    failing = Failing()
    with Ledger.open(tmp_path / "memory.db", origin=ORIGIN, signer=failing) as ledger:
        with pytest.raises(LedgerError) as caught:
            put(ledger, "a")
        assert "secret" not in str(caught.value)
        assert ledger["notes"].get("a", space_id="s") is None
        failing.broken = False
        assert put(ledger, "a").signature is not None
    assert assert_sound(ledger.path) == 1


def test_another_processs_units_are_in_the_next_checkpoint(tmp_path: Path) -> None:
    """Two ledgers on one file take turns; every signature covers everything before it."""
    path = tmp_path / "memory.db"
    with (
        Ledger.open(path, origin=ORIGIN, signer=signer(tmp_path)) as one,
        Ledger.open(path, signer=signer(tmp_path)) as two,
    ):
        for number in range(4):
            put(one, f"1-{number}")
            put(two, f"2-{number}")
    assert assert_sound(path) == 8


def test_a_ledger_that_shrinks_under_an_open_one_is_refused(ledger: Ledger) -> None:
    """Units that this process has committed and that are gone, or changed, stop it from appending."""
    put(ledger, "a")
    put(ledger, "b")
    tamper(ledger.path, "DELETE FROM uow_ledger WHERE commit_seq = 2")
    with pytest.raises(LedgerRollback, match="no longer in the ledger"):
        put(ledger, "d")


def test_a_leaf_that_was_undone_is_in_no_checkpoint(ledger: Ledger) -> None:
    """What a neighbour in the same transaction appended and took back is not signed with the rest."""
    put(ledger, "a")
    opened = ledger._opened
    assert opened.log is not None
    tx = opened.engine.begin()
    try:
        before = _receipt_tree.end(tx)
        opened.log.append(tx, before, 2, b"a unit that is undone, behind a savepoint")
        sealed = opened.log.seal(tx, before, [(1, 1)])
        assert sealed.size == 1
        opened.log.release(sealed)
    finally:
        tx.rollback()
    put(ledger, "b")
    assert assert_sound(ledger.path) == 2


def test_units_keep_their_row_numbers_when_the_file_is_rewritten(tmp_path: Path) -> None:
    """SQLite keeps row numbers in VACUUM and VACUUM INTO, also where rows are missing: the log points to them."""
    path, copy = tmp_path / "memory.db", tmp_path / "copy.db"
    with Ledger.open(path) as ledger:
        for number in range(6):
            with suppress(OwnError), ledger.unit(space_id="s", band="GREEN") as uow:
                uow["notes"].create(str(number), number)
                if number % 2:
                    throw(OwnError())
    tamper(path, "DELETE FROM unit_of_work WHERE status = 'failed'")
    before = receipts(path)
    tamper(path, "VACUUM INTO ?", str(copy))
    tamper(path, "VACUUM")
    assert len(before) == 3
    assert receipts(path) == receipts(copy) == before


def test_heads_are_released_by_several_threads_in_any_order(tmp_path: Path) -> None:
    """Leaders of successive batches release at the same time: neither the process nor the file goes back."""

    class Slow(int):
        """A place in the log at which comparing takes so long that another thread releases meanwhile."""

        __slots__ = ()

        def __gt__(self, other: int) -> bool:
            later.start()
            later.join(0.05)  # it has to wait for us
            return int(self) > other

    with Ledger.open(tmp_path / "memory.db") as ledger:
        log = ledger._opened.log
        assert log is not None
        assert log.head is not None

        def sealed(size: int, last: int) -> Sealed:
            text = _notes.unsigned(_notes.Head(ORIGIN, size, bytes([size]) * 32).text())
            return Sealed(size, partial(str, text), None, last, b"%d" % size)

        def kept() -> int:
            released = _released_head.read(ledger.path)
            assert released is not None
            return released.head.size

        log.release(sealed(1, 1))
        later = threading.Thread(target=lambda: log.release(sealed(3, 3)))
        log.release(sealed(2, Slow(2)))
        later.join()
        assert log._released == (3, b"3")
        assert kept() == 3

        def release_all(order: range) -> None:
            for place in order:
                log.release(sealed(place, place))
                heads.append(kept())

        heads = list[int]()
        threads = [threading.Thread(target=release_all, args=(range(4 + n, 40, 4),)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        log.release(sealed(5, 5))
        assert len(heads) == 36
        assert log._released == (39, b"39")
        assert kept() == 39
        log._released = None
        log.head = None
