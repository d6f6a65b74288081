"""Finds out what a SQL statement of the caller's would do on PostgreSQL, before it does it.

Promise: what a statement that reads or changes rows would do, the server says itself (``EXPLAIN``, which plans it and
runs nothing): also for a write inside WITH, or through a view. Statements that would break a unit's atomicity, change
the session, or write tables of the library's own are refused. Of what changes the schema the text decides: it may not
name these tables at all, but for a view, which may read them. What functions and triggers of the application's do is
theirs to answer for; a statement that calls such a function counts as one that writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from memoryos_uow._names import Operation
from memoryos_uow.engines._pg_lexer import Kind, tokens
from memoryos_uow.engines._sql_guard import KNOWN_MAX, NO_HARM, OURS, OURS_NAMED, TEMPORARY, Statement
from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memoryos_uow.abc import Parameters
    from memoryos_uow.engines._contract import EngineReader, EngineTransaction
    from memoryos_uow.engines._pg_lexer import Token
    from memoryos_uow.engines.postgres import PostgresEngine

_ROWS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES", "TABLE")
"""What a statement about rows begins with, WITH and brackets aside."""
_CHANGED: Final = {
    "Insert": Operation.CREATE,
    "Update": Operation.UPDATE,
    "Delete": Operation.DELETE,
    "Merge": Operation.UPSERT,
}

_TRANSACTIONS: Final = "BEGIN, COMMIT and ROLLBACK belong to the unit itself."
_SETTINGS: Final = "Settings cannot be changed inside a unit."
_PREPARED: Final = "Prepared statements would outlive the unit."
_CURSORS: Final = "Read with SELECT; ledger readers stream long results."
_HIDDEN: Final = "What a procedure does cannot be told beforehand; it might even commit."
_MESSAGES: Final = "Use uow.publish(): messages are then part of the unit, and are delivered."
_WHY_NOT: Final = {
    **dict.fromkeys(("BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT"), _TRANSACTIONS),
    **dict.fromkeys(("SAVEPOINT", "RELEASE"), "Use uow.savepoint() for savepoints."),
    **dict.fromkeys(("SET", "RESET", "DISCARD", "LOAD", "SECURITY"), _SETTINGS),
    **dict.fromkeys(("PREPARE", "EXECUTE", "DEALLOCATE"), _PREPARED),
    **dict.fromkeys(("DECLARE", "FETCH", "MOVE", "CLOSE"), _CURSORS),
    **dict.fromkeys(("DO", "CALL"), _HIDDEN),
    **dict.fromkeys(("LISTEN", "NOTIFY", "UNLISTEN"), _MESSAGES),
    "COPY": "Use uow.sql with parameters, or a table store's create_many.",
    "EXPLAIN": "Ask for plans outside the unit: with ANALYZE the statement would run.",
    "LOCK": "Locks on tables would hold up every other unit.",
    **dict.fromkeys(("VACUUM", "CLUSTER", "CHECKPOINT", "REINDEX"), "Maintenance cannot be part of a unit."),
}
_FUNCTIONS: Final = re.compile(
    r"(?:pg_(?:try_)?advisory_\w+|set_config|pg_notify|dblink\w*|lo_\w+|lowrite|pg_(?:terminate|cancel)_backend"
    r"|pg_(?:read|write|stat|ls|rotate|switch|promote|reload|create|drop|replication|logical)\w*"
    r"|query_to_xml\w*|cursor_to_xml\w*|table_to_xml\w*|schema_to_xml\w*|database_to_xml\w*)"
)
"""Built-in functions that act on the session, the server or the world, or run SQL that they are given."""

_SCHEMA: Final = {
    "CREATE": Operation.CREATE,
    "ALTER": Operation.UPDATE,
    "DROP": Operation.DELETE,
    "TRUNCATE": Operation.DELETE,
    "COMMENT": Operation.UPDATE,
    "GRANT": Operation.UPDATE,
    "REVOKE": Operation.UPDATE,
    "REFRESH": Operation.UPDATE,
    "ANALYZE": Operation.UPDATE,
}
_BETWEEN: Final = ("OR", "REPLACE", "UNIQUE", "UNLOGGED", "RECURSIVE", "CONSTRAINT", "TRUSTED")
"""What may stand between CREATE and the kind of object."""
_OBJECTS: Final = {
    "CREATE": (
        "TABLE", "INDEX", "VIEW", "MATERIALIZED", "TRIGGER", "FUNCTION", "SEQUENCE", "TYPE", "DOMAIN", "SCHEMA",
        "EXTENSION", "AGGREGATE", "STATISTICS", "POLICY",
    ),
    "ALTER": (
        "TABLE", "INDEX", "VIEW", "MATERIALIZED", "TRIGGER", "FUNCTION", "SEQUENCE", "TYPE", "DOMAIN", "EXTENSION",
        "AGGREGATE", "STATISTICS", "POLICY",
    ),
    "DROP": (
        "TABLE", "INDEX", "VIEW", "MATERIALIZED", "TRIGGER", "FUNCTION", "SEQUENCE", "TYPE", "DOMAIN", "EXTENSION",
        "AGGREGATE", "STATISTICS", "POLICY",
    ),
    "GRANT": ("ALL", "SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "USAGE", "EXECUTE"),
    "REVOKE": ("ALL", "SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "USAGE", "EXECUTE"),
    "REFRESH": ("MATERIALIZED",),
}  # fmt: skip

_OWN_FUNCTIONS: Final = """
SELECT 1 FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE p.provolatile = 'v' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND p.proname = ANY(CAST(? AS TEXT[]))
LIMIT 1
"""


class PostgresGuard:
    """Classifies statements of the application's, and remembers what it found."""

    def __init__(self, engine: PostgresEngine) -> None:
        self._engine = engine
        self._known: dict[tuple[str, int | frozenset[str]], Statement] = {}

    def classify(self, sql: str, parameters: Parameters, *, inside: EngineTransaction | None = None) -> Statement:
        """Return what `sql` would do; `inside` is the unit's own transaction when its schema must be seen.

        Raises:
            UsageError: not one valid statement, wrong number of parameters, or one that a unit may not run.
            LedgerError: the server could not be asked.
        """
        question = (sql, frozenset(parameters) if isinstance(parameters, Mapping) else len(parameters))
        if inside is None and question in self._known:
            return self._known[question]
        text = _Text(sql)
        text.refuse_unfit(parameters)
        if text.first in _SCHEMA:
            self._known.clear()  # a view may soon be another one
            return text.schema_change()
        if text.first == "SHOW":
            return Statement(returns_rows=True, changes_schema=False, operation=None)
        if text.verb not in _ROWS:
            raise _refused(_WHY_NOT.get(text.first, "It is none of those that read or change rows, or the schema."))
        text.refuse_side_effects()
        if inside is not None:
            with inside.step():  # so that a mistake does not end the unit
                return self._ask(inside, text, parameters)
        with self._engine.reader() as reader:
            statement = self._ask(reader, text, parameters)
        if len(self._known) < KNOWN_MAX:
            self._known[question] = statement
        return statement

    @staticmethod
    def _ask(reader: EngineReader, text: _Text, parameters: Parameters) -> Statement:
        plans = reader.answer(f"EXPLAIN (FORMAT JSON) {text.sql}", parameters).rows[0][0]
        steps = [_Step.of(node) for node in _nodes(plans)]
        if any(_is_ours(table) for step in steps for table in step.tables if step.operation or text.locks_rows):
            raise _refused(OURS)
        operation = next((step.operation for step in steps if step.operation), None)
        if operation is None and text.functions and reader.rows(_OWN_FUNCTIONS, (sorted(text.functions),)):
            operation = Operation.UPDATE
        return Statement(returns_rows=text.returns_rows, changes_schema=False, operation=operation)


