"""``uow.sql``: decides for each statement whether it can wait in the buffer or has to run at once.

Promise: a statement is understood by SQLite itself before anything runs (see `engines._sql_guard`); one that only
writes rows waits like any other write, one that returns rows or changes the schema runs at once in the transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memoryos_uow import _ambient
from memoryos_uow._names import text_problem
from memoryos_uow._transactions import blaming
from memoryos_uow.abc import Write
from memoryos_uow.engines._sql_guard import UnknownNameError
from memoryos_uow.errors import UsageError
from memoryos_uow.stores._sql import SQL_STORE, check_parameters, statement_content

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from memoryos_uow._transactions import UnitTransactions
    from memoryos_uow._unit_state import UnitState
    from memoryos_uow.engines._sql_guard import SqlGuard, Statement


class SqlCalls:
    """Runs the application's own SQL inside units."""

    def __init__(self, guard: SqlGuard, transactions: UnitTransactions) -> None:
        self._guard = guard
        self._transactions = transactions

    def run(
        self, unit: UnitState, sql: object, parameters: Sequence[object] | Mapping[str, object]
    ) -> list[tuple[Any, ...]]:
        """Buffer or run one statement; see `UnitOfWork.sql`."""
        with blaming(unit, SQL_STORE):
            text = _check_text(sql, unit.facts.limits.sql_characters)
            values = check_parameters(parameters)
            statement = self._understand(unit, text, values)
            if statement.operation is None:
                return self._run_now(unit, text, values)
            content = statement_content(text, values)
            write = Write(SQL_STORE, statement.operation, None, (text, values), content, _ambient.now_text())
            if statement.returns_rows or statement.changes_schema:
                rows = self._run_now(unit, text, values)
                unit.buffer.add(write)
                unit.buffer.applied += 1
                unit.changed_schema |= statement.changes_schema
                return rows
            unit.buffer.add(write)
            return []

    def _understand(self, unit: UnitState, sql: str, parameters: tuple[object, ...] | dict[str, object]) -> Statement:
        try:
            return self._guard.classify(sql, parameters)
        except UnknownNameError as unknown:
            if not unit.changed_schema:
                raise UsageError(f"SQLite refused the statement: {unknown}.", hint="Nothing was written.") from None
        # The name may be of the unit's own making, which only its own connection can see.
        tx = self._transactions.flush(unit)
        try:
            return self._guard.classify(sql, parameters, inside=tx.connection)
        except UnknownNameError as unknown:
            raise UsageError(f"SQLite refused the statement: {unknown}.", hint="Nothing was written.") from None

    def _run_now(
        self, unit: UnitState, sql: str, parameters: tuple[object, ...] | dict[str, object]
    ) -> list[tuple[Any, ...]]:
        return self._transactions.flush(unit).rows(sql, parameters)

    def close(self) -> None:
        """Let go of the guard's connection."""
        self._guard.close()


def _check_text(sql: object, characters_max: int) -> str:
    problem = None
    if not isinstance(sql, str):
        problem = f"is a {type(sql).__name__}, not a string"
    elif len(sql) > characters_max:
        problem = f"has {len(sql):,} characters; the limit is {characters_max:,}"
    else:
        problem = text_problem(sql)
    if problem:
        raise UsageError(f"The SQL text {problem}.", hint="Nothing was written.")
    return str(sql)
