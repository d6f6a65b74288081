"""Whose turn it is among the threads of one process: a lock that is handed over in the order in which it was asked for.

Promise: whoever releases it gives it to the one who has waited longest, so that nobody overtakes and nobody starves,
which `threading.Lock` does not promise. A wait may be bounded, and interrupted, without the turn being lost.
"""

from __future__ import annotations

import threading
from collections import deque


class Turn:
    """A lock with `threading.Lock`'s methods."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Lock] = deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: FBT001, FBT002 - as threading.Lock
        """Take the turn; return False if it was not free in time. -1 seconds means for ever."""
        with self._mutex:
            if not self._taken:
                self._taken = True
                return True
            if not blocking:
                return False
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        try:
            return mine.acquire(timeout=timeout) or not self._withdraw(mine)
        except BaseException:
            if not self._withdraw(mine):  # it was handed over in this very moment
                self.release()
            raise

    def _withdraw(self, mine: threading.Lock) -> bool:
        """Leave the queue; return False if the turn was handed over already."""
        with self._mutex:
            if mine not in self._waiting:
                return False
            self._waiting.remove(mine)
        return True

    def release(self) -> None:
        """Give the turn to the one who has waited longest."""
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False
