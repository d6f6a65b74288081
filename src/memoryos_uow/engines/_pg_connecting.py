"""Opens connections to a PostgreSQL server, proves that it can serve, and settles what holds for each of them.

Promises

- A connection in whose transactions a commit returns is one whose commits are as durable as asked: with ``full`` the
  server has flushed its log and, where it names synchronous standbys, one of them has. What a session's defaults say
  otherwise is overruled; a server that does not flush at all (``fsync = off``) is refused.
- Waiting for rows is bounded. Through a pooler that lends connections for one transaction nothing of a session is
  relied upon: the settings travel with every transaction (`begin`), and no statement is prepared.
- What a client that vanished with its machine has locked is free again within half a minute: the server asks for it.
- A pooler is noticed by the number that a session has: it is not the one that was told when connecting.
- What libpq says of a failed connection reaches nobody, because it may hold parts of the address.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from memoryos_uow import _ambient
from memoryos_uow._names import Durability
from memoryos_uow.engines._pg_errors import refused_connection, translate
from memoryos_uow.errors import LedgerError

if TYPE_CHECKING:
    from memoryos_uow.engines._pg_address import Address
    from memoryos_uow.engines._pg_clock import StampClock

_CONNECT_S_MAX: Final = 10
_LIBPQ_CONNECT_S_MIN: Final = 2
_VERSION_MIN: Final = 140_000
_TIMEOUT_MS_MAX: Final = 2**31 - 1
_WAITS_FOR_ALL: Final = "remote_apply"

# Settings of the session, only if it is ours alone: a pooler would lend them to strangers.
_SETTLE: Final = """
SELECT pg_backend_pid(), CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT), pg_is_in_recovery(),
  current_setting('fsync') = 'on', current_setting('full_page_writes') = 'on', current_setting('synchronous_commit'),
  coalesce(current_setting('synchronous_standby_names', true), ''),
  CASE WHEN pg_backend_pid() = %(pid)s THEN set_config('lock_timeout', %(lock_timeout)s, false) END,
  CASE WHEN pg_backend_pid() = %(pid)s AND current_setting('synchronous_commit') <> 'remote_apply'
    THEN set_config('synchronous_commit', %(synchronous_commit)s, false) END,
  CASE WHEN pg_backend_pid() = %(pid)s THEN set_config('tcp_keepalives_idle', '10', false)
    || set_config('tcp_keepalives_interval', '5', false) || set_config('tcp_keepalives_count', '3', false) END
"""
_PROBE: Final = "SELECT pg_backend_pid()"


class ServerFacts(NamedTuple):
    """What a server told of itself when a connection was opened."""

    version: int
    is_replica: bool
    fsync: bool
    full_page_writes: bool
    synchronous_commit: str
    """The session's default, before it was overruled."""
    standbys: str
    """``synchronous_standby_names``: empty if commits wait for no other machine."""
    is_pooled: bool


