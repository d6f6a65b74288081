"""One SQLite connection in use: as a reader, or as the ledger's open write transaction.

Promise: these classes are the `Reader` and `Transaction` of `memoryos_uow.abc`; whatever goes wrong below them arrives
as one of our errors. A transaction ends exactly once; ``decided`` says whether its commit is durable, whatever
exception is on its way. When SQLite itself rolls everything back (``ON CONFLICT ROLLBACK``, a full disk), the
transaction ends there and then: another statement on that connection would commit by itself.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from memoryos_uow._names import Dialect
from memoryos_uow.engines._contract import Answer, Stepping
from memoryos_uow.engines._sqlite_errors import FOREIGN, leaves_doubt, translate
from memoryos_uow.errors import LedgerError, UnitOfWorkError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

    from memoryos_uow.abc import Parameters


class SQLiteReader:
    """Queries on one connection that is lent: once given back, it answers no more."""

    dialect: Final = Dialect.SQLITE

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self._connection = connection
        self._path = path
        self._lent = True
        self._streams: set[sqlite3.Cursor] = set()

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection itself, for reading a cursor's description or setting an authorizer.

        Raises:
            LedgerError: it was given back, and may serve somebody else by now.
        """
        return self._connection if self._lent else self._over()

    def _over(self) -> NoReturn:
        raise LedgerError(
            "This transaction, or reader, of the ledger is over.",
            hint="Nothing of the unit was written after its end. Begin another one.",
        )

    # What units run most often asks for the connection without a call in between: `connection` says what it does.

    def rows(self, sql: str, parameters: Parameters = (), /) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        try:
            return (self._connection if self._lent else self._over()).execute(sql, parameters).fetchall()
        except FOREIGN as error:
            raise self._failed(error, parameters) from error

    def stream(self, sql: str, parameters: Parameters = (), /) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query one by one."""
        try:
            cursor = self.connection.execute(sql, parameters)
            self._streams.add(cursor)
            try:
                # Not the cursor itself: `yield from` would close it when the generator is dropped, and raise then.
                yield from iter(cursor.fetchone, None)
            finally:
                self._close(cursor)
        except FOREIGN as error:
            raise self._failed(error, parameters) from error

    def answer(self, sql: str, parameters: Parameters = (), /) -> Answer:
        """Run one statement and return all that a cursor would tell of it."""
        try:
            cursor = self.connection.execute(sql, parameters)
            return Answer(cursor.fetchall(), cursor.description, cursor.rowcount, cursor.lastrowid)
        except FOREIGN as error:
            raise self._failed(error, parameters) from error

    def give_back(self) -> None:
        """End the loan. A stream that was not read to its end would keep the next borrower in the past."""
        self._lent = False
        for cursor in list(self._streams):
            self._close(cursor)

    def _close(self, cursor: sqlite3.Cursor) -> None:
        self._streams.discard(cursor)
        with suppress(*FOREIGN):
            cursor.close()

    def _failed(self, error: BaseException, parameters: object) -> UnitOfWorkError:
        """Return what a failed statement's error is in our words."""
        return translate(error, self._path, with_values=parameters != ())


class OnEnd(Protocol):
    """What the engine does when a transaction has ended."""

    def __call__(self, *, sound: bool, decided: bool) -> None:
        """Take the connection back; `sound` is False when it must not be used again."""


class SQLiteTransaction(SQLiteReader, Stepping):
    """The open write transaction: it holds the ledger's write lock until `commit` or `rollback`."""

    def __init__(self, connection: sqlite3.Connection, path: str, *, on_end: OnEnd) -> None:
        super().__init__(connection, path)
        self.busy_waits = 0
        """How often the lock was not free when asked for."""
        self.decided = False
        """True once the commit is durable."""
        self.answer_lost = False
        """True when the commit failed in such a way that a crash might still bring it back."""
        self._on_end: OnEnd | None = on_end
        self._trusted = True

    @property
    def open(self) -> bool:
        """Whether the transaction can still be used."""
        return self._on_end is not None

    def execute(self, sql: str, parameters: Parameters = (), /) -> int:
        """Run one statement; return the number of rows it changed."""
        try:
            return (self._connection if self._lent else self._over()).execute(sql, parameters).rowcount
        except FOREIGN as error:
            raise self._failed(error, parameters) from error

    def execute_many(self, sql: str, rows: Iterable[Sequence[object]], /) -> int:
        """Run one statement for each of `rows`; return the number of rows changed in all."""
        try:
            return (self._connection if self._lent else self._over()).executemany(sql, rows).rowcount
        except FOREIGN as error:
            raise self._failed(error, rows) from error

    def later(self, sql: str, parameters: Parameters = (), /) -> None:
        """Run one statement whose answer nobody needs: at once, there is no way to go."""
        self.execute(sql, parameters)

    def insert(self, sql: str, parameters: Parameters = (), /) -> int:
        """Run one INSERT; return the rowid it gave."""
        try:
            return (self._connection if self._lent else self._over()).execute(sql, parameters).lastrowid or 0
        except FOREIGN as error:
            raise self._failed(error, parameters) from error

    def learn(self, version: int, /) -> None:
        """Do nothing: whoever holds the lock gives the greatest number."""

    def _failed(self, error: BaseException, parameters: object) -> UnitOfWorkError:
        if self.open and not self._connection.in_transaction:
            self._end(sound=False)  # rolled back by SQLite itself: nothing may run on this connection any more
        problem = super()._failed(error, parameters)
        # The connection may be what is wrong: SQLite opens a file that it cannot open for writing only for reading,
        # without a word, and then even begins a transaction. What follows gets a new one.
        self._trusted = self._trusted and not isinstance(problem, LedgerError)
        return problem

    def savepoint(self, name: str) -> None:
        """Mark a point to return to; `name` is an identifier of ours."""
        self.execute(f"SAVEPOINT {name}")

    def release(self, name: str) -> None:
        """Forget the savepoint; what came after it stays."""
        self.execute(f"RELEASE {name}")

    def rollback_to(self, name: str) -> None:
        """Undo what came after the savepoint, and forget it.

        Never fails: where SQLite cannot, everything is undone and the transaction is over (`open`).
        """
        try:
            if self.open:
                self.execute(f"ROLLBACK TO {name}")
                self.execute(f"RELEASE {name}")
        except UnitOfWorkError:
            if self.open:
                self.rollback()

    def commit(self) -> None:
        """Make everything durable. On return the decision stands.

        Raises:
            LedgerError: it could not be made durable; nothing of it is visible, and the connection is given up.
        """
        connection = self.connection
        failed = False
        try:
            connection.execute("COMMIT")
        except FOREIGN as error:
            failed = True
            self.answer_lost = leaves_doubt(error)
            raise translate(error, self._path) from error
        finally:
            # A signal handler may raise right after SQLite's commit returned: the fact counts, not the exception.
            self.decided = not failed and not connection.in_transaction
            self._end(sound=self.decided)

    def rollback(self) -> None:
        """Undo everything. Never fails: where SQLite cannot roll back, giving up the connection does it."""
        if not self.open:
            return
        sound = self._trusted
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except FOREIGN:
            sound = False
        finally:
            self._end(sound=sound and not self._connection.in_transaction)

    def _end(self, *, sound: bool) -> None:
        on_end, self._on_end = self._on_end, None
        try:
            self.give_back()
        finally:
            if on_end is not None:
                on_end(sound=sound, decided=self.decided)
