"""Finds out what a SQL statement of the caller's would do, before it does it.

Promise: the answer comes from SQLite itself (its authorizer and EXPLAIN, https://sqlite.org/c3ref/set_authorizer.html),
not from reading the text; nothing is executed. Statements that would break a unit's atomicity (transactions,
savepoints, ATTACH, PRAGMA, VACUUM, temporary objects) or write tables of the library's own are refused. One exception:
the body of a trigger, which SQLite looks at only when it fires, is read as text and may not name these tables at all.
"""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from memoryos_uow._names import Operation
from memoryos_uow.engines._sqlite_errors import FOREIGN, translate
from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from memoryos_uow.engines._contract import EngineReader
    from memoryos_uow.engines.sqlite import SQLiteEngine

KNOWN_MAX: Final = 512
NO_HARM: Final = "Nothing was written."
OURS: Final = "Tables whose names begin with uow_, and unit_of_work, are the library's own."
OURS_NAMED: Final = re.compile(r"(?<![\w$])(?:uow_|unit_of_work(?![\w$]))", re.IGNORECASE)
TEMPORARY: Final = "Temporary objects would outlive the unit."

_ENDS_ATOMICITY: Final = {
    sqlite3.SQLITE_TRANSACTION: "BEGIN, COMMIT and ROLLBACK belong to the unit itself.",
    sqlite3.SQLITE_SAVEPOINT: "Use uow.savepoint() for savepoints.",
    sqlite3.SQLITE_ATTACH: "Other files cannot be attached inside a unit; register a store for them.",
    sqlite3.SQLITE_DETACH: "Files cannot be detached inside a unit.",
    sqlite3.SQLITE_PRAGMA: "Settings cannot be changed inside a unit.",
    sqlite3.SQLITE_CREATE_TEMP_TABLE: TEMPORARY,
    sqlite3.SQLITE_CREATE_TEMP_INDEX: TEMPORARY,
    sqlite3.SQLITE_CREATE_TEMP_TRIGGER: TEMPORARY,
    sqlite3.SQLITE_CREATE_TEMP_VIEW: TEMPORARY,
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
_ON_A_TABLE: Final = frozenset(  # the authorizer is told the object's name and, second, its table's
    {
        sqlite3.SQLITE_CREATE_INDEX,
        sqlite3.SQLITE_CREATE_TRIGGER,
        sqlite3.SQLITE_DROP_INDEX,
        sqlite3.SQLITE_DROP_TRIGGER,
    }
)
_ROW_WRITES: Final = {
    sqlite3.SQLITE_INSERT: Operation.CREATE,
    sqlite3.SQLITE_UPDATE: Operation.UPDATE,
    sqlite3.SQLITE_DELETE: Operation.DELETE,
}
_ON_VIRTUAL_TABLES: Final = frozenset({"VOpen", "VUpdate", "VBegin", "VRename", "VDestroy"})  # opcodes
_ASKED_BY_MODULES: Final = frozenset({"data_version", "page_size"})  # by full-text modules at their first use
_PAGES: Final = "sqlite_dbpage"  # a virtual table, where compiled in, through which raw pages can be written


class Statement(NamedTuple):
    """What a statement would do."""

    returns_rows: bool
    changes_schema: bool
    operation: Operation | None
    """How its writing is recorded; None for one that only reads, or has nothing to do (DROP TABLE IF EXISTS of none).

    A plain REPLACE counts as create: what it may replace, SQLite does not tell."""


# The text, and how many parameters or which names: that they fit is part of what SQLite checked.
_Question: TypeAlias = tuple[str, int | frozenset[str]]


class SqlGuard:
    """Classifies statements on a reader that it borrows, and remembers what it found.

    The reader is borrowed for one question. On a connection that threads share, one would hold SQLite's mutex and wait
    for the interpreter's lock (to call the authorizer) while another holds that lock and waits for the mutex.
    """

    def __init__(self, engine: SQLiteEngine) -> None:
        self._engine = engine
        self._known: dict[_Question, Statement] = {}
        self._schema_version: int | None = None

    def classify(
        self, sql: str, parameters: Sequence[object] | Mapping[str, object], *, inside: EngineReader | None = None
    ) -> Statement:
        """Return what `sql` would do; `inside` is the unit's own transaction when its schema must be seen.

        Raises:
            UsageError: not one valid statement, wrong number of parameters, or one that a unit may not run.
            LedgerError: the file could not be read.
        """
        if inside is not None:
            return self._ask(inside.connection, sql, parameters)
        question: _Question = (sql, frozenset(parameters) if isinstance(parameters, dict) else len(parameters))
        with self._engine.reader() as reader:
            known = self._known_under(reader.rows("PRAGMA schema_version")[0][0])
            statement = known.get(question) or self._ask(reader.connection, sql, parameters)
        if not statement.changes_schema and len(known) < KNOWN_MAX:
            known[question] = statement
        return statement

    def _known_under(self, schema_version: int) -> dict[_Question, Statement]:
        """Return what was found under this schema: a trigger made since may do more than the statement says."""
        if schema_version != self._schema_version:
            self._known, self._schema_version = {}, schema_version
        return self._known

    def _ask(
        self, connection: sqlite3.Connection, sql: str, parameters: Sequence[object] | Mapping[str, object]
    ) -> Statement:
        witness, program = self._explain(connection, sql, parameters)
        if any(step[1] in _ON_VIRTUAL_TABLES for step in program):
            # At its first use on a connection a virtual table prepares SQL of its own, which the witness heard of too.
            witness, program = self._explain(connection, sql, parameters)
        refusal = witness.second_thoughts(sql, program)
        if refusal:
            raise _refused(refusal)
        return Statement(
            returns_rows=any(step[1] == "ResultRow" for step in program),
            changes_schema=witness.changes_schema,
            operation=witness.operation(),
        )

    def _explain(
        self, connection: sqlite3.Connection, sql: str, parameters: Sequence[object] | Mapping[str, object]
    ) -> tuple[_Witness, list[tuple[Any, ...]]]:
        witness = _Witness()
        try:
            # EXPLAIN goes by the schema as this connection read it last; a statement that runs sees whether it changed.
            connection.execute("SELECT 1 FROM sqlite_schema LIMIT 0")
            connection.set_authorizer(witness)
            cursor = connection.execute(f"EXPLAIN {sql}", parameters)
            program = cursor.fetchall()
        except FOREIGN as error:
            if witness.refusal:
                raise _refused(witness.refusal) from None
            raise translate(error, str(self._engine.path)) from error
        finally:
            connection.set_authorizer(None)
        if cursor.description[1][0] != "opcode":  # the text goes on behind EXPLAIN with QUERY PLAN
            raise UsageError('SQLite refused the statement: near "QUERY": syntax error.', hint=NO_HARM)
        return witness, program


class _Witness:
    """The authorizer: notes what a statement would do and denies what it may not."""

    def __init__(self) -> None:
        self.actions: set[int] = set()
        self.refusal: str | None = None
        self._written: list[tuple[int, str | None]] = []  # by the statement itself, not by triggers
        self._renames_table = False

    def __call__(
        self, action: int, first: str | None, second: str | None, database: str | None, via: str | None
    ) -> int:
        self.actions.add(action)
        if action == sqlite3.SQLITE_PRAGMA and second is None and first in _ASKED_BY_MODULES:
            pass  # second_thoughts will know whether it was the statement itself
        elif action in _ENDS_ATOMICITY:
            self.refusal = _ENDS_ATOMICITY[action]
        elif action in _CREATES and database == "temp":
            self.refusal = TEMPORARY
        elif self._touches_ours(action, first, second):
            self.refusal = OURS
        elif action in _ROW_WRITES and via is None:
            self._written.append((action, first))
        elif action == sqlite3.SQLITE_FUNCTION:
            self._renames_table |= second == "sqlite_rename_table"
        return sqlite3.SQLITE_DENY if self.refusal else sqlite3.SQLITE_OK

    @staticmethod
    def _touches_ours(action: int, first: str | None, second: str | None) -> bool:
        if action in _ON_A_TABLE:
            return _is_ours(first) or _is_ours(second)
        if action == sqlite3.SQLITE_ALTER_TABLE:
            return _is_ours(second)
        if action == sqlite3.SQLITE_CREATE_VTABLE:
            return _would_be_ours(first)
        return action in (_CREATES | _DROPS | _ROW_WRITES.keys()) and (_is_ours(first) or first == _PAGES)

    def second_thoughts(self, sql: str, program: list[tuple[Any, ...]]) -> str | None:
        """Return why the statement is refused although nothing that the authorizer was told of speaks against it."""
        if sqlite3.SQLITE_PRAGMA in self.actions:
            return _ENDS_ATOMICITY[sqlite3.SQLITE_PRAGMA]
        if any(step[1] == "Vacuum" for step in program):
            return "VACUUM rewrites the whole file; it cannot be part of a unit."
        # The new name of a table never reaches the authorizer; in the program it is an operand.
        if self._renames_table and any(isinstance(step[5], str) and _would_be_ours(step[5]) for step in program):
            return OURS
        if sqlite3.SQLITE_CREATE_TRIGGER in self.actions and OURS_NAMED.search(sql):
            return OURS
        return None

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
        if not self._written:
            return None
        action, table = self._written[0]  # what comes after it is done by foreign keys, or by ON CONFLICT DO UPDATE
        if action == sqlite3.SQLITE_INSERT and (sqlite3.SQLITE_UPDATE, table) in self._written:
            return Operation.UPSERT
        return _ROW_WRITES[action]


def _is_ours(name: str | None) -> bool:
    return name is not None and (name.lower().startswith("uow_") or name.lower() == "unit_of_work")


def _would_be_ours(name: str | None) -> bool:
    """Say whether a new table of that name would be taken for ours, or one of its hidden tables if it is virtual."""
    return _is_ours(name) or _is_ours(f"{name}_data")


def _refused(why: str) -> UsageError:
    return UsageError(f"A unit of work cannot run this statement. {why}", hint=NO_HARM)
