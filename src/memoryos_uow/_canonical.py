"""Canonical bytes: the one place that turns a record into the bytes that are hashed.

Promise: for a dict of ASCII keys whose values are strings, integers within ±(2**53 - 1), None, or such dicts and lists,
`canonical` returns the RFC 8785 (JSON Canonicalization Scheme) bytes; anything else is refused, never approximated.
SQLite's ``json_object`` with its keys in alphabetical order gives the same bytes, which is what lets a stranger verify
a receipt with ``sqlite3`` and ``sha256sum``.
"""

from __future__ import annotations

import hashlib
import json
from typing import Final

from memoryos_uow._names import text_problem
from memoryos_uow.errors import UsageError

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
