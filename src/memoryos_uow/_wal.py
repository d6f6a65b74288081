"""Syncs the write-ahead log of a SQLite file, and finds what it holds unseen: SQLite itself does neither when asked.

Syncing: SQLite does that only for what the same commit wrote.

Needed wherever something that cannot be taken back depends on commits of others. A process that was killed before it
could sync leaves its commit in the system's memory: the next process reads it, and a power cut still loses it. And a
commit that repeats what is there already writes nothing, so it syncs nothing either.

Unseen: a process that was killed after it had written its commit into the log and before it told the others leaves one
that nobody reads, until somebody writes over it or the log is read anew. The layout is https://sqlite.org/walformat.html.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path


_HEADER_BYTES: Final = 32
_FRAME_HEADER_BYTES: Final = 24
_BIG_ENDIAN: Final = 1
"""The bit of the magic number that says in which order the checksums take their words."""
_MASK: Final = 0xFFFFFFFF


def sync_log(file: Path) -> None:
    """Make every commit in the log of the SQLite file durable.

    Raises:
        OSError: it cannot be done; what is durable is not known.
    """
    try:
        log = os.open(f"{file}-wal", os.O_RDONLY)
    except FileNotFoundError:
        return  # the last connection to close has copied everything into the file, and synced that
    try:
        os.fsync(log)
    finally:
        os.close(log)  # lets go of no lock: SQLite keeps none on this file


def goes_on_after(file: Path, frames: int) -> bool:
    """Say whether the log of the SQLite file has a valid frame after its first `frames`, which are those that are read.

    The caller holds the write lock, so no such frame is one that is being written.

    Raises:
        OSError: the log cannot be read.
    """
    try:
        log = os.open(f"{file}-wal", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        header = os.pread(log, _HEADER_BYTES, 0)
        if len(header) < _HEADER_BYTES:
            return False
        magic, _, page_bytes = struct.unpack_from(">III", header)
        salts = header[16:24]
        length = _FRAME_HEADER_BYTES + page_bytes
        place = _HEADER_BYTES + frames * length
        frame = os.pread(log, length, place)
        # Each checksum goes on from that of the frame before.
        before = header[24:32] if frames == 0 else os.pread(log, 8, place - length + 16)
    finally:
        os.close(log)  # lets go of no lock: SQLite keeps none on this file
    if len(frame) < length or frame[8:16] != salts:
        return False
    order = ">" if magic & _BIG_ENDIAN else "<"
    found = _checksum(order, struct.unpack(">II", before), frame[:8] + frame[_FRAME_HEADER_BYTES:])
    return struct.pack(">II", *found) == frame[16:24]


def _checksum(order: str, start: tuple[int, ...], data: bytes) -> tuple[int, int]:
    first, second = start
    for even, odd in struct.iter_unpack(f"{order}II", data):
        first = (first + even + second) & _MASK
        second = (second + odd + first) & _MASK
    return first, second
