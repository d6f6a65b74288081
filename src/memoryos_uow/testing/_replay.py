"""Replays a recording with data onto a `Disk`, call by call.

Follows which file each descriptor stands for and where it reads and writes next, over dup, fork and threads. What
cannot be followed (data that never passes through a call that strace shows) is refused, never guessed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from memoryos_uow.testing._calls import ACKNOWLEDGING, OPENING
from memoryos_uow.testing._disk import LOST_AT_A_CUT
from memoryos_uow.testing._functions import ExplorerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from memoryos_uow.testing._disk import Disk
    from memoryos_uow.testing._points import Recording
    from memoryos_uow.testing._trace import Call

_SHOWING: Final = frozenset({"fsync", "fdatasync", "sync", "syncfs", ACKNOWLEDGING})
_SYNCED: Final = re.compile(r"\bO_D?SYNC\b")


@dataclass(slots=True)
class _Open:
    """An open file description: shared by every descriptor that was duplicated from it."""

    node: int
    position: int = 0
    appending: bool = False
    synced: bool = False


class Replay:
    """Recordings of one world, replayed one after the other."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.calls: list[Call] = []
        """All calls so far; a moment is a position in this list."""
        self.first_moment = -1
        """The moment at which the last recording began."""
        self.acknowledged: list[tuple[int, str]] = []
        """Moment and text of every acknowledgement."""
        self.moments: list[int] = []
        """Those of the last recording's calls after which a power cut can show something new."""
        self._world, self._channel_fd = "", -1
        self._tables: dict[int, dict[int, _Open]] = {}
        self._now = 0
        self._do: dict[str, Callable[[Call], object]] = {
            **dict.fromkeys(OPENING, self._open),
            **dict.fromkeys(("write", "writev", "pwrite64", "pwritev", "pwritev2"), self._write),
            **dict.fromkeys(("read", "readv"), self._read),
            **dict.fromkeys(("fsync", "fdatasync"), self._sync),
            **dict.fromkeys(("sync", "syncfs"), lambda _: self.disk.sync(self._now, None)),
            **dict.fromkeys(("mkdir", "mkdirat"), self._mkdir),
            **dict.fromkeys(("unlink", "unlinkat", "rmdir"), self._unlink),
            **dict.fromkeys(("rename", "renameat", "renameat2"), self._rename),
            **dict.fromkeys(("link", "linkat"), self._link),
            **dict.fromkeys(("symlink", "symlinkat"), self._symlink),
            **dict.fromkeys(("dup", "dup2", "dup3", "fcntl"), self._dup),
            **dict.fromkeys(("clone", "clone3", "fork", "vfork"), self._fork),
            **dict.fromkeys(("copy_file_range", "sendfile", "fallocate", "mknod", "mknodat"), self._refuse),
            "ftruncate": self._resize,
            "truncate": self._resize,
            "lseek": self._seek,
            "close": lambda call: self._table(call).pop(call.descriptor(0) or 0, None),
            "mmap": self._map,
            ACKNOWLEDGING: self._acknowledge,
        }

    def play(self, recording: Recording) -> None:
        """Replay what a process did after what earlier ones did.

        Raises:
            ExplorerError: the recording holds something that cannot be followed.
        """
        self._world, self._channel_fd = recording.world, recording.channel_fd
        self._tables.clear()
        self.moments.clear()
        self.first_moment = len(self.calls) - 1
        for call in recording.calls:
            self._now = len(self.calls)
            self.calls.append(call)
            if call.ok and call.name in self._do:
                before = len(self.disk.changes)
                self._do[call.name](call)
                if len(self.disk.changes) > before or call.name in _SHOWING:
                    self.moments.append(self._now)

    # What a descriptor stands for

    def _table(self, call: Call) -> dict[int, _Open]:
        # A new thread may be heard of before the call that made it returns; threads share the first one's files.
        return self._tables.setdefault(call.process, next(iter(self._tables.values()), {}))

    def _opened(self, call: Call, place: int = 0) -> _Open | None:
        """Return what a descriptor stands for, None if that is nothing in the world."""
        if not call.within(self._world):
            return None
        descriptor = call.descriptor(place)
        found = self._table(call).get(-1 if descriptor is None else descriptor)
        if found is None:
            node = self._node(call.fd_paths[0]) if call.fd_paths else None
            found = _Open(node) if node is not None else None
        return found

    def _node(self, path: str) -> int | None:
        return self.disk.find(self._relative(path))

    def _relative(self, path: str) -> str:
        return path.removeprefix(self._world).lstrip("/")

    def _place(self, path: str) -> tuple[int, str] | None:
        """Return the directory that `path` lies in and its name there, None outside of the world."""
        if not path.startswith(self._world + "/"):
            return None
        above, _, name = self._relative(path).rpartition("/")
        directory = self.disk.find(above)
        return None if directory is None else (directory, name)

    # Files

    def _open(self, call: Call) -> None:
        flags = next((argument for argument in call.arguments if "O_" in argument), "O_CREAT|O_TRUNC")
        place = self._place(call.paths[0]) if call.paths else None
        node = self._node(call.paths[0]) if call.within(self._world) else None
        if node is None and place is not None and ("O_CREAT" in flags or call.name == "creat"):
            node = self.disk.new_file(0o600)
            self.disk.rename(self._now, (*place, node))
        if node is None:
            self._table(call).pop(call.result or 0, None)
            return
        if ("O_TRUNC" in flags or call.name == "creat") and self.disk.sizes.get(node):
            self.disk.resize(self._now, node, 0)
        opened = _Open(node, appending="O_APPEND" in flags, synced=bool(_SYNCED.search(flags)))
        self._table(call)[call.result or 0] = opened

    def _write(self, call: Call) -> None:
        opened = self._opened(call)
        if opened is None or opened.node not in self.disk.sizes:
            return
        data = call.data(1)[: call.result]
        at = call.integer(3) if call.name.startswith("p") else opened.position
        if opened.appending:
            at = self.disk.sizes[opened.node]
        if data:
            self.disk.write(self._now, opened.node, at, data, synced=opened.synced)
        if not call.name.startswith("p"):
            opened.position = at + len(data)

    def _read(self, call: Call) -> None:
        opened = self._opened(call)
        if opened is not None:
            opened.position += call.result or 0

    def _seek(self, call: Call) -> None:
        opened = self._opened(call)
        if opened is not None:
            opened.position = call.result or 0

    def _resize(self, call: Call) -> None:
        opened = self._opened(call) if call.name == "ftruncate" else None
        node = opened.node if opened else self._node(call.paths[0]) if call.within(self._world) else None
        if node is not None and self.disk.sizes.get(node) != call.integer(1):
            self.disk.resize(self._now, node, call.integer(1))

    def _sync(self, call: Call) -> None:
        opened = self._opened(call)
        if opened is not None:
            self.disk.sync(self._now, opened.node)

    def _map(self, call: Call) -> None:
        shared = "MAP_SHARED" in call.arguments[3] and "PROT_WRITE" in call.arguments[2]
        if shared and call.within(self._world) and not call.paths[0].endswith(LOST_AT_A_CUT):
            self._refuse(call)

    def _refuse(self, call: Call) -> None:
        if call.within(self._world):
            raise ExplorerError(
                f"What {call.name} does to {self._relative(call.paths[0])} cannot be followed, so no power cut can be"
                " explored.",
                hint="Nothing was explored. Write with write() and pwrite().",
            )

    # Names

    def _mkdir(self, call: Call) -> None:
        place = self._place(call.paths[0])
        if place is not None:
            self.disk.rename(self._now, (*place, self.disk.new_directory(0o700)))

    def _unlink(self, call: Call) -> None:
        place = self._place(call.paths[0])
        if place is not None:
            self.disk.rename(self._now, (*place, None))

    def _rename(self, call: Call) -> None:
        source, target = (self._place(path) for path in call.paths[:2])
        if source is not None and target is not None:
            self.disk.rename(self._now, (*source, None), (*target, self._node(call.paths[0])))
        elif source is not None or target is not None:
            self._refuse(call)

    def _link(self, call: Call) -> None:
        node, target = self._node(call.paths[0]), self._place(call.paths[1])
        if target is not None:
            self.disk.rename(self._now, (*target, node))

    def _symlink(self, call: Call) -> None:
        place = self._place(call.paths[0])
        if place is not None:
            self.disk.rename(self._now, (*place, self.disk.new_link(call.data(0).decode())))

    # Descriptors and processes

    def _dup(self, call: Call) -> None:
        if call.name == "fcntl" and "F_DUPFD" not in call.arguments[1]:
            return
        table = self._table(call)
        found = table.get(call.descriptor(0) or 0)
        if found is None:
            table.pop(call.result or 0, None)
        else:
            table[call.result or 0] = found

    def _fork(self, call: Call) -> None:
        shared = any("CLONE_FILES" in argument for argument in call.arguments)
        table = self._table(call)
        self._tables[call.result or 0] = table if shared else dict(table)

    def _acknowledge(self, call: Call) -> None:
        if call.descriptor(0) == self._channel_fd:
            message = json.loads(call.data(1))
            if "acknowledged" in message:
                self.acknowledged.append((self._now, message["acknowledged"]))
