"""Which sort of file system a path lies on, as Linux tells it (proc(5), ``/proc/pid/mountinfo``).

SQLite's write-ahead log needs memory that all processes share, which a file system over a network cannot give
(https://sqlite.org/wal.html, "all processes using a database must be on the same host computer").

Promise: says nothing where nothing can be known; never touches the file system that it is about.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

MOUNTS: Final = Path("/proc/self/mountinfo")

_OVER_A_NETWORK: Final = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "fuse.ceph",
        "fuse.glusterfs",
        "fuse.sshfs",
        "fuse.s3fs",
        "fuse.gcsfuse",
        "fuse.rclone",
        "glusterfs",
        "gpfs",
        "lustre",
        "ocfs2",
        "vboxsf",
    }
)
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


def network_file_system(path: Path, *, mounts: Path = MOUNTS) -> str | None:
    """Return the sort of network file system that the absolute `path` lies on, None for a local or an unknown one."""
    sort = file_system(path, mounts=mounts)
    return sort if sort in _OVER_A_NETWORK else None


def file_system(path: Path, *, mounts: Path = MOUNTS) -> str | None:
    """Return the sort of file system that the absolute `path` lies on, None where that cannot be told."""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    place = os.path.realpath(path)
    best, sort = "", None
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, described = before.split(" "), after.split(" ")
        point_field = 4
        if len(fields) <= point_field or not described[0]:
            continue
        point = _ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), fields[point_field])
        # A later line hides an earlier one at the same place.
        if len(point) >= len(best) and (place == point or place.startswith(point.rstrip("/") + "/")):
            best, sort = point, described[0]
    return sort
