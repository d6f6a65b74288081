"""The canonical bytes of writes and receipts, made from rows that nobody vouches for.

Promise: the same RFC 8785 bytes as `memoryos_uow.receipts` makes (a test compares them), or `OddValueError` for a value
of a type that no receipt can hold; a text that is an integer's digits is not that integer. Written a second time on
purpose: one mistake in the writer's encoder cannot hide from the verifier's, and fixed templates take a fifth of the
time of a general encoder.
"""

from __future__ import annotations

import hashlib
from json.encoder import encode_basestring as _python_quote
from typing import Any, Final

from memoryos_uow._canonical import MAX_SAFE_INTEGER

try:
    from _json import encode_basestring as quote
except ImportError:  # pragma: no cover - an interpreter without the C part
    quote = _python_quote

RECEIPT_TYPE: Final = "memoryos-uow/receipt/1"
_sha256 = hashlib.sha256


class OddValueError(Exception):
    """A row holds a value that no receipt could."""


def text(value: object) -> str:
    """Return `value`, a text or None, as JSON."""
    if value is None:
        return "null"
    if value.__class__ is str:
        return quote(value)
    raise OddValueError


def digest(value: object) -> str:
    """Return `value`, the bytes of a digest or nonce or None, in hex as JSON."""
    if value.__class__ is bytes:
        return f'"{value.hex()}"'
    if value is None:
        return "null"
    raise OddValueError


def integer(value: object) -> str:
    """Return `value`, a whole number or None, as JSON."""
    if value.__class__ is int and -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
        return str(value)
    if value is None:
        return "null"
    raise OddValueError


def utf8(json_text: str) -> bytes:
    """Return `json_text` as bytes."""
    try:
        return json_text.encode()
    except UnicodeEncodeError:
        raise OddValueError from None


def write_leaf(  # noqa: PLR0917 - by position, because keywords would double what a call costs
    seq: int,
    store_name: Any,
    record_id: Any,
    ts: Any,
    operation_type: Any,
    bytes_written: Any,
    checksum: Any,
    nonce: Any,
) -> bytes:
    """Return the leaf hash of one write.

    Raises:
        OddValueError: a value no write could have.
    """
    # Only what is null in most ledgers is looked at twice; `quote` refuses anything but text by itself.
    if bytes_written.__class__ is not int:
        raise OddValueError
    try:
        json_text = (
            f'{{"bytes_written":{bytes_written},"checksum":{"null" if checksum is None else quote(checksum)}'
            f',"nonce":{"null" if nonce is None else digest(nonce)},"operation_type":{quote(operation_type)}'
            f',"record_id":{"null" if record_id is None else quote(record_id)},"seq":{seq}'
            f',"store_name":{quote(store_name)},"ts":{quote(ts)}}}'
        )
        return _sha256(b"\0" + json_text.encode()).digest()
    except (TypeError, UnicodeEncodeError):
        raise OddValueError from None


def receipt_bytes(
    *,
    band: Any,
    committed_ts: Any,
    context: Any,
    contract_version: Any,
    created_ts: Any,
    nonce: Any,
    origin_json: str,
    prev: Any,
    space_id: Any,
    space_seq: Any,
    store_count: Any,
    total_bytes_written: Any,
    uow_id: Any,
    write_count: Any,
    writes_root: Any,
) -> bytes:
    """Return the canonical bytes of a receipt; `origin_json` is the ledger's origin as JSON already.

    Raises:
        OddValueError: a value no receipt could have.
    """
    return utf8(
        f'{{"band":{text(band)},"committed_ts":{text(committed_ts)},"context":{_sha256_text(context)}'
        f',"contract_version":{text(contract_version)},"created_ts":{text(created_ts)},"nonce":{digest(nonce)}'
        f',"origin":{origin_json},"outcome":"committed","prev":{digest(prev)},"space_id":{text(space_id)}'
        f',"space_seq":{integer(space_seq)},"store_count":{integer(store_count)}'
        f',"total_bytes_written":{integer(total_bytes_written)},"type":"{RECEIPT_TYPE}","uow_id":{text(uow_id)}'
        f',"write_count":{integer(write_count)},"writes_root":{digest(writes_root)}}}'
    )


def _sha256_text(value: object) -> str:
    if value.__class__ is bytes:
        return f'"sha256:{value.hex()}"'
    raise OddValueError


def context_digest(actor_id: Any, correlation_id: Any, device_id: Any, nonce: Any) -> bytes:
    """Return the digest over who acted.

    Raises:
        OddValueError: a value no unit could have.
    """
    content = utf8(
        f'{{"actor_id":{text(actor_id)},"correlation_id":{text(correlation_id)},"device_id":{text(device_id)}'
        f',"nonce":{digest(nonce)}}}'
    )
    return _sha256(content).digest()
