"""``uow.sql``: decides for each statement whether it can wait in the buffer or has to run at once.

Promise: a statement is understood by SQLite itself before anything runs (see `engines._sql_guard`); one that only
writes rows waits like any other write, one that returns rows or changes the schema runs at once in the transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import _ambient
from memoryos_uow._names import SQL_STORE, plain, text_problem
from memoryos_uow._transactions import blaming
from memoryos_uow.abc import Write
from memoryos_uow.engines._contract import Answer
from memoryos_uow.errors import UsageError
from memoryos_uow.stores._sql import check_parameters, statement_content

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from memoryos_uow._streaming import Streaming
    from memoryos_uow._transactions import UnitTransactions
    from memoryos_uow._unit_state import UnitState
    from memoryos_uow.engines._pg_guard import PostgresGuard
    from memoryos_uow.engines._sql_guard import SqlGuard, Statement


class SqlCalls:
    """Runs the application's own SQL inside units."""

    def __init__(self, guard: SqlGuard | PostgresGuard, transactions: UnitTransactions, streaming: Streaming) -> None:
        self._guard = guard
        self._transactions = transactions
        self._relieve = streaming.relieve

    def run(
        self, unit: UnitState, sql: object, parameters: Sequence[object] | Mapping[str, object]
    ) -> list[tuple[Any, ...]]:
        """Buffer or run one statement; see `UnitOfWork.sql`."""
        with blaming(unit, SQL_STORE):
            text = _check_text(sql, unit.facts.limits.sql_characters)
            values = check_parameters(parameters)
            statement = self._understand(unit, text, values)
            if statement.operation is None:
                return self._run_now(unit, text, values) if statement.returns_rows else []
            content = statement_content(text, values)
            write = Write(SQL_STORE, statement.operation, None, (text, values), content, _ambient.now_text())
            if statement.returns_rows or statement.changes_schema:
                unit.changed_schema |= statement.changes_schema
                return self._write_now(unit, write)
            if unit.buffer.add(write):
                self._relieve(unit)
            return []

    # For connections that other libraries use

    NOTHING: Final = Answer()

    def run_at_once(self, unit: UnitState, sql: object, parameters: Sequence[object] | Mapping[str, object]) -> Answer:
        """Run one statement now, whatever it does, and record it if it writes."""
        with blaming(unit, SQL_STORE):
            text = _check_text(sql, unit.facts.limits.sql_characters)
            values = check_parameters(parameters)
            statement = self._understand(unit, text, values)
            if statement.operation is None:
                return self._transactions.flush(unit).answer(text, values)
            content = statement_content(text, values)
            write = Write(SQL_STORE, statement.operation, None, (text, values), content, _ambient.now_text())
            unit.changed_schema |= statement.changes_schema
            unit.buffer.refuse_excess(write)
            tx = self._transactions.flush(unit)
            with tx.step():
                answer = tx.answer(text, values)
                full = unit.buffer.add_applied(write)
            if full:
                self._relieve(unit)
            return answer

    def ask(self, unit: UnitState, sql: str) -> Answer:
        """Run a statement that is known to do nothing but answer."""
        with blaming(unit, SQL_STORE):
            return self._transactions.flush(unit).answer(sql)

    def _understand(self, unit: UnitState, sql: str, parameters: tuple[object, ...] | dict[str, object]) -> Statement:
        if not unit.changed_schema:
            return self._guard.classify(sql, parameters)
        # Tables and triggers of the unit's own making: only its own connection sees them.
        return self._guard.classify(sql, parameters, inside=self._transactions.flush(unit))

    def _run_now(
        self, unit: UnitState, sql: str, parameters: tuple[object, ...] | dict[str, object]
    ) -> list[tuple[Any, ...]]:
        return list(self._transactions.flush(unit).answer(sql, parameters).rows)

    def _write_now(self, unit: UnitState, write: Write) -> list[tuple[Any, ...]]:
        """Run a statement that writes and cannot wait; one that fails half-way leaves nothing."""
        unit.buffer.refuse_excess(write)  # once it has run it is too late
        tx = self._transactions.flush(unit)
        with tx.step():
            rows = list(tx.answer(*write.payload).rows)
            full = unit.buffer.add_applied(write)
        if full:
            self._relieve(unit)
        return rows


def _check_text(sql: object, characters_max: int) -> str:
    if not isinstance(sql, str):
        raise UsageError(f"The SQL text is a {type(sql).__name__}, not a string.", hint="Nothing was written.")
    text = plain(sql)
    problem = text_problem(text)
    if len(text) > characters_max:
        problem = f"has {len(text):,} characters; the limit is {characters_max:,}"
    if problem:
        raise UsageError(f"The SQL text {problem}.", hint="Nothing was written.")
    return text
