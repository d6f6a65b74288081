"""The queue of processes that want to write to one ledger, in front of SQLite's own lock.

SQLite lets whoever happens to ask at the right moment have its lock: a process that writes without a pause starves all
others, who ask only now and then. So processes that meet wait in a row of seats, which are locks on single bytes of the
file ``<ledger>-queue``: one enters at the far end, moves up whenever the seat in front is free, and from the first seat
to the place at the ledger. Whoever got there `QUANTUM_NS` ago has to enter anew; until then it may come back at once if
the place is free, because handing over costs a page cache and two wake-ups.

Promises

- **Only fairness depends on it.** The lock that counts is SQLite's: where the file cannot be made or locked, where a
  program that knows nothing of it writes, or somebody sits in the queue and does not move for `PATIENCE_S`, the writer
  asks SQLite directly.
- A process that never meets another one neither makes the file nor takes a seat.
- A seat is given up by the system when its process dies, and is not inherited over a fork
  (fcntl(2), "Record locks are not inherited by a child created via fork(2)").
- A wait is bounded by what the caller allows, and may be interrupted.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from memoryos_uow import _ambient

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SEATS: Final = 16
QUANTUM_NS: Final = 5_000_000
PATIENCE_S: Final = 2.0
NAP_S: Final = 0.0005
_LOOK_NS: Final = 50_000_000
_PLACE: Final = 0  # the byte that stands for the place at the ledger; those after it are the seats


class ProcessQueue:
    """One engine's part in the queue of its ledger. Used by one thread at a time, whose turn it is."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._file = f"{os.path.realpath(ledger)}-queue"
        self._descriptor: int | None = None
        self._wanted = False  # it is known that processes meet here
        self._looked_ns: int | None = None
        self._until_ns = 0

    # What the engine calls

    def enter(self, wait_s: float, on_wait: Callable[[], None] | None = None) -> None:
        """Wait for the place at the ledger if there is a queue, but not longer than half of `wait_s`.

        Never fails: without the place, SQLite is asked all the same.
        """
        now = _ambient.monotonic_ns()
        if not self._wanted and not self._exists(now):
            return
        try:
            if self._descriptor is None:
                self._open()
            if not (now < self._until_ns and self._lock(_PLACE)):
                self._move_up(now + round(min(wait_s / 2, PATIENCE_S) * 1e9), on_wait)
        except OSError:
            self.close()  # no file can be made or locked here
        except BaseException:
            self._leave_seats()
            raise

    def meet(self) -> None:
        """Note that another process was in the way: from now on there is a queue."""
        if not self._wanted:
            self._wanted = True
            self.enter(0)

    def leave(self) -> None:
        """Give up the place."""
        if self._descriptor is not None:
            self._leave_seats()

    def close(self) -> None:
        """Let go of the file, and with it of the place and any seat."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)

    # Seats

    def _exists(self, now: int) -> bool:
        """Say whether somebody has made the file; looked up now and then."""
        if self._looked_ns is not None and now - self._looked_ns < _LOOK_NS:
            return False
        self._looked_ns = now
        self._wanted = os.access(self._file, os.R_OK | os.W_OK)
        return self._wanted

    def _open(self) -> None:
        if fcntl is None:
            raise OSError
        mode = self._ledger.stat().st_mode & 0o666  # whoever may write the ledger may queue for it
        self._descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode)

    def _move_up(self, until_ns: int, on_wait: Callable[[], None] | None) -> None:
        """Move seat by seat to the place at the ledger; give up, and leave, at `until_ns`."""
        seat = SEATS + 1
        waited = False
        while seat > _PLACE:
            if self._lock(seat - 1):
                if seat <= SEATS:
                    self._unlock(seat)
                seat -= 1
                continue
            if not waited and on_wait is not None:
                on_wait()
            waited = True
            if _ambient.monotonic_ns() >= until_ns:
                self._leave_seats()
                return
            _ambient.sleep(NAP_S * (0.5 + _ambient.random_fraction()))
        self._until_ns = _ambient.monotonic_ns() + QUANTUM_NS

    def _lock(self, byte: int) -> bool:
        assert self._descriptor is not None  # noqa: S101 - opened before
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):  # which of the two is left to the system
            return False
        return True

    def _unlock(self, byte: int) -> None:
        assert self._descriptor is not None  # noqa: S101 - opened before
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, byte)

    def _leave_seats(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN)  # all bytes
