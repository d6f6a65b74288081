"""Keeps the write-ahead log short without making any commit wait for it.

Promise: after every `COMMITS_PER_CHECKPOINT` commits, or `ROWS_PER_CHECKPOINT` rows, one background thread copies the
log back into the file with a passive checkpoint (https://sqlite.org/pragma.html#pragma_wal_checkpoint): that blocks
neither readers nor writers. But while they write without a pause it never gets to the end, and only a log that was
copied to its end begins anew. So when the log has become longer than `LOG_PAGES_MAX`, the next transaction that ends
leaves its turn to the keeper, for the little that was written meanwhile and the syncs: no commit waits for that, only
what would begin then.

The log's file is not deleted nor made smaller, because one that keeps its size makes each sync cheaper than one that
grows; only after an exception, such as a long read that kept the log from beginning anew, SQLite cuts it back to
`LOG_BYTES_KEPT`.

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
ROWS_PER_CHECKPOINT: Final = 4_096
LOG_PAGES_MAX: Final = 2_000
LOG_BYTES_KEPT: Final = 64 << 20
_CHECKPOINTS_PER_OPTIMIZE: Final = 64


class WalKeeper:
    """One lazily started thread per ledger and process."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], end_turn: Callable[[], None]) -> None:
        self._connect = connect
        self._end_turn = end_turn
        self._commits = 0
        self._rows = 0
        self._wanted = threading.Event()
        self._asks = False  # for the turn
        self.has_turn = False
        self._stopping = False
        self._thread: threading.Thread | None = None

    def note_commit(self, rows: int = 0) -> None:
        """Count one commit of so many rows; the caller holds the ledger's turn, so counting needs no lock."""
        self._commits += 1
        self._rows += rows
        if self._commits >= COMMITS_PER_CHECKPOINT or self._rows >= ROWS_PER_CHECKPOINT:
            self._commits = self._rows = 0
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="memoryos-uow WAL keeper", daemon=True)
                with suppress(RuntimeError):  # no thread can be had: too many, or the interpreter is ending
                    thread.start()
                    self._thread = thread
            self._wanted.set()

    def takes_turn(self) -> bool:
        """Take over the turn of the caller, whose transaction has ended, if it is needed; `end_turn` gives it back."""
        if not self._asks:
            return False
        self._asks, self.has_turn = False, True
        self._wanted.set()
        return True

    def stop(self) -> None:
        """End the thread and wait for it; a checkpoint under way is finished first. The caller holds the turn."""
        if self._thread is not None:
            self._stopping = True
            self._wanted.set()
            self._thread.join()
            self._thread = None
            self._stopping = self._asks = False
            self._wanted.clear()

    def _run(self) -> None:
        checkpoints = 0
        while self._wanted.wait() and not self._stopping:
            self._wanted.clear()
            given = self.has_turn
            checkpoints += 1
            # Busy, or a full disk: the writer's own checkpoint is the back-stop.
            with suppress(sqlite3.Error):
                try:
                    self._keep(to_the_end=given, optimize=checkpoints % _CHECKPOINTS_PER_OPTIMIZE == 0)
                finally:
                    if given:
                        self.has_turn = False
                        self._end_turn()

    def _keep(self, *, to_the_end: bool, optimize: bool) -> None:
        with closing(self._connect()) as connection:
            # No reader is waited for either: the connection has no patience.
            how = "RESTART" if to_the_end else "PASSIVE"
            _, pages, _ = connection.execute(f"PRAGMA wal_checkpoint({how})").fetchone()
            self._asks = not to_the_end and pages > LOG_PAGES_MAX
            if optimize and not to_the_end:
                connection.execute("PRAGMA optimize").fetchall()