class Connecting:
    """Opens connections to one database."""

    def __init__(
        self, psycopg: Any, address: Address, *, durability: Durability, lock_wait_s: float, stamps: StampClock
    ) -> None:
        self.psycopg = psycopg
        self.errors: tuple[type[Exception], ...] = (psycopg.Error, UnicodeError, OverflowError, OSError)
        """What may be raised through a connection."""
        self.address = address
        self.facts: ServerFacts | None = None
        """What the server told last."""
        self._durability = durability
        self._lock_wait_s = lock_wait_s
        self._stamps = stamps

    @property
    def place(self) -> str:
        """How messages name the ledger."""
        return self.address.place

    # Connections

    def connect(self) -> Any:
        """Open one more connection, in autocommit mode and with the settings that hold for all.

        Raises:
            LedgerBusy: the server takes no more connections at the moment.
            LedgerError: it is out of reach or refuses.
        """
        seconds = max(_LIBPQ_CONNECT_S_MIN, min(_CONNECT_S_MAX, int(self._lock_wait_s)))
        connection: Any = None
        refused: LedgerError | None = None
        try:
            connection = self.psycopg.connect(
                autocommit=True, **{"connect_timeout": seconds, **self.address.parameters, "client_encoding": "utf8"}
            )
        except self.errors as error:
            refused = refused_connection(error, self.place)
        if refused is not None:  # outside of the block: libpq's words may hold the address
            raise refused
        try:
            self.facts = self._settle(connection)
        except BaseException as error:
            with suppress(*self.errors):
                connection.close()
            if isinstance(error, self.errors):
                raise translate(error, self.place) from error
            raise
        return connection

    def _settle(self, connection: Any) -> ServerFacts:
        told_pid, begun = connection.info.backend_pid, _ambient.monotonic_ns()
        wanted = {
            "pid": told_pid,
            "lock_timeout": str(_milliseconds(self._lock_wait_s)),
            "synchronous_commit": "on" if self._durability is Durability.FULL else "off",
        }
        if self.address.is_pooled is not None:
            wanted["pid"] = 0 if self.address.is_pooled else told_pid
        row = connection.execute(_SETTLE, wanted, prepare=False).fetchone()
        pid, server_us, is_replica, fsync, full_page_writes, synchronous_commit, standbys, *_ = row
        self._stamps.adjust(server_us, begun)
        pooled = pid != told_pid if self.address.is_pooled is None else self.address.is_pooled
        if pooled:
            connection.prepare_threshold = None
        return ServerFacts(
            connection.info.server_version, is_replica, fsync, full_page_writes, synchronous_commit, standbys, pooled
        )

    # What every transaction begins with

    def begin(self, level: str, *, wait_s: float, relaxed: bool) -> list[str]:
        """Return the statements that begin a transaction, for all connections alike."""
        facts = self.facts
        assert facts is not None  # noqa: S101 - there is a connection
        statements = [f"BEGIN ISOLATION LEVEL {level}"]
        if facts.is_pooled or wait_s < self._lock_wait_s:
            statements.append(f"SET LOCAL lock_timeout = {_milliseconds(min(wait_s, self._lock_wait_s))}")
        if relaxed or (facts.is_pooled and self._durability is Durability.NORMAL):
            statements.append("SET LOCAL synchronous_commit = off")
        elif facts.is_pooled and facts.synchronous_commit not in ("on", _WAITS_FOR_ALL):
            statements.append("SET LOCAL synchronous_commit = on")
        return statements

    # Refusals

    def refuse_unfit(self, connection: Any) -> None:
        """Raise LedgerError where the server cannot keep what a ledger promises."""
        facts = self.facts
        assert facts is not None  # noqa: S101 - there is a connection
        if facts.version < _VERSION_MIN:
            raise LedgerError(
                f"The server of {self.place} is PostgreSQL {facts.version // 10_000}.",
                hint="Nothing was changed. This library needs 14 or later.",
            )
        if self._durability is Durability.FULL and not facts.fsync and not facts.is_replica:
            raise LedgerError(
                f"The server of {self.place} does not sync its log to the disk (fsync = off): no commit is durable.",
                hint='Nothing was changed. Set fsync = on, or open the ledger with durability="normal".',
            )
        if facts.is_pooled:
            self._refuse_statement_pooler(connection)

    def _refuse_statement_pooler(self, connection: Any) -> None:
        """Raise LedgerError if the pooler takes the connection away within a transaction."""
        try:
            connection.execute("BEGIN")
            [first, second] = [connection.execute(_PROBE, prepare=False).fetchone() for _ in range(2)]
            connection.execute("ROLLBACK")
        except self.errors:
            first, second = None, ()
        if first != second:
            raise LedgerError(
                f"The pooler in front of {self.place} does not keep a transaction on one connection.",
                hint="Nothing was changed. Set its pool_mode to transaction or session, or connect to the server.",
            )


def _milliseconds(seconds: float) -> int:
    """Return `seconds` as a time-out: 0 would mean none."""
    return max(1, min(_TIMEOUT_MS_MAX, int(seconds * 1000)))
