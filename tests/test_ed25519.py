"""Strict Ed25519: every public test case, and the keys with which anybody could sign."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from memoryos_uow import _ed25519
from memoryos_uow.errors import UsageError

VECTORS = Path(__file__).parent / "vectors/ed25519"
WYCHEPROOF = json.loads((VECTORS / "wycheproof_ed25519_test.json").read_bytes())
EDGES = json.loads((VECTORS / "cctv_ed25519vectors.json").read_bytes())
_NEVER = {"low_order_A", "low_order_residue", "non_canonical_A", "non_canonical_R", "reencoded_k"}


def test_wycheproof() -> None:
    """All 151 cases are judged as their authors say."""
    cases = [(group["publicKey"]["pk"], case) for group in WYCHEPROOF["testGroups"] for case in group["tests"]]
    assert len(cases) == 151
    wrong = [
        case["tcId"]
        for public, case in cases
        if _ed25519.verify(bytes.fromhex(public), bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]))
        != (case["result"] == "valid")
    ]
    assert wrong == []


def test_edge_points() -> None:
    """What programs disagree about is refused: keys of small order and encodings that are not canonical."""
    assert len(EDGES) == 914
    judged = [
        (_ed25519.verify(bytes.fromhex(case["key"]), case["msg"].encode(), bytes.fromhex(case["sig"])), case)
        for case in EDGES
    ]
    accepted = [set(case["flags"] or ()) for good, case in judged if good]
    assert len(accepted) == 86
    assert not any(flags & _NEVER for flags in accepted)


@pytest.mark.parametrize("public", [b"", bytes(31), bytes(33), bytes(32), b"\x01" + bytes(31), b"\xff" * 32])
def test_what_is_no_sound_key_verifies_nothing(public: bytes) -> None:
    """Wrong lengths, small order, and a coordinate beyond the field."""
    assert not _ed25519.is_sound_public(public)
    assert not _ed25519.verify(public, b"", bytes(64))


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_signature_has_64_bytes(size: int) -> None:
    """Any other length is refused."""
    public = _ed25519.public_bytes(_ed25519.new_private())
    assert not _ed25519.verify(public, b"", bytes(size))


def test_keys_go_to_pem_and_back() -> None:
    """A private key is the same after a file; what is no such key is told apart."""
    key = _ed25519.new_private()
    again = _ed25519.private_from_pem(_ed25519.private_pem(key))
    assert again is not None
    assert _ed25519.public_bytes(again) == _ed25519.public_bytes(key)
    assert _ed25519.verify(_ed25519.public_bytes(key), b"message", again.sign(b"message"))
    assert _ed25519.private_from_pem(b"") is None
    assert _ed25519.private_from_pem(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n") is None


def test_a_key_of_another_kind_is_none() -> None:
    """An X25519 key in PEM is a key, but signs nothing."""
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    pem = X25519PrivateKey.generate().private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    assert _ed25519.private_from_pem(pem) is None


def test_a_missing_library_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the error says what to install."""
    missing: Any = None  # what Python keeps for a module that must not be imported
    for name in ("cryptography.hazmat.primitives.asymmetric.ed25519", "cryptography.exceptions"):
        monkeypatch.setitem(sys.modules, name, missing)
    with pytest.raises(UsageError, match=r"memoryos-uow\[sign\]"):
        _ed25519.verify(bytes(32), b"", bytes(64))
    with pytest.raises(UsageError, match="cryptography"):
        _ed25519.new_private()
