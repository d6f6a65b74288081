"""One SQLite connection in use: as a reader, or as the ledger's open write transaction.

Promise: these classes are the `Reader` and `Transaction` of `memoryos_uow.abc`; whatever goes wrong below them arrives
as one of our errors. A transaction ends exactly once; ``decided`` says whether its commit is durable, whatever
exception is on its way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from memoryos_uow.engines._sqlite_errors import FOREIGN, leaves_doubt, translate

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

    from memoryos_uow.abc import Parameters


class SQLiteReader:
    """Queries on one connection."""

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self._connection = connection
        self._path = path

    def rows(self, sql: str, parameters: Parameters = (), /) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except FOREIGN as error:
            raise translate(error, self._path) from error

    def stream(self, sql: str, parameters: Parameters = (), /) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query one by one."""
        try:
            yield from self._connection.execute(sql, parameters)
        except FOREIGN as error:
            raise translate(error, self._path) from error


class OnEnd(Protocol):
    """What the engine does when a transaction has ended."""

    def __call__(self, *, sound: bool, decided: bool) -> None:
        """Take the connection back; `sound` is False when it must not be used again."""


class SQLiteTransaction(SQLiteReader):
    """The open write transaction: it holds the ledger's write lock until `commit` or `rollback`."""

    def __init__(self, connection: sqlite3.Connection, path: str, *, busy_waits: int, on_end: OnEnd) -> None:
        super().__init__(connection, path)
        self.busy_waits = busy_waits
        """How often the lock was not free when asked for."""
        self.decided = False
        """True once the commit is durable."""
        self.answer_lost = False
        """True when the commit failed in such a way that a crash might still bring it back."""
        self._on_end: OnEnd | None = on_end

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection itself, for reading a cursor's description or setting an authorizer."""
        return self._connection

    @property
    def open(self) -> bool:
        """Whether the transaction can still be used."""
        return self._on_end is not None

    def execute(self, sql: str, parameters: Parameters = (), /) -> int:
        """Run one statement; return the number of rows it changed."""
        try:
            return self._connection.execute(sql, parameters).rowcount
        except FOREIGN as error:
            raise translate(error, self._path) from error

    def execute_many(self, sql: str, rows: Iterable[Sequence[object]], /) -> int:
        """Run one statement for each of `rows`; return the number of rows changed in all."""
        try:
            return self._connection.executemany(sql, rows).rowcount
        except FOREIGN as error:
            raise translate(error, self._path) from error

    def insert(self, sql: str, parameters: Parameters = (), /) -> int:
        """Run one INSERT; return the rowid it gave."""
        try:
            return self._connection.execute(sql, parameters).lastrowid or 0
        except FOREIGN as error:
            raise translate(error, self._path) from error

    def savepoint(self, name: str) -> None:
        """Mark a point to return to; `name` is an identifier of ours."""
        self.execute(f"SAVEPOINT {name}")

    def release(self, name: str) -> None:
        """Forget the savepoint; what came after it stays."""
        self.execute(f"RELEASE {name}")

    def rollback_to(self, name: str) -> None:
        """Undo what came after the savepoint, and forget it."""
        self.execute(f"ROLLBACK TO {name}")
        self.execute(f"RELEASE {name}")

    def commit(self) -> None:
        """Make everything durable. On return the decision stands.

        Raises:
            LedgerError: it could not be made durable; nothing of it is visible, and the connection is given up.
        """
        failed = False
        try:
            self._connection.execute("COMMIT")
        except FOREIGN as error:
            failed = True
            self.answer_lost = leaves_doubt(error)
            raise translate(error, self._path) from error
        finally:
            # A signal handler may raise right after SQLite's commit returned: the fact counts, not the exception.
            self.decided = not failed and not self._connection.in_transaction
            self._end(sound=self.decided)

    def rollback(self) -> None:
        """Undo everything. Never fails: where SQLite cannot roll back, giving up the connection does it."""
        sound = True
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except FOREIGN:
            sound = False
        finally:
            self._end(sound=sound and not self._connection.in_transaction)

    def _end(self, *, sound: bool) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(sound=sound, decided=self.decided)
