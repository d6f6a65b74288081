"""Stamps: the versions that units on PostgreSQL give to what they write.

A hybrid logical clock (Kulkarni and others, "Logical Physical Clocks", 2014): microseconds by the database's clock,
always greater than every stamp that this process has given or met. So a unit that has read a record overwrites it with
a greater version, whatever the clocks of machines say.
"""

from __future__ import annotations

import threading

from memoryos_uow import _ambient


class StampClock:
    """Gives stamps; threads may share it."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._ahead_us = 0
        self._last = 0

    def adjust(self, server_us: int) -> None:
        """Learn what the database's clock says at this moment."""
        self._ahead_us = server_us - _ambient.unix_ms() * 1000

    def learn(self, stamp: object) -> None:
        """Give only greater stamps than this one from now on."""
        if isinstance(stamp, int):
            with self._mutex:
                self._last = max(self._last, stamp)

    def next(self) -> int:
        """Return a stamp that this process has neither given nor met, nor any greater one."""
        with self._mutex:
            self._last = max(self._last + 1, _ambient.unix_ms() * 1000 + self._ahead_us)
            return self._last