class _Step(NamedTuple):
    """What one step of a plan does."""

    operation: Operation | None
    tables: tuple[str, ...]

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> _Step:
        operation = _CHANGED.get(node.get("Operation", ""))
        if node.get("Conflict Resolution") == "UPDATE":
            operation = Operation.UPSERT
        targets = (node, *node.get("Target Tables", ()))
        return cls(operation, tuple(target["Relation Name"] for target in targets if "Relation Name" in target))


def _nodes(plans: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every step of what EXPLAIN answered, from the top."""
    waiting: list[Any] = [plan.get("Plan") for plan in plans if isinstance(plan, dict)]
    while waiting:
        node = waiting.pop(0)
        if node is not None:
            yield node
            waiting[:0] = node.get("Plans", ())


class _Text:
    """A statement as its text shows it."""

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self._tokens = [token for token in tokens(sql) if token.kind is not Kind.NOTHING]
        while self._tokens and self._tokens[-1].text == ";":
            self._tokens.pop()
        if any(token.text == ";" for token in self._tokens):
            raise UsageError("The SQL text holds more than one statement.", hint=f"{NO_HARM} Run one at a time.")
        if not self._tokens:
            raise UsageError("The SQL text holds no statement.", hint=NO_HARM)
        self.first = self._tokens[0].word
        self._outside = list(_outside_brackets(self._tokens))
        self.verb = self._find_verb()

    def _find_verb(self) -> str:
        if self.first == "WITH":
            return next((token.word for token in self._outside if token.word in _ROWS), "")
        if self._tokens[0].text == "(":
            return "SELECT"
        return self.first

    def refuse_unfit(self, parameters: Parameters) -> None:
        """Refuse parameters that are not those for which there are marks.

        Raises:
            UsageError: there are more or fewer, or other names.
        """
        marks = [token.text for token in self._tokens if token.kind is Kind.MARK]
        wanted: set[str] | int = {mark[1:] for mark in marks if mark[0] == ":"}
        if not wanted:
            wanted = max((int(mark[1:] or 0) for mark in marks), default=0) or len(marks)
        elif any(mark[0] == "?" for mark in marks):
            raise UsageError("The SQL text has marks of both sorts, ? and :name.", hint=f"{NO_HARM} Use one.")
        given = set(parameters) if isinstance(parameters, Mapping) else len(parameters)
        if isinstance(wanted, set) and isinstance(given, set) and wanted <= given:
            return
        if given != wanted and not (not marks and not parameters):
            raise UsageError(
                f"The SQL text has {len(marks)} marks, and {len(parameters)} parameters were given.",
                hint=f"{NO_HARM} Give a sequence for ?, a dict for :name, one value for each mark.",
            )

    @property
    def returns_rows(self) -> bool:
        """Whether the statement answers with rows."""
        if self.verb in ("SELECT", "VALUES", "TABLE"):
            return True
        return any(token.word == "RETURNING" for token in self._outside)

    @property
    def locks_rows(self) -> bool:
        """Whether there is a FOR UPDATE, or the like, anywhere."""
        after = zip(self._tokens, self._tokens[1:], strict=False)
        return any(one.word == "FOR" and two.word in ("UPDATE", "SHARE", "NO", "KEY") for one, two in after)

    @property
    def functions(self) -> set[str]:
        """The names of everything that looks as if it were called."""
        after = zip(self._tokens, self._tokens[1:], strict=False)
        return {one.name for one, two in after if two.text == "(" and one.name}

    def refuse_side_effects(self) -> None:
        """Refuse what the plan of a statement about rows does not tell.

        Raises:
            UsageError: it makes a table, or calls a function that acts on the session, the server or the world.
        """
        before = ""
        for token in self._tokens:
            if token.word == "INTO" and before not in ("INSERT", "MERGE"):
                raise _refused("SELECT INTO makes a table: write CREATE TABLE ... AS SELECT.")
            before = token.word
        if any(_FUNCTIONS.fullmatch(name) for name in self.functions):
            raise _refused("It calls a function that acts on the session, on the server or outside it.")

    def schema_change(self) -> Statement:
        """Return what a statement does that changes the schema.

        Raises:
            UsageError: what it changes is not for units, or the library's own.
        """
        rest = [token.word for token in self._tokens[1:]]
        while self.first == "CREATE" and rest and rest[0] in _BETWEEN:
            rest.pop(0)
        if {"TEMP", "TEMPORARY"} & set(rest[:2]):
            raise _refused(TEMPORARY)
        if self.first in _OBJECTS and (not rest or rest[0] not in _OBJECTS[self.first]):
            raise _refused("It is about an object that is not one database's alone, or cannot be made in a unit.")
        if "CONCURRENTLY" in rest[:3]:
            raise _refused("What is done CONCURRENTLY cannot be part of a unit.")
        if self._names_ours():
            raise _refused(OURS)
        return Statement(returns_rows=False, changes_schema=True, operation=_SCHEMA[self.first])

    def _names_ours(self) -> bool:
        looked_at = self._tokens
        if self.first == "CREATE" and "VIEW" in [token.word for token in self._tokens[:5]]:
            looked_at = self._tokens[: next(n for n, token in enumerate(self._tokens) if token.word == "AS")]
        return any(
            _is_ours(token.name) or (token.kind is Kind.STRING and OURS_NAMED.search(token.text)) for token in looked_at
        )


def _outside_brackets(found: list[Token]) -> Iterator[Token]:
    depth = 0
    for token in found:
        depth += (token.text in "([") - (token.text in ")]") if token.kind is Kind.OTHER else 0
        if depth == 0:
            yield token


def _is_ours(name: str) -> bool:
    return name.lower().startswith("uow_") or name.lower() == "unit_of_work"


def _refused(why: str) -> UsageError:
    return UsageError(f"A unit of work cannot run this statement. {why}", hint=NO_HARM)
