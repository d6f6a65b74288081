"""Canonical bytes against two other encoders, on generated data."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from memoryos_uow._canonical import MAX_SAFE_INTEGER, canonical
from memoryos_uow.errors import UsageError
from memoryos_uow.receipts import Receipt, ReceiptWrite

if TYPE_CHECKING:
    from collections.abc import Iterator

# Every Unicode scalar value except U+0000; surrogates are not scalar values.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
KEYS = st.text(st.characters(max_codepoint=127, exclude_characters="\0"))
INTEGERS = st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER)
LEAVES = st.none() | INTEGERS | TEXTS
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=20)

COUNTS = st.integers(0, MAX_SAFE_INTEGER)
RECEIPTS = st.builds(
    Receipt,
    **{name: st.none() | TEXTS for name in ("band", "context", "nonce", "origin", "prev", "space_id", "signature")},
    **dict.fromkeys(("committed_ts", "contract_version", "created_ts", "outcome", "type", "uow_id"), TEXTS),
    writes_root=TEXTS,
    space_seq=st.none() | COUNTS,
    store_count=COUNTS,
    total_bytes_written=COUNTS,
    write_count=COUNTS,
)
WRITES = st.builds(
    ReceiptWrite,
    seq=COUNTS,
    store_name=TEXTS,
    record_id=st.none() | TEXTS,
    operation_type=TEXTS,
    bytes_written=COUNTS,
    checksum=st.none() | TEXTS,
    ts=TEXTS,
    nonce=st.none() | TEXTS,
)


@given(VALUES)
def test_bytes_are_those_of_rfc8785(value: Any) -> None:
    """For everything inside the subset the bytes are those of an independent implementation of RFC 8785."""
    assert canonical(value) == rfc8785.dumps(value)


@given(VALUES)
def test_bytes_read_back_as_the_value(value: Any) -> None:
    """The bytes are JSON that says exactly the value."""
    assert json.loads(canonical(value)) == value


@given(st.from_type(object) | st.floats() | st.booleans() | st.text() | st.dictionaries(st.text(), st.floats()))
def test_whatever_comes_in_bytes_or_usage_error_come_out(value: object) -> None:
    """A value of any type at all gives bytes or a UsageError, and never another exception."""
    with suppress(UsageError):
        assert isinstance(canonical(value), bytes)


@pytest.fixture(scope="module")
def sqlite() -> Iterator[sqlite3.Connection]:
    """SQLite, for its json_object."""
    with closing(sqlite3.connect(":memory:")) as connection:
        yield connection


def by_sqlite(connection: sqlite3.Connection, fields: dict[str, Any]) -> bytes:
    """What SQLite's own json_object makes of the fields in alphabetical order."""
    marks = ", ".join(f"'{name}', ?" for name in sorted(fields))
    (text,) = connection.execute(f"SELECT json_object({marks})", [fields[name] for name in sorted(fields)]).fetchone()
    assert isinstance(text, str)
    return text.encode()


@given(receipt=RECEIPTS)
def test_sqlite_makes_the_same_receipt(sqlite: sqlite3.Connection, receipt: Receipt) -> None:
    """SQLite's json_object gives the receipt's exact bytes, so that sqlite3 and sha256sum verify it."""
    fields = {name: getattr(receipt, name) for name in Receipt.__slots__ if name != "signature"}
    assert receipt.canonical() == by_sqlite(sqlite, fields)


@given(write=WRITES)
def test_sqlite_makes_the_same_write(sqlite: sqlite3.Connection, write: ReceiptWrite) -> None:
    """SQLite's json_object gives the exact bytes of a write, so that its leaf can be recomputed with sqlite3."""
    assert write.canonical() == by_sqlite(sqlite, {name: getattr(write, name) for name in ReceiptWrite._fields})


ANYTHING = (
    st.none() | st.text() | st.integers() | st.booleans() | st.floats() | st.sampled_from(["\0", "\\u0000", "\ud800"])
)


@given(fields=st.fixed_dictionaries(dict.fromkeys(ReceiptWrite._fields, ANYTHING)))
def test_a_write_is_encoded_as_any_other_object(fields: dict[str, Any]) -> None:
    """The short way for common writes gives the bytes of the general one, and refuses what that refuses."""
    try:
        expected = canonical(fields)
    except UsageError:
        with pytest.raises(UsageError):
            ReceiptWrite(**fields).canonical()
    else:
        assert ReceiptWrite(**fields).canonical() == expected
