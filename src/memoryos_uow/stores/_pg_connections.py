"""Connections of one process to one PostgreSQL database that is not the ledger's.

Promise: no connection is shared over a fork or used by two threads at once; one that died while idle is replaced
without anybody noticing. Nothing is kept in a session (no prepared statements, settings, temporary tables or locks), so
the address may be that of a pooler that lends its connections for one transaction each.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import _ambient
from memoryos_uow.errors import UsageError
from memoryos_uow.stores._pg_errors import is_lost, translate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memoryos_uow.stores._pg_address import Address

IDLE_MAX: Final = 8
_of_parents: Final[list[Any]] = []
"""Connections that came over a fork: the parent's, to be left alone for ever."""


class Connections:
    """Lends connections in autocommit mode: transactions are begun and ended in so many words."""

    def __init__(self, address: Address, store: str, timeout_s: float) -> None:
        self.place: Final = address.place
        self._url = address.url
        self._store = store
        self._timeout_s = timeout_s
        self._mutex = threading.Lock()
        self._idle: list[Any] = []
        self._pid = 0
        self._driver: Any = None

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What may be raised through a lent connection, beside our own."""
        return (self.driver.Error, OSError, UnicodeError)

    @property
    def driver(self) -> Any:
        """psycopg, imported when it is first needed.

        Raises:
            UsageError: it is not installed.
        """
        if self._driver is None:
            try:
                import psycopg  # noqa: PLC0415 - only who has such a store needs it
            except ImportError as error:
                raise UsageError(
                    "A store in PostgreSQL needs psycopg.",
                    hint='Install it: pip install "memoryos-uow[postgres]".',
                    store=self._store,
                ) from error
            self._driver = psycopg
        return self._driver

    @contextmanager
    def lend(self, first: str) -> Iterator[Any]:
        """Lend a connection on which the statement `first` has been run; what psycopg raises becomes a StoreError."""
        connection = self.take(first)
        try:
            try:
                yield connection
            except self.errors as error:
                raise translate(error, self.place, self._store) from error
        except BaseException:
            self.drop(connection)
            raise
        self.give_back(connection)

    def rows(self, query: str, parameters: dict[str, object]) -> list[tuple[Any, ...]]:
        """Return the rows of one query, run by itself.

        Raises:
            StoreUnavailable: the server is out of reach or refuses.
            StoreError: the query cannot be answered.
        """
        connection, cursor = self._take(query, parameters)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        self.give_back(connection)
        return found

    def take(self, first: str) -> Any:
        """Return a connection on which the statement `first` has been run; the caller gives it back or drops it.

        Raises:
            StoreUnavailable: the server is out of reach or refuses.
            UsageError: psycopg is not installed.
        """
        return self._take(first, None)[0]

    def _take(self, statement: str, parameters: dict[str, object] | None) -> tuple[Any, Any]:
        while (connection := self._from_idle()) is not None:
            try:
                return connection, connection.execute(statement, parameters)
            except self.errors as error:
                connection.close()
                if not is_lost(error):
                    raise translate(error, self.place, self._store) from error
        try:
            connection = self._connect()
            try:
                return connection, connection.execute(statement, parameters)
            except BaseException:
                connection.close()
                raise
        except self.errors as error:
            raise translate(error, self.place, self._store) from error

    def _from_idle(self) -> Any:
        with self._mutex:
            self._notice_fork()
            return self._idle.pop() if self._idle else None

    def _notice_fork(self) -> None:
        if self._pid != _ambient.process_id():
            _of_parents.extend(self._idle)
            self._idle = []
            self._pid = _ambient.process_id()

    def _connect(self) -> Any:
        seconds = max(2, int(self._timeout_s))
        return self.driver.connect(
            self._url,
            autocommit=True,
            prepare_threshold=None,
            connect_timeout=seconds,
            tcp_user_timeout=seconds * 1000,
            keepalives_idle=seconds,
            keepalives_interval=max(1, seconds // 3),
            keepalives_count=3,
            application_name="memoryos-uow",
            client_encoding="utf8",
        )

    def give_back(self, connection: Any) -> None:
        """Keep the connection for whoever comes next, if it is sound and in no transaction."""
        with self._mutex:
            self._notice_fork()
            sound = not connection.closed and int(connection.info.transaction_status) == 0
            if sound and len(self._idle) < IDLE_MAX:
                self._idle.append(connection)
                return
        connection.close()

    @staticmethod
    def drop(connection: Any) -> None:
        """Close the connection, and with it end its transaction."""
        connection.close()

    def close(self) -> None:
        """Close what is idle."""
        with self._mutex:
            self._notice_fork()
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
