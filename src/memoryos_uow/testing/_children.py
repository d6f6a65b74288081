"""Runs functions in children of one fresh interpreter, traced or not, and says how they ended.

Promise: a run ends, if need be by force after `timeout_s`; what a dead child had acknowledged is known; nothing that a
child leaves behind in its session outlives its run.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from memoryos_uow.testing._functions import ExplorerError
from memoryos_uow.testing._strace import Tracer
from memoryos_uow.testing._wire import GO, READY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from memoryos_uow.testing._functions import Function
    from memoryos_uow.testing._strace import Tracing

_BOOT: Final = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from memoryos_uow.testing._zygote import main; main()"
)
_TAIL_CHARACTERS: Final = 2_000


@dataclass
class Ended:
    """How one run ended."""

    acknowledged: list[str] = field(default_factory=list)
    problems: list[str] | None = None
    """What the function returned, as texts; None if it did not return."""
    error: dict[str, Any] | None = None
    """The exception that it raised."""
    points: list[str] = field(default_factory=list)
    """The named fault points that it passed, if they were counted."""
    status: int = 0
    """The wait status: the signal that killed it, if any, is in the lowest seven bits."""
    hung: bool = False
    output: str = ""
    """The end of what it wrote to standard output and error."""

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it, other than for hanging."""
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL and not self.hung

    @property
    def trouble(self) -> str | None:
        """How it ended other than by returning, None if it returned and then exited well."""
        if self.hung:
            return "it did not end by itself"
        if self.error is not None:
            return f"{self.error['error']}: {self.error['message']}"
        if os.WIFSIGNALED(self.status):
            return f"it died of {signal.Signals(os.WTERMSIG(self.status)).name}"
        if self.status != 0:
            return f"it exited with {os.WEXITSTATUS(self.status)}"
        return None

    def take(self, message: dict[str, Any]) -> None:
        """Note one message of the child's."""
        if "acknowledged" in message:
            self.acknowledged.append(message["acknowledged"])
        elif "points" in message:
            self.points = message["points"]
        elif "result" in message:
            self.problems = message["result"]
        else:
            self.error = message


class Children:
    """One fresh interpreter that forks a child for each run. A context manager; one thread uses it."""

    def __init__(self, functions: Sequence[Function], output: Path, *, timeout_s: float) -> None:
        """Start the interpreter and let it import the modules of `functions`.

        Raises:
            ExplorerError: a module cannot be imported, or a function is not there.
        """
        self._timeout_s = timeout_s
        self._output = output
        self._channel, far_end = socket.socketpair()
        self._channel.settimeout(0)
        path = [os.path.abspath(entry) for entry in sys.path]  # noqa: PTH100 - "" means the working directory
        with far_end:
            self._zygote = subprocess.Popen(  # noqa: S603 - this very interpreter
                [sys.executable, "-B", "-c", _BOOT, json.dumps(path), str(far_end.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(far_end.fileno(),),
                env={**os.environ, "PYTHONHASHSEED": "0"},
            )
            self.channel_fd = far_end.fileno()
        assert self._zygote.stdin is not None  # noqa: S101 - it is a pipe
        assert self._zygote.stdout is not None  # noqa: S101 - it is a pipe
        self._requests, self._replies = self._zygote.stdin, self._zygote.stdout
        self._buffer = b""
        self._running: int | None = None
        try:
            self._load(functions)
        except BaseException:
            self.close()
            raise

    def _load(self, functions: Sequence[Function]) -> None:
        self._ask({"load": [function.as_dict() for function in functions]})
        problem = self._reply()["problem"]
        if problem is not None:
            raise ExplorerError(f"The scenario cannot be loaded in a child process.\n{problem}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the interpreter, and a child that an exception has left running."""
        if self._running is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self._running, signal.SIGKILL)  # not reaped yet, so the id is still its own
        with suppress(BrokenPipeError):
            self._requests.close()
        self._zygote.wait()
        self._replies.close()
        self._channel.close()

    def run(
        self,
        function: Function,
        world: Path,
        *,
        acknowledged: Sequence[str] | None = None,
        allowed: Sequence[Function] = (),
        tracing: Tracing | None = None,
        die_at: int | None = None,
    ) -> Ended:
        """Run ``function(world)``, or ``function(world, acknowledged)``, in a new child; return how it ended.

        `allowed` are the exceptions that count as expected. With `tracing` strace is attached first. `die_at` counts
        the named fault points, and unless it is 0 kills the child at that one.

        Raises:
            StraceRefusedError: strace could not attach.
        """
        self._output.write_bytes(b"")
        self._ask(
            {
                "function": function.as_dict(),
                "world": str(world),
                "output": str(self._output),
                "acknowledged": None if acknowledged is None else list(acknowledged),
                "allowed": [one.as_dict() for one in allowed],
                "die_at": die_at,
            }
        )
        self._running = pid = int(self._reply()["pid"])
        ended = Ended()
        try:
            self._await_ready()
            tracer = Tracer(tracing, pid) if tracing else None
        except BaseException:
            self._wait(pid, ended, timeout_s=0)
            raise
        self._channel.sendall(GO)
        self._wait(pid, ended, timeout_s=self._timeout_s)
        if tracer is not None:
            tracer.wait()
        ended.output = self._output.read_text(errors="replace")[-_TAIL_CHARACTERS:]
        return ended

    # The wires

    def _ask(self, request: dict[str, Any]) -> None:
        self._requests.write(json.dumps(request).encode() + b"\n")
        self._requests.flush()

    def _reply(self) -> dict[str, Any]:
        """Wait for the zygote's next reply."""
        while b"\n" not in self._buffer:
            piece = os.read(self._replies.fileno(), 1 << 16)
            if not piece:
                raise ExplorerError("The interpreter that runs the scenario died.", hint="Its messages are above.")
            self._buffer += piece
        line, self._buffer = self._buffer.split(b"\n", 1)
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _await_ready(self) -> None:
        """Wait until the child has nothing more to do of its own, so that strace sees the scenario only."""
        heard = self._ready(self._timeout_s)
        if self._channel.fileno() not in heard or self._channel.recv(1) != READY:
            raise ExplorerError(f"A child did not come up.\n{self._output.read_text(errors='replace')}")

    def _wait(self, pid: int, ended: Ended, *, timeout_s: float) -> None:
        """Take in what the child says until it is dead; kill it when the time is up."""
        deadline = time.monotonic() + timeout_s
        said = bytearray()
        while not self._buffer:
            left = deadline - time.monotonic()
            ready = self._ready(max(left, 0))
            if self._channel.fileno() in ready:
                said += self._hear()
            if self._replies.fileno() in ready:
                break
            if left <= 0 and not ended.hung:
                ended.hung = True
                deadline += self._timeout_s
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)  # not reaped yet, so the id is still its own
        ended.status = self._reply()["status"]
        self._running = None
        said += self._hear()
        for line in bytes(said).split(b"\n")[:-1]:
            ended.take(json.loads(line))

    def _ready(self, timeout_s: float) -> list[int]:
        """Wait until the child or the zygote says something; return the descriptors that can be read."""
        return select.select([self._channel.fileno(), self._replies.fileno()], [], [], timeout_s)[0]

    def _hear(self) -> bytes:
        heard = bytearray()
        with suppress(BlockingIOError):
            while piece := self._channel.recv(1 << 16):
                heard += piece
        return bytes(heard)
