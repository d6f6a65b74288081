"""The last head of the receipt log, in a file beside the ledger: how an old copy that was put back is noticed.

Promise: what is in the file is durable in the ledger, so a ledger that is shorter than its file says, or different, is
not the one that wrote it. Keeping the file never makes a unit fail or wait for a disk: it is one small write in place,
not synced, after the commit. A file that is absent, torn or unreadable says nothing, and a crash may leave an older
head than the ledger's; both are harmless. Whoever can replace the ledger can replace this file too: a head that is kept
elsewhere (`Ledger.checkpoint`) shows more.

Its form: a line with the number of bytes that follow and their SHA-256, then the head, then line feeds.
"""

from __future__ import annotations

import os
import re
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from memoryos_uow import _log, _notes
from memoryos_uow._canonical import sha256_hex
from memoryos_uow.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from memoryos_uow._notes import Head

SUFFIX: Final = "-head"
ENVIRONMENT: Final = "MEMORYOS_UOW_HEADS"
"""Names the folder in which heads of ledgers in databases are kept."""
_SMALL: Final = 1024
_LARGE: Final = 8192
_FIRST_LINE: Final = re.compile(rb"memoryos-uow/head/1 ([0-9]{1,5}) ([0-9a-f]{64})\n")


class Released(NamedTuple):
    """A head that was once released."""

    head: Head
    text: str


def path_beside(ledger: Path) -> Path:
    """Return where the head of `ledger` is kept."""
    return ledger.with_name(ledger.name + SUFFIX)


def elsewhere(origin: str) -> Path | None:
    """Return beside what the head of a ledger in a database is kept: a name in ``$MEMORYOS_UOW_HEADS``, a folder."""
    folder = os.environ.get(ENVIRONMENT)
    return Path(folder).absolute() / quote(origin, safe="") if folder else None


def read(ledger: Path) -> Released | None:
    """Return the head beside `ledger`; None if there is none that is whole."""
    try:
        file = os.open(path_beside(ledger), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            content = os.read(file, _LARGE)
        finally:
            os.close(file)
    except OSError:
        return None
    first = _FIRST_LINE.match(content)
    if first is None:
        return None
    body = content[first.end() : first.end() + int(first[1])]
    if len(body) != int(first[1]) or sha256_hex(body).encode() != first[2]:
        return None
    try:
        text = body.decode()
        return Released(_notes.parse_head(_notes.parse(text).text), text)
    except (UnicodeDecodeError, VerificationError):
        return None


def move(ledger: Path, to: Path) -> None:
    """Put the head beside another file, which holds from now on what `ledger` held; what hinders that is no harm."""
    with suppress(OSError):
        path_beside(ledger).replace(path_beside(to))


def _framed(text: str) -> bytes:
    body = text.encode()
    framed = b"memoryos-uow/head/1 %d %s\n%s" % (len(body), sha256_hex(body).encode(), body)
    return framed.ljust(_SMALL if len(framed) <= _SMALL else _LARGE, b"\n")


class ReleasedHead:
    """Writes the file beside one open ledger. Threads may share it."""

    def __init__(self, ledger: Path, *, at_once: bool, mode: int | None = None) -> None:
        """Write `at_once`, or, where a commit is not durable when it returns, only with `flush`.

        `mode` is that of the file; None: that of the ledger's.
        """
        self._ledger = ledger
        self._mode = mode
        self._at_once = at_once
        self._lock = threading.Lock()
        self._file: int | None = None
        self._useless = False
        self._size = -1
        self._waiting: Callable[[], str] | None = None

    def write(self, size: int, text: Callable[[], str]) -> None:
        """Keep what `text` returns, the head of a log with `size` leaves, unless a later one is kept already."""
        with self._lock:
            if size > self._size:
                self._size = size
                if self._at_once:
                    self._put(text())
                else:
                    self._waiting = text

    @property
    def waits(self) -> bool:
        """Whether `flush` has something to write."""
        return self._waiting is not None

    def flush(self) -> None:
        """Write what waits: the caller has made the ledger durable."""
        with self._lock:
            if self._waiting is not None:
                self._put(self._waiting())
                self._waiting = None

    def start_again(self, text: str) -> None:
        """Keep `text` whatever is kept: a new epoch begins."""
        with self._lock:
            self._size = -1
            self._put(text)

    def _put(self, text: str) -> None:
        if self._useless:
            return
        try:
            if self._file is None:
                mode = self._ledger.stat().st_mode & 0o777 if self._mode is None else self._mode
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                self._file = os.open(path_beside(self._ledger), flags, mode)
            os.pwrite(self._file, _framed(text), 0)
        except OSError as error:
            self._useless = True
            _log.warn("uow.head_not_kept", reason=type(error).__name__)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None
            self._useless = True
