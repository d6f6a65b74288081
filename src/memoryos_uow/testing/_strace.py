"""strace, attached to a child that waits to be let go.

Why attached, and not started around the child: the counters of ``inject=...:when=N`` then begin with the scenario's own
first call, not with the thousands that an interpreter makes while it starts, so no offset has to be guessed and one
interpreter can serve all runs. Facts that this relies on, each held by a test:

- the n-th call that is injected with ``signal=KILL`` does not run;
- the counters are per thread and per name of the call;
- with ``-P PATH`` only the calls that concern these very paths (not what lies below them) are counted and injected;
- ``--seccomp-bpf`` would drop injected signals silently, so it is not used.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from memoryos_uow.testing._functions import ExplorerError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_DATA_MAX: Final = 1 << 26
_END_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Injection:
    """What is to happen at the n-th call of a name: ``signal=KILL``, ``error=EIO`` or ``retval=0``."""

    call: str
    effect: str
    number: int
    onwards: bool = False
    """At every later call as well."""

    def option(self) -> str:
        """Return the value of strace's option ``-e``."""
        return f"inject={self.call}:{self.effect}:when={self.number}{'+' if self.onwards else ''}"


@dataclass(frozen=True, slots=True)
class Tracing:
    """What strace is to do with one run."""

    log: Path
    calls: frozenset[str]
    injections: tuple[Injection, ...] = ()
    only_paths: tuple[str, ...] = ()
    with_data: bool = False


class StraceRefusedError(ExplorerError):
    """strace is not here, or the operating system does not let it attach."""


def why_no_strace() -> str | None:
    """Say why system calls cannot be traced here, None if nothing speaks against it so far."""
    if sys.platform != "linux":
        return "strace exists on Linux only"
    if shutil.which("strace") is None:
        return "strace is not installed"
    return None


class Tracer:
    """One strace, attached to one process."""

    def __init__(self, tracing: Tracing, pid: int) -> None:
        """Attach; on return the process cannot make a call unseen.

        Raises:
            StraceRefusedError: strace could not attach.
        """
        self._process = subprocess.Popen(  # noqa: S603 - a fixed program; what varies are numbers and paths of ours
            [shutil.which("strace") or "strace", *_options(tracing), "-p", str(pid)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None  # noqa: S101 - it is a pipe
        said = self._process.stderr.readline()
        if "attached" not in said:
            self._process.wait(_END_S)
            raise StraceRefusedError(
                f"strace could not attach: {said.strip() or 'it said nothing'}.",
                hint="In a container, allow ptrace (--cap-add=SYS_PTRACE).",
            )

    def wait(self) -> None:
        """Wait until it has written its log: it ends with the last process it traces."""
        try:
            self._process.communicate(timeout=_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


def _options(tracing: Tracing) -> Iterable[str]:
    yield from ("-f", "-y", "-xx", "-s", str(_DATA_MAX if tracing.with_data else 0))
    # A question mark lets strace pass over names that this machine's architecture lacks.
    yield from ("-e", "trace=" + ",".join(f"?{name}" for name in sorted(tracing.calls)))
    yield from ("-e", "signal=none", "-o", str(tracing.log))
    for injection in tracing.injections:
        yield from ("-e", injection.option())
    for path in tracing.only_paths:
        yield from ("-P", path)
