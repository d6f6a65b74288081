"""Whoever can rewrite the whole file, hashes and all: what only a key or a checkpoint from elsewhere shows."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import Ledger, UsageError
from memoryos_uow.signing import KeyFileSigner, write_new_key
from memoryos_uow.stores import DocumentStore
from memoryos_uow.verification import ALWAYS_OPEN, VerificationLevel
from tests.verification.kit import ALICE, FILE, ORIGIN, execute, opened, verified, vkey_of, write_everything

if TYPE_CHECKING:
    from pathlib import Path


def checkpoint_of(directory: Path) -> str:
    """The checkpoint that was kept when the ledger was made."""
    return (directory / "checkpoint").read_text(encoding="utf-8")


def forge(directory: Path, **options: object) -> Path:
    """Put another history, sound in itself, in the place of a ledger's file."""
    other = directory / "forged"
    other.mkdir()
    with opened(other, **options) as ledger:
        write_everything(ledger)
    shutil.copy(other / FILE, directory / FILE)
    (directory / f"{FILE}-head").unlink()
    return directory


def add_unit(directory: Path, key: str, **options: object) -> None:
    """Commit one more unit."""
    with (
        opened(directory, **{"content_key": b"k" * 32, **options}) as ledger,
        ledger.unit(space_id=ALICE, band="GREEN") as uow,
    ):
        uow["notes"].upsert(key, {"text": key})


def test_rewritten_without_a_key(signed: Path) -> None:
    """An unsigned history in the ledger's place is sound in itself; the key and the checkpoint tell."""
    forge(signed)
    assert verified(signed).level is VerificationLevel.HASHED
    assert verified(signed, vkey=vkey_of(signed)).rules == {"key": 1}
    assert verified(signed, checkpoint=checkpoint_of(signed)).rules.keys() == {"checkpoint"}


def test_rewritten_with_another_key(signed: Path) -> None:
    """So is one that somebody else signed."""
    write_new_key(signed / "mallory.pem")
    forge(signed, signer=signed / "mallory.pem")
    alone = verified(signed)
    assert alone.level is VerificationLevel.SIGNED
    assert "the ledger itself names" in alone.not_proved
    assert verified(signed, vkey=vkey_of(signed)).rules == {"key": 1}
    assert verified(signed, checkpoint=checkpoint_of(signed)).rules.keys() == {"checkpoint"}


def test_signatures_stripped(signed: Path) -> None:
    """Nothing in the file says any more that it was signed; the key that the caller has does."""
    execute(signed, "DELETE FROM uow_keys", "UPDATE unit_of_work SET receipt_signature = NULL")
    assert verified(signed).rules == {"rollback": 1} or verified(signed).level is VerificationLevel.HASHED
    assert "key" in verified(signed, vkey=vkey_of(signed)).rules


def test_old_file_put_back(signed: Path) -> None:
    """A copy from before is sound; the head beside it tells, and where that is gone, a checkpoint."""
    shutil.copy(signed / FILE, signed / "old.db")
    add_unit(signed, "n8", signer=signed / "key.pem")
    with opened(signed, signer=signed / "key.pem", content_key=b"k" * 32) as ledger:
        later = ledger.checkpoint()
    shutil.copy(signed / "old.db", signed / FILE)
    assert verified(signed).rules == {"rollback": 1}
    (signed / f"{FILE}-head").unlink()
    assert verified(signed, vkey=vkey_of(signed)).level is VerificationLevel.SIGNED
    assert verified(signed, checkpoint=later).rules == {"checkpoint": 1}
    assert verified(signed, checkpoint=checkpoint_of(signed)).level is VerificationLevel.ANCHORED


