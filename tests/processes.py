"""Second processes for tests: real forks and real interpreters, with answers that come back over a pipe."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

NOBODY = 65_534
_HANGS_AFTER_S = 60  # a child that deadlocks is ended, so that the test fails instead of waiting for ever


class ChildError(AssertionError):
    """The child raised, or was ended."""


def forked(do: Callable[[], Any], *, as_user: int | None = None) -> Any:
    """What `do` returns in a forked child, which may give up its rights first; what it raises arrives as ChildError."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, which some tests do on purpose
        pid = os.fork()
    if pid == 0:
        os.close(reading)
        _answer(do, writing, as_user)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        written = answer.read()
    os.waitpid(pid, 0)
    if not written:
        raise ChildError("The child was ended before it could answer.")
    fine, value = pickle.loads(written)  # noqa: S301 - our own child
    if not fine:
        raise ChildError(value)
    return value


def let_everybody_reach(path: Path) -> None:
    """Let processes without rights look into the directories above `path`, as far as they are our own."""
    for directory in path.parents:
        status = directory.stat()
        if directory != Path("/") and status.st_uid == os.getuid():
            directory.chmod(status.st_mode | 0o555)


def without_rights(do: Callable[[], Any]) -> Any:
    """What `do` returns in a forked child for which permissions count: root gives its rights up first."""
    return forked(do, as_user=NOBODY if os.geteuid() == 0 else None)


def _answer(do: Callable[[], Any], writing: int, as_user: int | None) -> None:
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_HANGS_AFTER_S)
        if as_user is not None:
            os.setuid(as_user)
        answer = (True, do())
    except BaseException:  # noqa: BLE001 - whatever it is, the parent wants to see it
        answer = (False, traceback.format_exc())
    try:
        with os.fdopen(writing, "wb") as out:
            out.write(pickle.dumps(answer))
    finally:
        os._exit(0)


def environment() -> dict[str, str]:
    """The environment without what makes coverage start in a child process."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("COV_", "COVERAGE_"))}


def start(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    """An interpreter that runs `code`, with pipes for its input, output and errors."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, env=environment(), stdin=pipe, stdout=pipe, stderr=pipe)


def run(code: str, *arguments: str) -> tuple[bytes, bytes]:
    """Everything that an interpreter running `code` wrote to its output and to its errors; it must end well."""
    child = start(code, *arguments)
    out, err = child.communicate()
    assert child.returncode == 0, err.decode()
    return out, err
