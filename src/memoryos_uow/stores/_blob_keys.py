"""Which keys a blob may have: names that lead nowhere, even for a program that takes one for a path.

The blob store itself never makes a path from a key. Others will: whoever exports blobs to a folder. So a name that
could lead out of that folder is refused when it is written, never cleaned.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

SEGMENT_BYTES_MAX: Final = 255
"""Longest part between slashes in UTF-8 bytes (limits.h, NAME_MAX on Linux)."""

_SUSPECT: Final = (
    (re.compile(r"\A/"), "begins with a slash, as an absolute path does"),
    (re.compile(r"\\"), "has a backslash, which some systems take for a slash"),
    (re.compile(r"\A[A-Za-z]:"), "begins like a drive letter"),
    (re.compile(r"[\x00-\x1f\x7f-\x9f]"), "has a control character"),
    # Spaces too, for Windows drops them from the end of a name: ".. " is "..".
    (re.compile(r"(?:\A|/)[. ]*(?:/|\Z)"), "has a part that is empty or has nothing but dots between slashes"),
)


def key_problem(key: str) -> str | None:
    """Say why `key` looks like a way out of a folder, or None.

    The same is asked of its compatibility form (Unicode, NFKC), because some programs take full-width dots and slashes
    for plain ones.
    """
    for form in (key, unicodedata.normalize("NFKC", key)):
        for pattern, problem in _SUSPECT:
            if pattern.search(form):
                return problem
    if any(len(part.encode()) > SEGMENT_BYTES_MAX for part in key.split("/")):
        return f"has a part of more than {SEGMENT_BYTES_MAX} bytes between slashes"
    return None
