"""One PostgreSQL connection in use: as a reader, or as a unit's open transaction.

Promise: the same face as SQLite's (`_contract`); whatever goes wrong below arrives as one of our errors. Statements
whose answers nobody needs travel with the next one that somebody waits for (`later`; BEGIN is the first of them), so a
unit takes few round trips, however many writes it has.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from memoryos_uow._names import Dialect
from memoryos_uow.engines._contract import Answer
from memoryos_uow.engines._pg_errors import is_lost, translate
from memoryos_uow.engines._pg_sql import Translated, foreign, own
from memoryos_uow.errors import LedgerError, UnitOfWorkError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from memoryos_uow.abc import Parameters

_ROWS_FETCHED: Final = 1000
_SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class PostgresReader:
    """Queries on one connection that is lent: once given back, it answers no more."""

    dialect: Final = Dialect.POSTGRESQL

    def __init__(self, connection: Any, place: str, foreign_errors: tuple[type[BaseException], ...]) -> None:
        self._connection = connection
        self._place = place
        self._errors = foreign_errors
        self._lent = True
        self._queued: list[tuple[str, Any]] = []
        self._unsent = True
        self._streams = 0

    @property
    def connection(self) -> Any:
        """The psycopg connection.

        Raises:
            LedgerError: it was given back, and may serve somebody else by now.
        """
        if not self._lent:
            raise LedgerError(
                "This transaction, or reader, of the ledger is over.",
                hint="Nothing of the unit was written after its end. Begin another one.",
            )
        return self._connection

    def rows(self, sql: str, parameters: Parameters = (), /) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        cursor = self._run(own(sql), parameters)
        return cursor.fetchall() if cursor.description is not None else []

    def answer(self, sql: str, parameters: Parameters = (), /) -> Answer:
        """Run one statement of the application's and return all that a cursor would tell of it."""
        cursor = self._run(foreign(sql), parameters)
        rows = cursor.fetchall() if cursor.description is not None else []
        return Answer(rows, cursor.description, cursor.rowcount)

    def stream(self, sql: str, parameters: Parameters = (), /) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query one by one, all from one snapshot; other queries may run in between."""
        statement = own(sql)
        self._streams += 1
        name = f"uow_{self._streams}"
        alone = self._outside_transaction()
        try:
            if alone:
                self._run(Translated(_SNAPSHOT, numbered=False, table=None), ())
            with self.connection.cursor(name=name) as cursor:
                cursor.itersize = _ROWS_FETCHED
                self._flush()
                cursor.execute(statement.text, statement.bind(parameters))
                while rows := cursor.fetchmany(_ROWS_FETCHED):
                    yield from rows
        except self._errors as error:
            raise self._failed(error, parameters) from error
        finally:
            self._streams -= 1
            if alone and not self._streams and self._lent:
                with suppress(*self._errors):
                    self._connection.execute("ROLLBACK")

    def give_back(self) -> None:
        """End the loan."""
        self._lent = False

    def _outside_transaction(self) -> bool:
        return not self._queued and int(self.connection.info.transaction_status) == 0

    def _run(self, statement: Translated, parameters: Parameters, suffix: str = "") -> Any:
        """Send what waits together with `statement`; return its cursor."""
        try:
            return self._send(statement.text + suffix, statement.bind(parameters))
        except self._errors as error:
            raise self._failed(error, parameters) from error

    def _send(self, text: str, bound: Any) -> Any:
        connection = self.connection
        if not self._queued:
            return connection.execute(text, bound or None)
        with connection.pipeline():
            self._send_queued(connection)
            return connection.execute(text, bound or None)

    def _flush(self) -> None:
        if self._queued:
            with self.connection.pipeline():
                self._send_queued(self._connection)

    def _send_queued(self, connection: Any) -> None:
        queued, self._queued = self._queued, []
        self._unsent = False
        for text, bound in queued:
            connection.execute(text, bound or None)

    def _failed(self, error: BaseException, parameters: object) -> UnitOfWorkError:
        """Return what a failed statement's error is in our words."""
        return translate(error, self._place, with_values=parameters != ())


class OnEnd(Protocol):
    """What the engine does when a transaction has ended, and whom it asks while it lasts."""

    def __call__(self, connection: Any, *, sound: bool) -> None:
        """Take the connection back; `sound` is False when it must not be used again."""


