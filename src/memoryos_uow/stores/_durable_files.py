"""Files that are there, whole and safe from a power cut, before anything refers to them.

Promise: when `write_files` returns, each file has exactly its content and neither the content nor the way to it can be
lost; whenever it is interrupted, a name either has its whole content or does not exist.

How, and why each step (fsync(2), rename(2); https://lwn.net/Articles/457667):

1. The content goes to a new file under a random name in ``tmp/``. Nobody reads there, so nobody sees half a file.
2. ``fsync`` of the file, *before* the rename: a file system may otherwise store the new name first and the bytes after
   it, and a power cut in between leaves the name on an empty file.
3. ``rename`` to the final name, which is atomic and stays in one file system.
4. ``fsync`` of the directory with the new name: syncing a file does not sync the entry that leads to it.
5. ``fsync`` of each directory above it, up to the root, for the same reason: these entries may be new as well, made by
   us or by another process that has not come to sync them yet. Where nothing is new this costs next to nothing.
   ``tmp/`` is not synced: what is left there after a crash is rubbish.

A file that is there already is read and compared (a damaged one is replaced), gets a new modification time, so that a
sweep by age spares it, and takes part in steps 4 and 5.

Every name is looked up in a directory that is held open and no link is followed, so nothing swapped in meanwhile can
lead outside. Where the operating system cannot do that (Windows) paths are used and directories are not synced; there
the promise against power cuts is the file system's own.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from memoryos_uow import _ambient

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType
    from typing import Self

_HELD_OPEN: bool = hasattr(os, "O_DIRECTORY") and os.supports_dir_fd >= {os.open, os.mkdir, os.rename, os.unlink}
_NO_LINKS: Final = getattr(os, "O_NOFOLLOW", 0)
# Opening a pipe that somebody planted must not wait for its other end.
_READ: Final = os.O_RDONLY | _NO_LINKS | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINKS | getattr(os, "O_BINARY", 0)
_PIECE: Final = 1 << 20
_TEMPORARY: Final = "tmp"


class NewFile(NamedTuple):
    """A file to write: the directories from the root down to it, its name there, and what it is to hold."""

    folders: tuple[str, ...]
    name: str
    content: bytes


def write_files(root: Path, files: Iterable[NewFile]) -> None:
    """Write `files` below the directory `root`; on return they are durable. Repeatable.

    Raises:
        OSError: it cannot be done; no temporary file is left, files written before the failing one are.
    """
    with Directory.root(root) as top, top.child(_TEMPORARY, make=True) as temporary:
        to_sync: set[tuple[str, ...]] = set()
        for file in files:
            with top.descend(file.folders, make=True) as folder:
                _place(folder, temporary, file)
            to_sync.update(file.folders[:depth] for depth in range(len(file.folders) + 1))
        for folders in to_sync:
            with top.descend(folders) as folder:
                folder.sync()


def _place(folder: Directory, temporary: Directory, file: NewFile) -> None:
    if folder.holds(file.name, file.content):
        folder.touch(file.name)
        return
    name = _ambient.random_hex()
    temporary.create(name, file.content)
    try:
        temporary.move(name, folder, file.name)
    except BaseException:
        temporary.remove(name)
        raise


def read_file(root: Path, folders: Sequence[str], name: str, size: int) -> bytes | None:
    """Return the content of a file below `root`, or None if it is not a regular file of `size` bytes.

    Raises:
        OSError: it cannot be read.
    """
    with Directory.root(root) as top, top.descend(folders) as folder, folder.open(name) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            return None
        content = file.read(size)
    return content if len(content) == size else None


def make_root(path: Path) -> None:
    """Create the directory `path` and those above it where they are missing (0700), durably.

    Raises:
        OSError: it cannot be done.
    """
    missing = [path, *path.parents]
    missing = missing[: next(number for number, directory in enumerate(missing) if os.path.lexists(directory))]
    for directory in reversed(missing):
        with suppress(FileExistsError):
            directory.mkdir(0o700)
    # Also where it was there: another process may have made it just now and not have synced it yet.
    for directory in missing or [path]:
        with Directory(directory.parent) as parent:
            parent.sync()


def root_problem(path: Path) -> str | None:
    """Say why `path` cannot be a root, or None: it must be a directory, not a link, that only its owner can swap.

    Raises:
        OSError: it cannot be looked at, for example because it is missing.
    """
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link"
    if not stat.S_ISDIR(found.st_mode):
        return "is not a directory"
    if os.name == "nt":  # access is governed by lists there, and these bits say nothing
        return None
    if found.st_mode & stat.S_IWOTH:
        return "may be written by everybody"
    above = path.parent.stat().st_mode
    if above & stat.S_IWOTH and not above & stat.S_ISVTX:
        return "lies in a directory that may be written by everybody"
    return None


class Directory:
    """A directory in which names are looked up. Names are single segments, made by this library.

    Each method raises OSError where the operating system refuses.
    """

    def __init__(self, path: Path, *, inside: Directory | None = None) -> None:
        self._path = path
        self._fd: int | None = None
        if _HELD_OPEN:
            # The name alone is looked up in a directory held open; a whole path only for the first.
            name, at = (path, None) if inside is None else (path.name, inside._fd)
            self._fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
class Directory:
    """A directory in which names are looked up. Names are single segments, made by this library. Raises OSError."""

    def __init__(self, path: Path, *, fd: int | None) -> None:
        self._path = path
        self._fd = fd

    @classmethod
    def root(cls, path: Path) -> Self:
        """Open the directory at `path`, which itself may not be a link."""
        if not _HELD_OPEN:
            return cls(_real_directory(path), fd=None)
        return cls(path, fd=os.open(path, os.O_RDONLY | os.O_DIRECTORY | _NO_LINKS))

    def child(self, name: str, *, make: bool = False) -> Self:
        """Open the directory `name` in here; with `make`, create it first (0700) where it is missing."""
        if make:
            with suppress(FileExistsError):
                os.mkdir(self._at(name), 0o700, dir_fd=self._fd)
        path = self._path / name
        if self._fd is None:
            return type(self)(_real_directory(path), fd=None)
        return type(self)(path, fd=os.open(name, os.O_RDONLY | os.O_DIRECTORY | _NO_LINKS, dir_fd=self._fd))

    def descend(self, names: Iterable[str], *, make: bool = False) -> Directory:
        """Open the directory at the end of `names`; this one stays open."""
        here = self._again()
        for name in names:
            with here:
                below = here.child(name, make=make)
            here = below
        return here

    def _again(self) -> Self:
        return type(self)(self._path, fd=None if self._fd is None else os.dup(self._fd))

    def _at(self, name: str) -> str:
        return name if self._fd is not None else str(self._path / name)

    def create(self, name: str, content: bytes) -> None:
        """Write a new file and sync it; remove it again if that fails. Its name is durable after `sync` only."""
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

    def read(self, name: str, size: int) -> bytes | None:
        """Return the content of the regular file `name` if it has `size` bytes, else None."""
        fd = os.open(self._at(name), _READ, dir_fd=self._fd)
        with open(fd, "rb") as file:  # noqa: PTH123 - from a descriptor
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_size != size:
                return None
            content = file.read(size + 1)
        return content if len(content) == size else None

    def move(self, name: str, into: Directory, new_name: str) -> None:
        """Give the file `name` the name `new_name` in `into`, in place of a file of that name."""
        os.replace(self._at(name), into._at(new_name), src_dir_fd=self._fd, dst_dir_fd=into._fd)  # noqa: SLF001

    def remove(self, name: str) -> None:
        """Remove the file `name`; no error if that does not work."""
        with suppress(OSError):
            os.unlink(self._at(name), dir_fd=self._fd)

    def touch(self, name: str) -> None:
        """Set the modification time of `name` to now."""
        os.utime(self._at(name), dir_fd=self._fd)

    def sync(self) -> None:
        """Make the names in here durable."""
        if self._fd is not None:
            os.fsync(self._fd)

    def close(self) -> None:
        """Let go of the directory; may be called twice."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
