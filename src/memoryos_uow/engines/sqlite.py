"""A ledger on one SQLite file: connections and transactions, and nothing about units.

Promises

- One writer connection per process, lent to one transaction at a time, and a few reader connections beside it, opened
  when needed. WAL mode: readers never wait for the writer nor it for them (https://sqlite.org/wal.html).
- A commit returns only after the decision is as durable as asked: with ``full`` the log is synced to the disk.
- Waiting for the lock is counted, bounded by ``busy_timeout`` and done here: threads wait in the order in which they
  came (`_turn`), processes in a queue (`_queue`), and whoever meets a writer that is not in the queue asks again with
  full jitter. SQLite's own busy handler sleeps in fixed steps, which starves some waiters (and is not asked at all when
  the journal mode changes).
- What a hostile file could abuse is off: ``trusted_schema``, and memory-mapped reading; cells are checked.
- Nothing is shared over a fork: idle connections are closed before it, and in a child every call is refused. What a
  transaction under way in the parent still uses is never closed by the child, not even at its exit: SQLite would roll
  the parent's transaction back in the memory that both share (https://sqlite.org/howtocorrupt.html, section 2.6).
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote

from memoryos_uow import _ambient
from memoryos_uow._backoff import delay_s
from memoryos_uow._names import Dialect, Durability
from memoryos_uow._wal import sync_log
from memoryos_uow.engines._contract import OfOneProcess
from memoryos_uow.engines._place import is_settled, is_writable, refuse_bad_place, refuse_network
from memoryos_uow.engines._queue import ProcessQueue
from memoryos_uow.engines._sqlite_errors import FOREIGN, is_busy, translated
from memoryos_uow.engines._transaction import SQLiteReader, SQLiteTransaction
from memoryos_uow.engines._turn import Turn
from memoryos_uow.engines._wal_keeper import LOG_BYTES_KEPT, WalKeeper
from memoryos_uow.errors import LedgerBusy, LedgerError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from memoryos_uow._names import Isolation


T = TypeVar("T")

_IDLE_READERS_MAX: Final = 4
_STATEMENTS_CACHED: Final = 256
_REST_WAIT_S: Final = 1.0
_INT32_MAX: Final = 2**31 - 1
# The back-stop behind the WAL keeper, in the writer's own commit; SQLite's default is 1,000 pages.
_AUTOCHECKPOINT_PAGES: Final = 16_384


class _Connection(sqlite3.Connection):
    """A connection that can be found again after a fork, as long as it is open."""

    file = ""
    """The file's path without links."""

    def close(self) -> None:
        super().close()
        _connections.discard(self)


