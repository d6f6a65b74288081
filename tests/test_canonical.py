"""Canonical bytes: the subset of RFC 8785 that receipts use, against public vectors."""

from __future__ import annotations

import enum
import hashlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from memoryos_uow._canonical import MAX_SAFE_INTEGER, Shape, canonical, sha256_hex
from memoryos_uow.errors import UsageError
from tests.naming import plain_repr

JCS = Path(__file__).parent / "vectors/jcs"
ALL = ["arrays", "french", "structures", "unicode", "values", "weird"]


def number(literal: str) -> int | float:
    """A number as RFC 8785 reads it: 56.0 and 56 are the same, 1E30 is beyond the integers."""
    value = float(literal)
    return int(value) if value.is_integer() and abs(value) <= MAX_SAFE_INTEGER else value


def read(name: str) -> tuple[Any, bytes]:
    """A vector: what it says, and its canonical form."""
    said = json.loads((JCS / f"{name}.in.json").read_bytes(), parse_float=number)
    return said, (JCS / f"{name}.out.json").read_bytes()


def allowed_part(value: Any) -> Any:
    """The value without booleans and without members whose key is not ASCII; the order of members is kept."""
    if isinstance(value, list):
        return [allowed_part(item) for item in value if not isinstance(item, bool)]
    if isinstance(value, dict):
        members = ((key, item) for key, item in value.items() if key.isascii() and not isinstance(item, bool))
        return {key: allowed_part(item) for key, item in members}
    return value


@pytest.mark.parametrize("name", ALL)
def test_oracle_reproduces_every_vector(name: str) -> None:
    """The package that generated data are compared with gives the canonical form of all six public vectors."""
    said, expected = read(name)
    assert rfc8785.dumps(said) == expected


@pytest.mark.parametrize("name", ["structures", "unicode"])
def test_vectors_inside_the_subset_match(name: str) -> None:
    """A public vector made only of what receipts may hold comes out byte for byte."""
    said, expected = read(name)
    assert canonical(said) == expected


@pytest.mark.parametrize(
    ("name", "why"),
    [("arrays", "type bool"), ("values", "type float"), ("french", "ASCII keys"), ("weird", "ASCII keys")],
)
def test_vectors_beyond_the_subset_are_refused(name: str, why: str) -> None:
    """A public vector with booleans, fractions or keys beyond ASCII is refused, and the error says why."""
    with pytest.raises(UsageError, match=why):
        canonical(read(name)[0])


@pytest.mark.parametrize("name", ["arrays", "french", "weird"])
def test_allowed_rest_of_a_refused_vector_matches(name: str) -> None:
    """What is left of a refused vector comes out in the order and spelling of the vector's own form."""
    said, expected = read(name)
    rest = allowed_part(said)
    assert rest
    in_order = json.dumps(allowed_part(json.loads(expected)), ensure_ascii=False, separators=(",", ":"))
    assert canonical(rest) == in_order.encode()


class Level(enum.IntEnum):
    LOW = 1


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        True,
        MAX_SAFE_INTEGER + 1,
        -MAX_SAFE_INTEGER - 1,
        "\ud800",
        "a\0b",
        b"bytes",
        (1, 2),
        {1, 2},
        {1: "a"},
        {"é": 1},
        {"a\0": 1},
        {None: 1},
        object(),
    ],
    ids=plain_repr,
)
@pytest.mark.parametrize(
    "wrap", [lambda v: v, lambda v: [v], lambda v: {"deep": [{"er": v}]}], ids=["bare", "list", "deep"]
)
def test_anything_else_is_refused(value: object, wrap: Any) -> None:
    """Floats, booleans, large integers, unstorable text, odd keys and foreign types are refused at any depth."""
    with pytest.raises(UsageError):
        canonical(wrap(value))


def test_refusal_shows_no_value() -> None:
    """A refusal names the type or defect and never the value."""
    with pytest.raises(UsageError) as refused:
        canonical({"key": "secret\ud800"})
    assert "secret" not in str(refused.value)


def test_endless_nesting_is_refused() -> None:
    """A list that holds itself, and one nested deeper than the interpreter can follow, are refused as well."""
    itself: list[object] = []
    itself.append(itself)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (itself, deep):
        with pytest.raises(UsageError, match="too deeply"):
            canonical(value)


def test_edges_of_the_subset() -> None:
    """Safe integers at both ends, null, empty text, DEL and control characters have their RFC 8785 spelling."""
    assert (
        canonical([MAX_SAFE_INTEGER, -MAX_SAFE_INTEGER, None, "", 0])
        == b'[9007199254740991,-9007199254740991,null,"",0]'
    )
    assert canonical('\x01\b\t\n\f\r\x1f"\\/\x7f\u2028') == b'"\\u0001\\b\\t\\n\\f\\r\\u001f\\"\\\\/\x7f\xe2\x80\xa8"'
    assert canonical({"b": 1, "B": 2, "aa": 3, "a": Level.LOW}) == b'{"B":2,"a":1,"aa":3,"b":1}'


@pytest.mark.parametrize("content", [b"", b"hello", bytearray(b"hello"), memoryview(b"hello")], ids=plain_repr)
def test_sha256_hex(content: bytes) -> None:
    """The digest of any bytes-like content is its SHA-256 in lower-case hex."""
    assert sha256_hex(content) == hashlib.sha256(bytes(content)).hexdigest()
    assert sha256_hex(b"hello") == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


class _Two(NamedTuple):
    b: object
    a: object


@given(
    st.none() | st.integers() | st.text() | st.floats() | st.booleans() | st.text(st.characters(categories=["Cs"])),
    st.none() | st.integers(-(2**53), 2**53) | st.text() | st.sampled_from(["\\u0000", "\0", '"\\"', "\x7f\u2028"]),
)
def test_a_shape_gives_the_same_bytes_or_the_same_refusal(b: object, a: object) -> None:
    """The quick way to a record never differs from `canonical`: neither in what it writes nor in what it refuses."""
    shape = Shape(_Two._fields)
    try:
        expected = canonical({"a": a, "b": b})
    except UsageError as error:
        with pytest.raises(UsageError, match=re.escape(str(error))):
            shape(_Two(b, a))
    else:
        assert shape(_Two(b, a)) == expected
