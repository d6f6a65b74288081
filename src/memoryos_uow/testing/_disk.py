"""What a disk may hold after a power cut, told from a recording of the calls (after ALICE, OSDI 2014).

The recording is replayed into *changes*: a piece of a file written, a file cut, a name set or removed (a rename is one
change of two names, because file systems keep it atomic). A change is *certain* from the moment of the sync that covers
it, and before that it may or may not have reached the disk, whatever happened to the others:

- ``fsync`` and ``fdatasync`` of a file make the changes of its content certain, not those of its name;
- ``fsync`` of a directory makes the names in it certain; a rename, when either of its two directories is synced;
- ``sync`` and ``syncfs`` make everything certain; so does writing through ``O_SYNC`` or ``O_DSYNC`` for that write;
- ``sync_file_range`` and ``msync`` make nothing certain.

With `ordered` (ext4 with ``data=ordered``; XFS and btrfs behave much alike) changes of names reach the disk in the
order in which they were made, and any sync makes all of the earlier ones certain.

A write is split in two at a sector boundary, so torn writes are among the states. Files written through shared memory
cannot be followed: SQLite's ``-shm`` holds nothing that has to survive and is left out of every state; any other such
file is refused.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

ROOT: Final = 0
SECTOR_BYTES: Final = 512
LOST_AT_A_CUT: Final = "-shm"
"""How the names of SQLite's files in shared memory end."""


@dataclass(slots=True)
class Change:
    """One thing that a call did to the disk."""

    moment: int
    """Position of the call in the recording."""
    file: int | None = None
    """Whose content changed; None for a change of names."""
    offset: int = 0
    data: bytes = b""
    size: int | None = None
    """The file was cut or stretched to this size."""
    names: tuple[tuple[int, str, int | None], ...] = ()
    """(directory, name, what it leads to from now on or None)."""
    certain_from: int | None = None
    """The moment of the sync that made it certain."""


@dataclass
class Disk:
    """Directories, files and what has happened to them. Nodes are numbered; the world is `ROOT`."""

    ordered: bool = False
    names: dict[int, dict[str, int]] = field(default_factory=dict)
    """What each directory holds now."""
    contents: dict[int, bytes] = field(default_factory=dict)
    """What each file held when the recording began."""
    links: dict[int, str] = field(default_factory=dict)
    """Where each symbolic link leads."""
    modes: dict[int, int] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    """How long each file is now."""
    changes: list[Change] = field(default_factory=list)
    base: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    """What each directory held when the recording began."""

    @classmethod
    def of(cls, world: Path, *, ordered: bool) -> Disk:
        """Return the disk that holds `world`, all of it certain."""
        disk = cls(ordered=ordered)
        disk._take_in(world, disk.new_directory(stat.S_IMODE(world.stat().st_mode)))
        disk.base = {directory: dict(names) for directory, names in disk.names.items()}
        return disk

    def _take_in(self, place: Path, directory: int) -> None:
        for entry in sorted(place.iterdir()):
            mode = stat.S_IMODE(entry.lstat().st_mode)
            if entry.is_symlink():
                node = self.new_link(str(entry.readlink()))
            elif entry.is_dir():
                node = self.new_directory(mode)
                self._take_in(entry, node)
            else:
                node = self.new_file(mode, entry.read_bytes())
            self.names[directory][entry.name] = node

    # Nodes

    def new_directory(self, mode: int) -> int:
        """Return a new, empty directory that no name leads to yet."""
        node = len(self.modes)
        self.modes[node], self.names[node] = mode, {}
        return node

    def new_file(self, mode: int, content: bytes = b"") -> int:
        """Return a new file that no name leads to yet."""
        node = len(self.modes)
        self.modes[node], self.contents[node], self.sizes[node] = mode, content, len(content)
        return node

    def new_link(self, target: str) -> int:
        """Return a new symbolic link that no name leads to yet."""
        node = len(self.modes)
        self.modes[node], self.links[node] = 0o777, target
        return node

    def find(self, path: str) -> int | None:
        """Return what the relative `path` leads to now."""
        node: int | None = ROOT
        for part in (part for part in path.split("/") if part):
            node = self.names.get(node, {}).get(part) if node is not None else None
        return node

    # Changes

    def write(self, moment: int, file: int, offset: int, data: bytes, *, synced: bool = False) -> None:
        """Note that `data` was written, in two pieces where it spans more than a sector."""
        half = (offset + len(data) // 2) // SECTOR_BYTES * SECTOR_BYTES - offset
        cuts = [0, half, len(data)] if 0 < half < len(data) else [0, len(data)]
        certain = moment if synced else None
        for begin, end in pairwise(cuts):
            self.changes.append(Change(moment, file, offset=offset + begin, data=data[begin:end], certain_from=certain))
        self.sizes[file] = max(self.sizes[file], offset + len(data))

    def resize(self, moment: int, file: int, size: int) -> None:
        """Note that the file was cut or stretched."""
        self.changes.append(Change(moment, file, size=size))
        self.sizes[file] = size

    def rename(self, moment: int, *names: tuple[int, str, int | None]) -> None:
        """Note that `names` changed, all of them or none."""
        for directory, name, node in names:
            if node is None:
                self.names[directory].pop(name, None)
            else:
                self.names[directory][name] = node
        self.changes.append(Change(moment, names=names))

    def sync(self, moment: int, node: int | None) -> None:
        """Note that `node` was synced; None: everything was."""
        for change in self.changes:
            if change.certain_from is None and self._covers(node, change):
                change.certain_from = moment

    def _covers(self, node: int | None, change: Change) -> bool:
        if node is None or (self.ordered and change.names):
            return True
        return change.file == node or any(directory == node for directory, _, _ in change.names)

    # States

    def tree(self, surviving: Collection[int]) -> Iterator[tuple[str, int]]:
        """Yield path and node of everything that names lead to, parents first.

        `surviving` are the places in `changes` of those that reached the disk.
        """
        names = {directory: dict(held) for directory, held in self.base.items()}
        for place in sorted(surviving):
            for directory, name, node in self.changes[place].names:
                if node is None:
                    names.setdefault(directory, {}).pop(name, None)
                else:
                    names.setdefault(directory, {})[name] = node
        yield from self._walk(ROOT, "", names)

    def _walk(self, directory: int, path: str, names: Mapping[int, Mapping[str, int]]) -> Iterator[tuple[str, int]]:
        for name, node in sorted(names.get(directory, {}).items()):
            if not name.endswith(LOST_AT_A_CUT):
                yield f"{path}{name}", node
                yield from self._walk(node, f"{path}{name}/", names)

    def content(self, file: int, surviving: Collection[int]) -> bytes:
        """Return what `file` holds."""
        content = bytearray(self.contents[file])
        for place in sorted(surviving):
            change = self.changes[place]
            if change.file == file:
                _apply(change, content)
        return bytes(content)


def _apply(change: Change, content: bytearray) -> None:
    if change.size is not None:
        del content[change.size :]
        content.extend(bytes(change.size - len(content)))
    else:
        content.extend(bytes(max(0, change.offset - len(content))))
        content[change.offset : change.offset + len(change.data)] = change.data
