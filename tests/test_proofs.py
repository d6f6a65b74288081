"""Golden vectors of the log: what must be accepted for ever, and what must be refused, by the name of its defect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memoryos_uow import _ed25519, _merkle, _notes, _proofs
from memoryos_uow.errors import UsageError, VerificationError
from memoryos_uow.receipts import Receipt, ReceiptWrite

GOLDEN: Any = json.loads((Path(__file__).parent / "vectors/receipts/log.json").read_bytes())
REFUSED = GOLDEN["refused"]
KEY = _notes.parse_vkey(GOLDEN["vkey"])
ENTRIES = [entry.encode() for entry in GOLDEN["entries"]]
ENTRY = ENTRIES[1]


def check(proof: str, entry: bytes = ENTRY) -> _proofs.Proved:
    """Check as a stranger would who trusts the golden key."""
    return _proofs.check_log_proof(_proofs.parse_proof(proof), entry, [KEY], _ed25519.verify)


def check_note(note: str) -> list[_notes.VerifierKey]:
    """Read a checkpoint and see whether the golden key has signed it."""
    parsed = _notes.parse(note)
    _notes.parse_head(parsed.text)
    return _notes.trusted_by(parsed, [KEY], _ed25519.verify)


def test_the_golden_log_has_its_roots_nodes_and_proof() -> None:
    """From the five entries follow the roots of every size, what each row keeps, and the proof of the second."""
    leaves = [_merkle.leaf_hash(entry) for entry in ENTRIES]
    frontier = _merkle.Frontier()
    assert [b"".join(frontier.append(leaf)).hex() for leaf in leaves] == GOLDEN["nodes"]
    assert [_merkle.tree_root(leaves[:size]).hex() for size in range(6)] == GOLDEN["roots"]
    path = _merkle.inclusion_path(1, 5, lambda first, count: _merkle.tree_root(leaves[first : first + count]))
    assert _proofs.proof_text(1, path, GOLDEN["checkpoint"]) == GOLDEN["proof"]


def test_the_golden_checkpoint_and_proof_hold() -> None:
    """They are accepted, and say by whom, of which log and of which size they are."""
    assert check_note(GOLDEN["checkpoint"]) == [KEY]
    proved = check(GOLDEN["proof"])
    assert (proved.keys, proved.head.origin, proved.head.size) == ((KEY,), GOLDEN["origin"], 5)
    assert proved.head.root.hex() == GOLDEN["roots"][5]


@pytest.mark.parametrize("defect", REFUSED["checkpoints"])
def test_a_checkpoint_is_refused(defect: str) -> None:
    """A checkpoint with a defect is not one, or not one of the key's."""
    try:
        signers = check_note(REFUSED["checkpoints"][defect])
    except VerificationError:
        return
    assert signers == []


@pytest.mark.parametrize("defect", REFUSED["proofs"])
def test_a_proof_is_refused(defect: str) -> None:
    """A proof with a defect does not hold."""
    with pytest.raises(VerificationError):
        check(REFUSED["proofs"][defect])


@pytest.mark.parametrize("defect", REFUSED["entries"])
def test_an_entry_is_refused(defect: str) -> None:
    """What is not the receipt itself, byte for byte, is not proved by its proof, and mostly is no receipt at all."""
    entry = REFUSED["entries"][defect].encode()
    with pytest.raises(VerificationError):
        check(GOLDEN["proof"], entry)
    if defect not in {"another unit's receipt", "a field changed", "a look-alike letter", "a decomposed letter"}:
        with pytest.raises(VerificationError, match="not a receipt"):
            _proofs.parse_receipt(entry)


def test_a_receipt_is_read_back() -> None:
    """The fields of a receipt are what was hashed."""
    assert Receipt(**_proofs.parse_receipt(ENTRY)).canonical() == ENTRY  # type: ignore[arg-type]


def test_extra_data_is_left_aside() -> None:
    """The format allows one line of extra data, for which nothing vouches."""
    first, rest = GOLDEN["proof"].split("\n", 1)
    assert check(f"{first}\nextra aGVsbG8=\n{rest}") == check(GOLDEN["proof"])


