"""One PostgreSQL connection in use: as a reader, or as a unit's open transaction.

Promises

- The same face as SQLite's (`_contract`); whatever goes wrong below arrives as one of our errors.
- Statements whose answers nobody needs travel with the next one that somebody waits for (`later`; BEGIN is the first of
  them), so a unit takes few round trips, however many writes it has. Their errors arrive there too.
- A connection that turns out to be dead when it is first used is replaced, and nobody notices; later nothing is done
  twice. What was interrupted in the middle, by a signal handler for example, never goes back to the pool.
- A transaction ends exactly once; ``decided`` says whether its commit is durable, ``answer_lost`` that it may be.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow._names import Dialect
from memoryos_uow.engines._contract import Answer, Stepping
from memoryos_uow.engines._pg_errors import is_lost, of_moved_server, translate, without_values
from memoryos_uow.engines._pg_sql import Translated, foreign, own
from memoryos_uow.engines._pg_wire import Statement, exchange
from memoryos_uow.errors import LedgerError, UnitOfWorkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from memoryos_uow.abc import Parameters
    from memoryos_uow.engines._pg_clock import StampClock
    from memoryos_uow.engines._pg_pool import Loan
    from memoryos_uow.engines._pg_wire import Answered

_ROWS_FETCHED: Final = 1000
_SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_IDLE: Final = 0
_INTRANS: Final = 2


class PostgresReader:
    """Queries on one connection that is lent: once given back, it answers no more."""

    dialect: Final = Dialect.POSTGRESQL

    def __init__(self, loan: Loan, place: str, foreign_errors: tuple[type[Exception], ...]) -> None:
        self._loan = loan
        self._place = place
        self._errors = foreign_errors
        self._lent = True
        self._queued: list[Statement] = []
        self._used = False  # something was sent, so that nothing may be sent again on another connection
        self._sound = True
        self._streams: set[str] = set()
        self._has_snapshot = False  # begun for streams, and to be left with the last of them
        self._names = count(1)
        self._undone = 0  # how often the transaction went back to a savepoint

    @property
    def connection(self) -> Any:
        """The psycopg connection, on which the transaction has begun.

        Raises:
            LedgerError: it was given back, and may serve somebody else by now.
        """
        self._refuse_returned()
        if self._queued:
            try:
                self._exchange(())
            except self._errors as error:
                raise self._failed(error, ()) from without_values(error)
        return self._loan.connection

    def _refuse_returned(self) -> None:
        if not self._lent or not self._loan.is_ours:
            raise LedgerError(
                "This transaction, or reader, of the ledger is over.",
                hint="Nothing of the unit was written after its end. Begin another one.",
            )

    # Queries

    def rows(self, sql: str, parameters: Parameters = (), /) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        return self._run(own(sql), parameters).fetchall()

    def answer(self, sql: str, parameters: Parameters = (), /) -> Answer:
        """Run one statement of the application's and return all that a cursor would tell of it."""
        answered = self._run(foreign(sql), parameters)
        return Answer(answered.fetchall(), answered.description, answered.rowcount)

    def stream(self, sql: str, parameters: Parameters = (), /) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query one by one, all from one snapshot; other queries may run in between."""
        name, statement, undone = f"uow_{next(self._names)}", own(sql), self._undone
        if not self._queued and not self._streams and self._is_idle():
            self._has_snapshot = True
            self._queued.append(Statement(_SNAPSHOT))
        self._queued.append(
            Statement(f"DECLARE {name} NO SCROLL CURSOR FOR {statement.text}", statement.bind(parameters))
        )
        self._streams.add(name)
        fetch = Translated(f"FETCH FORWARD {_ROWS_FETCHED} FROM {name}", numbered=False, table=None)
        try:
            while rows := self._run(fetch, (), shown=parameters).fetchall():
                yield from rows
                if len(rows) < _ROWS_FETCHED:
                    break
        finally:
            self._end_stream(name, was_undone=undone != self._undone)

    def _end_stream(self, name: str, *, was_undone: bool) -> None:
        """Close the cursor, unless it went with the transaction, the loan, or a savepoint."""
        self._streams.discard(name)
        if not self._lent or was_undone or not self._loan.is_ours:
            return
        if self._has_snapshot:
            if not self._streams:
                self._leave_snapshot()
        elif int(self._loan.connection.info.transaction_status) == _INTRANS:
            self._queued.append(Statement(f"CLOSE {name}"))

    def _leave_snapshot(self) -> None:
        self._has_snapshot = False
        self._queued.clear()
        if not self._is_idle():
            try:
                self._loan.connection.execute("ROLLBACK")
            except self._errors:
                self._sound = False

    def _is_idle(self) -> bool:
        return int(self._loan.connection.info.transaction_status) == _IDLE

    def give_back(self) -> None:
        """End the loan; what was streaming ends too."""
        if self._lent:
            self._lent = False
            if self._loan.is_ours and self._streams:
                self._leave_snapshot()
            self._loan.give_back(sound=self._sound)

    # To the server and back

    def _run(
        self, statement: Translated, parameters: Parameters, *, suffix: str = "", shown: object = None
    ) -> Answered:
        """Send what waits together with `statement`; return what the server answers to it."""
        try:
            return self._exchange((Statement(statement.text + suffix, statement.bind(parameters)),))[-1]
        except self._errors as error:
            raise self._failed(error, parameters if shown is None else shown) from without_values(error)

    def _exchange(self, statements: Sequence[Statement], *, once: bool = False) -> list[Answered]:
        """Send `statements` behind everything that waits, in one round trip; return what the server answers to them.

        A connection that is found dead before anything was done on it is replaced, unless it must happen `once`.
        """
        self._refuse_returned()
        queued, self._queued = self._queued, []
        first, self._used = not self._used, True
        sound, self._sound = self._sound, False  # until we know: a signal handler may raise in between
        try:
            done = self._send(queued, statements)
        except self._errors as error:
            if not is_lost(error):
                self._sound = sound
                raise
            if not first or once:
                raise
            self._loan.renew()
            done = self._send(queued, statements)
        self._sound = sound
        return done

    def _send(self, queued: list[Statement], statements: Sequence[Statement]) -> list[Answered]:
        return exchange(self._loan.connection, [*queued, *statements])[len(queued) :]

    def _failed(self, error: BaseException, parameters: object) -> UnitOfWorkError:
        """Return what a failed statement's error is in our words."""
        if of_moved_server(error):
            self._sound = False
            self._loan.pool.drop_idle()
        return translate(error, self._place, with_values=parameters not in ((), None))


