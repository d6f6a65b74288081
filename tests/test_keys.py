"""Which key signs a ledger: nobody goes on unsigned unnoticed, and what an old key signed stays provable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Ledger, _ed25519, _keys, _notes, _proofs
from memoryos_uow.errors import LedgerError, UsageError
from memoryos_uow.signing import KeyFileSigner
from tests.schema_files import make_1_0_0
from tests.signers import ORIGIN, key_file, put, signer
from tests.units import rows

if TYPE_CHECKING:
    from pathlib import Path


def signed_ledger(folder: Path) -> Path:
    """A ledger with two units signed with key.pem."""
    path = folder / "memory.db"
    with Ledger.open(path, origin=ORIGIN, signer=key_file(folder)) as ledger:
        put(ledger, "a")
        put(ledger, "b")
    return path


def test_the_first_signature_records_its_key(tmp_path: Path) -> None:
    """The ledger knows from which unit on which key signs it."""
    path = signed_ledger(tmp_path)
    assert rows(path, "SELECT * FROM uow_keys") == [(signer(tmp_path).vkey, 1, None, None, None)]


def test_without_its_signer_a_ledger_takes_no_units(tmp_path: Path) -> None:
    """It can be read, validated and recovered; a unit is refused, with nothing written."""
    path = signed_ledger(tmp_path)
    with Ledger.open(path) as ledger:
        assert ledger["notes"].get("a", space_id="s") == {"text": "a"}
        assert ledger.validate() == []
        ledger.recover()
        with pytest.raises(LedgerError, match=r"opened without a signer.*Nothing was written"):
            put(ledger, "c")
        assert ledger["notes"].get("c", space_id="s") is None


def test_a_wrong_signer_is_refused_at_opening(tmp_path: Path) -> None:
    """Another key, another name, a lost file: the ledger is not opened."""
    path = signed_ledger(tmp_path)
    with pytest.raises(LedgerError, match="not with"):
        Ledger.open(path, signer=key_file(tmp_path, "other.pem"))
    with pytest.raises(UsageError, match=r"signs for 'example\.com/elsewhere'"):
        Ledger.open(path, signer=KeyFileSigner(key_file(tmp_path), name="example.com/elsewhere"))
    with pytest.raises(LedgerError, match="cannot be read"):
        Ledger.open(path, signer=tmp_path / "lost.pem")


def test_a_signer_that_cannot_be_used_leaves_no_file(tmp_path: Path) -> None:
    """A wrong argument is refused before the ledger is made."""

    class Strange:
        name, vkey = "a", "b"

        def sign(self, message: bytes) -> bytes:
            return message

    class Renamed(Strange):
        vkey = signer(tmp_path).vkey

    path = tmp_path / "memory.db"
    wrong: Any
    for wrong, said in ((7, "this is a int"), (Strange(), "verifier key"), (Renamed(), "another name")):
        with pytest.raises(UsageError, match=said):
            Ledger.open(path, signer=wrong)
    with pytest.raises(LedgerError):
        Ledger.open(path, signer=tmp_path / "lost.pem")
    assert not path.exists()


def test_a_ledger_of_1_0_0_has_nothing_to_sign(tmp_path: Path) -> None:
    """In basic mode there are no receipts, so no signer, no checkpoint and no other key."""
    make_1_0_0(tmp_path / "memory.db", 1)
    with pytest.raises(UsageError, match="no receipts to sign"):
        Ledger.open(tmp_path / "memory.db", migrate=False, signer=key_file(tmp_path))
    with Ledger.open(tmp_path / "memory.db", migrate=False) as ledger:
        with pytest.raises(UsageError, match="no receipts"):
            ledger.checkpoint()
        with pytest.raises(UsageError, match="no receipts"):
            ledger.change_signer(key_file(tmp_path))


def test_rotation_keeps_old_receipts_provable(tmp_path: Path) -> None:
    """After the change the new key signs, both have signed where it took over, and old proofs hold with the old key."""
    path = signed_ledger(tmp_path)
    old, new = signer(tmp_path), signer(tmp_path, "new.pem")
    with Ledger.open(path, signer=old) as ledger:
        ledger.change_signer(new)
        receipt = put(ledger, "c")
        keys = {name: _notes.parse_vkey(vkey) for name, vkey in (("old", old.vkey), ("new", new.vkey))}
        for uow_id, who in ((ledger.units()[-1].uow_id, "old"), (receipt.uow_id, "new")):
            one = ledger.receipt(uow_id)
            proof = _proofs.parse_proof(one.proof())
            assert _proofs.check_log_proof(proof, one.canonical(), [keys[who]], _ed25519.verify).keys == (keys[who],)
        with ledger._opened.engine.reader() as reader:
            first, second = _keys.keys(reader)
    assert (first.vkey, first.since_seq, first.until_seq) == (old.vkey, 1, 2)
    assert (second.vkey, second.since_seq, second.until_seq) == (new.vkey, 3, None)
    note = _notes.parse(second.handover or "")
    assert _notes.trusted_by(note, keys.values(), _ed25519.verify) == list(keys.values())
    assert _notes.parse_head(note.text).size == 2


def test_a_process_with_the_old_key_is_stopped(tmp_path: Path) -> None:
    """Whoever has the ledger open with the former key is refused from the change on."""
    path = signed_ledger(tmp_path)
    with Ledger.open(path, signer=signer(tmp_path)) as stale, Ledger.open(path, signer=signer(tmp_path)) as other:
        put(stale, "c")
        other.change_signer(key_file(tmp_path, "new.pem"))
        with pytest.raises(LedgerError, match="not with"):
            put(stale, "d")
        assert put(other, "e").signature is not None


def test_a_key_that_was_put_aside_never_comes_back(tmp_path: Path) -> None:
    """Neither at opening nor by a change nor in an open ledger of somebody who signs no more."""
    path = signed_ledger(tmp_path)
    with Ledger.open(path, signer=signer(tmp_path)) as stale, Ledger.open(path, signer=signer(tmp_path)) as ledger:
        ledger.change_signer(None)
        assert put(ledger, "c").signature is None
        with pytest.raises(LedgerError, match="put aside"):
            put(stale, "d")
        with pytest.raises(LedgerError, match="put aside"):
            ledger.change_signer(signer(tmp_path))
        ledger.change_signer(key_file(tmp_path, "new.pem"))
        assert put(ledger, "e").signature is not None
    with pytest.raises(LedgerError, match="not with"):
        Ledger.open(path, signer=signer(tmp_path))
    with Ledger.open(path, signer=signer(tmp_path, "new.pem")) as ledger:
        ledger.change_signer(None)
    with pytest.raises(LedgerError, match="put aside"):
        Ledger.open(path, signer=signer(tmp_path))


def test_a_lost_key_has_to_be_said(tmp_path: Path) -> None:
    """Without the old key nobody else's takes over by accident; asked for, it does, and the row shows only one name."""
    path = signed_ledger(tmp_path)
    with Ledger.open(path) as ledger:
        with pytest.raises(LedgerError, match="without a signer"):
            ledger.change_signer(key_file(tmp_path, "new.pem"))
        ledger.change_signer(key_file(tmp_path, "new.pem"), old_key_lost=True)
        assert put(ledger, "c").signature is not None
        with ledger._opened.engine.reader() as reader:
            found = _keys.keys(reader)
    assert len(_notes.parse(found[1].handover or "").signatures) == 1


