"""Stamps: the versions that units on PostgreSQL give to what they write.

A hybrid logical clock (Kulkarni and others, "Logical Physical Clocks", 2014): microseconds by the database's clock,
always greater than every stamp that this process has given or met. So a unit that has read a record overwrites it with
a greater version, whatever the clocks of machines say. Between two looks at the database's clock the time is counted by
the machine's monotonic clock: setting a wall clock changes nothing.

The lowest bits are a number that each clock draws for itself, so that two processes do not give one stamp in the same
microsecond: whoever finds its own stamp on a record can take the record for its own.
"""

from __future__ import annotations

import threading
from typing import Final

from memoryos_uow import _ambient

SLOT_BITS: Final = 10
"""So stamps fit into 63 bits until the year 2255."""


class StampClock:
    """Gives stamps; threads may share it."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._server_us = 0
        self._looked_ns = 0
        self._last = 0
        self._slot = int(_ambient.random_hex()[:8], 16) % (1 << SLOT_BITS)

    def adjust(self, server_us: int, looked_ns: int) -> None:
        """Learn what the database's clock said at a moment after `looked_ns` by the monotonic clock."""
        with self._mutex:
            self._server_us, self._looked_ns = server_us, looked_ns

    def learn(self, stamp: object) -> None:
        """Give only greater stamps than this one from now on."""
        if isinstance(stamp, int):
            with self._mutex:
                self._last = max(self._last, stamp)

    def next(self) -> int:
        """Return a stamp that this process has neither given nor met, nor any greater one."""
        with self._mutex:
            now_us = self._server_us + (_ambient.monotonic_ns() - self._looked_ns) // 1000
            self._last = max((self._last >> SLOT_BITS) + 1, now_us) << SLOT_BITS | self._slot
            return self._last
