"""The verifier's own encoder gives the bytes that the library's does, and refuses what no receipt holds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memoryos_uow import _merkle
from memoryos_uow._verification import encoding
from memoryos_uow.receipts import RECEIPT_TYPE, Receipt, ReceiptWrite, context_digest

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
maybe = st.none() | texts
numbers = st.integers(0, 2**53 - 1)
digests = st.binary(min_size=32, max_size=32)
nonces = st.none() | st.binary(min_size=16, max_size=16)


@given(numbers, texts, maybe, texts, texts, numbers, maybe, nonces)
def test_leaves_are_the_same(  # noqa: PLR0917 - hypothesis passes by position
    seq: int,
    store: str,
    record: str | None,
    ts: str,
    operation: str,
    size: int,
    checksum: str | None,
    nonce: bytes | None,
) -> None:
    """Whatever a write holds, its leaf is that of the library's own encoder."""
    write = ReceiptWrite(seq, store, record, operation, size, checksum, ts, nonce.hex() if nonce else None)
    wanted = _merkle.leaf_hash(write.canonical())
    assert encoding.write_leaf(seq, store, record, ts, operation, size, checksum, nonce) == wanted


@given(texts, texts, texts, numbers, digests, nonces, st.none() | digests)
def test_receipts_are_the_same(  # noqa: PLR0917
    space: str, when: str, origin: str, number: int, root: bytes, nonce: bytes | None, prev: bytes | None
) -> None:
    """Whatever a receipt holds, its bytes are those of the library's own encoder."""
    receipt = Receipt(
        band="RED",
        committed_ts=when,
        context=f"sha256:{root.hex()}",
        contract_version="1.1.0",
        created_ts=when,
        nonce=nonce.hex() if nonce else None,
        origin=origin,
        outcome="committed",
        prev=prev.hex() if prev else None,
        space_id=space,
        space_seq=number,
        store_count=number,
        total_bytes_written=number,
        type=RECEIPT_TYPE,
        uow_id=space,
        write_count=number,
        writes_root=root.hex(),
    )
    made = encoding.receipt_bytes(
        band="RED",
        committed_ts=when,
        context=root,
        contract_version="1.1.0",
        created_ts=when,
        nonce=nonce,
        origin_json=encoding.text(origin),
        prev=prev,
        space_id=space,
        space_seq=number,
        store_count=number,
        total_bytes_written=number,
        uow_id=space,
        write_count=number,
        writes_root=root,
    )
    assert made == receipt.canonical()


@given(maybe, maybe, maybe, st.binary(min_size=16, max_size=16))
def test_contexts_are_the_same(actor: str | None, correlation: str | None, device: str | None, nonce: bytes) -> None:
    """Who acted has the same digest."""
    wanted = context_digest(actor_id=actor, correlation_id=correlation, device_id=device, nonce=nonce.hex())
    assert f"sha256:{encoding.context_digest(actor, correlation, device, nonce).hex()}" == wanted


SOUND: dict[str, Any] = {
    "store_name": "s",
    "record_id": "r",
    "ts": "t",
    "operation_type": "create",
    "bytes_written": 1,
    "checksum": "c",
    "nonce": b"n",
}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("store_name", None),
        ("store_name", b"s"),
        ("store_name", "\udcff"),
        ("record_id", 5),
        ("ts", None),
        ("operation_type", None),
        ("bytes_written", "1"),
        ("bytes_written", 1.0),
        ("bytes_written", None),
        ("checksum", b"c"),
        ("nonce", "6e"),
    ],
)
def test_odd_values_have_no_leaf(column: str, value: object) -> None:
    """A value of another type than a write has is refused, never made to fit."""
    with pytest.raises(encoding.OddValueError):
        encoding.write_leaf(0, **{**SOUND, column: value})


@pytest.mark.parametrize(
    ("encode", "value"),
    [
        (encoding.text, 1),
        (encoding.text, b"t"),
        (encoding.integer, 1.0),
        (encoding.integer, "1"),
        (encoding.integer, 2**53),
        (encoding.digest, "00"),
        (encoding.utf8, "\udcff"),
    ],
)
def test_odd_values_have_no_json(encode: Any, value: object) -> None:
    """The same for each kind of value in a receipt."""
    with pytest.raises(encoding.OddValueError):
        encode(value)


def test_null_is_null() -> None:
    """Nothing is null, whatever it stands for."""
    assert [encoding.text(None), encoding.integer(None), encoding.digest(None)] == ["null"] * 3
