"""Receipts: golden bytes, and that nothing can be changed unseen."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from memoryos_uow._merkle import leaf_hash, node_hash
from memoryos_uow.errors import UsageError
from memoryos_uow.receipts import RECEIPT_TYPE, Receipt, ReceiptWrite, context_digest, writes_root

GOLDEN = json.loads((Path(__file__).parent / "vectors/receipts/golden.json").read_bytes())
WRITE = ReceiptWrite(**GOLDEN["write"]["fields"])
RECEIPT = Receipt(**GOLDEN["receipt"]["fields"])
OTHER = {str: "other", int: 77, type(None): "other"}


def changed(record: Any, name: str) -> Any:
    """The record with one field changed."""
    other: dict[str, Any] = {name: OTHER[type(getattr(record, name))]}
    return record._replace(**other) if isinstance(record, ReceiptWrite) else dataclasses.replace(record, **other)


def test_golden_write() -> None:
    """The golden write has its canonical bytes and its leaf."""
    assert WRITE.canonical() == GOLDEN["write"]["canonical"].encode()
    assert leaf_hash(WRITE.canonical()).hex() == GOLDEN["write"]["leaf"]


def test_golden_receipt() -> None:
    """The golden receipt has its canonical bytes, its hash and its leaf in the log."""
    assert RECEIPT.type == RECEIPT_TYPE
    assert RECEIPT.canonical() == GOLDEN["receipt"]["canonical"].encode()
    assert RECEIPT.hash == GOLDEN["receipt"]["receipt_hash"]
    assert leaf_hash(RECEIPT.canonical()).hex() == GOLDEN["receipt"]["log_leaf"]


def test_receipt_has_its_17_keys_always() -> None:
    """All 17 keys stand in every receipt in alphabetical order, null where there is nothing to say."""
    empty = dataclasses.replace(
        RECEIPT, band=None, context=None, nonce=None, origin=None, prev=None, space_id=None, space_seq=None
    )
    for receipt in (RECEIPT, empty):
        keys = list(json.loads(receipt.canonical()))
        assert keys == sorted(GOLDEN["receipt"]["fields"])
        assert len(keys) == 17


@pytest.mark.parametrize("name", sorted(GOLDEN["receipt"]["fields"]))
def test_every_field_is_in_the_hash(name: str) -> None:
    """Another value in any of the 17 fields is another hash."""
    assert changed(RECEIPT, name).hash != RECEIPT.hash


def test_signature_is_beside_the_receipt() -> None:
    """A signature changes neither the bytes nor the hash that it signs."""
    signed = dataclasses.replace(RECEIPT, signature="signed text")
    assert (signed.canonical(), signed.hash) == (RECEIPT.canonical(), RECEIPT.hash)


@pytest.mark.parametrize("name", sorted(GOLDEN["write"]["fields"]))
def test_every_field_of_a_write_is_in_the_root(name: str) -> None:
    """Another value in any field of a write is another root."""
    assert writes_root([changed(WRITE, name)]) != writes_root([WRITE])


def test_root_of_no_writes_is_the_hash_of_nothing() -> None:
    """A receipt without writes has the SHA-256 of the empty string as its root."""
    assert writes_root([]) == hashlib.sha256(b"").hexdigest()


def test_root_is_the_tree_over_the_writes_in_order() -> None:
    """Three writes hang in the tree as RFC 6962 says, and their order matters."""
    writes = [WRITE._replace(seq=seq) for seq in range(3)]
    a, b, c = (leaf_hash(write.canonical()) for write in writes)
    assert writes_root(writes) == node_hash(node_hash(a, b), c).hex()
    assert writes_root(writes[::-1]) != writes_root(writes)


def test_context_digest_opens_with_its_nonce_only() -> None:
    """Who acted is committed to in the stated form, and another nonce or any other name is another digest."""
    who: dict[str, Any] = {"actor_id": "alice", "correlation_id": None, "device_id": "phone", "nonce": "00" * 16}
    text = '{"actor_id":"alice","correlation_id":null,"device_id":"phone","nonce":"00000000000000000000000000000000"}'
    assert context_digest(**who) == "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    others = [context_digest(**{**who, name: "other"}) for name in who]
    assert len({context_digest(**who), *others}) == 5


def test_unhashable_fields_are_refused() -> None:
    """A field that canonical JSON cannot hold, such as a float, is refused when the hash is asked for."""
    with pytest.raises(UsageError):
        _ = dataclasses.replace(RECEIPT, space_seq=1.5).hash  # type: ignore[arg-type]


def test_receipts_are_frozen_and_comparable() -> None:
    """A receipt cannot be changed, and equals one with the same fields."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        RECEIPT.uow_id = "other"  # type: ignore[misc]
    assert Receipt(**GOLDEN["receipt"]["fields"]) == RECEIPT
