"""Named fault points: where a program calls into SQLite or changes a file, found without any hook in the program.

How: Python tells a profile function of every C function before it is called (``sys.setprofile``, event ``c_call``), and
all that a Python program does to a disk goes through C functions: ``os.fsync``, ``os.replace``, ``Connection.execute``,
``BufferedWriter.write``. A point is named after that function.

Why this and nothing else:

- no production code knows of it, nothing is replaced, and ``from os import fsync`` is seen as well;
- audit hooks (``sys.addaudithook``) know of opening and renaming but not of writing and fsync, and stay for ever;
- SQLite's trace callback sees statements but no files, and has to be set on every connection;
- a line tracer (``sys.settrace``) is slow, and belongs to debuggers and coverage;
- methods of ``sqlite3.Connection`` cannot be replaced: the type is immutable.

What it cannot see is what C code does in one go: the several writes of one COMMIT are a single point, dying before it
or after it. strace sees them one by one; this is for where there is no strace.
"""

from __future__ import annotations

import io
import os
import signal
import sqlite3
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_OF_OS: Final = frozenset(
    {
        *("open", "write", "writev", "pwrite", "pwritev", "fsync", "fdatasync", "sync", "ftruncate", "truncate"),
        *("posix_fallocate", "rename", "replace", "remove", "unlink", "rmdir", "mkdir", "link", "symlink", "mknod"),
        *("chmod", "fchmod", "chown", "utime", "setxattr", "removexattr", "copy_file_range", "sendfile"),
    }
)
_OF_SQLITE: Final = frozenset(
    {"execute", "executemany", "executescript", "commit", "rollback", "close", "backup", "__exit__"}
)
_OF_FILES: Final = frozenset({"write", "writelines", "flush", "truncate", "close", "__exit__"})
_SQLITE_TYPES: Final = (sqlite3.Connection, sqlite3.Cursor)
_FILE_TYPES: Final = (io.FileIO, io.BufferedWriter, io.BufferedRandom, io.TextIOWrapper)


class FaultPoints:
    """The fault points that a program has passed, by name and in order."""

    def __init__(self, die_at: int | None) -> None:
        self.names: list[str] = []
        self._die_at = die_at

    def meet(self, _frame: FrameType, event: str, function: Any) -> None:
        """Note a C function that is about to be called; the interpreter calls this."""
        name = _point(function) if event == "c_call" else None
        if name is None:
            return
        self.names.append(name)
        if self._die_at is not None and len(self.names) >= self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)


def _point(function: Any) -> str | None:
    owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
    if name in _OF_OS and getattr(owner, "__name__", "") == os.name:  # the module posix
        return f"os.{name}"
    if name in _OF_SQLITE and isinstance(owner, _SQLITE_TYPES):
        return f"sqlite3.{type(owner).__name__}.{name}"
    if name in _OF_FILES and isinstance(owner, _FILE_TYPES):
        return f"io.{type(owner).__name__}.{name}"
    return None


@contextmanager
def fault_points(*, die_at: int | None = None) -> Iterator[FaultPoints]:
    """Count the fault points that the block passes; with `die_at`, kill this process *before* the n-th one (from 1).

    The process dies by SIGKILL, as if pulled from the power: no exit handler, no ``finally``. Without `die_at` nothing
    is changed, and ``names`` of what is yielded lists the points afterwards. Threads that the block starts are counted
    too. Do this in a child process::

        with fault_points(die_at=7):
            write_everything()
    """
    points = FaultPoints(die_at)
    before = sys.getprofile()
    threading.setprofile(points.meet)
    sys.setprofile(points.meet)
    try:
        yield points
    finally:
        sys.setprofile(before)
        threading.setprofile(None)
