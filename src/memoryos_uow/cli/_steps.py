"""Telling people what a long operation is doing, on stderr, once it has taken a while.

On a terminal one line is kept up to date; elsewhere each step is said once, on a line of its own.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Final

from memoryos_uow import _ambient
from memoryos_uow._terminal import cut, printable, screen_width

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

QUIET_S: Final = 1.5
"""Nothing is said about what is over by then."""

_REPAINT_S: Final = 0.25


class Steps:
    """Says the current step while the block runs; call it with the words for each step."""

    def __init__(self, what: str, *, quiet_s: float = QUIET_S) -> None:
        self._what = what
        self._step = ""
        self._said = ""
        self._quiet_s = quiet_s
        self._begun = _ambient.monotonic_ns()
        self._over = threading.Event()
        self._live = sys.stderr.isatty()
        self._thread = threading.Thread(target=self._tell, daemon=True)

    def __call__(self, step: str) -> None:
        """Take note of the step that begins now."""
        self._step = step

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._live and self._said:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _tell(self) -> None:
        if self._over.wait(self._quiet_s):
            return
        while True:
            line = f"{self._what}: {self._step}"
            if self._live:
                seconds = (_ambient.monotonic_ns() - self._begun) / 1e9
                text = cut(printable(f"{line} ... {seconds:.0f} s", sys.stderr), (screen_width(sys.stderr) or 80) - 1)
                sys.stderr.write(f"\r\x1b[K{text}")
                sys.stderr.flush()
            elif line != self._said:
                sys.stderr.write(printable(line, sys.stderr) + "\n")
                sys.stderr.flush()
            self._said = line
            if self._over.wait(_REPAINT_S):
                return
