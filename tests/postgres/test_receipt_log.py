"""Who signs a ledger in a database, with which key, and how it is noticed that an older state of it was put back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import LedgerError, LedgerRollback, UsageError, _exporting, _released_head
from memoryos_uow._numbering import Numbering
from memoryos_uow._proofs import parse_proof
from memoryos_uow.verification import VerificationLevel
from tests.postgres.numbers import ORIGIN, numbers, opened, paused, put, receipt, rows, sequencer
from tests.signers import signer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions about a ledger whose units cannot be numbered do not wait long."""
    monkeypatch.setattr("memoryos_uow._sequencer.SETTLE_S", 0.02)


class Failing:
    """A signer that does not sign as long as it is told so."""

    def __init__(self, true: Any) -> None:
        self.name, self.vkey, self._true = true.name, true.vkey, true
        self.fails = True
        self.signed = 0

    def sign(self, message: bytes) -> bytes:
        """Sign, or not."""
        if self.fails:
            raise ConnectionError("the agent is gone")
        self.signed += 1
        return bytes(self._true.sign(message))


# Signing


def test_one_signature_for_a_batch(pg_url: str, tmp_path: Path) -> None:
    """Each unit of it carries the same checkpoint, which covers them all; the first one brings the key."""
    mine = Failing(signer(tmp_path))
    mine.fails = False
    with opened(pg_url, signer=mine) as ledger:
        with paused(ledger):
            receipts = [receipt(put(ledger, f"{number}")) for number in range(5)]
        signatures = {one.signature for one in receipts}
        assert len(signatures) == mine.signed == 1
        assert rows(pg_url, "SELECT vkey, since_seq, until_seq FROM uow_keys") == [(mine.vkey, 1, None)]
        assert parse_proof(receipts[0].proof()).index == 0
        assert ledger.checkpoint() in signatures
        assert ledger.verify(vkey=mine.vkey).level is VerificationLevel.SIGNED
        assert ledger.receipt(receipts[0].uow_id).signature in signatures
    numbers(pg_url)


def test_a_signer_that_fails_stops_units_before_their_commit(pg_url: str, tmp_path: Path) -> None:
    """What was committed before anybody knew stays pending, and is signed as soon as the signer signs again."""
    mine = Failing(signer(tmp_path))
    with opened(pg_url, signer=mine) as ledger:
        with paused(ledger):
            first = receipt(put(ledger, "a"))
            with pytest.raises(LedgerError, match="The signer failed with ConnectionError"):
                sequencer(ledger).number_all()
        with pytest.raises(LedgerError, match="The signer failed with ConnectionError"):
            put(ledger, "b")
        assert ledger.verify().pending == 1
        mine.fails = False
        assert first.wait(10).signature is not None
        put(ledger, "b")
    assert len(numbers(pg_url)) == 2


def test_a_signer_that_failed_is_asked_again(pg_url: str, tmp_path: Path) -> None:
    """Also where another process has signed meanwhile, so that nothing waits any more."""
    mine = Failing(signer(tmp_path))
    with opened(pg_url, signer=mine) as ledger, opened(pg_url, signer=signer(tmp_path)) as other:
        with paused(ledger):
            first = receipt(put(ledger, "a"))
            with pytest.raises(LedgerError, match="ConnectionError"):
                sequencer(ledger).number_all()
            sequencer(other).number_all()
        assert first.wait(10).signature is not None
        mine.fails = False
        assert receipt(put(ledger, "b")).wait(10).space_seq == 2
    assert len(numbers(pg_url)) == 2


def test_nobody_goes_on_unsigned(pg_url: str, tmp_path: Path) -> None:
    """A process without the key, opened before there was one, numbers nothing: the one with the key does it for it."""
    with opened(pg_url) as unsigned, opened(pg_url, signer=signer(tmp_path)) as signed:
        put(signed, "a")
        signed.checkpoint()
        with paused(signed):
            mine = receipt(put(unsigned, "b"))
            with paused(unsigned), pytest.raises(LedgerError, match="was opened without a signer"):
                sequencer(unsigned).number_all()
            with pytest.raises(LedgerError, match="was opened without a signer"):
                put(unsigned, "c")
            assert mine.pending
        put(signed, "d")
        assert mine.wait(10).signature is not None
        signed.checkpoint()
        assert unsigned.verify().level is VerificationLevel.SIGNED
    assert len(numbers(pg_url)) == 3
    with opened(pg_url) as late, pytest.raises(LedgerError, match="opened without a signer"):
        put(late, "d")
    with pytest.raises(LedgerError, match="not with"):
        opened(pg_url, signer=signer(tmp_path, "other.pem"))