class SQLiteEngine(OfOneProcess):
    """Connections to one ledger file. Threads may share it; processes may not."""

    dialect: Final = Dialect.SQLITE
    excludes_others: Final = True

    def __init__(self, path: Path, *, durability: Durability, busy_timeout_s: float, read_only: bool) -> None:
        super().__init__()
        self.path = path
        self.read_only = read_only
        self.busy_timeout_s = busy_timeout_s
        self._durability = durability
        self._turn = Turn()  # whose turn it is to use the writer
        self._queue = ProcessQueue(path)
        self._holder: int | None = None  # the thread whose turn it is
        self._writer: sqlite3.Connection | None = None
        self._idle_readers: list[sqlite3.Connection] = []
        self._keeper = WalKeeper(partial(self.connect, wait_s=0), self._end_turn)
        self._found = False  # the file is known to exist
        self.place = str(path)
        self.directory: Path | None = path.parent
        self.identity: tuple[int, int] | None = None  # which file it is, whatever its path leads to later
        _engines.add(self)

    @classmethod
    def open(cls, path: Path, *, durability: Durability, busy_timeout_s: float) -> SQLiteEngine:
        """Open or create the file at the absolute `path` and prove that it can serve.

        A file that this process may not write is opened for reading only.

        Raises:
            LedgerError: the place cannot hold a ledger (no directory, not a file, no write-ahead log possible).
            LedgerCorrupt: the file is not a sound SQLite database.
            LedgerBusy: others kept it locked for longer than `busy_timeout_s`.
            UsageError: this process was forked while its parent was using the file.
        """
        refuse_bad_place(path)
        refuse_network(path)
        _refuse_file_of_parent(path)
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
            self._found = True
            self.identity = _identity_of(self.place)
            if mode == "wal" or self.read_only:
                return
            mode = self._patiently(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
            if mode != "wal":
                raise LedgerError(
                    f"SQLite cannot keep a write-ahead log for {self.path}; its journal mode stays {mode!r}.",
                    hint="Nothing was changed. Put the ledger on a local disk of this machine.",
                )

    # Connections

    def connect(self, *, wait_s: float | None = None) -> sqlite3.Connection:
        """Open one more connection with the ledger's settings; the caller closes it.

        Setting it up may have to wait, `wait_s` seconds at most (default: the ledger's busy timeout): while the last
        connection of another process is closed, the file is locked even for looking at it.
        """
        mode = "rw" if self._found else "rwc"  # a file deleted meanwhile must not come back empty
        if self.read_only:
            mode = "ro&immutable=1" if is_settled(self.path) else "ro"
        connection = sqlite3.connect(
            f"file://{quote(str(self.path))}?mode={mode}",
            uri=True,
            timeout=0,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_STATEMENTS_CACHED,
            factory=_Connection,
        )
        connection.file = os.path.realpath(self.path)
        _connections.add(connection)
        try:
            for setting in (
                "trusted_schema = OFF",
                "cell_size_check = ON",
                "mmap_size = 0",
                "foreign_keys = ON",
                f"synchronous = {self._durability}",
                f"wal_autocheckpoint = {_AUTOCHECKPOINT_PAGES}",
                f"journal_size_limit = {LOG_BYTES_KEPT}",
            ):
                self._patiently(partial(connection.execute, f"PRAGMA {setting}"), wait_s=wait_s)
        except BaseException:
            connection.close()
            raise
        return connection

    def _writer_connection(self, *, wait_s: float | None = None) -> sqlite3.Connection:
        if self._writer is None:
            self._writer = self.connect(wait_s=wait_s)
        return self._writer

    @contextmanager
    def setup_connection(self) -> Iterator[sqlite3.Connection]:
        """Lend the bare writer connection, outside any transaction, for migrations and settings."""
        self._take_turn(self.busy_timeout_s)
        try:
            with translated(self.place):
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
            with translated(self.place):
                connection = self.connect()
                # Readers wait only while another process recovers the log of a crashed one, or migrates.
                connection.execute(f"PRAGMA busy_timeout = {min(int(self.busy_timeout_s * 1000), _INT32_MAX)}")
        lent = SQLiteReader(connection, self.place)
        try:
            yield lent
        except BaseException:
            connection.close()  # it may be what is wrong
            raise
        finally:
            lent.give_back()
        # A read-only file is opened anew each time: whether its log may be left aside can change.
        if len(self._idle_readers) < _IDLE_READERS_MAX and not self._closed and not self.read_only:
            self._idle_readers.append(connection)
        else:
            connection.close()

    # Transactions

    def begin(
        self,
        *,
        wait_s: float | None = None,
        relaxed: bool = False,
        isolation: Isolation | None = None,  # noqa: ARG002 - nobody else writes meanwhile
    ) -> SQLiteTransaction:
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
        waits = 0

        def count_wait() -> None:
            nonlocal waits
            waits += 1

        try:
            wait_s = self.busy_timeout_s if wait_s is None else wait_s
            tx = self._begin_immediate(wait_s, relaxed=relaxed, on_wait=count_wait)
        except LedgerBusy as busy:
            busy.busy_waits = waits
            raise
        tx.busy_waits = waits
        return tx

    def _begin_immediate(self, wait_s: float, *, relaxed: bool, on_wait: Callable[[], None]) -> SQLiteTransaction:
        begun = _ambient.monotonic_ns()

        def wait() -> None:
            self._refuse_to_wait_for_itself()
            on_wait()

        def meet() -> None:
            wait()
            self._queue.meet()

        self._take_turn(wait_s, on_wait)
        try:
            self._queue.enter(wait_s - (_ambient.monotonic_ns() - begun) / 1e9, wait)
            with translated(self.place):
                connection = self._writer_connection(wait_s=wait_s)
                if relaxed:
                    connection.execute("PRAGMA synchronous = NORMAL")
                rest_s = wait_s - (_ambient.monotonic_ns() - begun) / 1e9
                self._patiently(partial(connection.execute, "BEGIN IMMEDIATE"), wait_s=rest_s, on_wait=meet)
            self._refuse_lost_file()
            on_end = partial(self._transaction_ended, connection, connection.total_changes, relaxed=relaxed)
            return SQLiteTransaction(connection, self.place, on_end=on_end)
        except BaseException as error:
            # No later commit may inherit that it need not wait for the disk; a signal handler may have raised when
            # BEGIN had taken the lock already; and after any other error the connection may be what is wrong.
            if self._writer is not None and (
                relaxed or self._writer.in_transaction or not isinstance(error, LedgerBusy)
            ):
                self._give_up_writer()
            self._end_turn()
            raise

    def _refuse_lost_file(self) -> None:
        if _identity_of(self.place) != self.identity:
            raise LedgerError(
                f"The file {self.path} was removed or replaced while this ledger had it open.",
                hint="Nothing of this unit was written. Put the file back, or open the ledger again.",
            )

    def _refuse_to_wait_for_itself(self) -> None:
        others = [engine for engine in list(_engines) if engine is not self and engine.identity == self.identity]
        if any(other.held_by_this_thread for other in others):
            raise UsageError(
                f"This thread holds the write lock of {self.path} already, through another Ledger object.",
                hint="Nothing was written. End that unit first, or use one Ledger for both.",
            )

    def _give_up_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _transaction_ended(
        self, connection: sqlite3.Connection, rows_before: int, *, relaxed: bool, sound: bool, decided: bool
    ) -> None:
        try:
            rows = connection.total_changes - rows_before if decided else 0
            if not sound:
                self._give_up_writer()
            elif relaxed:
                self._stop_relaxing(connection)
            if decided:
                self._keeper.note_commit(rows)
        finally:
            self._holder = None
            if not self._keeper.takes_turn():
                self._end_turn()

    def _stop_relaxing(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute(f"PRAGMA synchronous = {self._durability}")
        except FOREIGN:
            self._give_up_writer()  # the next one is opened with the ledger's settings

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

    # Durability

    @property
    def syncs_commits(self) -> bool:
        """Whether a commit that has returned is durable."""
        return self._durability is Durability.FULL

    def learn(self, version: object) -> None:
        """Do nothing: a version is a number in the one log."""

    def sync_log(self) -> None:
        """Make every commit that can be read durable: also those that did not wait for it, or whose process died.

        Raises:
            LedgerError: the disk failed; what is durable is not known.
        """
        try:
            sync_log(self.path)
        except OSError as error:
            raise LedgerError(
                f"The log of {self.path} cannot be synced to the disk.", hint="Check the disk, then try again."
            ) from error

    # Turns, and the end

    @property
    def held_by_this_thread(self) -> bool:
        """Whether this thread has a transaction open, so that it cannot have another one."""
        return self._holder == threading.get_ident()

    def _take_turn(self, wait_s: float, on_wait: Callable[[], None] | None = None) -> None:
        """Wait until the writer is ours; `on_wait` is told if it was not free at once."""
        self.refuse_misuse()
        if self.held_by_this_thread:
            raise UsageError(
                "This thread holds the ledger's write lock already, in another unit of work.",
                hint="Nothing was written. End that unit first, or use uow.savepoint() inside it.",
            )
        if not self._turn.acquire(blocking=False):
            if on_wait is not None:
                on_wait()
            if wait_s <= 0 or not self._turn.acquire(timeout=min(wait_s, threading.TIMEOUT_MAX)):
                raise LedgerBusy(
                    f"Other units of this process kept {self.path} locked for {wait_s:.3g} s.",
                    hint="Nothing was written. Run the unit again, or allow more busy_timeout.",
                )
        self._holder = threading.get_ident()
        if self._closed:  # while this thread waited
            self._end_turn()
            self.refuse_misuse()

    def _end_turn(self) -> None:
        self._holder = None
        self._queue.leave()
        self._turn.release()

    def close(self, *, wait_s: float | None = None) -> None:
        """Close every connection; may be called twice. Waits for a transaction that another thread has open.

        Raises:
            UsageError: this very thread has a transaction open.
            LedgerBusy: another thread's did not end within `wait_s` seconds (default: the ledger's busy timeout).
        """
        if self._closed or _ambient.process_id() != self._pid:
            return
        if self.held_by_this_thread:
            raise UsageError("A unit of work of this thread is still open.", hint="End it before closing the ledger.")
        self._take_turn(self.busy_timeout_s if wait_s is None else wait_s)
        try:
            self._closed = True
            self._keeper.stop()
            while self._idle_readers:
                self._idle_readers.pop().close()
            self._give_up_writer()
            self._queue.close()
        finally:
            self._end_turn()

    def rest(self) -> None:
        """Close the connections that nobody uses at the moment; they are opened again when needed."""
        while self._idle_readers:
            with suppress(IndexError):  # another thread may be faster
                self._idle_readers.pop().close()
        if self._turn.acquire(blocking=False) or (
            self._keeper.has_turn and self._turn.acquire(timeout=_REST_WAIT_S)  # for a checkpoint, which is short
        ):
            try:
                self._keeper.stop()
                self._give_up_writer()
                self._queue.close()
            finally:
                self._turn.release()


def _identity_of(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path costs more than the call
    except OSError:
        return None
    return found.st_dev, found.st_ino


# Forks

_engines: weakref.WeakSet[SQLiteEngine] = weakref.WeakSet()
_connections: weakref.WeakSet[_Connection] = weakref.WeakSet()
_files_of_parent: set[str] = set()


def _before_fork() -> None:
    """Close what can be closed: a child that opens the file anew must not find locks that are not its own."""
    for engine in list(_engines):
        engine.rest()


def _after_fork_in_child() -> None:
    """Keep the parent's connections from being closed when the child ends: each gets a reference that nobody drops."""
    connections = list(_connections)
    _files_of_parent.update(connection.file for connection in connections)
    if connections:
        import ctypes  # noqa: PLC0415 - for the rare child of a process with a transaction under way

        for connection in connections:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def _refuse_file_of_parent(path: Path) -> None:
    """Raise UsageError for a file on which the parent had a transaction or query under way when it forked.

    SQLite keeps in memory which locks a process holds (https://sqlite.org/howtocorrupt.html, section 2.6): the child
    would wait for ever for a lock that nobody gives back to it, or believe to hold one that is not its own.
    """
    if os.path.realpath(path) in _files_of_parent:
        raise UsageError(
            f"{path} was being used when this process was forked, so SQLite cannot open it here.",
            hint="Nothing was opened. Fork between units, or start the child anew (spawn).",
        )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
