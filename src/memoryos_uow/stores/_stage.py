"""The hidden directory of a file store: contents that are durable and not published yet, and the publishers' lock.

Layout: ``stage/<unit>/<SHA-256>``, ``tmp/`` for contents that are not whole yet, and the file ``lock``.

Promise: of a unit there is one directory, which can be removed by anybody who knows its id, twice or when it was never
made. One publisher at a time holds the lock, and nobody waits for ever for one that was stopped with it.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from memoryos_uow import _ambient
from memoryos_uow._backoff import delay_s
from memoryos_uow._canonical import sha256_hex
from memoryos_uow.errors import StoreUnavailable
from memoryos_uow.stores._claims import HOME
from memoryos_uow.stores._durable_files import NewFile, remove_files, write_files

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows, where the store refuses to be registered
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

CAN_LOCK: Final = fcntl is not None
HIDDEN: Final = ".uow"
LOCK_WAIT_S: Final = 30.0
_STAGE: Final = "stage"
_LOCK: Final = "lock"
_OURS: Final = frozenset({HIDDEN, HOME})
_NOTHING: Final = re.compile(r"(?!)")
_SEGMENT_BYTES_MAX: Final = 255


class Stage:
    """The hidden directory in the root of the store called `store`."""

    def __init__(self, root: Path, store: str) -> None:
        self.hidden = root / HIDDEN
        self._store = store

    def of(self, uow_id: str) -> Path:
        """Return where the contents of a unit lie."""
        return self.hidden / _STAGE / one_segment(uow_id)

    def write(self, uow_id: str, contents: Mapping[str, bytes]) -> None:
        """Make the contents of a unit, by name, durable."""
        write_files(self.hidden, (NewFile((_STAGE, uow_id), name, content) for name, content in contents.items()))

    def clear(self, uow_id: str) -> None:
        """Remove what lies there of a unit; what cannot be removed now is left for the sweep."""
        with suppress(OSError):
            for path in self.of(uow_id).iterdir():
                path.unlink()
            self.of(uow_id).rmdir()

    def sweep(self, planned: Collection[str]) -> int:
        """Remove what belongs to no unit of `planned`; return how many pieces that were.

        Raises:
            OSError: the directory cannot be read.
        """
        orphans: list[str] = []
        with suppress(FileNotFoundError):
            orphans += [path.name for path in (self.hidden / _STAGE).iterdir() if path.name not in planned]
        for uow_id in orphans:
            self.clear(uow_id)
        # What is not whole yet belongs to a unit at work, if there is any.
        half_written = 0 if planned else remove_files(self.hidden, (), named=_NOTHING, temporary=True)
        return len(orphans) + half_written

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let one publisher at a time look at a head and give the name: a late one must see the newer head.

        Raises:
            StoreUnavailable: another process holds the lock for too long; it may have been stopped with it.
        """
        fd = os.open(self.hidden / _LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            self._wait_for_lock(fd)
            yield
        finally:
            os.close(fd)

    def _wait_for_lock(self, fd: int) -> None:
        begun, attempt = _ambient.monotonic_ns(), 0
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            if (_ambient.monotonic_ns() - begun) / 1e9 >= LOCK_WAIT_S:
                raise StoreUnavailable(
                    f"Another process keeps the directory of the store {self._store!r} locked.",
                    hint="Nothing that was decided is lost; recovery asks again. Look for a process that was stopped.",
                    store=self._store,
                )
            _ambient.sleep(delay_s(attempt, _ambient.random_fraction()))
            attempt += 1


def one_segment(name: str) -> str:
    """Return `name` as one directory's name that cannot lead anywhere else, nor be that of another name."""
    if name.strip(". ") and "/" not in name and name not in _OURS and len(name.encode()) <= _SEGMENT_BYTES_MAX:
        return name
    return f"%-{sha256_hex(name.encode())}"  # no percent-encoded name looks like that
