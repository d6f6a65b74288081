"""A ledger in a PostgreSQL database: connections and transactions, and nothing about units.

Promises

- Connections are opened when needed, kept for the next one, so many at most, and never shared over a fork (`_pg_pool`).
- Units run in REPEATABLE READ: the first of two that change the same row wins, and the other is told so
  (https://www.postgresql.org/docs/current/transaction-iso.html). Serializable ones run in SERIALIZABLE.
- A commit returns only after the decision is as durable as asked (`_pg_connecting`).
- Waiting for rows that others have locked is bounded by ``busy_timeout``, and by the unit's own deadline.
- Passwords appear in no message, log or repr.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import _ambient
from memoryos_uow._durable import make_durable
from memoryos_uow._names import Dialect, Durability, Isolation
from memoryos_uow.engines._contract import OfOneProcess
from memoryos_uow.engines._pg_address import read_address
from memoryos_uow.engines._pg_clock import StampClock
from memoryos_uow.engines._pg_connecting import Connecting
from memoryos_uow.engines._pg_pool import Pool
from memoryos_uow.engines._pg_transaction import PostgresReader, PostgresTransaction
from memoryos_uow.errors import LedgerError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memoryos_uow.engines._pg_connecting import ServerFacts

_BLOCK: Final = 2**20
_IDS: Final = ("writes", "outbox")
_IDS_MIN: Final = 2**16
"""A unit that needs more at once takes another block by itself."""
_TAKE_BLOCK: Final = (
    "INSERT INTO uow_blocks (name, next) VALUES (?1, ?2 + 1)"
    " ON CONFLICT (name) DO UPDATE SET next = uow_blocks.next + ?2 RETURNING next"
)
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


class PostgresEngine(OfOneProcess):
    """Connections to one database. Threads may share it; processes may not."""

    dialect: Final = Dialect.POSTGRESQL
    excludes_others: Final = False
    directory: Final = None
    held_by_this_thread: Final = False

    def __init__(self, url: str, *, durability: Durability, busy_timeout_s: float) -> None:
        super().__init__()
        psycopg = _driver()
        address = read_address(url, psycopg)
        self.place = address.place
        self.busy_timeout_s = busy_timeout_s
        self.read_only = False
        self.stamps: Final = StampClock()
        self._connecting = Connecting(
            psycopg, address, durability=durability, lock_wait_s=busy_timeout_s, stamps=self.stamps
        )
        self._pool = Pool(self._connecting, address.connections_max)
        self._durability = durability
        self._numbering = threading.Lock()
        self._blocks: dict[str, tuple[int, int]] = {}

    @classmethod
    def open(cls, url: str, *, durability: Durability, busy_timeout_s: float) -> PostgresEngine:
        """Connect once and prove that the server can serve.

        Raises:
            UsageError: the address cannot be read, or psycopg is not installed.
            LedgerError: the server is out of reach, refuses the user, is too old, or cannot keep what was asked for.
        """
        engine = cls(url, durability=durability, busy_timeout_s=busy_timeout_s)
        try:
            with engine.reader() as reader:
                engine._connecting.refuse_unfit(reader.connection)
            engine.read_only = engine.facts.is_replica
        except BaseException:
            engine.close()
            raise
        return engine

    @property
    def facts(self) -> ServerFacts:
        """What the server told of itself when a connection was last opened."""
        assert self._connecting.facts is not None  # noqa: S101 - `open` has connected
        return self._connecting.facts

    # Connections

    @contextmanager
    def reader(self) -> Iterator[PostgresReader]:
        """Lend a reader; each of its queries sees the newest committed state."""
        self.refuse_misuse()
        lent = PostgresReader(self._pool.lend(self.busy_timeout_s), self.place, self._connecting.errors)
        try:
            yield lent
        finally:
            lent.give_back()

    def begin(
        self, *, wait_s: float | None = None, relaxed: bool = False, isolation: Isolation | None = None
    ) -> PostgresTransaction:
        """Open a transaction; its BEGIN travels with its first statement.

        `wait_s` bounds the wait for a connection, and each wait for a row that somebody else has locked.

        Raises:
            LedgerBusy: no connection was free within `wait_s` seconds (default: the ledger's busy timeout).
            LedgerError: the server is out of reach, or can only be read.
        """
        self.refuse_misuse()
        if self.read_only:
            raise LedgerError(
                f"{self.place} can only be read: it is a replica.",
                hint="Nothing was written. Open the primary server.",
            )
        if isolation is not None:
            self._have_ids()
        wait_s = self.busy_timeout_s if wait_s is None else wait_s
        loan = self._pool.lend(wait_s)
        begin = self._connecting.begin(_LEVELS[isolation], wait_s=wait_s, relaxed=relaxed)
        return PostgresTransaction(
            loan, self.place, self._connecting.errors, begin=begin, stamps=self.stamps, new_ids=self.new_ids
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

    def _have_ids(self) -> None:
        """Take blocks before a unit's transaction begins: in it, a pooler could have no connection left to take one."""
        for name in _IDS:
            first, end = self._blocks.get(name, (0, 0))
            if end - first < _IDS_MIN:
                with self._numbering:
                    first, end = self._blocks.get(name, (0, 0))
                    if end - first < _IDS_MIN:
                        self._blocks[name] = self._take_block(name, _BLOCK)

    def _take_block(self, name: str, size: int) -> tuple[int, int]:
        tx = self.begin()
        try:
            [(end,)] = tx.rows(_TAKE_BLOCK, (name, size))
            tx.commit()
        finally:
            tx.rollback()
        return end - size, end

    # Durability

    @property
    def syncs_commits(self) -> bool:
        """Whether a commit that has returned is durable."""
        return self._durability is Durability.FULL

    def learn(self, version: object) -> None:
        """Have later units of this process give greater stamps than `version`, which was found on a record."""
        self.stamps.learn(version)

    def sync_log(self) -> None:
        """Make every commit that can be read durable: also those that did not wait, or whose wait was cut short.

        Raises:
            LedgerError: the server is out of reach.
        """
        if self.read_only:
            return
        with self.reader() as reader:
            make_durable(reader)

    # The end

    def close(self, *, wait_s: float | None = None) -> None:  # noqa: ARG002 - nobody has to be waited for
        """Close every idle connection; those in use close when they are given back. May be called twice."""
        if _ambient.process_id() == self._pid:
            self._closed = True
            self._pool.close()
