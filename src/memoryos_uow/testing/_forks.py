"""Child processes by fork, for the checks of a store: they kill or stop themselves, or say what went wrong."""

from __future__ import annotations

import os
import signal
import traceback
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

HANGS_AFTER_S: Final = 120
"""A child that gets stuck is ended by its own alarm."""


@dataclass
class Child:
    """A forked child at work."""

    pid: int
    _answer: int

    def wait(self) -> tuple[int | None, str]:
        """Return the signal that ended it, None if it ended by itself, and what it said was wrong."""
        with os.fdopen(self._answer, "rb") as answer:
            said = answer.read().decode()
        _, status = os.waitpid(self.pid, 0)
        return (os.WTERMSIG(status) if os.WIFSIGNALED(status) else None), said

    def wait_until_stopped(self) -> bool:
        """Return True once it has stopped itself; False if it has ended instead (then it is not to be waited for)."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return True
        os.close(self._answer)
        return False

    def wake(self) -> None:
        """Let a stopped child go on."""
        os.kill(self.pid, signal.SIGCONT)


def fork(do: Callable[[], object]) -> Child:
    """Run `do` in a forked child; an exception is what it says at the end. Call it with no ledger open."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads; ours are asleep or gone
        pid = os.fork()
    if pid == 0:
        os.close(reading)
        _run(do, writing)
    os.close(writing)
    return Child(pid, reading)


def _run(do: Callable[[], object], writing: int) -> None:
    said = ""
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(HANGS_AFTER_S)
        do()
    except BaseException:  # noqa: BLE001 - the parent wants to see it
        said = traceback.format_exc()
    finally:
        try:
            os.write(writing, said.encode()[-60_000:])
        finally:
            os._exit(1 if said else 0)


def kill_own_process() -> None:
    """Die as if the power went: no exit handler, no ``finally``."""
    os.kill(os.getpid(), signal.SIGKILL)


def stop_own_process() -> None:
    """Stop until somebody wakes this process."""
    os.kill(os.getpid(), signal.SIGSTOP)
