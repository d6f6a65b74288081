"""Finds out what a SQL statement of the caller's would do, before it does it.

Promise: the answer comes from SQLite itself (its authorizer and EXPLAIN, https://sqlite.org/c3ref/set_authorizer.html),
not from reading the text; nothing is executed. Statements that would break a unit's atomicity (transactions,
savepoints, ATTACH, PRAGMA, temporary objects) or write tables of the library's own are refused.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final, NamedTuple

from memoryos_uow._names import Operation
from memoryos_uow.engines._sqlite_errors import FOREIGN, translate
from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from memoryos_uow.engines.sqlite import SQLiteEngine

_KNOWN_MAX: Final = 512
_NO_HARM: Final = "Nothing was written."

_ENDS_ATOMICITY: Final = {
    sqlite3.SQLITE_TRANSACTION: "BEGIN, COMMIT and ROLLBACK belong to the unit itself.",
    sqlite3.SQLITE_SAVEPOINT: "Use uow.savepoint() for savepoints.",
    sqlite3.SQLITE_ATTACH: "Other files cannot be attached inside a unit; register a store for them.",
    sqlite3.SQLITE_DETACH: "Files cannot be detached inside a unit.",
    sqlite3.SQLITE_PRAGMA: "Settings cannot be changed inside a unit.",
    sqlite3.SQLITE_CREATE_TEMP_TABLE: "Temporary objects would outlive the unit.",
    sqlite3.SQLITE_CREATE_TEMP_INDEX: "Temporary objects would outlive the unit.",
    sqlite3.SQLITE_CREATE_TEMP_TRIGGER: "Temporary objects would outlive the unit.",
    sqlite3.SQLITE_CREATE_TEMP_VIEW: "Temporary objects would outlive the unit.",
}
_CREATES: Final = frozenset(
    {
        sqlite3.SQLITE_CREATE_TABLE,
        sqlite3.SQLITE_CREATE_INDEX,
        sqlite3.SQLITE_CREATE_TRIGGER,
        sqlite3.SQLITE_CREATE_VIEW,
        sqlite3.SQLITE_CREATE_VTABLE,
    }
)
_DROPS: Final = frozenset(
    {
        sqlite3.SQLITE_DROP_TABLE,
        sqlite3.SQLITE_DROP_INDEX,
        sqlite3.SQLITE_DROP_TRIGGER,
        sqlite3.SQLITE_DROP_VIEW,
        sqlite3.SQLITE_DROP_VTABLE,
    }
)
_ALTERS: Final = frozenset({sqlite3.SQLITE_ALTER_TABLE, sqlite3.SQLITE_REINDEX, sqlite3.SQLITE_ANALYZE})
_ROW_WRITES: Final = {
    sqlite3.SQLITE_INSERT: Operation.CREATE,
    sqlite3.SQLITE_UPDATE: Operation.UPDATE,
    sqlite3.SQLITE_DELETE: Operation.DELETE,
}


class Statement(NamedTuple):
    """What a statement would do."""

    returns_rows: bool
    changes_schema: bool
    operation: Operation | None
    """How its writing is recorded; None for a statement that only reads."""


class UnknownNameError(Exception):
    """The statement names something that the committed schema lacks; it may be the unit's own, not yet committed."""


class SqlGuard:
    """Classifies statements on a connection of its own, and remembers what it found."""

    def __init__(self, engine: SQLiteEngine) -> None:
        self._engine = engine
        self._connection: sqlite3.Connection | None = None
        self._known: dict[str, Statement] = {}

    def classify(
        self, sql: str, parameters: Sequence[object] | Mapping[str, object], *, inside: sqlite3.Connection | None = None
    ) -> Statement:
        """Return what `sql` would do; `inside` is the unit's own connection when its schema must be seen.

        Raises:
            UsageError: not one valid statement, wrong number of parameters, or one that a unit may not run.
            UnknownNameError: a table or column that does not exist in the committed schema.
        """
        if sql in self._known:
            return self._known[sql]
        if inside is None and self._connection is None:
            self._connection = self._engine.connect()
        connection = inside or self._connection
        assert connection is not None  # noqa: S101 - for the type checker
        statement = self._ask(connection, sql, parameters)
        if not statement.changes_schema and inside is None and len(self._known) < _KNOWN_MAX:
            self._known[sql] = statement
        return statement

    def _ask(
        self, connection: sqlite3.Connection, sql: str, parameters: Sequence[object] | Mapping[str, object]
    ) -> Statement:
        witness = _Witness()
        connection.set_authorizer(witness)
        try:
            program = connection.execute(f"EXPLAIN {sql}", parameters).fetchall()
        except FOREIGN as error:
            if witness.refusal:
                raise UsageError(
                    f"A unit of work cannot run this statement. {witness.refusal}", hint=_NO_HARM
                ) from None
            if isinstance(error, sqlite3.OperationalError) and "no such " in str(error):
                raise UnknownNameError(str(error)) from error
            raise translate(error, str(self._engine.path)) from error
        finally:
            connection.set_authorizer(None)
        if not witness.actions:
            raise UsageError("The SQL text holds no statement.", hint=_NO_HARM)
        return Statement(
            returns_rows=any(step[1] == "ResultRow" for step in program),
            changes_schema=witness.changes_schema,
            operation=witness.operation(),
        )

    def close(self) -> None:
        """Close the guard's connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Witness:
    """The authorizer: notes what a statement would do and denies what it may not."""

    def __init__(self) -> None:
        self.actions: set[int] = set()
        self.refusal: str | None = None

    def __call__(
        self, action: int, first: str | None, second: str | None, _database: str | None, _via: str | None
    ) -> int:
        self.actions.add(action)
        if action in _ENDS_ATOMICITY:
            self.refusal = _ENDS_ATOMICITY[action]
        elif self._touches_ours(action, first, second):
            self.refusal = "Tables whose names begin with uow_, and unit_of_work, are the library's own."
        return sqlite3.SQLITE_DENY if self.refusal else sqlite3.SQLITE_OK

    @staticmethod
    def _touches_ours(action: int, first: str | None, second: str | None) -> bool:
        if action in (sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_CREATE_TRIGGER):
            return _is_ours(first) or _is_ours(second)
        if action == sqlite3.SQLITE_ALTER_TABLE:
            return _is_ours(second)
        return action in (_CREATES | _DROPS | _ROW_WRITES.keys()) and _is_ours(first)

    @property
    def changes_schema(self) -> bool:
        return bool(self.actions & (_CREATES | _DROPS | _ALTERS))

    def operation(self) -> Operation | None:
        """Return how the statement's writing is recorded; a schema change counts before the rows it touches."""
        for actions, operation in (
            (_CREATES, Operation.CREATE),
            (_DROPS, Operation.DELETE),
            (_ALTERS, Operation.UPDATE),
        ):
            if self.actions & actions:
                return operation
        written = [operation for action, operation in _ROW_WRITES.items() if action in self.actions]
        if len(written) > 1:
            return Operation.UPSERT
        return written[0] if written else None


def _is_ours(name: str | None) -> bool:
    return name is not None and (name.lower().startswith("uow_") or name.lower() == "unit_of_work")
