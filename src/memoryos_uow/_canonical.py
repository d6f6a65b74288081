"""Canonical bytes: the one place that turns a record into the bytes that are hashed.

Promise: for a dict of ASCII keys whose values are strings, integers within ±(2**53 - 1), None, or such dicts and lists,
`canonical` returns the RFC 8785 (JSON Canonicalization Scheme) bytes; anything else is refused, never approximated.
SQLite's ``json_object`` with its keys in alphabetical order gives the same bytes, which is what lets a stranger verify
a receipt with ``sqlite3`` and ``sha256sum``.
"""

from __future__ import annotations

import hashlib
import json
from json.encoder import encode_basestring as quoted
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from memoryos_uow._names import text_problem
from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_SAFE_INTEGER: Final = 2**53 - 1
"""Largest integer that every JSON reader keeps exactly (RFC 8785, section 3.2.2.3, and RFC 7493)."""

_ALLOWED: Final = "strings, integers within 2**53 - 1, null, and lists and objects of these"

_encode: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"), check_circular=False
).encode


def canonical(value: object) -> bytes:
    """Return the RFC 8785 bytes of `value`.

    Raises:
        UsageError: `value` holds a float, a boolean, an integer beyond 2**53 - 1, a lone surrogate, U+0000, a key that
            is not ASCII, a type that JSON lacks, or itself.
    """
    try:
        _refuse(value)
        return _encode(value).encode()
    except RecursionError:
        raise UsageError("A canonical value is nested too deeply, or holds itself.") from None


def _refuse(value: object) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str) or not key.isascii() or "\0" in key:
                raise UsageError("A canonical object may have ASCII keys only.")
            _refuse(item)
    elif isinstance(value, list):
        for item in value:
            _refuse(item)
    else:
        problem = _problem(value)
        if problem:
            raise UsageError(f"A canonical value {problem}; canonical JSON holds {_ALLOWED}.")


def _problem(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return text_problem(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return None if -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER else "is an integer beyond 2**53 - 1"
    return f"is of type {type(value).__name__}"


def sha256_hex(content: bytes | bytearray | memoryview) -> str:
    """Return the SHA-256 of `content` as 64 lower-case hex digits (FIPS 180-4)."""
    return hashlib.sha256(content).hexdigest()


class Shape:
    """Canonical bytes of records whose attributes are always the same, a few times faster than `canonical`.

    Whatever is not plainly a string, a safe integer or None goes to `canonical`, which decides: so the bytes are the
    same, and so is what is refused.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = sorted(names)
        self._values = attrgetter(*self._names)
        self._form = "{" + ",".join(f'"{name}":%s' for name in self._names) + "}"

    def __call__(self, record: object) -> bytes:
        """Return the canonical bytes of the object of `record`'s attributes.

        Raises:
            UsageError: as `canonical`.
        """
        values = self._values(record)
        parts = []
        for value in values:
            kind = type(value)
            if kind is str:
                parts.append(quoted(value))
            elif value is None:
                parts.append("null")
            elif kind is int and -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
                parts.append(str(value))
            else:
                return self._slowly(values)
        text = self._form % tuple(parts)
        if "\\u0000" in text:  # perhaps U+0000
            return self._slowly(values)
        try:
            return text.encode()
        except UnicodeEncodeError:
            return self._slowly(values)

    def _slowly(self, values: tuple[object, ...]) -> bytes:
        return canonical(dict(zip(self._names, values, strict=True)))