def test_without_a_key_only_the_fit_is_checked() -> None:
    """Nobody to trust is allowed, and then nobody is said to have signed; a wrong entry is refused all the same."""
    proof = _proofs.parse_proof(GOLDEN["proof"])
    assert _proofs.check_log_proof(proof, ENTRY, [], _ed25519.verify).keys == ()
    with pytest.raises(VerificationError):
        _proofs.check_log_proof(proof, ENTRIES[0], [], _ed25519.verify)


@pytest.mark.parametrize(
    ("origin", "same"),
    [
        ("example.com/a", True),
        ("example.com/a/2", True),
        ("example.com/a/", False),
        ("example.com/a/x", False),
        ("example.com/a/\uff12", False),
        ("example.com/ab", False),
        ("2", False),
    ],
)
def test_the_epochs_of_a_ledger_carry_its_name(origin: str, *, same: bool) -> None:
    """A checkpoint of a later epoch is its ledger's; any other name is another ledger."""
    assert _proofs.is_origin_of(origin, "example.com/a") is same


# Writes


def test_the_golden_write_is_one_of_its_receipt() -> None:
    """The proof of a write holds for its own receipt."""
    write = GOLDEN["write"]
    receipt = _proofs.parse_receipt(write["receipt"].encode())
    _proofs.check_write_proof(_proofs.parse_proof(write["proof"]), write["entry"].encode(), receipt)


@pytest.mark.parametrize("name", ["writes_root", "write_count", "uow_id"])
def test_a_write_of_another_receipt_is_refused(name: str) -> None:
    """Root, number of writes and unit have to be the receipt's."""
    write = GOLDEN["write"]
    receipt = {**_proofs.parse_receipt(write["receipt"].encode()), name: "other"}
    with pytest.raises(VerificationError, match="another unit"):
        _proofs.check_write_proof(_proofs.parse_proof(write["proof"]), write["entry"].encode(), receipt)


def test_a_changed_write_is_refused() -> None:
    """One byte of the write, and it is not the one that the receipt commits to."""
    write = GOLDEN["write"]
    receipt = _proofs.parse_receipt(write["receipt"].encode())
    with pytest.raises(VerificationError, match="does not hold"):
        _proofs.check_write_proof(
            _proofs.parse_proof(write["proof"]), write["entry"].replace("note", "nope").encode(), receipt
        )


@pytest.mark.parametrize("seq", [-1, 3])
def test_a_write_that_is_not_there_cannot_be_proved(seq: int) -> None:
    """Writes are numbered from 0."""
    with pytest.raises(UsageError, match="3 writes"):
        _proofs.write_proof_text("u", [bytes(32)] * 3, seq)


@given(st.integers(1, 200), st.data())
def test_every_write_of_a_unit_can_be_proved(count: int, data: st.DataObject) -> None:
    """Whatever the number of writes, the proof of any holds, and only for that one."""
    seq = data.draw(st.integers(0, count - 1))
    writes = [ReceiptWrite(n, "notes", f"r{n}", "create", 1, None, "t") for n in range(count)]
    leaves = [_merkle.leaf_hash(write.canonical()) for write in writes]
    receipt: dict[str, object] = {
        "uow_id": "u",
        "write_count": count,
        "writes_root": _merkle.tree_root(leaves).hex(),
    }
    proof = _proofs.parse_proof(_proofs.write_proof_text("u", leaves, seq))
    _proofs.check_write_proof(proof, writes[seq].canonical(), receipt)
    with pytest.raises(VerificationError):
        _proofs.check_write_proof(proof, writes[seq].canonical() + b" ", receipt)


# Whatever comes


@given(st.text() | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")))
def test_no_text_makes_reading_it_fail_otherwise(text: str) -> None:
    """Texts from strangers are refused in our words only."""
    for read in (_notes.parse, _notes.parse_head, _notes.parse_vkey, _proofs.parse_proof, _notes.decode_hash):
        try:
            read(text)
        except VerificationError:
            continue


@given(st.data())
def test_no_changed_character_goes_unnoticed(data: st.DataObject) -> None:
    """Any one character of a proof replaced or left out: refused, or the change is in what the format ignores."""
    proof = GOLDEN["proof"]
    place = data.draw(st.integers(0, len(proof) - 1))
    other = data.draw(st.sampled_from(["", "A", "0", "\n", " ", "=", "é"]))
    changed = proof[:place] + other + proof[place + 1 :]
    if changed != proof:
        with pytest.raises(VerificationError):
            check(changed)
