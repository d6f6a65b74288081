"""A durable copy of a whole database file, made before anything is taken out of it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

from memoryos_uow.errors import MigrationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def write_backup(path: Path, backup: Path) -> Iterator[None]:
    """Copy the committed contents of the database at `path` to the new file `backup`, for the block.

    The caller holds the write lock, so nothing can be committed between the copy and what the block does. The copy
    is checked and synced before the block begins. If the block fails, the copy goes: the ledger is as it was.

    Raises:
        MigrationError: `backup` exists or cannot be made, or the copy is not sound.
    """
    try:
        # Reserves the name, and gives away no more than the ledger does. VACUUM INTO accepts an empty file.
        os.close(os.open(backup, os.O_CREAT | os.O_EXCL | os.O_WRONLY, path.stat().st_mode & 0o777))
    except OSError as error:
        raise MigrationError(
            f"The backup {backup} cannot be made: {error.strerror}.",
            hint="Nothing was changed. Name a file that does not exist, in a directory that can be written.",
        ) from error
    try:
        _copy(path, backup)
        _sync(backup)
        _sync(backup.parent)
        yield
    except BaseException:
        backup.unlink(missing_ok=True)
        raise


def _copy(path: Path, backup: Path) -> None:
    # A second connection: VACUUM does not run inside the transaction that holds the lock. Not a read-only one: from
    # such a one SQLite 3.40 cannot copy generated columns ("has 24 columns but 25 values were supplied").
    with closing(_connect(path, "rw")) as source:
        source.execute("VACUUM INTO ?", (str(backup),))
    with closing(_connect(backup, "ro")) as copy:
        # Rows that break a CHECK do so in the ledger too: they make no copy unsound.
        copy.execute("PRAGMA ignore_check_constraints = ON")
        verdict = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise MigrationError(
            f"The backup of {path} is not sound: {verdict}.",
            hint="Nothing was changed. The ledger itself may be damaged: check it, or restore a copy.",
        )


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(os.fsencode(path))}?mode={mode}", uri=True, isolation_level=None)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