def test_changes_that_change_nothing_are_refused(tmp_path: Path) -> None:
    """The key in use cannot follow itself, nobody cannot follow nobody, and a stranger cannot hand over."""
    path = signed_ledger(tmp_path)
    with Ledger.open(path, signer=signer(tmp_path)) as ledger:
        with pytest.raises(UsageError, match="already"):
            ledger.change_signer(signer(tmp_path))
        ledger._opened.log.signer = signer(tmp_path, "other.pem")  # type: ignore[union-attr]
        with pytest.raises(LedgerError, match="not the one that signs"):
            ledger.change_signer(signer(tmp_path, "new.pem"))
    with Ledger.open(tmp_path / "other.db") as ledger, pytest.raises(UsageError, match="already"):
        ledger.change_signer(None)


def test_signing_can_begin_with_a_change(tmp_path: Path) -> None:
    """A ledger that was never signed, even an empty one, may be given a signer while it is open."""
    with Ledger.open(tmp_path / "memory.db", origin=ORIGIN) as ledger:
        ledger.change_signer(key_file(tmp_path))
        assert put(ledger, "a").signature is not None


def test_revoking(tmp_path: Path) -> None:
    """A key that was put aside can be revoked, by its name and id as well, once; the one in use and strangers not."""
    path = signed_ledger(tmp_path)
    old = signer(tmp_path).vkey
    with Ledger.open(path, signer=signer(tmp_path)) as ledger:
        for key, said in ((old, "in use"), ("example.com/x+00000000", "No such key")):
            with pytest.raises(UsageError, match=said):
                ledger.revoke_key(key)
        ledger.change_signer(key_file(tmp_path, "new.pem"))
        ledger.revoke_key(_notes.shown_key(old))
        revoked = rows(path, "SELECT vkey, revoked_ts FROM uow_keys WHERE revoked_ts IS NOT NULL")
        ledger.revoke_key(old)
    assert [vkey for vkey, _ in revoked] == [old]
    assert rows(path, "SELECT vkey, revoked_ts FROM uow_keys WHERE revoked_ts IS NOT NULL") == revoked