def test_units_cut_from_the_end(signed: Path) -> None:
    """Cut cleanly, with chain and counts made to fit, it is an older state: the head beside it tells."""
    execute(
        signed,
        "DELETE FROM uow_writes WHERE id >= (SELECT first_write FROM uow_ledger WHERE commit_seq = 10)",
        "DELETE FROM unit_of_work WHERE rowid = (SELECT unit FROM uow_ledger WHERE commit_seq = 10)",
        "UPDATE uow_spaces SET space_seq = space_seq - 1, head = (SELECT prev FROM uow_ledger WHERE commit_seq = 10)"
        " WHERE space_id = 'alice'",
        "DELETE FROM uow_ledger WHERE commit_seq = 10",
    )
    assert verified(signed).rules == {"rollback": 1}
    assert "checkpoint" in verified(signed, checkpoint=checkpoint_of(signed)).rules


def test_checkpoint_of_another_ledger(signed: Path, tmp_path: Path) -> None:
    """It names another origin and another root."""
    other = tmp_path / "other"
    other.mkdir()
    with Ledger.open(other / FILE, stores=[DocumentStore("notes")], origin="example.com/other") as ledger:
        for number in range(3):
            with ledger.unit(space_id="a", band="GREEN") as uow:
                uow["notes"].create(f"{number}", {})
        foreign = ledger.checkpoint()
    assert verified(signed, checkpoint=foreign).rules["checkpoint"] == 2


def test_checkpoint_altered(signed: Path) -> None:
    """One whose size or root was changed is refused by its signature as well as by the tree."""
    text = checkpoint_of(signed)
    smaller = text.replace("\n10\n", "\n9\n")
    assert verified(signed, checkpoint=smaller).rules["checkpoint"] == 2
    larger = text.replace("\n10\n", "\n11\n")
    assert verified(signed, checkpoint=larger).rules["checkpoint"] == 2


def test_checkpoint_signed_by_nobody_known(signed: Path, tmp_path: Path) -> None:
    """The right head under a strange signature is not trusted, nor an unsigned one where a key was given."""
    write_new_key(tmp_path / "strange.pem")
    body = checkpoint_of(signed).partition("\n\n")[0] + "\n"
    from memoryos_uow import _notes

    strange = _notes.sign(body, KeyFileSigner(tmp_path / "strange.pem", name=ORIGIN))
    assert verified(signed, checkpoint=strange).rules == {"checkpoint": 1}
    assert verified(signed, checkpoint=_notes.unsigned(body)).level is VerificationLevel.ANCHORED
    assert verified(signed, checkpoint=_notes.unsigned(body), vkey=vkey_of(signed)).rules == {"checkpoint": 1}


def test_empty_checkpoint_is_extended_by_everything(signed: Path) -> None:
    """A head of no units holds for every ledger of that name, and so it anchors nothing."""
    from memoryos_uow import _merkle, _notes

    empty = _notes.unsigned(_notes.Head(ORIGIN, 0, _merkle.EMPTY_ROOT).text())
    assert verified(signed, checkpoint=empty).level is VerificationLevel.SIGNED
    assert verified(signed, checkpoint=empty.replace("47DE", "57DE")).rules == {"checkpoint": 1}


@pytest.mark.parametrize("text", ["", "no checkpoint", "a\n1\nx\n\n— b AAAA\n"])
def test_what_is_no_checkpoint_is_refused(signed: Path, text: str) -> None:
    """The argument is wrong, not the ledger."""
    with pytest.raises(UsageError, match="checkpoint"):
        verified(signed, checkpoint=text)
    with pytest.raises(UsageError, match="verifier key"):
        verified(signed, vkey=text)


def test_rotation_keeps_everything_verifiable(signed: Path) -> None:
    """Old signatures hold by the old key; whoever has the first key trusts the second, to which it handed over."""
    first = vkey_of(signed)
    write_new_key(signed / "next.pem")
    with opened(signed, signer=signed / "key.pem", content_key=b"k" * 32) as ledger:
        ledger.change_signer(signed / "next.pem")
        assert verified(signed, vkey=first).level is VerificationLevel.SIGNED
        with ledger.unit(space_id=ALICE, band="GREEN") as uow:
            uow["notes"].create("n8", {})
    second = KeyFileSigner(signed / "next.pem", name=ORIGIN).vkey
    for vkey in (None, first, second):
        assert verified(signed, vkey=vkey, checkpoint=checkpoint_of(signed)).level is VerificationLevel.ANCHORED, vkey
    execute(
        signed,
        "UPDATE uow_keys SET handover = replace(handover, char(10) || '10' || char(10), char(10) || '9' || char(10))"
        " WHERE handover IS NOT NULL",
    )
    assert "key" in verified(signed).rules


