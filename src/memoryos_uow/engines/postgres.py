"""A ledger in a PostgreSQL database: connections and transactions, and nothing about units.

Promises

- Connections are opened when needed, kept for the next one, `CONNECTIONS_MAX` at most, and never shared over a fork.
  One that died while nobody used it is replaced without anybody noticing.
- Units run in REPEATABLE READ: the first of two that change the same row wins, and the other is told so
  (https://www.postgresql.org/docs/current/transaction-iso.html). Serializable ones run in SERIALIZABLE.
- A commit returns only after the decision is as durable as asked: with ``full`` the server has flushed its log, and a
  synchronous standby, where there is one, has it too.
- Waiting for rows that others have locked is bounded by ``busy_timeout``.
- Passwords appear in no message, log or repr.
"""

from __future__ import annotations

import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import _ambient
from memoryos_uow._names import Dialect, Durability, Isolation
from memoryos_uow.engines._pg_clock import StampClock
from memoryos_uow.engines._pg_errors import refused_connection, translate
from memoryos_uow.engines._pg_transaction import PostgresReader, PostgresTransaction
from memoryos_uow.errors import LedgerBusy, LedgerError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTIONS_MAX: Final = 40
_CONNECT_S_MAX: Final = 10
_VERSION_MIN: Final = 140_000
_NOW_US: Final = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"
_BLOCK: Final = 2**20
_LEVELS: Final = {
    None: "READ COMMITTED",
    Isolation.WRITES: "REPEATABLE READ",
    Isolation.SERIALIZABLE: "SERIALIZABLE",
}