def test_another_key_takes_over_between_two_batches(
    pg_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was about to write what the old key signed finds its lease gone, and the new key signs."""
    old, new = signer(tmp_path), signer(tmp_path, "new.pem")
    with opened(pg_url, signer=old) as ledger, opened(pg_url, signer=old) as other:
        put(ledger, "a")
        ledger.checkpoint()
        original = Numbering._write
        with paused(ledger):
            put(ledger, "b")

            def late(self: Numbering, *arguments: Any, **options: Any) -> bool:
                monkeypatch.setattr(Numbering, "_write", original)
                other.change_signer(new)
                return original(self, *arguments, **options)

            monkeypatch.setattr(Numbering, "_write", late)
            sequencer(ledger).number_all()
        assert receipt(put(other, "c")).wait(10).space_seq == 3
        found = rows(pg_url, "SELECT since_seq, until_seq FROM uow_keys ORDER BY since_seq")
        assert found == [(1, 1), (2, None)]
        assert other.verify(vkey=old.vkey).rules == {}
        other.revoke_key(old.vkey)
        with pytest.raises(LedgerError, match="not with"):
            put(ledger, "d")
            sequencer(ledger).number_all()
        other.change_signer(None)
        put(other, "e")
        assert other.verify().ok
        with pytest.raises(UsageError, match="already"):
            other.change_signer(None)
    assert len(numbers(pg_url)) in (4, 5)


# What became of the ledger


def test_a_log_that_lost_units_gets_no_others(pg_url: str) -> None:
    """The process that has committed them notices it with the next batch, and then before each unit."""
    with opened(pg_url) as ledger:
        for number in range(3):
            receipt(put(ledger, f"{number}")).wait()
        rows(pg_url, "DELETE FROM uow_ledger WHERE commit_seq = 3")
        with paused(ledger):
            put(ledger, "x")
            with pytest.raises(LedgerRollback, match="no longer in the ledger"):
                sequencer(ledger).number_all()
        with pytest.raises(LedgerRollback, match="no longer in the ledger"):
            put(ledger, "y")


def test_rows_that_contradict_each_other_stop_numbering(pg_url: str) -> None:
    """A unit that waits for a number and has one: nothing is written, and verification names it."""
    with opened(pg_url) as ledger:
        receipt(put(ledger, "a")).wait()
        rows(
            pg_url,
            "INSERT INTO uow_pending SELECT unit, 1, context, context_nonce, nonce, writes_root, write_count,"
            " first_write FROM uow_ledger",
        )
        with paused(ledger), pytest.raises(LedgerError, match="contradict each other"):
            sequencer(ledger).number_all()
        assert "unlogged" in ledger.verify().rules


def test_the_released_head_is_kept_in_a_folder(pg_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the environment names one: an older state that was put back is then noticed by whoever opens it."""
    monkeypatch.setenv("MEMORYOS_UOW_HEADS", str(tmp_path))
    with opened(pg_url) as ledger:
        for number in range(3):
            put(ledger, f"{number}")
        checkpoint = ledger.checkpoint()
    released = _released_head.read(tmp_path / "example.com%2Ftests")
    assert released is not None
    assert released.text == checkpoint
    assert (tmp_path / "example.com%2Ftests-head").stat().st_mode & 0o777 == 0o640
    for table, condition in (("uow_ledger", "commit_seq = 3"), ("uow_spaces", "TRUE")):
        rows(pg_url, f"DELETE FROM {table} WHERE {condition}")
    with opened(pg_url) as ledger:
        assert "rollback" in ledger.verify().rules
        with pytest.raises(LedgerRollback, match="it has 2 committed units, and had 3") as raised:
            put(ledger, "x")
        assert "mu_test" in raised.value.message
    with opened(pg_url, accept_rollback=True) as ledger:
        assert receipt(put(ledger, "x", space_id="new")).wait(10).space_seq == 1
        assert ledger.checkpoint().startswith(f"{ORIGIN}/2\n")
        assert "rollback" not in ledger.verify().rules
    monkeypatch.delenv("MEMORYOS_UOW_HEADS")
    assert _released_head.elsewhere(ORIGIN) is None


def test_a_history_is_exported_with_its_proofs(pg_url: str, tmp_path: Path) -> None:
    """Every unit of the space, oldest first; what waits for its number has no receipt yet."""
    mine = signer(tmp_path)
    with opened(pg_url, signer=mine) as ledger:
        receipts = [receipt(put(ledger, f"{number}")).wait() for number in range(3)]
        with ledger._opened.engine.reader() as reader:
            units = list(_exporting.history(reader, ledger._opened.rows, "s"))
        assert [unit.receipt for unit in units] == [one.canonical().decode() for one in receipts]
        with paused(ledger):
            put(ledger, "late")
            with ledger._opened.engine.reader() as reader:
                last = list(_exporting.history(reader, ledger._opened.rows, "s"))[-1]
        assert (last.receipt, last.proof) == (None, None)
