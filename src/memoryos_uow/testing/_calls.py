"""Which system calls change what is on a disk, and which error each of them can meet.

Sources: "ERRORS" in the pages of section 2 of the Linux manual. Names that a machine's architecture lacks (``open``,
``rename`` and others on ARM) are passed to strace with a question mark, so one list serves all.
"""

from __future__ import annotations

import errno
from typing import Final

OPENING: Final = frozenset({"open", "openat", "openat2", "creat"})
"""State-changing only when they create or cut a file."""

WRITING: Final = frozenset({"write", "pwrite64", "writev", "pwritev", "pwritev2"})

SYNCING: Final = frozenset({"fsync", "fdatasync", "sync_file_range", "sync", "syncfs", "msync"})

NAMING: Final = frozenset(
    {
        *("rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat"),
        *("link", "linkat", "symlink", "symlinkat", "mknod", "mknodat"),
    }
)

SIZING: Final = frozenset({"ftruncate", "truncate", "fallocate", "copy_file_range", "sendfile"})

MARKING: Final = frozenset(
    {
        *("chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "fchownat", "lchown"),
        *("utime", "utimes", "utimensat", "futimesat", "setxattr", "fsetxattr", "removexattr", "fremovexattr"),
    }
)

READING: Final = frozenset({"read", "pread64", "readv", "preadv", "getdents64"})

STATE_CHANGING: Final = OPENING | WRITING | SYNCING | NAMING | SIZING | MARKING

ACKNOWLEDGING: Final = "sendto"
"""How `acknowledge` leaves the process: counted only on the explorer's own socket."""

FOLLOWED: Final = frozenset(
    {"close", "lseek", "dup", "dup2", "dup3", "fcntl", "clone", "clone3", "fork", "vfork", "mmap"}
)
"""What a power cut's recording needs besides, to know which file a descriptor means and where it stands."""

PATHS: Final[dict[str, tuple[tuple[int | None, int], ...]]] = {
    **dict.fromkeys(("open", "creat", "rmdir", "unlink", "mkdir", "mknod", "truncate"), ((None, 0),)),
    **dict.fromkeys(("chmod", "chown", "lchown", "utime", "utimes", "setxattr", "removexattr"), ((None, 0),)),
    **dict.fromkeys(("openat", "openat2", "unlinkat", "mkdirat", "mknodat"), ((0, 1),)),
    **dict.fromkeys(("fchmodat", "fchmodat2", "fchownat", "utimensat", "futimesat"), ((0, 1),)),
    **dict.fromkeys(("rename", "link"), ((None, 0), (None, 1))),
    **dict.fromkeys(("renameat", "renameat2", "linkat"), ((0, 1), (2, 3))),
    "symlink": ((None, 1),),
    "symlinkat": ((1, 2),),
}
"""For each call that takes paths: the places of (directory descriptor, path) among its arguments."""

_ROOM: Final = WRITING | NAMING | SIZING | OPENING | {"fsync", "fdatasync"}
_APPLICABLE: Final = {
    "EIO": STATE_CHANGING | READING,
    "ENOSPC": _ROOM,
    "EDQUOT": _ROOM,
    "EACCES": OPENING | NAMING | {"truncate", "chmod", "fchmodat", "utimensat"},
    "EROFS": OPENING | NAMING | MARKING | {"truncate", "ftruncate"},
    "EMFILE": OPENING,
    "ENFILE": OPENING,
    "EINTR": OPENING | WRITING | READING | SIZING | {"fsync", "fdatasync"},
}
_ONLY_WHEN_CHANGING: Final = frozenset({"ENOSPC", "EDQUOT", "EROFS"})
_GIVES_ROOM: Final = frozenset({"unlink", "unlinkat", "rmdir"})


def applies(fault: str, call: str, *, changes: bool) -> bool:
    """Say whether the error `fault` can happen to `call`; `changes` is False for an open that only reads."""
    if fault in _ONLY_WHEN_CHANGING and (not changes or (fault != "EROFS" and call in _GIVES_ROOM)):
        return False
    return call in _APPLICABLE.get(fault, STATE_CHANGING)


def is_errno(name: str) -> bool:
    """Say whether `name` is the symbol of an error number, such as ``EIO``."""
    return name.startswith("E") and isinstance(getattr(errno, name, None), int)


def watched(*, reading: bool, following: bool) -> frozenset[str]:
    """Return the names of the calls that a recording is to hold."""
    names = STATE_CHANGING | {ACKNOWLEDGING}
    if reading or following:
        names |= READING
    return names | FOLLOWED if following else names