def test_key_that_took_over_by_itself(signed: Path) -> None:
    """A key that its predecessor did not sign for is not trusted by whoever has the predecessor's key."""
    first = vkey_of(signed)
    write_new_key(signed / "mallory.pem")
    with opened(signed, signer=signed / "key.pem", content_key=b"k" * 32) as ledger:
        ledger.change_signer(signed / "mallory.pem", old_key_lost=True)
        with ledger.unit(space_id=ALICE, band="GREEN") as uow:
            uow["notes"].create("n8", {})
    assert verified(signed).level is VerificationLevel.SIGNED
    assert verified(signed, vkey=first).rules == {"key": 1}


def test_revoked_key(signed: Path) -> None:
    """What a revoked key signed counts for nothing; that a later one signs the same tree does."""
    first = vkey_of(signed)
    execute(signed, "UPDATE uow_keys SET revoked_ts = '2026-11-22T00:00:00.000000Z', until_seq = 10")
    assert verified(signed).level is VerificationLevel.HASHED
    assert verified(signed, vkey=first).rules == {"key": 1}


def test_two_keys_at_once(signed: Path, tmp_path: Path) -> None:
    """No unit is for two keys to sign."""
    write_new_key(tmp_path / "second.pem")
    second = KeyFileSigner(tmp_path / "second.pem", name=ORIGIN).vkey
    execute(signed, f"INSERT INTO uow_keys (vkey, since_seq) VALUES ('{second}', 4)")
    assert "key" in verified(signed).rules


def test_unsigned_end(signed: Path) -> None:
    """A ledger that nobody signs any more is hashed; how far it is signed is told."""
    with opened(signed, signer=signed / "key.pem", content_key=b"k" * 32) as ledger:
        ledger.change_signer(None)
    add_unit(signed, "n8")
    report = verified(signed, vkey=vkey_of(signed))
    assert (report.level, report.signed_units, report.units) == (VerificationLevel.HASHED, 10, 11)


def test_group_of_units_is_signed_once(tmp_path: Path) -> None:
    """Units of one transaction share the checkpoint at its end; one that is given to another unit is noticed."""
    write_new_key(tmp_path / "key.pem")
    with opened(tmp_path, signer=tmp_path / "key.pem", stores=[DocumentStore("notes")]) as ledger:
        for number in range(4):
            with ledger.unit(space_id=ALICE, band="GREEN") as uow:
                uow["notes"].create(f"n{number}", {})
    third = "(SELECT receipt_signature FROM unit_of_work WHERE rowid = 3)"
    execute(tmp_path, f"UPDATE unit_of_work SET receipt_signature = {third} WHERE rowid = 2")
    assert verified(tmp_path).level is VerificationLevel.SIGNED
    last = "(SELECT receipt_signature FROM unit_of_work WHERE rowid = 4)"
    execute(tmp_path, f"UPDATE unit_of_work SET receipt_signature = {last} WHERE rowid = 1")
    assert verified(tmp_path).rules == {"signature": 1}
    execute(tmp_path, f"UPDATE unit_of_work SET receipt_signature = {last} WHERE rowid < 4")
    assert verified(tmp_path).level is VerificationLevel.SIGNED


def test_report_as_json(signed: Path) -> None:
    """The report is plain values, with what is not proved in it."""
    execute(signed, "UPDATE uow_writes SET ts = 'x' WHERE id = 7")
    told = verified(signed).as_dict()
    assert (told["ok"], told["level"], told["rules"], told["problems_total"]) == (False, "none", {"writes": 1}, 1)
    assert told["not_proved"][1] == ALWAYS_OPEN
    assert told["problems"][0]["rule"] == "writes"
