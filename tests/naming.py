"""Names of test cases: the same in every process, so that several can share one run."""

from __future__ import annotations

import re


def plain_repr(value: object) -> str:
    """Return ``repr(value)`` without memory addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
