"""Syncs the write-ahead log of a SQLite file: what SQLite itself does only for what the same commit wrote.

Needed wherever something that cannot be taken back depends on commits of others. A process that was killed before it
could sync leaves its commit in the system's memory: the next process reads it, and a power cut still loses it. And a
commit that repeats what is there already writes nothing, so it syncs nothing either.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


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
