"""A bounded queue and one background thread that empties it.

Promise: `put` neither waits nor raises; what finds the queue full is dropped and counted. The thread starts with the
first item, starts anew in a forked child (whose parent keeps what was queued), and has a bounded time at exit.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from memoryos_uow import _log

if TYPE_CHECKING:
    from collections.abc import Callable

CAPACITY: Final = 4096
EXIT_WAIT_S: Final = 1.0


class Worker:
    """Runs calls one after the other in a thread of its own."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._waiting: deque[Callable[[], object]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._busy = False
        self._unreported = 0
        self.dropped = 0
        """How many calls found the queue full since the process began."""
        self.failed = 0
        """How many calls raised."""
        os.register_at_fork(after_in_child=self._begin_anew)
        atexit.register(self.flush, EXIT_WAIT_S)

    def _begin_anew(self) -> None:
        self._waiting.clear()
        self._changed = threading.Condition()
        self._thread = None
        self._busy = False

    def put(self, call: Callable[[], object]) -> None:
        """Have `call` run soon, or drop it if too many wait already."""
        with self._changed:
            if len(self._waiting) >= self._capacity:
                self.dropped += 1
                self._unreported += 1
                return
            self._waiting.append(call)
            if self._thread is None:
                self._start()
            elif not self._busy:
                self._changed.notify_all()

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name="memoryos-uow-telemetry", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is going down, or can have no more threads
            self.dropped += len(self._waiting)
            self._waiting.clear()
        else:
            self._thread = thread

    def _work(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                while not self._waiting:
                    self._changed.wait()
                self._busy = True
            self._empty()
            self._report_drops()

    def _empty(self) -> None:
        while self._waiting:
            call = self._waiting.popleft()
            try:
                call()
            except Exception as error:  # noqa: BLE001 - a receiver of the application's may raise anything
                self.failed += 1
                if self.failed == 1:
                    _log.warn("uow.telemetry_failed", error_type=type(error).__name__)

    def _report_drops(self) -> None:
        if self._unreported:
            _log.warn("uow.telemetry_dropped", dropped=self._unreported)
            self._unreported = 0

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything put so far has run; return whether that was so within `timeout_s` seconds."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._thread is None or not (self._waiting or self._busy), timeout=timeout_s
            )
