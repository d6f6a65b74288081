"""Signed notes and checkpoints: the examples of the specifications, and the forms that are ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memoryos_uow import _ed25519, _notes
from memoryos_uow.errors import VerificationError

PUBLISHED = json.loads((Path(__file__).parent / "vectors/tlog/notes.json").read_bytes())
GOLDEN = json.loads((Path(__file__).parent / "vectors/receipts/log.json").read_bytes())
names = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z", "C"], exclude_characters="+"), min_size=1).filter(
    _notes.is_key_name
)


def test_the_published_note_opens_with_its_key() -> None:
    """The example of the specification is signed by the key that it gives."""
    key = _notes.parse_vkey(PUBLISHED["note_ok"]["vkey"])
    note = _notes.parse(PUBLISHED["note_ok"]["note"])
    assert note.text == "This is an example message.\n"
    assert _notes.trusted_by(note, [key], _ed25519.verify) == [key]
    assert _notes.trusted_by(note._replace(signatures=()), [key], _ed25519.verify) == []


def test_the_published_checkpoint_with_a_cosignature_is_read() -> None:
    """Signatures of unknown keys, of whatever kind, are left aside."""
    note = _notes.parse(PUBLISHED["checkpoint_parse"])
    head = _notes.parse_head(note.text)
    assert (head.origin, head.size) == ("example.com/behind-the-sofa", 20852163)
    assert [line.name for line in note.signatures] == ["example.com/behind-the-sofa", "witness.example.com/w1"]
    assert head.text() == note.text


def test_a_head_may_have_more_lines() -> None:
    """Lines behind the third are allowed by the format and left aside; empty ones are not."""
    text = _notes.Head("o", 0, bytes(32)).text()
    assert _notes.parse_head(text + "more\n") == _notes.Head("o", 0, bytes(32))
    with pytest.raises(VerificationError):
        _notes.parse_head(text + "\nmore\n")


def test_an_unsigned_head_says_so_and_has_no_signatures() -> None:
    """Where nobody signs, a line stands for the signatures that cannot be taken for one."""
    note = _notes.parse(GOLDEN["unsigned"])
    assert note.signatures == ()
    assert _notes.parse_head(note.text).size == 5
    assert _notes.UNSIGNED in GOLDEN["unsigned"]


def test_a_key_is_shown_by_name_and_id() -> None:
    """Also where the base64 of the key holds plus signs."""
    key = _notes.VerifierKey("example.com/a", bytes.fromhex("fb" * 32))
    assert "+" in key.text().split("+", 2)[2]
    assert _notes.shown_key(key.text()) == f"example.com/a+{key.key_id.hex()}"
    assert _notes.parse_vkey(key.text()) == key


@pytest.mark.parametrize(
    ("defect", "vkey"),
    [
        ("empty", ""),
        ("no key", "name+00000000"),
        ("another key's id", "example.com/a+00000000+" + GOLDEN["vkey"].split("+", 2)[2]),
        ("name with a space", GOLDEN["vkey"].replace("/", " ", 1)),
        ("not base64", GOLDEN["vkey"][:-1] + "!"),
        ("padding left out", GOLDEN["vkey"].rstrip("=")[:-1]),
        ("type of a cosignature", GOLDEN["vkey"].replace("+AQ", "+BA", 1)),
        ("id in capitals", GOLDEN["vkey"].upper()),
    ],
)
def test_a_verifier_key_is_refused(defect: str, vkey: str) -> None:
    """What is not in its one form is no verifier key."""
    assert defect
    with pytest.raises(VerificationError):
        _notes.parse_vkey(vkey)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u00a0b", "a\u2028b", "a\nb", "\x1b[31m"])
def test_names_with_spaces_plus_or_control_characters_are_none(name: str) -> None:
    """Such a name could be read as something else."""
    assert not _notes.is_key_name(name)


@given(names, st.binary(min_size=32, max_size=32), st.integers(0, 2**63 - 1))
def test_what_is_written_is_read_back(name: str, raw: bytes, size: int) -> None:
    """Keys and heads of any name, content and size."""
    key = _notes.VerifierKey(name, raw)
    assert _notes.parse_vkey(key.text()) == key
    head = _notes.Head(name, size, raw)
    assert _notes.parse_head(head.text()) == head
    line = _notes.signature_line((name, key.key_id), raw + raw)
    note = _notes.parse(head.text() + "\n" + line)
    assert note == _notes.Note(head.text(), (_notes.Signature(name, key.key_id, raw + raw),))


def test_a_note_may_be_neither_huge_nor_signed_by_a_crowd() -> None:
    """Work on a stranger's text is bounded."""
    line = GOLDEN["checkpoint"].split("\n")[4] + "\n"
    assert len(_notes.parse("text\n\n" + line * 16).signatures) == 16
    for text in ("text\n\n" + line * 101, "x" * 1_000_001 + "\n\n" + line, "t\ud800\n\n" + line):
        with pytest.raises(VerificationError):
            _notes.parse(text)


def test_base64_has_one_form_only() -> None:
    """Bits that do not count must be zero: or else one hash, one signature, had several spellings."""
    line = _notes.Head("o", 1, bytes(32)).text().split("\n")[2]
    assert _notes.decode_hash(line) == bytes(32)
    assert line.endswith("A=")
    with pytest.raises(VerificationError):
        _notes.decode_hash(line[:-2] + "B=")