class PostgresTransaction(PostgresReader):
    """An open transaction: one of many on the ledger at the same time."""

    def __init__(
        self,
        connection: Any,
        place: str,
        foreign_errors: tuple[type[BaseException], ...],
        *,
        begin: Sequence[str],
        stamp: int,
        on_end: OnEnd,
    ) -> None:
        super().__init__(connection, place, foreign_errors)
        self._queued = [(text, None) for text in begin]
        self._begun_with = len(begin)
        self._on_end: OnEnd | None = on_end
        self.stamp: Final = stamp
        """What the records that this transaction writes get as their version."""
        self.busy_waits = 0
        self.decided = False
        self.answer_lost = False

    @property
    def open(self) -> bool:
        """Whether the transaction can still be used."""
        return self._on_end is not None

    def execute(self, sql: str, parameters: Parameters = (), /) -> int:
        """Run one statement; return the number of rows it changed."""
        changed: int = self._run(own(sql), parameters).rowcount
        return changed

    def execute_many(self, sql: str, rows: Iterable[Sequence[object]], /) -> int:
        """Run one statement for each of `rows`, in one round trip; return the number of rows changed in all."""
        statement = own(sql)
        bound = [statement.bind(row) for row in rows]
        if not bound:
            return 0
        try:
            with self.connection.pipeline(), self._connection.cursor() as cursor:
                self._send_queued(self._connection)
                cursor.executemany(statement.text, bound)
            changed: int = cursor.rowcount
        except self._errors as error:
            raise self._failed(error, rows) from error
        return changed

    def later(self, sql: str, parameters: Parameters = (), /) -> None:
        """Send one statement whose answer nobody needs with the next one; its errors arrive there."""
        statement = own(sql)
        self._queued.append((statement.text, statement.bind(parameters)))

    def insert(self, sql: str, parameters: Parameters = (), /) -> Any:
        """Run one INSERT; return the key that the row was given: ``uow_id`` of a unit, else ``id``."""
        statement = own(sql)
        key = "uow_id" if statement.table == "unit_of_work" else "id"
        return self._run(statement, parameters, f" RETURNING {key}").fetchone()[0]

    def savepoint(self, name: str) -> None:
        """Mark a point to return to; `name` is an identifier of ours."""
        self.later(f"SAVEPOINT {name}")

    def release(self, name: str) -> None:
        """Forget the savepoint; what came after it stays."""
        self.later(f"RELEASE {name}")

    def rollback_to(self, name: str) -> None:
        """Undo what came after the savepoint, and forget it. Never fails: if need be the transaction is over."""
        if not self.open:
            return
        try:
            for number, (text, _) in enumerate(self._queued):
                if text == f"SAVEPOINT {name}":  # the server has not heard of it
                    del self._queued[number:]
                    return
            self._queued.clear()
            with self.connection.pipeline():
                self._connection.execute(f"ROLLBACK TO {name}")
                self._connection.execute(f"RELEASE {name}")
        except self._errors:
            self.rollback()
        except UnitOfWorkError:
            self.rollback()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Undo what the block did, if an exception leaves it."""
        self.savepoint("uow_step")
        try:
            yield
        except BaseException:
            self.rollback_to("uow_step")
            raise
        self.release("uow_step")

    def commit(self) -> None:
        """Make everything durable. On return the decision stands.

        Raises:
            ConflictError: another transaction was faster; nothing is visible.
            LedgerError: it could not be made durable, or the answer was lost (`answer_lost`).
        """
        if self._unsent and len(self._queued) == self._begun_with:
            self.decided = True
            self._end(sound=True)
            return
        self.answer_lost = True  # whatever raises from here on, until the server has said what became of it
        try:
            done = self._send("COMMIT", None)
            self.answer_lost = False
            self.decided = done.statusmessage == "COMMIT"
        except self._errors as error:
            self.answer_lost = is_lost(error)
            raise translate(error, self._place) from error
        finally:
            self._end(sound=self.decided)
        if not self.decided:
            raise LedgerError("PostgreSQL undid the transaction instead of committing it.", hint="Run the unit again.")

    def rollback(self) -> None:
        """Undo everything. Never fails: where the server cannot be told, giving up the connection does it."""
        if not self.open:
            return
        sound = False
        try:
            self._queued.clear()
            if int(self._connection.info.transaction_status) != 0:
                self._connection.execute("ROLLBACK")
            sound = int(self._connection.info.transaction_status) == 0
        except self._errors:
            sound = False
        finally:
            self._end(sound=sound)

    def _end(self, *, sound: bool) -> None:
        on_end, self._on_end = self._on_end, None
        self.give_back()
        if on_end is not None:
            on_end(self._connection, sound=sound)
