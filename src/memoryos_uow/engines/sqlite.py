"""A ledger on one SQLite file: connections and transactions, and nothing about units.

Promises

- One writer connection per process, lent to one transaction at a time, and a few reader connections beside it, opened
  when needed. WAL mode: readers never wait for the writer nor it for them (https://sqlite.org/wal.html).
- A commit returns only after the decision is as durable as asked: with ``full`` the log is synced to the disk.
- Waiting for the lock is counted, bounded by ``busy_timeout`` and done here, with full jitter: SQLite's own busy
  handler sleeps in fixed steps, which starves some waiters (and is not asked at all when the journal mode changes).
- What a hostile file could abuse is off: ``trusted_schema``, and memory-mapped reading; cells are checked.
- Nothing is shared over a fork: in a child every call is refused and the parent's connections are left alone.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote

from memoryos_uow import _ambient
from memoryos_uow._backoff import delay_s
from memoryos_uow.engines._place import is_settled, is_writable, refuse_bad_place
from memoryos_uow.engines._sqlite_errors import is_busy, translated
from memoryos_uow.engines._transaction import SQLiteReader, SQLiteTransaction
from memoryos_uow.engines._wal_keeper import WalKeeper
from memoryos_uow.errors import LedgerBusy, LedgerError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from memoryos_uow._names import Durability

T = TypeVar("T")

_IDLE_READERS_MAX: Final = 4
_STATEMENTS_CACHED: Final = 256
# The back-stop behind the WAL keeper, in the writer's own commit; SQLite's default is 1,000 pages.
_AUTOCHECKPOINT_PAGES: Final = 16_384

_abandoned: list[object] = []  # inherited by fork: neither closed nor freed, for closing could disturb the parent


class SQLiteEngine:
    """Connections to one ledger file. Threads may share it; processes may not."""

    def __init__(self, path: Path, *, durability: Durability, busy_timeout_s: float, read_only: bool) -> None:
        self.path = path
        self.read_only = read_only
        self.busy_timeout_s = busy_timeout_s
        self._durability = durability
        self._pid = _ambient.process_id()
        self._turn = threading.Lock()  # whose turn it is to use the writer
        self._holder: int | None = None  # the thread whose turn it is
        self._writer: sqlite3.Connection | None = None
        self._idle_readers: list[sqlite3.Connection] = []
        self._keeper = WalKeeper(self.connect)
        self._closed = False

    @classmethod
    def open(cls, path: Path, *, durability: Durability, busy_timeout_s: float) -> SQLiteEngine:
        """Open or create the file at the absolute `path` and prove that it can serve.

        A file that this process may not write is opened for reading only.

        Raises:
            LedgerError: the place cannot hold a ledger (no directory, not a file, no write-ahead log possible).
            LedgerCorrupt: the file is not a sound SQLite database.
            LedgerBusy: others kept it locked for longer than `busy_timeout_s`.
        """
        refuse_bad_place(path)
        read_only = path.exists() and not is_writable(path)
        engine = cls(path, durability=durability, busy_timeout_s=busy_timeout_s, read_only=read_only)
        try:
            engine._enter_wal_mode()
        except BaseException:
            engine.close()
            raise
        return engine

    def _enter_wal_mode(self) -> None:
        with self.setup_connection() as connection:
            mode = self._patiently(lambda: connection.execute("PRAGMA journal_mode").fetchone()[0])
            self._patiently(lambda: connection.execute("SELECT count(*) FROM sqlite_schema").fetchone())
            if mode == "wal" or self.read_only:
                return
            mode = self._patiently(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
            if mode != "wal":
                raise LedgerError(
                    f"SQLite cannot keep a write-ahead log for {self.path}; its journal mode stays {mode!r}.",
                    hint="Nothing was changed. Put the ledger on a local disk of this machine.",
                )

    # Connections

    def connect(self) -> sqlite3.Connection:
        """Open one more connection with the ledger's settings; the caller closes it."""
        mode = "rwc"
        if self.read_only:
            mode = "ro&immutable=1" if is_settled(self.path) else "ro"
        connection = sqlite3.connect(
            f"file:{quote(str(self.path))}?mode={mode}",
            uri=True,
            timeout=0,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_STATEMENTS_CACHED,
        )
        try:
            for setting in (
                "trusted_schema = OFF",
                "cell_size_check = ON",
                "mmap_size = 0",
                "foreign_keys = ON",
                f"synchronous = {self._durability}",
                f"wal_autocheckpoint = {_AUTOCHECKPOINT_PAGES}",
            ):
                connection.execute(f"PRAGMA {setting}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _writer_connection(self) -> sqlite3.Connection:
        if self._writer is None:
            self._writer = self.connect()
        return self._writer

    @contextmanager
    def setup_connection(self) -> Iterator[sqlite3.Connection]:
        """Lend the bare writer connection, outside any transaction, for migrations and settings."""
        self._take_turn(self.busy_timeout_s)
        try:
            with translated(str(self.path)):
                yield self._writer_connection()
        finally:
            self._end_turn()

    @contextmanager
    def reader(self) -> Iterator[SQLiteReader]:
        """Lend a reader; each of its queries sees the newest committed state."""
        self.refuse_misuse()
        try:
            connection = self._idle_readers.pop()
        except IndexError:
            with translated(str(self.path)):
                connection = self.connect()
                # Readers wait only while another process recovers the log of a crashed one, or migrates.
                connection.execute(f"PRAGMA busy_timeout = {int(self.busy_timeout_s * 1000)}")
        try:
            yield SQLiteReader(connection, str(self.path))
        except BaseException:
            connection.close()  # it may be what is wrong
            raise
        if len(self._idle_readers) < _IDLE_READERS_MAX and not self._closed:
            self._idle_readers.append(connection)
        else:
            connection.close()

    # Transactions

    def begin(self, *, wait_s: float | None = None, relaxed: bool = False) -> SQLiteTransaction:
        """Wait for the write lock and open a transaction.

        `relaxed` commits without waiting for the disk: for rows that only tell how something went.

        Raises:
            LedgerBusy: the lock was not free within `wait_s` seconds (default: the ledger's busy timeout).
            UsageError: this thread holds the lock already, the ledger is closed, or this is a forked child.
            LedgerError: the ledger is open for reading only, or cannot be written.
        """
        if self.read_only:
            raise LedgerError(
                f"The ledger {self.path} is open for reading only.",
                hint="Nothing was written. Make the file and its directory writable, then open it again.",
            )
        wait_s = self.busy_timeout_s if wait_s is None else wait_s
        begun = _ambient.monotonic_ns()
        waits = self._take_turn(wait_s)
        try:
            with translated(str(self.path)):
                connection = self._writer_connection()
                if relaxed:
                    connection.execute("PRAGMA synchronous = NORMAL")
                waits += self._begin_immediate(connection, wait_s - (_ambient.monotonic_ns() - begun) / 1e9)
        except BaseException:
            self._end_turn()
            raise
        on_end = partial(self._transaction_ended, connection, relaxed=relaxed)
        return SQLiteTransaction(connection, str(self.path), busy_waits=waits, on_end=on_end)

    def _begin_immediate(self, connection: sqlite3.Connection, wait_s: float) -> int:
        waits = 0

        def count_wait() -> None:
            nonlocal waits
            waits += 1

        self._patiently(lambda: connection.execute("BEGIN IMMEDIATE"), wait_s=wait_s, on_wait=count_wait)
        return waits

    def _transaction_ended(self, connection: sqlite3.Connection, *, relaxed: bool, sound: bool, decided: bool) -> None:
        try:
            if not sound:
                self._writer = None
                connection.close()
            elif relaxed:
                connection.execute(f"PRAGMA synchronous = {self._durability}")
            if decided:
                self._keeper.note_commit()
        finally:
            self._end_turn()

    def _patiently(
        self, call: Callable[[], T], *, wait_s: float | None = None, on_wait: Callable[[], None] | None = None
    ) -> T:
        """Return what `call` returns, trying again with backoff while another connection holds the lock."""
        wait_s = self.busy_timeout_s if wait_s is None else wait_s
        begun = _ambient.monotonic_ns()
        attempt = 0
        while True:
            try:
                return call()
            except sqlite3.OperationalError as error:
                if not is_busy(error) or (_ambient.monotonic_ns() - begun) / 1e9 >= wait_s:
                    raise
            if on_wait is not None:
                on_wait()
            _ambient.sleep(delay_s(attempt, _ambient.random_fraction()))
            attempt += 1

    # Turns, and the end

    def _take_turn(self, wait_s: float) -> int:
        """Wait until the writer is ours; return 1 if it was not free at once."""
        self.refuse_misuse()
        if self._holder == threading.get_ident():
            raise UsageError(
                "This thread holds the ledger's write lock already, in another unit of work.",
                hint="Nothing was written. End that unit first, or use uow.savepoint() inside it.",
            )
        waits = 0
        if not self._turn.acquire(blocking=False):
            waits = 1
            if wait_s <= 0 or not self._turn.acquire(timeout=min(wait_s, threading.TIMEOUT_MAX)):
                raise LedgerBusy(
                    f"Other units of this process kept {self.path} locked for {wait_s:.3g} s.",
                    hint="Nothing was written. Run the unit again, or allow more busy_timeout.",
                )
        self._holder = threading.get_ident()
        return waits

    def _end_turn(self) -> None:
        self._holder = None
        self._turn.release()

    def refuse_misuse(self) -> None:
        """Raise UsageError if the ledger is closed, or this process was forked from the one that opened it."""
        if _ambient.process_id() != self._pid:
            _abandoned.append((self._writer, self._idle_readers))
            raise UsageError(
                f"The ledger {self.path} was opened by another process; this one was forked from it.",
                hint="Nothing was written. Open the ledger again in the child process.",
            )
        if self._closed:
            raise UsageError(f"The ledger {self.path} is closed.", hint="Nothing was written. Open it again.")

    def close(self) -> None:
        """Close every connection; may be called twice. Waits for a transaction that another thread has open.

        Raises:
            UsageError: this very thread has a transaction open.
        """
        if self._closed or _ambient.process_id() != self._pid:
            return
        if self._holder == threading.get_ident():
            raise UsageError("A unit of work of this thread is still open.", hint="End it before closing the ledger.")
        with self._turn:
            self._closed = True
            self._keeper.stop()
            while self._idle_readers:
                self._idle_readers.pop().close()
            if self._writer is not None:
                self._writer.close()
                self._writer = None
