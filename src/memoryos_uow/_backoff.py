"""How long to wait before trying again: exponential backoff with full jitter.

Promise: pure; the caller sleeps. Source: Marc Brooker, "Exponential Backoff And Jitter", 2015.
"""

from __future__ import annotations

from typing import Final

FIRST_S: Final = 0.001
LARGEST_S: Final = 0.050


def delay_s(attempt: int, fraction: float, *, first_s: float = FIRST_S, largest_s: float = LARGEST_S) -> float:
    """Return the seconds to wait after failed `attempt` (from 0), given a random `fraction` in [0, 1)."""
    return fraction * min(largest_s, first_s * 2.0 ** min(attempt, 32))
