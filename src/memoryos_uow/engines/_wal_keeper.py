"""Keeps the write-ahead log short without making any commit wait for it.

Promise: after every `COMMITS_PER_CHECKPOINT` commits one background thread copies the log back into the file with a
passive checkpoint (https://sqlite.org/pragma.html#pragma_wal_checkpoint): it never blocks readers or writers, and
never deletes the log, because a log that keeps its size makes each fsync cheaper than one that grows.
The thread starts at need, opens a connection each time, and ends with `stop` until it is needed again. Its failures
harm nobody: SQLite's own checkpoint in the writer, at a larger size, is the back-stop.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

COMMITS_PER_CHECKPOINT: Final = 256
_CHECKPOINTS_PER_OPTIMIZE: Final = 64


class WalKeeper:
    """One lazily started thread per ledger and process."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._commits = 0
        self._wanted = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def note_commit(self) -> None:
        """Count one commit; the caller holds the ledger's turn, so counting needs no lock."""
        self._commits += 1
        if self._commits >= COMMITS_PER_CHECKPOINT:
            self._commits = 0
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="memoryos-uow WAL keeper", daemon=True)
                with suppress(RuntimeError):  # no thread can be had: too many, or the interpreter is ending
                    thread.start()
                    self._thread = thread
            self._wanted.set()

    def stop(self) -> None:
        """End the thread and wait for it; a checkpoint under way is finished first. The caller holds the turn."""
        if self._thread is not None:
            self._stopping = True
            self._wanted.set()
            self._thread.join()
            self._thread = None
            self._stopping = False
            self._wanted.clear()

    def _run(self) -> None:
        checkpoints = 0
        while self._wanted.wait() and not self._stopping:
            self._wanted.clear()
            # Busy, or a full disk: the writer's own checkpoint is the back-stop.
            with suppress(sqlite3.Error), closing(self._connect()) as connection:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                checkpoints += 1
                if checkpoints % _CHECKPOINTS_PER_OPTIMIZE == 0:
                    connection.execute("PRAGMA optimize").fetchall()
