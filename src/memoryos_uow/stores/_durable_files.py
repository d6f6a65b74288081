"""Files that are there, whole and safe from a power cut, before anything refers to them.

Promise: when `write_files` returns, each file has exactly its content, and neither the content nor the way to it can be
lost; whenever it is interrupted, a name either has its whole content or does not exist.

How, and the reason for each step (fsync(2), rename(2), open(2)):

1. The content goes to a new file under a random name in ``tmp/``. Nobody reads there, so nobody sees half a file.
2. ``fsync`` of the file, *before* the rename: a file system may store the new name first and the bytes later, and a
   power cut in between would leave the name on an empty file.
3. ``rename`` to the final name: atomic, and within one file system because ``tmp/`` lies in the same root.
4. ``fsync`` of the directory with the new name: syncing a file does not sync the entry that leads to it.
5. ``fsync`` of every directory above it up to the root, for the same reason: each entry on the way may be new, made
   by us or by another process that has not come to sync it yet. Where nothing is new, this costs microseconds.

``tmp/`` itself is not synced: what a crash leaves there is rubbish. A file that is there already is compared; a damaged
one is replaced, a sound one gets a new modification time, so that a sweep by age spares it, and steps 4 and 5 follow.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from memoryos_uow import _ambient
from memoryos_uow.stores._directory import Directory, sync_directory

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

TEMPORARY: Final = "tmp"
"""The directory in a root for files that are not whole yet."""

_TEMPORARY_NAME: Final = re.compile(rf"{TEMPORARY}/[0-9a-f]{{32}}")


class NewFile(NamedTuple):
    """A file to write: the directories from the root down to it, its name there, and what it is to hold."""

    folders: tuple[str, ...]
    name: str
    content: bytes


def write_files(root: Path, files: Iterable[NewFile]) -> None:
    """Write `files` below the directory `root`; on return they are durable. May be repeated.

    Raises:
        OSError: it cannot be done. No temporary file is left; whole files written before the failing one are.
    """
    with Directory.root(root) as top, top.child(TEMPORARY, make=True) as temporary:
        changed: set[tuple[str, ...]] = set()
        for file in files:
            with top.descend(file.folders, make=True) as folder:
                _place(folder, temporary, file)
            changed.update(file.folders[:depth] for depth in range(len(file.folders) + 1))
        for folders in sorted(changed, key=len, reverse=True):
            with top.descend(folders) as folder:
                folder.sync()


def _place(folder: Directory, temporary: Directory, file: NewFile) -> None:
    if _holds(folder, file):
        folder.touch(file.name)
        return
    name = _ambient.random_hex()
    temporary.create(name, file.content)
    try:
        temporary.move(name, folder, file.name)
    except BaseException:
        temporary.remove(name)
        raise


def _holds(folder: Directory, file: NewFile) -> bool:
    """Say whether the file is there with exactly its content."""
    position = 0
    with suppress(FileNotFoundError):
        for piece in folder.read(file.name, len(file.content)):
            if file.content[position : position + len(piece)] != piece:
                return False
            position += len(piece)
        return 0 < position == len(file.content)
    return False


def read_file(root: Path, folders: Sequence[str], name: str, size: int) -> bytes:
    """Return the content of a file below `root`; b"" if that is not a regular file of `size` bytes.

    Raises:
        OSError: it cannot be read.
    """
    with Directory.root(root) as top, top.descend(folders) as folder:
        return b"".join(folder.read(name, size))


def remove_files(root: Path, keep: Collection[str], *, named: re.Pattern[str], temporary: bool) -> int:
    """Remove the files below `root` that are `named` like ours and not in `keep`; return how many.

    Both speak of paths with slashes. What is named otherwise is somebody else's and stays. Files in ``tmp/`` go with
    `temporary` only. Directories stay: a unit may be about to put a file into one.

    Raises:
        OSError: the directory cannot be read.
    """
    removed = 0
    for directory, _, names in os.walk(root, onerror=_raise):
        folders = Path(directory).relative_to(root).parts
        ours = _TEMPORARY_NAME if folders == (TEMPORARY,) else named
        if ours is _TEMPORARY_NAME and not temporary:
            continue
        for name in names:
            path = "/".join((*folders, name))
            if ours.fullmatch(path) and path not in keep:
                with suppress(FileNotFoundError):
                    Path(directory, name).unlink()
                    removed += 1
    return removed


def _raise(error: OSError) -> None:
    raise error


def make_root(root: Path) -> None:
    """Create the directory `root`, and those above it that are missing, durably and for their owner only (0700).

    Raises:
        OSError: it cannot be done.
    """
    missing = list(takewhile(lambda directory: not os.path.lexists(directory), (root, *root.parents)))
    for directory in reversed(missing):
        with suppress(FileExistsError):
            directory.mkdir(0o700)
    # The root's own entry always: another process may have made it just now and not have synced it yet.
    for directory in missing or [root]:
        sync_directory(directory.parent)


def root_problem(root: Path) -> str | None:
    """Say why the existing `root` cannot serve, or None: a directory, no link, which others can neither fill nor swap.

    Raises:
        OSError: it cannot be looked at; FileNotFoundError if it is missing.
    """
    mode = root.lstat().st_mode
    if stat.S_ISLNK(mode):
        return "is a symbolic link"
    if not stat.S_ISDIR(mode):
        return "is not a directory"
    if os.name == "nt":  # these bits say nothing there
        return None
    if mode & stat.S_IWOTH:
        return "may be written by everybody"
    above = root.parent.stat().st_mode
    if above & stat.S_IWOTH and not above & stat.S_ISVTX:
        return "lies in a directory in which everybody may replace it"
    return None
