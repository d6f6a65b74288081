"""What the library takes from its surroundings: wall clock, monotonic clock, randomness, process identity.

Promise: nothing else in the library reads a clock or the random source, so a simulation can replace this one module.
"""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

monotonic_ns = time.perf_counter_ns
"""Monotonic nanoseconds: every duration is a difference of two of these, so none is ever negative."""


def now_text() -> str:
    """Return the time as RFC 3339 UTC text with six decimals and ``Z``: ``2026-11-22T19:20:31.110000Z``."""
    second, microsecond = divmod(time.time_ns() // 1000, 1_000_000)
    return f"{_second_text(second)}.{microsecond:06d}Z"


@lru_cache(maxsize=1)
def _second_text(second: int) -> str:
    """Return a second of Unix time as RFC 3339 text without zone: the same for all times that fall into it."""
    return datetime.fromtimestamp(second, UTC).isoformat()[:19]


def random_hex(n_bytes: int = 16) -> str:
    """Return `n_bytes` from the operating system's random source as lower-case hex (128 bits by default)."""
    return os.urandom(n_bytes).hex()


class _UnitIds:
    """UUID version 7 (RFC 9562, section 5.7), strictly increasing within a process.

    The 12 bits after the milliseconds count ids within one millisecond (method 1 of section 6.2), so that ids made by
    one process sort in the order they were made: neighbours in time are neighbours in the ledger's index.
    """

    _COUNTER_MAX: Final = 0xFFF

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0  # milliseconds << 12 | counter
        # Another thread may hold the lock while this one forks; in the child nobody would release it.
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def __call__(self) -> str:
        with self._lock:
            # A clock that goes back, or 4,096 ids in one millisecond, borrows from the future instead of repeating.
            self._last = max(time.time_ns() // 1_000_000 << 12, self._last + 1)
            stamp = self._last
        random = int.from_bytes(os.urandom(8)) & (1 << 62) - 1
        number = (stamp >> 12 & (1 << 48) - 1) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64 | 0b10 << 62 | random
        text = f"{number:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


new_unit_id: Final = _UnitIds()
"""Return a new unit id: a UUIDv7 as 36 characters."""

sleep = time.sleep
"""Wait for some seconds; only the ledger's lock queue and its back-off sleep."""


def random_fraction() -> float:
    """Return a number in [0, 1) for jitter."""
    return int.from_bytes(os.urandom(4)) / 2**32


process_id = os.getpid
"""Return this process's id: handles remember theirs, so that a fork does not share them."""


def unix_ms() -> int:
    """Return the Unix time in milliseconds: for leases, which are a courtesy and never a decision."""
    return time.time_ns() // 1_000_000
