"""Which keys a blob may have: names that lead nowhere, even for a program that takes one for a path.

The blob store itself never makes a path from a key. Others will: whoever exports blobs to a folder. So a name that could
lead out of that folder is refused when it is written, never cleaned.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

SEGMENT_BYTES_MAX: Final = 255
"""Longest part between slashes in UTF-8 bytes (limits.h, NAME_MAX on Linux)."""

_DRIVE: Final = re.compile(r"[A-Za-z]:")


def key_problem(key: str) -> str | None:
    """Say why `key` looks like a way out of a folder, or None.

    The same is asked of its compatibility form (Unicode, NFKC): some file systems and programs take ``．．／`` for ``../``.
    """
    return _problem(key) or _problem(unicodedata.normalize("NFKC", key))


def _problem(key: str) -> str | None:
    if key.startswith("/"):
        return "begins with a slash, as an absolute path does"
    if "\\" in key:
        return "has a backslash, which some systems take for a slash"
    if _DRIVE.match(key):
        return "begins like a drive letter"
    if any(unicodedata.category(letter) == "Cc" for letter in key):
        return "has a control character"
    for segment in key.split("/"):
        if segment in ("", ".", ".."):
            return "has an empty part, '.' or '..' between slashes"
        if len(segment.encode()) > SEGMENT_BYTES_MAX:
            return f"has a part of more than {SEGMENT_BYTES_MAX} bytes between slashes"
    return None