def _driver() -> Any:
    """Return psycopg.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import psycopg  # noqa: PLC0415 - only ledgers on PostgreSQL need it
    except ImportError as error:
        raise UsageError(
            "A ledger on PostgreSQL needs psycopg.", hint='Install it: pip install "memoryos-uow[postgres]".'
        ) from error
    return psycopg


class PostgresEngine:
    """Connections to one database. Threads may share it; processes may not."""

    dialect: Final = Dialect.POSTGRESQL
    excludes_others: Final = False
    directory: Final = None
    held_by_this_thread: Final = False

    def __init__(self, url: str, *, durability: Durability, busy_timeout_s: float) -> None:
        self._psycopg = _driver()
        self._url = url
        self.place = self._shown(url)
        self.busy_timeout_s = busy_timeout_s
        self.read_only = False
        self.stamps: Final = StampClock()
        self._errors: tuple[type[BaseException], ...] = (self._psycopg.Error, UnicodeError, OverflowError)
        self._durability = durability
        self._pid = _ambient.process_id()
        self._mutex = threading.Lock()
        self._free = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self._idle: list[Any] = []
        self._numbering = threading.Lock()
        self._blocks: dict[str, tuple[int, int]] = {}
        self._closed = False
        _engines.add(self)

    @classmethod
    def open(cls, url: str, *, durability: Durability, busy_timeout_s: float) -> PostgresEngine:
        """Connect once and prove that the server can serve.

        Raises:
            UsageError: the address cannot be read, or psycopg is not installed.
            LedgerError: the server is out of reach, refuses the user, or is too old.
        """
        engine = cls(url, durability=durability, busy_timeout_s=busy_timeout_s)
        try:
            with engine.reader() as reader:
                engine._refuse_old(reader.connection.info.server_version)
                engine.read_only = reader.rows("SELECT pg_is_in_recovery()")[0][0]
        except BaseException:
            engine.close()
            raise
        return engine

    def _refuse_old(self, version: int) -> None:
        if version < _VERSION_MIN:
            raise LedgerError(
                f"The server of {self.place} is PostgreSQL {version // 10_000}.",
                hint="Nothing was changed. This library needs 14 or later.",
            )

    def _shown(self, url: str) -> str:
        """Return the address without user, password and options."""
        try:
            parts = self._psycopg.conninfo.conninfo_to_dict(url)
        except self._psycopg.Error:
            raise UsageError(
                "The ledger's address cannot be read.", hint='For example "postgresql://user@host/database".'
            ) from None
        host, port = parts.get("host") or "localhost", parts.get("port")
        return f"postgresql://{host}{f':{port}' if port else ''}/{parts.get('dbname') or ''}"

    # Connections

    def connect(self) -> Any:
        """Open one more connection, in autocommit mode; the caller closes it.

        Raises:
            LedgerError: the server is out of reach or refuses.
        """
        timeout = max(1, min(_CONNECT_S_MAX, int(self.busy_timeout_s)))
        try:
            connection = self._psycopg.connect(self._url, autocommit=True, connect_timeout=timeout)
        except self._errors as error:
            raise refused_connection(error, self.place) from None  # libpq's words may hold the address
        try:
            connection.execute(f"SET lock_timeout = {int(self.busy_timeout_s * 1000)}")
            self.stamps.adjust(connection.execute(_NOW_US).fetchone()[0])
        except self._errors as error:
            connection.close()
            raise translate(error, self.place) from error
        return connection

    def _borrow(self, wait_s: float) -> Any:
        self.refuse_misuse()
        if not self._free.acquire(timeout=min(max(0.0, wait_s), threading.TIMEOUT_MAX)):
            raise LedgerBusy(
                f"All {CONNECTIONS_MAX} connections of this process to {self.place} were in use for {wait_s:.3g} s.",
                hint="Nothing was written. Run the unit again, or allow more busy_timeout.",
            )
        try:
            with self._mutex:
                while self._idle:
                    connection = self._idle.pop()
                    if not connection.closed:
                        return connection
            return self.connect()
        except BaseException:
            self._free.release()
            raise

    def _give_back(self, connection: Any, *, sound: bool) -> None:
        keep = sound and not self._closed and not connection.closed
        if keep:
            with self._mutex:
                self._idle.append(connection)
        else:
            connection.close()
        self._free.release()

    @contextmanager
    def reader(self) -> Iterator[PostgresReader]:
        """Lend a reader; each of its queries sees the newest committed state."""
        connection = self._borrow(self.busy_timeout_s)
        lent = PostgresReader(connection, self.place, self._errors)
        sound = False
        try:
            yield lent
            sound = int(connection.info.transaction_status) == 0
        finally:
            lent.give_back()
            self._give_back(connection, sound=sound)

    def begin(
        self, *, wait_s: float | None = None, relaxed: bool = False, isolation: Isolation | None = None
    ) -> PostgresTransaction:
        """Open a transaction; its BEGIN travels with its first statement.

        Raises:
            LedgerBusy: no connection was free within `wait_s` seconds (default: the ledger's busy timeout).
            LedgerError: the server is out of reach, or can only be read.
        """
        if self.read_only:
            raise LedgerError(
                f"{self.place} can only be read: it is a replica.",
                hint="Nothing was written. Open the primary server.",
            )
        connection = self._borrow(self.busy_timeout_s if wait_s is None else wait_s)
        begin = [f"BEGIN ISOLATION LEVEL {_LEVELS[isolation]}"]
        if relaxed or self._durability is Durability.NORMAL:
            begin.append("SET LOCAL synchronous_commit = off")
        return PostgresTransaction(
            connection, self.place, self._errors, begin=begin, stamp=self.stamps.next(), on_end=self._give_back
        )

    # Numbers

    def new_ids(self, name: str, count: int = 1, *, block: int = _BLOCK) -> int:
        """Return the first of `count` consecutive ids called `name` that nobody else is given.

        Taken from a block that this process has for itself, so that no two units wait for each other.
        """
        with self._numbering:
            first, end = self._blocks.get(name, (0, 0))
            if end - first < count:
                first, end = self._take_block(name, max(block, count))
            self._blocks[name] = (first + count, end)
        return first

    def _take_block(self, name: str, size: int) -> tuple[int, int]:
        tx = self.begin()
        try:
            [(end,)] = tx.rows("UPDATE uow_blocks SET next = next + ? WHERE name = ? RETURNING next", (size, name))
            tx.commit()
        finally:
            tx.rollback()
        return end - size, end

    # Durability

    @property
    def syncs_commits(self) -> bool:
        """Whether a commit that has returned is durable."""
        return self._durability is Durability.FULL

    def sync_log(self) -> None:
        """Make every commit that can be read durable: a commit that waits brings all earlier ones to the disk.

        Raises:
            LedgerError: the server is out of reach.
        """
        if self.syncs_commits:
            return
        with self.reader() as reader:
            connection = reader.connection
            try:
                with connection.transaction():
                    connection.execute("SET LOCAL synchronous_commit = on")
                    connection.execute("UPDATE uow_identity SET id = id WHERE id = 1")
            except self._errors as error:
                raise translate(error, self.place) from error

    # The end

    @property
    def usable(self) -> bool:
        """Whether another transaction may follow."""
        return not self._closed and _ambient.process_id() == self._pid

    def refuse_misuse(self) -> None:
        """Raise UsageError if the ledger is closed, or this process was forked from the one that opened it."""
        if _ambient.process_id() != self._pid:
            raise UsageError(
                f"The ledger {self.place} was opened by another process; this one was forked from it.",
                hint="Nothing was written. Open the ledger again in the child process.",
            )
        if self._closed:
            raise UsageError(f"The ledger {self.place} is closed.", hint="Nothing was written. Open it again.")

    def close(self, *, wait_s: float | None = None) -> None:  # noqa: ARG002 - nobody has to be waited for
        """Close every idle connection; those in use close when they are given back. May be called twice."""
        if self._closed or _ambient.process_id() != self._pid:
            return
        self._closed = True
        with self._mutex:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


_engines: weakref.WeakSet[PostgresEngine] = weakref.WeakSet()
