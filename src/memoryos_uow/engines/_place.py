"""Where a ledger file may live, found out before SQLite is asked to open it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from memoryos_uow import _log
from memoryos_uow.engines._mounts import network_file_system
from memoryos_uow.errors import LedgerError

if TYPE_CHECKING:
    from pathlib import Path


ALLOW_NETWORK: Final = "MEMORYOS_UOW_ALLOW_NETWORK"
"""Set to 1, this environment variable lets a ledger lie on a network file system."""


def refuse_bad_place(path: Path) -> None:
    """Raise LedgerError, with a sentence that helps, where no ledger can be at `path`."""
    try:
        _look_around(path)
    except OSError as error:
        raise LedgerError(
            f"{path} cannot be looked at: {error.strerror}.",
            hint="Correct the path, or check the permissions of the directories on it.",
        ) from error


def _look_around(path: Path) -> None:
    found, parent = _mode(path), _mode(path.parent)
    if stat.S_ISDIR(found):
        raise LedgerError(f"{path} is a directory.", hint="Give the path of a file, for example memory.db in it.")
    if not stat.S_ISDIR(parent):
        raise LedgerError(f"The directory {path.parent} does not exist.", hint="Create it, or correct the path.")
    if found and not stat.S_ISREG(found):
        raise LedgerError(f"{path} is not a regular file.", hint="Give the path of a file on a local disk.")
    if not found and not os.access(path.parent, os.W_OK):
        raise LedgerError(f"No file can be created in {path.parent}.", hint="Check the directory's permissions.")
    if found and not os.access(path, os.R_OK):
        raise LedgerError(f"{path} may not be read.", hint="Check the file's permissions.")


def _mode(path: Path) -> int:
    """Return the type and permissions of what is at `path`, 0 if nothing is; OSError if that cannot be known."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


def refuse_network(path: Path) -> None:
    """Raise LedgerError for a path on a network file system, unless ``$MEMORYOS_UOW_ALLOW_NETWORK`` is ``1``."""
    sort = network_file_system(path)
    if sort is None:
        return
    if os.environ.get(ALLOW_NETWORK) == "1":
        _log.warn("uow.network_file_system", sort=sort)
        return
    raise LedgerError(
        f"{path} lies on a network file system ({sort}), where SQLite's write-ahead log can lose or damage data.",
        hint=f"Nothing was opened. Put the ledger on a local disk; {ALLOW_NETWORK}=1 takes the risk, with one process.",
    )


def is_writable(path: Path) -> bool:
    """Say whether this process may write the existing file and the log beside it."""
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def is_settled(path: Path) -> bool:
    """Say whether the file holds everything by itself: no log beside it that readers need, no journal to roll back.

    Only then may a file in a directory that cannot be written be read without creating SQLite's shared memory file.
    """
    return not any(_size(path.with_name(path.name + ending)) for ending in ("-wal", "-journal"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