class PostgresTransaction(PostgresReader, Stepping):
    """An open transaction: one of many on the ledger at the same time."""

    def __init__(
        self,
        loan: Loan,
        place: str,
        foreign_errors: tuple[type[Exception], ...],
        *,
        begin: Sequence[str],
        stamps: StampClock,
        new_ids: Callable[[str, int], int],
    ) -> None:
        super().__init__(loan, place, foreign_errors)
        self._queued = [Statement(text) for text in begin]
        self._begun_with = len(begin)
        self._stamps = stamps
        self.new_ids: Final = new_ids
        """Gives the first of so many consecutive ids of a name; see `PostgresEngine.new_ids`."""
        self.stamp: Final = stamps.next()
        """What the records that this transaction writes get as their version."""
        self.busy_waits = 0
        self.decided = False
        self.answer_lost = False

    @property
    def open(self) -> bool:
        """Whether the transaction can still be used."""
        return self._lent

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
            answers = self._exchange([Statement(statement.text, values) for values in bound])
        except self._errors as error:
            raise self._failed(error, rows) from without_values(error)
        return sum(max(answer.rowcount, 0) for answer in answers)

    def run_foreign(self, statements: Iterable[tuple[str, Parameters]], /) -> None:
        """Run statements of the application's in their order, in one round trip; nobody needs the answers."""
        sent = [(foreign(sql), values) for sql, values in statements]
        try:
            self._exchange([Statement(statement.text, statement.bind(values)) for statement, values in sent])
        except self._errors as error:
            shown = [values for _, values in sent if values]
            raise self._failed(error, shown or None) from without_values(error)

    def later(self, sql: str, parameters: Parameters = (), /) -> None:
        """Send one statement whose answer nobody needs with the next one; its errors arrive there."""
        statement = own(sql)
        self._queued.append(Statement(statement.text, statement.bind(parameters)))

    def insert(self, sql: str, parameters: Parameters = (), /) -> Any:
        """Run one INSERT; return the key that the row was given: ``uow_id`` of a unit, else ``id``."""
        statement = own(sql)
        key = "uow_id" if statement.table == "unit_of_work" else "id"
        return self._run(statement, parameters, suffix=f" RETURNING {key}").fetchall()[0][0]

    def learn(self, version: int, /) -> None:
        """Have later transactions of this process give greater stamps than `version`, which was found on a record."""
        self._stamps.learn(version)

    # Savepoints

    def savepoint(self, name: str) -> None:
        """Mark a point to return to; `name` is an identifier of ours."""
        self._queued.append(Statement(f"SAVEPOINT {name}"))

    def release(self, name: str) -> None:
        """Forget the savepoint; what came after it stays."""
        self._queued.append(Statement(f"RELEASE {name}"))

    def rollback_to(self, name: str) -> None:
        """Undo what came after the savepoint, and forget it. Never fails: if need be the transaction is over."""
        if not self.open:
            return
        self._undone += 1
        for number in range(len(self._queued) - 1, -1, -1):
            if self._queued[number].text == f"SAVEPOINT {name}":  # the server has not heard of it
                del self._queued[number:]
                return
        self._queued = [Statement(f"ROLLBACK TO {name}")]
        try:
            self._exchange((Statement(f"RELEASE {name}"),), once=True)
        except self._errors:
            self.rollback()
        except UnitOfWorkError:
            self.rollback()

    # The end

    def commit(self) -> None:
        """Make everything durable. On return the decision stands.

        Raises:
            ConflictError: another transaction was faster; nothing is visible.
            LedgerError: it could not be made durable, or the answer was lost (`answer_lost`).
        """
        self._refuse_returned()
        if not self._used and len(self._queued) == self._begun_with:
            self.decided = True
            self.give_back()
            return
        self.answer_lost = True  # whatever raises from here on, until the server has said what became of it
        try:
            done = self._exchange((Statement("COMMIT"),), once=True)[-1]
            self.decided = done.status == "COMMIT"
            self.answer_lost = False
        except self._errors as error:
            self.answer_lost = is_lost(error)
            raise self._failed(error, ()) from without_values(error)
        finally:
            if self.answer_lost:
                self._sound = False
            self.rollback()
        if not self.decided:
            raise LedgerError("PostgreSQL undid the transaction instead of committing it.", hint="Run the unit again.")

    def rollback(self) -> None:
        """Undo everything. Never fails: where the server cannot be told, giving up the connection does it."""
        if not self.open:
            return
        self._queued.clear()
        self._streams.clear()
        if self._loan.is_ours and self._sound and not self._is_idle():
            self._sound = False
            with suppress(*self._errors):
                self._loan.connection.execute("ROLLBACK")
                self._sound = self._is_idle()
        self.give_back()
