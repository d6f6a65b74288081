"""Directories held open, in which names are looked up without following links.

Promise: once a root is open, nothing that is swapped in below or above it (a link, another directory) leads an access
outside of it. Where the operating system cannot look names up in an open directory (Windows), whole paths are used,
links are refused by looking before opening, and `Directory.sync` does nothing.

Names are single segments made by this library. Each method raises OSError where the operating system refuses.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

_CAN_HOLD: bool = hasattr(os, "O_DIRECTORY") and {os.open, os.mkdir, os.rename, os.unlink} <= os.supports_dir_fd
_NO_LINKS: Final = getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
# Opening a pipe that somebody planted must not wait for its other end.
_READ: Final = os.O_RDONLY | _NO_LINKS | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINKS | getattr(os, "O_BINARY", 0)
_PIECE_BYTES: Final = 1 << 20


class Directory:
    """One open directory; a context manager that lets go of it at the end."""

    def __init__(self, path: Path, fd: int | None) -> None:
        self._path = path
        self._fd = fd

    @classmethod
    def root(cls, path: Path) -> Self:
        """Open the directory at `path`. Links on the way to it are followed, but it may not be one."""
        if _CAN_HOLD:
            return cls(path, os.open(path, _DIRECTORY | _NO_LINKS))
        return cls(_looked_at(path), None)

    def child(self, name: str, *, make: bool = False) -> Self:
        """Open the directory `name` in here; with `make`, create it (0700) where it is missing."""
        if make:
            with suppress(FileExistsError):
                os.mkdir(self._at(name), 0o700, dir_fd=self._fd)
        path = self._path / name
        if self._fd is None:
            return type(self)(_looked_at(path), None)
        return type(self)(path, os.open(name, _DIRECTORY | _NO_LINKS, dir_fd=self._fd))

    @contextmanager
    def descend(self, names: Iterable[str], *, make: bool = False) -> Iterator[Directory]:
        """Lend the directory at the end of `names`, each opened in the one before it."""
        with ExitStack() as opened:
            here = self
            for name in names:
                here = opened.enter_context(here.child(name, make=make))
            yield here

    def _at(self, name: str) -> str:
        return str(self._path / name) if self._fd is None else name

    def create(self, name: str, content: bytes) -> None:
        """Write the new file `name` (0600) and sync its content; remove it again if that fails."""
        fd = os.open(self._at(name), _CREATE, 0o600, dir_fd=self._fd)
        try:
            try:
                _write_all(fd, content)
                os.fsync(fd)
            finally:
                os.close(fd)
        except BaseException:
            self.remove(name)
            raise

    def read(self, name: str, size: int) -> Iterator[bytes]:
        """Yield the content of the regular file `name` in pieces; nothing if it has not `size` bytes or is no file."""
        fd = os.open(self._at(name), _READ, dir_fd=self._fd)
        try:
            found = os.fstat(fd)
            if stat.S_ISREG(found.st_mode) and found.st_size == size:
                while piece := os.read(fd, _PIECE_BYTES):
                    yield piece
        finally:
            os.close(fd)

    def move(self, name: str, into: Directory, new_name: str) -> None:
        """Give the file `name` the name `new_name` in `into`, atomically, in place of a file that has it."""
        os.replace(self._at(name), into._at(new_name), src_dir_fd=self._fd, dst_dir_fd=into._fd)

    def remove(self, name: str) -> None:
        """Remove the file `name`, if that can be done."""
        with suppress(OSError):
            os.unlink(self._at(name), dir_fd=self._fd)

    def unlink(self, name: str) -> None:
        """Remove the file `name`; IsADirectoryError if it is a directory."""
        try:
            os.unlink(self._at(name), dir_fd=self._fd)
        except PermissionError as error:  # what some systems say of a directory
            if stat.S_ISDIR(os.stat(self._at(name), dir_fd=self._fd, follow_symlinks=False).st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from error
            raise

    def names(self) -> list[str]:
        """Return the names of everything in here."""
        return os.listdir(self._path if self._fd is None else self._fd)  # noqa: PTH208 - of the directory held open

    def remove_empty(self, name: str) -> None:
        """Remove the directory `name` if it is one and empty, or holds nothing but such directories."""
        with suppress(OSError):
            with self.child(name) as below:
                for entry in below.names():
                    below.remove_empty(entry)
            os.rmdir(self._at(name), dir_fd=self._fd)

    def touch(self, name: str) -> None:
        """Set the modification time of the file `name` to now."""
        os.utime(self._at(name), dir_fd=self._fd)

    def sync(self) -> None:
        """Make the names in here durable."""
        if self._fd is not None:
            os.fsync(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._fd is not None:
            os.close(self._fd)


def sync_directory(path: Path) -> None:
    """Make the names in the directory at `path` durable, where the operating system can."""
    if _CAN_HOLD:
        with Directory(path, os.open(path, _DIRECTORY)) as directory:
            directory.sync()


def _looked_at(path: Path) -> Path:
    if not stat.S_ISDIR(path.lstat().st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    return path


def _write_all(fd: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(fd, rest[:_PIECE_BYTES]) :]  # a write may take less than it is given
